"""Reads the tracks of a tracking run from its files, to try other thresholds of visibility without a model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vcorr.contract.errors import StoreError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.tasks import TRACKING
from vcorr.contract.variants import Switches
from vcorr.metrics.tapvid_metric import compare_tracks
from vcorr.runner.row_words import POSITIONS
from vcorr.runner.unpacking import APART, Stored, to_tracks, unpack_positions, unpack_tracks
from vcorr.stats.halves import split_clips
from vcorr.store.arrow_rows import rows_of
from vcorr.store.rundir import RunDirectory
from vcorr.store.shards import read_shard
from vcorr.tracking.thresholds import (
    ChosenThreshold,
    ConfidentPairs,
    ThresholdCurve,
    find_candidates,
    mean_over_clips,
    sample_confidence,
    trace_thresholds,
)

LEAST_THRESHOLDS = 2
"""A confidence that is 0 or 1 has so many: it shows what the tracker shows, or nothing."""


@dataclass(frozen=True)
class HalvingFacts:
    """What halves of clips are made by. still, content: as in the columns `still` and `data_hash`."""

    clip: str
    still: float
    content: str


@dataclass(frozen=True)
class StoredPairs:
    """The tracks of one clip of a run, compared with the reference."""

    facts: HalvingFacts
    tracks: ConfidentPairs


@dataclass(frozen=True)
class StoredThresholds:
    """What other thresholds of visibility would give in a run.

    curve: of all clips. chosen: by all clips. crossed: mean Jaccard and occlusion accuracy, each clip at the threshold
    that the other half of the clips chooses; None with fewer than two clips.
    """

    clips: tuple[str, ...]
    curve: ThresholdCurve
    chosen: ChosenThreshold
    crossed: tuple[float, float] | None

    def pick(self, count: int) -> list[tuple[float, float, float]]:
        """Returns about so many thresholds, spread over the curve, and the chosen one: threshold, Jaccard, accuracy."""
        every = self.curve.thresholds
        spread = np.round(np.linspace(0, len(every) - 1, min(count, len(every)))).astype(int)
        shown = np.union1d(spread, np.searchsorted(every, self.chosen.threshold))
        jaccard = mean_over_clips(self.curve.jaccard[:, shown])
        accuracy = mean_over_clips(self.curve.occlusion_accuracy[:, shown])
        return list(zip(every[shown].tolist(), jaccard.tolist(), accuracy.tolist(), strict=True))


def find_thresholds(run: RunDirectory) -> StoredThresholds | None:
    """Returns the same as `read_thresholds`, or None for a run in which there is nothing to choose.

    Raises:
        StoreError: a file is damaged.
    """
    try:
        found = read_thresholds(run)
    except UsageError:
        return None
    return found if len(found.curve.thresholds) > LEAST_THRESHOLDS else None


def read_thresholds(run: RunDirectory) -> StoredThresholds:
    """Returns what thresholds of visibility give in a tracking run, from its files alone.

    The files are read twice, one clip at a time.

    Raises:
        UsageError: the run has another task, its tracks have no confidence, or no clip has a pair that counts.
        StoreError: a file is damaged.
    """
    task = (run.record().get("row_context") or {}).get("task")
    if task != TRACKING:
        raise UsageError(f"{run.place} is no tracking run: its task is {task}.", hint="vcorr track makes such runs.")
    candidates = find_candidates(sample_confidence(one.tracks) for one in read_pairs(run))
    if not len(candidates):
        raise UsageError(f"The tracks of {run.place} have no confidence, so visibility has no threshold.")
    facts: list[HalvingFacts] = []

    def read() -> Iterator[ConfidentPairs]:
        for one in read_pairs(run):
            facts.append(one.facts)
            yield one.tracks

    curve = trace_thresholds(read(), candidates)
    clips = tuple(one.clip for one in facts)
    halves = split_clips(clips, [one.still for one in facts], [one.content for one in facts], mode="renoise")
    crossed = curve.cross_fit(halves) if len(clips) > 1 else None
    return StoredThresholds(clips, curve, curve.choose(), crossed)


def read_pairs(run: RunDirectory) -> Iterator[StoredPairs]:
    """Yields the tracks of each clip that have a confidence and a reference; the first prediction of each clip.

    Raises:
        StoreError: a file is damaged.
    """
    for path in run.shard_paths("predictions"):
        tracks = rows_of(read_shard(run.folder("tracks") / path.name, "tracks"))
        stored = next((row for row in rows_of(read_shard(path, "predictions")) if _is_confident(row)), None)
        if stored is not None and tracks:
            yield pair_rows(stored, tracks[0])


def _is_confident(row: Stored) -> bool:
    return row["kind"] == POSITIONS and bool(len(row["confidence"]))


def pair_rows(stored: Stored, tracks: Stored) -> StoredPairs:
    """Compares one row of predictions with the row of tracks of the same clip.

    Raises:
        StoreError: they differ in shape, or the prediction has no confidence.
    """
    reference = unpack_tracks(tracks)
    answer = unpack_positions(stored, TokenGrid.from_dict(json.loads(stored["grid"])))
    if answer.xy.shape != reference.xy.shape or answer.confidence is None:
        raise StoreError(f"Clip {stored['clip']}: its predictions and tracks differ in shape.", hint=APART)
    predicted = to_tracks(answer, answer.xy, reference)
    pairs = compare_tracks(predicted, reference, (tracks["height"], tracks["width"]), Switches())
    found = np.isfinite(answer.xy).all(axis=-1)
    confidence = np.where(found, answer.confidence, np.float32(0))  # never visible where there is no position
    facts = HalvingFacts(stored["clip"], tracks["still"], tracks["data_hash"])
    return StoredPairs(facts, ConfidentPairs(pairs, confidence))
