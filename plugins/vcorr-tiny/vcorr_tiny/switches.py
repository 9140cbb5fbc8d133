"""Measures what each switch of the published code costs: ``python -m vcorr_tiny.switches --docs docs``.

One run of the embedded model reads every clip once. It scores the clip under `corrected`, with each switch flipped
alone, and under `difftrack`. A second run measures the second softmax in bfloat16, where it changes predictions.
Layers are chosen on clips of another split. Differences are paired by clip. Whether a switch changes a score says the
sign-flip test, corrected by Holm for all differences of the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vcorr import StoreError
from vcorr.contract.variants import DEFAULT_VARIANT, NamedVariant, switch_values
from vcorr.stats.intervals import Bounded, mean_interval, no_interval_reason, skill_interval
from vcorr.stats.series import Series, series
from vcorr.stats.sites import SiteId
from vcorr.store.rundir import RunDirectory, find_runs
from vcorr_tiny.command_runs import Command, Work, end
from vcorr_tiny.measurements import Kept, Measurement
from vcorr_tiny.reported_rows import ALL_POINTS, MOVING
from vcorr_tiny.statements import Difference, Statement, correct, say_too_few, write_blocks
from vcorr_tiny.task_pool import Task

MODEL = ("--model", "tiny", "--data", "sprites")
METRIC, CHOSEN_BY = ALL_POINTS, MOVING
CHOOSING, REPORTED = 8, 64
LAYERS = 3
"""Number of layers that are measured: the best ones by skill of query-key matching at the cleanest step."""
STEPS = "42,49"
NOT_IN_RUNS = ("guidance_mask",)
CHOICE, FLOAT32, BFLOAT16 = "choice", "float32", "bfloat16"
"""The tasks, and the folders of their runs."""

CORRECTED, DIFFTRACK = DEFAULT_VARIANT.text, "difftrack"
SECOND_SOFTMAX = f"{CORRECTED}+second_softmax=true"

Site = tuple[int, int]
"""Layer and step."""
Key = tuple[str, str, str]
"""Probe, metric and variant."""


@dataclass(frozen=True)
class Column:
    """One score column of the table: value or skill of a probe under a metric."""

    title: str
    probe: str
    metric: str
    skill: bool = False


COLUMNS = (
    Column("`qk`, accuracy", "qk", METRIC),
    Column("`qk`, skill", "qk", METRIC, skill=True),
    Column("`qk`, skill on moving points", "qk", MOVING, skill=True),
    Column("`feature`, accuracy", "feature", METRIC),
    Column("`confidence_cross`", "attention", "confidence_cross"),
    Column("`attention_cross`", "attention", "attention_cross"),
)
ACCURACY = COLUMNS[0]


@dataclass(frozen=True)
class Measured:
    """The series of one run by probe, metric and variant, and its clips."""

    series: dict[Key, Series]
    clips: tuple[str, ...]

    def scores_at(self, column: Column, variant: str, site: Site) -> Bounded:
        """Returns a score at a site for all clips, with floors and ceilings.

        Raises:
            StoreError: the run does not have it.
        """
        try:
            found = self.series[column.probe, column.metric, variant]
        except KeyError as error:
            raise StoreError(f"The run has no {column.metric} of {column.probe!r} in {variant!r}.") from error
        at = found.column_of(SiteId(*site))
        if at is None:
            raise StoreError(f"{column.probe!r} was not read at {SiteId(*site)}.")
        rows = [found.clips.index(clip) for clip in self.clips]
        return Bounded(found.score[rows, at], found.floor[rows, at], found.ceiling[rows, at])


def flips() -> tuple[str, ...]:
    """Returns `corrected` with each switch flipped alone, as `--set variant=` takes it.

    It leaves out the switches that no run depends on.
    """
    names = (name for name in switch_values() if name not in NOT_IN_RUNS)
    return tuple(f"{CORRECTED}+{name}={str(switch_values()[name][1]).lower()}" for name in names)


def all_variants() -> tuple[str, ...]:
    """Returns the variants that the float32 run scores."""
    return (CORRECTED, *flips(), DIFFTRACK)


# ------------------------------------------------------------------------------------------------------------ measuring


def best_layers(run: RunDirectory) -> tuple[int, ...]:
    """Returns the layers to measure, best first, from a small run on clips of another split."""
    (qk,) = series(run.read("scores"), metric=CHOSEN_BY)
    order = np.argsort(-np.nan_to_num(qk.skill, nan=-np.inf), kind="stable")
    return tuple(int(qk.sites[i]["layer"]) for i in order[:LAYERS])


def list_tasks(work: Work) -> list[Task]:
    """Returns the tasks: a few clips of another split choose layers, then the float32 run; and the bfloat16 run."""
    return [
        Task(CHOICE, lambda: command_choice(work), seconds=20.0),
        Task(FLOAT32, lambda: command_float32(work), (CHOICE,), 8 + 6.0 * work.limit),
        Task(BFLOAT16, lambda: command_bfloat16(work), seconds=8 + 2.0 * work.limit),
    ]


def command_choice(work: Work) -> Command:
    """Returns the command that runs a few clips of another split, by which layers are chosen."""
    asked = ["--probe", "qk", "--steps", "last", "--set", "data.split=validation"]
    return _command(_for_choice(work), CHOICE, asked)


def command_float32(work: Work) -> Command:
    """Returns the command that runs all variants in float32 at the chosen layers."""
    layers = best_layers(find_run(_for_choice(work), CHOICE))
    where = ["--layers", ",".join(map(str, sorted(layers))), "--steps", STEPS]
    what = ["--probe", "qk,feature,attention", "--set", f"variant={','.join(all_variants())}"]
    return _command(work, FLOAT32, [*what, *where])


def command_bfloat16(work: Work) -> Command:
    """Returns the command that runs the second softmax in bfloat16, at the cleanest step and at every layer.

    There it also changes predictions where attention is flat.
    """
    what = ["--probe", "qk", "--steps", "last", "--set", f"variant={CORRECTED},{SECOND_SOFTMAX}"]
    return _command(work, BFLOAT16, what, dtype="bfloat16")


def _for_choice(work: Work) -> Work:
    return replace(work, limit=min(work.limit, CHOOSING))


def read_measured(run: RunDirectory) -> Measured:
    """Reads the scores of a run."""
    scores = run.read("scores")
    found = {(s.key["probe"], s.key["metric"], s.variant_text): s for s in series(scores)}
    return Measured(found, tuple(sorted(set(scores["clip"].to_pylist()))))


def _command(work: Work, folder: str, arguments: Sequence[str], dtype: str = "float32") -> Command:
    """Returns a command whose run is in a folder of its own."""
    where = ("--limit", str(work.limit), "--out", str(work.out / folder))
    return Command(("run", *MODEL, *arguments, *where), on_device=True, dtype=dtype)


def find_run(work: Work, folder: str) -> RunDirectory:
    """Returns the newest run of a folder; raises StoreError if there is none over the number of clips."""
    out = work.out / folder
    found = [run for run in find_runs(out) if run.record()["clips"]["total"] == work.limit]
    if not found:
        raise StoreError(f"No run over {work.limit} clips is in {out}.", hint="Leave --tables-only out to run it.")
    return max(found, key=lambda run: run.record()["updated"])


# --------------------------------------------------------------------------------------------------------------- tables


class Cell(NamedTuple):
    """What one difference of the page is about: a score column under a variant at a site, in one of the two runs."""

    column: Column
    variant: str
    site: Site
    dtype: str = "float32"


Changes = Mapping[Cell, Statement]
"""Differences from `corrected`, corrected for all of them."""


def find_changes(cells: Sequence[Cell], runs: Mapping[str, Measured]) -> Changes:
    """Returns the difference of each cell from `corrected`. runs: by dtype."""
    found = [Statement.comparing("", _difference(runs[cell.dtype], cell), None) for cell in cells]
    return dict(zip(cells, correct(found), strict=True))


def cost_table(measured: Measured, site: Site, variants: Sequence[str], changes: Changes) -> str:
    """Returns a Markdown table: the scores under `corrected`, then the change under each variant."""
    lines = [
        f"| | {' | '.join(column.title for column in COLUMNS)} |",
        "| --- |" + " ---: |" * len(COLUMNS),
        f"| `{CORRECTED}` | " + " | ".join(_value(measured, c, site) for c in COLUMNS) + " |",
    ]
    for variant in variants:
        cells = (change_text(changes[Cell(column, variant, site)]) for column in COLUMNS)
        lines.append(f"| {_label(variant)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def site_table(
    measured: Measured, sites: Sequence[Site], variants: Sequence[str], changes: Changes, dtype: str = "float32"
) -> str:
    """Returns a Markdown table: the accuracy of `qk` at several sites, and its change under each variant."""
    named = [_label(variant) for variant in variants]
    lines = [f"| site | `{CORRECTED}` | {' | '.join(named)} |", "| --- |" + " ---: |" * (len(variants) + 1)]
    for site in sites:
        cells = (change_text(changes[Cell(ACCURACY, variant, site, dtype)]) for variant in variants)
        lines.append(f"| layer {site[0]}, step {site[1]} | {_value(measured, ACCURACY, site)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def change_text(change: Statement) -> str:
    """Returns a difference with its interval as text.

    It is bold if the test says that the scores differ and the rounded difference is not 0; it is a plain 0 if nothing
    changed.
    """
    low, high = (float(end) for end in (change.interval.low, change.interval.high))
    text = f"{change.value:+.3f}"
    reason = no_interval_reason(change.interval)
    if reason and change.value == 0:
        return "0"
    shown = f"**{text}**" if change.differs and float(text) != 0 else text
    return f"{shown} ({reason or f'{low:+.3f} … {high:+.3f}'})"


def _difference(measured: Measured, cell: Cell) -> Difference:
    switched, plain = (measured.scores_at(cell.column, v, cell.site) for v in (cell.variant, CORRECTED))
    if cell.column.skill:
        return Difference.of_skills(switched, plain)
    return Difference.of_means(switched.score, plain.score)


def _value(measured: Measured, column: Column, site: Site) -> str:
    found = measured.scores_at(column, CORRECTED, site)
    value = skill_interval(*found) if column.skill else mean_interval(found.score)
    return f"{float(value.estimate):.3f}"


def _label(variant: str) -> str:
    named = NamedVariant.parse(variant)
    return f"`{named.switches}`" if named.switches else f"`{named.text}`, all its switches"


def page_block(whole: Measured, half: Measured, layers: Sequence[int]) -> str:
    """Returns the generated block of docs/switches.md. half: the run in bfloat16."""
    steps = [int(step) for step in STEPS.split(",")]
    best = (layers[0], steps[-1])
    elsewhere = [(layer, step) for layer in layers for step in steps if (layer, step) != best]
    every = [(site["layer"], site["step"]) for site in half.series["qk", METRIC, CORRECTED].sites]
    everything, without_lookup = [*flips(), DIFFTRACK], [*(f for f in flips() if "lookup" not in f), DIFFTRACK]
    cells = [
        *(Cell(column, variant, best) for variant in everything for column in COLUMNS),
        *(Cell(ACCURACY, variant, site) for variant in without_lookup for site in elsewhere),
        *(Cell(ACCURACY, SECOND_SOFTMAX, site, "bfloat16") for site in every),
    ]
    changes = find_changes(cells, {"float32": whole, "bfloat16": half})
    intro = (
        f"`tiny` in float32 on {len(whole.clips)} held-out clips, layer {best[0]}, step {best[1]}. The first row is "
        f"the score under `{CORRECTED}`; each other row is the change when one switch is flipped alone. Brackets hold "
        "95 % intervals, paired by clip. Bold differences are not 0 by the sign-flip test, after Holm's correction "
        f"for all {len(cells)} differences of this page, and not 0 in three digits. A plain 0: nothing changed."
    )
    second = (
        "Accuracy of `qk` at every layer in bfloat16, the dtype in which the published scripts load the models, and "
        "its change under the second softmax:"
    )
    parts = [
        " ".join(filter(None, [intro, say_too_few(list(changes.values()))])),
        cost_table(whole, best, everything, changes),
        "Accuracy of `qk` at other sites in float32, and its change:",
        site_table(whole, elsewhere, without_lookup, changes),
        second,
        site_table(half, every, [SECOND_SOFTMAX], changes, "bfloat16"),
    ]
    return "\n\n".join(parts)


def write_tables(work: Work, docs: Path | None) -> dict[str, str]:
    """Makes the block of docs/switches.md, and writes it."""
    layers = best_layers(find_run(_for_choice(work), CHOICE))
    whole, half = (read_measured(find_run(work, folder)) for folder in (FLOAT32, BFLOAT16))
    blocks = {"switch-costs": page_block(whole, half, layers)}
    if docs:
        write_blocks(docs / "switches.md", blocks)
    return blocks


KEPT = Kept(tuple(sorted({CHOSEN_BY, *(column.metric for column in COLUMNS)})))
MEASUREMENT = Measurement("switches", REPORTED, list_tasks, write_tables, KEPT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return MEASUREMENT.run(MEASUREMENT.make_parser("switches", __doc__ or "").parse_args(arguments))


if __name__ == "__main__":
    end(main)
