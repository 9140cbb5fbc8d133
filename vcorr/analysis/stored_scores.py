"""Loads the scores of a finished run and the facts about it, for commands that only read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vcorr.analysis.comparable import ClipFacts, MeasuredOn, note_clips, read_measured_on
from vcorr.contract.errors import StoreError
from vcorr.contract.records import is_random
from vcorr.stats.series import Scores, gather
from vcorr.store import shards
from vcorr.store.remedies import scoring_command
from vcorr.store.rundir import RunDirectory


@dataclass(frozen=True)
class RunFacts:
    """Facts about a run. clips: ids with scores. failed: ids that failed. untracked: ids without reference tracks."""

    path: str
    run: str
    status: str
    model: str
    weights: str
    clips: tuple[str, ...]
    failed: tuple[str, ...]
    untracked: tuple[str, ...]

    @property
    def is_random(self) -> bool:
        """Whether the weights are random. The numbers then say nothing about a released model."""
        return is_random(self.weights)


@dataclass(frozen=True)
class StoredScores:
    """A run with the scores of some of its metrics.

    metrics: all its metric columns. clips: what it measured on each clip.
    """

    directory: RunDirectory
    facts: RunFacts
    metrics: frozenset[str]
    scores: Scores
    clips: Mapping[str, ClipFacts]

    def read_measured_on(self) -> MeasuredOn:
        """Returns what the run measured. Raises StoreError if its record does not say so."""
        return read_measured_on(self.directory, self.directory.record(), self.clips)


def load_scores(run: RunDirectory, wanted: Callable[[str], bool] = lambda name: True) -> StoredScores:
    """Reads the scores of all metrics whose names are `wanted`, shard by shard.

    Raises:
        StoreError: the run is damaged, has no scores, or has clips that were scored differently from the rest.
    """
    record = run.record()
    check_scored_alike(run, record)
    names: set[str] = set()
    clips: dict[str, ClipFacts] = {}
    scores = gather(note_clips(_note_metrics(run.iter_shards("scores"), names), clips), wanted)
    if not scores.rows:
        raise StoreError(f"{run.place} has no scores yet.", hint="Finish it first: repeat its command.")
    return StoredScores(run, _facts(run, record, scores), frozenset(names - {""}), scores, clips)


def _note_metrics(shards_: Iterable[pa.Table], names: set[str]) -> Iterator[pa.Table]:
    """Yields the tables, and adds the names of all their metrics to `names`."""
    for shard in shards_:
        names |= set(pc.unique(shard["metric"]).to_pylist())
        yield shard


def check_scored_alike(run: RunDirectory, record: Mapping[str, Any]) -> None:
    """Checks that all clips of a run were scored as its record says; means over different scores have no meaning.

    A command that was killed while it scored, or that tracked only some of the clips, leaves a run in this state.

    Raises:
        StoreError: some clips were scored differently. The message has their number and the command that mends it.
    """
    prints = record.get("fingerprints")
    said = prints.get("score") if isinstance(prints, dict) else None
    found = [shards.read_fingerprint(path) for path in run.shard_paths("scores")]
    # a shard that cannot be read has no fingerprint; reading it gives a better error
    others = sum(print_ not in ("", said) for print_ in found)
    if said and others:
        raise StoreError(
            f"{others} of the {len(found)} clips of {run.place} are scored by other metrics, variants or tracks than "
            "its run.json says: a command has not got through all of them.",
            hint=f"This scores all of them alike: {scoring_command(run.place, record)}",
        )


def _facts(run: RunDirectory, record: dict[str, Any], scores: Scores) -> RunFacts:
    context = record.get("row_context") or {}
    return RunFacts(
        path=run.place,
        run=run.run_id,
        status=str(record.get("status", "")),
        model=str(context.get("model", "")),
        weights=str(context.get("weights", "")),
        clips=scores.clips,
        failed=tuple(sorted(set(scores.failed))),
        untracked=tuple(sorted(scores.unscored)),
    )
