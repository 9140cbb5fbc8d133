"""Measures what each switch of the published code costs: ``python -m vcorr_tiny.switches --docs docs``.

One run of the embedded model reads every clip once. It scores the clip under `corrected`, with each switch flipped
alone, and under `difftrack`. A second run measures the second softmax in bfloat16, where it changes predictions.
Layers are chosen on clips of another split. Differences are paired by clip; the intervals of 95 % are Student's t
over clips.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vcorr import StoreError, VcorrError
from vcorr.contract.variants import DEFAULT_VARIANT, NamedVariant, switch_values
from vcorr.stats import Bounded, Interval, compare_means, compare_skills
from vcorr.stats.series import Series, series
from vcorr.store.rundir import RunDirectory, find_runs
from vcorr_tiny.findings import METRIC, fill

MODEL = ("--model", "tiny", "--data", "sprites")
CHOOSING, REPORTED = 8, 64
LAYERS = 3
"""Number of layers that are measured: the best ones by skill of query-key matching at the cleanest step."""
STEPS = "42,49"
NOT_IN_RUNS = ("guidance_mask",)

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
        at = next(i for i, s in enumerate(found.sites) if (s["layer"], s["step"], s["head"]) == (*site, -1))
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


def best_layers(out: Path) -> tuple[int, ...]:
    """Returns the layers to measure, best first; chooses them with a small run on clips of another split."""
    run = _run(out, ["--probe", "qk", "--steps", "last", "--limit", str(CHOOSING), "--set", "data.split=validation"])
    (qk,) = series(run.read("scores"), metric=METRIC)
    order = np.argsort(-np.nan_to_num(qk.skill, nan=-np.inf), kind="stable")
    return tuple(int(qk.sites[i]["layer"]) for i in order[:LAYERS])


def measure(out: Path, layers: Iterable[int], limit: int) -> Measured:
    """Measures all variants in float32 at the chosen layers; reuses a stored run."""
    where = ["--layers", ",".join(map(str, sorted(layers))), "--steps", STEPS, "--limit", str(limit)]
    what = ["--probe", "qk,feature,attention", "--dtype", "float32", "--set", f"variant={','.join(all_variants())}"]
    return read_measured(_run(out, [*what, *where]))


def measure_half(out: Path, limit: int) -> Measured:
    """Measures the second softmax in bfloat16 at the cleanest step, at every layer, also where attention is flat."""
    where = ["--steps", "last", "--limit", str(limit)]
    what = ["--probe", "qk", "--dtype", "bfloat16", "--set", f"variant={CORRECTED},{SECOND_SOFTMAX}"]
    return read_measured(_run(out, [*what, *where]))


def read_measured(run: RunDirectory) -> Measured:
    """Reads the scores of a run."""
    scores = run.read("scores")
    found = {(s.key["probe"], s.key["metric"], s.variant_text): s for s in series(scores)}
    return Measured(found, tuple(sorted(set(scores["clip"].to_pylist()))))


def _run(out: Path, arguments: Sequence[str]) -> RunDirectory:
    command = [sys.executable, "-m", "vcorr", "run", *MODEL, *arguments, "--out", str(out)]
    if subprocess.run(command, check=False).returncode:
        raise VcorrError(f"{' '.join(command[2:])} failed.")
    return max(find_runs(out), key=lambda found: found.record()["updated"])


# --------------------------------------------------------------------------------------------------------------- tables


def cost_table(measured: Measured, site: Site, variants: Sequence[str], columns: Sequence[Column]) -> str:
    """Returns a Markdown table: the scores under `corrected`, then the change under each variant."""
    lines = [
        f"| | {' | '.join(column.title for column in columns)} |",
        "| --- |" + " ---: |" * len(columns),
        f"| `{CORRECTED}` | " + " | ".join(_value(measured, c, CORRECTED, site) for c in columns) + " |",
    ]
    for variant in variants:
        cells = (difference_cell(_difference(measured, c, variant, site)) for c in columns)
        lines.append(f"| {_label(variant)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def site_table(measured: Measured, sites: Sequence[Site], variants: Sequence[str]) -> str:
    """Returns a Markdown table: the accuracy of `qk` at several sites, and its change under each variant."""
    named = [_label(variant) for variant in variants]
    lines = [f"| site | `{CORRECTED}` | {' | '.join(named)} |", "| --- |" + " ---: |" * (len(variants) + 1)]
    for site in sites:
        cells = (difference_cell(_difference(measured, ACCURACY, variant, site)) for variant in variants)
        value = _value(measured, ACCURACY, CORRECTED, site)
        lines.append(f"| layer {site[0]}, step {site[1]} | {value} | {' | '.join(cells)} |")
    return "\n".join(lines)


def difference_cell(difference: Interval) -> str:
    """Returns a difference with its interval as text.

    It is bold if the interval excludes 0 and the rounded difference is not 0; it is a plain 0 if nothing changed.
    """
    estimate, low, high = (float(x) for x in (difference.estimate, difference.low, difference.high))
    if estimate == low == high == 0:
        return "0"
    text = f"{estimate:+.3f}"
    shown = (low > 0 or high < 0) and float(text) != 0
    return f"{f'**{text}**' if shown else text} ({low:+.3f} … {high:+.3f})"


def _difference(measured: Measured, column: Column, variant: str, site: Site) -> Interval:
    switched, plain = (measured.scores_at(column, v, site) for v in (variant, CORRECTED))
    if column.skill:
        return compare_skills(switched, plain)
    return compare_means(switched.score, plain.score)


def _value(measured: Measured, column: Column, variant: str, site: Site) -> str:
    from vcorr.stats import mean_interval, skill_interval

    found = measured.scores_at(column, variant, site)
    value = skill_interval(*found) if column.skill else mean_interval(found.score)
    return f"{float(value.estimate):.3f}"


def _label(variant: str) -> str:
    named = NamedVariant.parse(variant)
    return f"`{named.switches}`" if named.switches else f"`{named.text}`, all its switches"


def page_block(whole: Measured, half: Measured, layers: Sequence[int]) -> str:
    """Returns the generated block of docs/switches.md."""
    steps = [int(step) for step in STEPS.split(",")]
    best = (layers[0], steps[-1])
    elsewhere = [(layer, step) for layer in layers for step in steps if (layer, step) != best]
    every = [(site["layer"], site["step"]) for site in half.series["qk", METRIC, CORRECTED].sites]
    intro = (
        f"`tiny` in float32 on {len(whole.clips)} held-out clips, layer {best[0]}, step {best[1]}. The first row is "
        f"the score under `{CORRECTED}`; each other row is the change when one switch is flipped alone. Brackets hold "
        "95 % intervals, paired by clip. Bold differences have an interval without 0 and are not 0 in three digits. "
        "A plain 0 means that nothing changed."
    )
    second = (
        "Accuracy of `qk` at every layer in bfloat16, the dtype in which the published scripts load the models, and "
        "its change under the second softmax:"
    )
    parts = [
        intro,
        cost_table(whole, best, [*flips(), DIFFTRACK], COLUMNS),
        "Accuracy of `qk` at other sites in float32, and its change:",
        site_table(whole, elsewhere, [*(f for f in flips() if "lookup" not in f), DIFFTRACK]),
        second,
        site_table(half, every, [SECOND_SOFTMAX]),
    ]
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m vcorr_tiny.switches", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/switches"), help="folder of the runs")
    parser.add_argument("--limit", type=int, default=REPORTED, help="clips to report (default: %(default)s)")
    parser.add_argument("--docs", type=Path, help="docs folder whose switches.md is updated")
    options = parser.parse_args(arguments)
    layers = best_layers(options.out / "choice")
    whole = measure(options.out / "float32", layers, options.limit)
    half = measure_half(options.out / "bfloat16", options.limit)
    block = page_block(whole, half, layers)
    if options.docs:
        page = options.docs / "switches.md"
        page.write_text(fill(page.read_text(encoding="utf-8"), "switch-costs", block), encoding="utf-8")
    sys.stdout.write(f"{block}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
