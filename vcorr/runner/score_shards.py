"""Scores the shards of a run: reads predictions and tracks, and writes scores. Needs no model and no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vcorr.contract.errors import NumericalError, UsageError
from vcorr.contract.part_calls import PartFailureError
from vcorr.contract.variants import NamedVariant
from vcorr.runner import score
from vcorr.runner.called import Changes
from vcorr.runner.judges import Judge, make_judges, make_metrics
from vcorr.runner.parts import Part
from vcorr.runner.plan import Plan
from vcorr.runner.predict import error_code
from vcorr.runner.row_words import STATUS_FAILED, STATUS_OK
from vcorr.runner.run_tasks.clip_stages import find_stages
from vcorr.runner.stage_facts import common_columns, score_facts
from vcorr.store import shards
from vcorr.store.columns import to_table
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import SCORES

_NO_CONFIDENCE = (
    "metric.visible_above has no effect: these tracks have no confidence, so a point is visible where the tracker says "
    "so."
)


@dataclass
class ShardScorer:
    """Scores clips of one run.

    Args:
        run: where predictions and tracks are.
        context: the columns that all score rows of the run share.
        judges: variants and metrics.
        fingerprint: the fingerprint of the scores.
        facts: what the shards say about metrics and variants.
    """

    run: RunDirectory
    context: score.RowContext
    judges: Sequence[Judge]
    fingerprint: str
    facts: Mapping[str, Any]
    _changes: Changes = field(default_factory=Changes)
    _asks_confidence: bool = False
    _notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, plan: Plan, run: RunDirectory) -> ShardScorer:
        """Makes the scorer for a run of a plan."""
        context = score.RowContext(run=run.run_id, **common_columns(plan))
        facts = score_facts(plan.parts.metrics, plan.selection.variants, plan.spec.metric_names)
        return cls.make(run, context, plan.parts.metrics, plan.selection.variants, plan.fingerprints()["score"], facts)

    @classmethod
    def make(
        cls,
        run: RunDirectory,
        context: score.RowContext,
        metrics: Sequence[Part],
        variants: Sequence[NamedVariant],
        fingerprint: str,
        facts: Mapping[str, Any],
    ) -> ShardScorer:
        """Makes the scorer for metrics and variants; for the other arguments see the class."""
        changes = Changes()
        with changes.watch():
            judges = make_judges(variants, make_metrics(metrics))
        return cls(run, context, judges, fingerprint, facts, changes, any(map(_has_threshold, metrics)))

    def score(self, name: str, *, into: Path | None = None) -> str:
        """Scores one clip's stored predictions against its stored tracks.

        If a metric raises, the clip has one failed row, which `has_scored` does not count.

        Args:
            name: file name of the clip's shards.
            into: the folder to write scores to; None for the folder of the run.

        Returns:
            Why a metric failed; "" if none did.

        Raises:
            StoreError: a shard is damaged, or the scores cannot be written.
            PluginError: a metric breaks its contract.
        """
        predictions = shards.read_shard(self.run.path / "predictions" / name, "predictions")
        tracks = shards.read_shard(self.run.path / "tracks" / name, "tracks")
        if self._asks_confidence and _lacks_confidence(predictions):
            self._asks_confidence = False  # one sentence for all clips
            self._notes.append(_NO_CONFIDENCE)
        error, stages = "", find_stages(self.context.task)
        try:
            with self._changes.watch():
                scored = stages.score(self.run, self.context, self.judges, predictions, tracks)
        except (PartFailureError, UsageError, NumericalError) as failed:
            if not failed.raised_by:  # of no metric: two metrics give one column, for instance
                raise
            error = error_code(failed)
            scored = to_table([score.make_failed_row(self.context, self.judges, predictions, error)], SCORES)
        path = (into or self.run.path / "scores") / name
        clip = shards.stamp_of(predictions).clip or (scored["clip"][0].as_py() if scored.num_rows else "")
        shards.write_table_shard(path, "scores", scored, self.fingerprint, clip=clip, facts=self.facts)
        return error

    def has_scored(self, name: str) -> bool:
        """Returns whether the run holds scores of the clip that belong to the plan, and no metric failed."""
        try:
            found = shards.read_shard(self.run.path / "scores" / name, "scores")
        except shards.DamagedShardError:
            return False
        if shards.fingerprint_of(found) != self.fingerprint:
            return False
        return not (found.num_rows == 1 and found["status"][0].as_py() == STATUS_FAILED)

    def take_notes(self) -> list[str]:
        """Returns new notes: on options without effect, and as `Changes.take_notes` on settings of the process."""
        notes, self._notes = self._notes, []
        return [*notes, *self._changes.take_notes(one.part for judge in self.judges for one in judge.metrics)]


def _has_threshold(metric: Part) -> bool:
    return getattr(metric.config, "visible_above", None) is not None


def _lacks_confidence(predictions: pa.Table) -> bool:
    """Returns whether there are predictions, and none of them has a confidence."""
    made = predictions.filter(pc.equal(predictions["status"], STATUS_OK))
    return bool(made.num_rows and pc.max(pc.list_value_length(made["confidence"])).as_py() == 0)


def score_left_over(plan: Plan, run: RunDirectory) -> Iterator[str]:
    """Scores the clips of the run that are not in the plan, if their predictions and tracks belong to the plan.

    An earlier command with a higher `--limit` left them. After this, all scores of the run have the metrics and
    variants that its `run.json` names.

    Yields:
        A sentence for each clip for which a metric failed, and about settings of the process that metrics have changed.
    """
    scorer, prints = ShardScorer.of(plan, run), plan.fingerprints()
    planned = {shards.shard_name(clip_id) for clip_id in plan.selection.clips}
    for name in (path.name for path in run.shard_paths("scores") if path.name not in planned):
        is_predicted = run.holds("predictions", name, prints["predict"]) and run.holds("tracks", name, prints["track"])
        if not is_predicted or run.holds("scores", name, prints["score"]):
            continue
        if error := scorer.score(name):
            yield f"Scores of an earlier command, {run.path / 'scores' / name}, are failed now: {error}."
    yield from scorer.take_notes()
