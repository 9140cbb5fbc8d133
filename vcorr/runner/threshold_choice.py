"""Chooses the threshold of visibility from the stored rows of a tracking run, without a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.metrics.tapvid import select_frames
from vcorr.runner.predict import STATUS_OK
from vcorr.runner.unpacking import unpack_tracks
from vcorr.store.arrow_rows import rows_of
from vcorr.store.rundir import RunDirectory
from vcorr.store.shards import read_shard
from vcorr.tracking.thresholds import choose_threshold


class ChosenThreshold(NamedTuple):
    """threshold: a point is visible where its confidence is larger. clips: ids of the clips that chose it."""

    threshold: float
    clips: frozenset[str]


class _Pairs(NamedTuple):
    """The pairs of a point and a frame of one clip: confidence, whether the reference is visible, which pairs count."""

    clip: str
    confidence: NDArray[np.float32]
    visible: NDArray[np.bool_]
    counted: NDArray[np.bool_]


def choose_run_threshold(run: RunDirectory) -> ChosenThreshold:
    """Returns the threshold that is best on all pairs of the clips of a tracking run that TAP-Vid counts.

    Raises:
        UsageError: no clip of the run has tracks with a confidence.
        StoreError: a shard is damaged.
    """
    found = list(_read_pairs(run))
    if not found:
        raise UsageError(
            f"Run {run.run_id} has no tracks with a confidence, from which a threshold could be chosen.",
            hint="Name a run that is complete: vcorr list runs",
        )
    columns: Any = ([getattr(pairs, name).ravel() for pairs in found] for name in _Pairs._fields[1:])
    threshold = choose_threshold(*(np.concatenate(values) for values in columns))
    return ChosenThreshold(float(threshold), frozenset(pairs.clip for pairs in found))


def _read_pairs(run: RunDirectory) -> Iterator[_Pairs]:
    for path in run.shard_paths("predictions"):
        predicted = rows_of(read_shard(path, "predictions"))
        tracks = rows_of(read_shard(run.path / "tracks" / path.name, "tracks"))
        if not predicted or not tracks or predicted[0]["status"] != STATUS_OK or not len(predicted[0]["confidence"]):
            continue
        reference = unpack_tracks(tracks[0])
        counted = select_frames(
            reference.asked_in, reference.visible.shape[1], "first" if reference.query_mode == "first" else "strided"
        )
        yield _Pairs(
            predicted[0]["clip"], np.asarray(predicted[0]["confidence"], np.float32), reference.visible, counted
        )
