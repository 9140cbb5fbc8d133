"""Loads the scores of a finished run and the facts about it, for commands that only read."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vcorr.contract.errors import StoreError
from vcorr.contract.records import is_random
from vcorr.runner.predict import STATUS_FAILED
from vcorr.store import shards
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import schema


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
    """A run with the rows of some of its metrics. metrics: all its metric columns."""

    directory: RunDirectory
    facts: RunFacts
    metrics: frozenset[str]
    scores: pa.Table


def load_scores(run: RunDirectory, wanted: Callable[[str], bool]) -> StoredScores:
    """Reads the rows of all metrics whose names are `wanted`, and the rows of clips without scores, shard by shard.

    Raises:
        StoreError: the run is damaged, has no scores, or has clips that were scored differently from the rest.
    """
    record = run.record()
    check_scored_alike(run)
    names: set[str] = set()
    kept = []
    for shard in run.iter_shards("scores"):
        here = set(pc.unique(shard["metric"]).to_pylist())
        names |= here
        keep = pa.array(sorted(name for name in here if not name or wanted(name)), pa.string())
        kept.append(shard.filter(pc.is_in(shard["metric"], keep)))
    if not names:
        raise StoreError(f"{run.path} has no scores yet.", hint="Finish it first: repeat its vcorr run command.")
    scores = pa.concat_tables(kept) if kept else schema("scores").empty_table()
    return StoredScores(run, _facts(run, record, scores), frozenset(names - {""}), scores)


def check_scored_alike(run: RunDirectory) -> None:
    """Checks that all clips of a run were scored as its run.json says; means over different scores have no meaning.

    A command that was killed while it scored, or that tracked only some of the clips, leaves a run in this state.

    Raises:
        StoreError: some clips were scored differently. The message has their number and the command that mends it.
    """
    record = run.record()
    prints = record.get("fingerprints")
    said = prints.get("score") if isinstance(prints, dict) else None
    found = [shards.read_fingerprint(path) for path in sorted((run.path / "scores").glob(f"*{shards.SUFFIX}"))]
    # a shard that cannot be read has no fingerprint; reading it gives a better error
    others = sum(print_ not in ("", said) for print_ in found)
    if said and others:
        raise StoreError(
            f"{others} of the {len(found)} clips of {run.path} are scored by other metrics, variants or tracks than "
            "its run.json says: a command has not got through all of them.",
            hint=f"This scores all of them alike: {_scoring_command(run, record)}",
        )


def _scoring_command(run: RunDirectory, record: dict[str, Any]) -> str:
    metrics = ",".join(metric["name"] for metric in record.get("metrics") or [])
    variants = ",".join(record.get("variants") or [])
    said = {"metrics": metrics, "variant": variants}
    words = ["vcorr", "score", str(run.path)]
    for key, value in said.items():
        words += ["--set", f"{key}={value}"] if value else []
    return shlex.join(words)


def _facts(run: RunDirectory, record: dict[str, Any], scores: pa.Table) -> RunFacts:
    context = record.get("row_context") or {}
    scored = pc.not_equal(scores["metric"], "")
    failed = pc.equal(scores["status"], STATUS_FAILED)
    return RunFacts(
        path=str(run.path),
        run=run.run_id,
        status=str(record.get("status", "")),
        model=str(context.get("model", "")),
        weights=str(context.get("weights", "")),
        clips=_ids(scores, scored),
        failed=_ids(scores, failed),
        untracked=_ids(scores, pc.and_(pc.invert(scored), pc.invert(failed))),
    )


def _ids(scores: pa.Table, mask: Any) -> tuple[str, ...]:
    return tuple(sorted(set(scores.filter(mask)["clip"].to_pylist())))
