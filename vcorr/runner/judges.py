"""The metrics of a run, per variant: makes them, calls them, and checks what they return."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

from vcorr.contract.bases import MetricBase, with_defaults
from vcorr.contract.errors import PluginError
from vcorr.contract.part_calls import PartName, show_value
from vcorr.contract.protocols import MaskMetric, Metric, RowMetric, TrackMetric, VideoMetric
from vcorr.contract.records import Score
from vcorr.contract.variants import NamedVariant, Switches
from vcorr.metrics.score_checks import check_declaration, check_scores
from vcorr.runner.metric_trial import clash
from vcorr.runner.parts import Part

AnyMetric = Metric | RowMetric | TrackMetric | MaskMetric | VideoMetric


class Versioned(NamedTuple):
    """A score and the version of the metric that gave it."""

    score: Score
    version: int


class VersionedMetric(NamedTuple):
    """A metric with the version of its entry, which goes into every row.

    name: of its entry, for errors. part: name and plugin, for errors too.
    """

    metric: AnyMetric
    version: int
    name: str = ""
    part: PartName = PartName("a metric")


@dataclass(frozen=True)
class Judge:
    """A variant to score under, with the metrics for this variant."""

    variant: NamedVariant
    metrics: tuple[VersionedMetric, ...]


def make_judges(variants: Iterable[NamedVariant], metrics: Sequence[VersionedMetric]) -> tuple[Judge, ...]:
    """Returns one judge per variant. Metrics that do not define `under` are the same under every variant."""
    return tuple(
        Judge(variant, tuple(one._replace(metric=_under(one, variant.values)) for one in metrics))
        for variant in variants
    )


def make_metrics(parts: Iterable[Part]) -> tuple[VersionedMetric, ...]:
    """Makes the metrics of a plan's parts; raises PluginError for one that breaks its contract."""
    return tuple(VersionedMetric(_make_metric(p), p.entry.version, p.entry.name, p.name) for p in parts)


def _make_metric(part: Part) -> AnyMetric:
    metric: AnyMetric = part.create()
    with part.name.calling("its declaration"):
        check_declaration(metric)
    return metric


def _under(one: VersionedMetric, variant: Switches) -> AnyMetric:
    with one.part.calling("under()"):
        judging: Any = with_defaults(one.metric, MetricBase).under(variant)
        if not isinstance(judging, AnyMetric):
            raise PluginError(f"under() must return a metric, got {show_value(judging)}.")
        return judging


def ask(
    one: VersionedMetric, step: str, call: Callable[[Any], Any], columns: Set[str] | None = None
) -> dict[str, Score]:
    """Calls a metric and returns its scores, after checking them.

    Raises:
        PluginError: the metric raises, or breaks its contract, for instance with a column that is not in `columns`.
    """
    with one.part.calling(step):
        scores = check_scores(one.metric, call(one.metric))
        others = sorted(scores.keys() - columns) if columns is not None else []
        if others:
            raise PluginError(
                f"{step} must return the same columns for every prediction of a clip; floor and ceiling lack "
                f"{others[0]!r}."
            )
        return scores


def join(found: Iterable[tuple[VersionedMetric, Mapping[str, Score]]]) -> dict[str, Versioned]:
    """Returns the scores of all metrics by column.

    Raises:
        UsageError: two metrics give the same column.
    """
    joined: dict[str, Versioned] = {}
    givers: dict[str, str] = {}
    for one, scores in found:
        for column, score in scores.items():
            if column in givers:
                raise clash(givers[column], one.name, column)
            givers[column] = one.name
            joined[column] = Versioned(score, one.version)
    return joined
