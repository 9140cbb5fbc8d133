"""Writes the tables of sizing.md: what a sweep over all models would take.

    python docs/sizing.py

Every figure is an estimate. Operations per clip come from the dry run of each model. The speed is what full-size
denoisers reached on an H100 in performance.md. No weights are loaded.
"""

from __future__ import annotations

import math
import re
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vcorr.analysis.estimate import estimate
from vcorr.contract.errors import VcorrError
from vcorr.plugins.registry import installed
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec

FOLDER = Path(__file__).resolve().parent
PAGE, MEASURED = FOLDER / "sizing.md", FOLDER / "performance.md"
BLOCK = re.compile(r"(<!-- sizing: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
MODELS, CLIPS, STEPS = 60, 400, 50
PROBING = 1.089
"""Probed time over plain time, for four probes at 400 points with the fused kernels (performance.md)."""
COLUMNS = 12
"""Columns of scores per site, as in the large runs of performance.md."""
ROW_BYTES = 51.9
"""Bytes of a row of made-up scores on disk, measured by `vcorr bench score` (sizing.md)."""
LOAD_SECONDS = 18.0
"""The longest time that making random weights took on an H100 (performance.md). Reading real ones was not measured."""
FLOPS = 1e12


@dataclass(frozen=True)
class Size:
    """What one clip of a model takes. tera: 10^12 operations. passes: of one branch each. sites: layers x steps."""

    name: str
    tera: float
    passes: int
    sites: int
    disk: float
    rate: float = math.nan

    @property
    def seconds(self) -> float:
        """Seconds of one H100 for a clip, probed."""
        return self.tera / self.rate * PROBING

    @property
    def hours(self) -> float:
        """Hours of one H100 for all clips."""
        return CLIPS * self.seconds / 3600


def read_measured(text: str) -> dict[str, tuple[int, float]]:
    """Returns branches and milliseconds of one plain pass by model, from the first table of an H100 in a page."""
    section = text.split("\n## Larger models, on an H100\n")[1].split("\n### ", maxsplit=1)[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| ")]
    found = [(row[0].partition(" (")[0], int(row[3]), float(row[5])) for row in rows[1:] if row[3].isdigit()]
    return {name: (branches, ms) for name, branches, ms in found if "," not in name}


def size_models(measured: Mapping[str, object]) -> list[Size]:
    """Returns what one clip of each model of full size takes that generates videos.

    measured: has the names that are preferred where a model has two.
    """
    found, cards = [], set()
    for name in sorted(installed().models.names(), key=lambda name: (name not in measured, name)):
        spec = RunSpec(name, "qk", prompt="a", mode="generate", num_steps=STEPS, steps="all", weights="random")
        try:
            plan = make_plan(spec, installed(), dry=True)
            one = estimate(plan, Path("runs"), lambda hardware: FLOPS)
        except VcorrError:
            continue  # a baseline, or a backbone that generates nothing
        card = plan.live.card
        if one.device_seconds is None or one.disk_bytes is None or card is None or name.startswith("tiny"):
            continue
        if plan.parts.model.entry.card not in cards:
            cards.add(plan.parts.model.entry.card)
            sites = len(plan.selection.sites) * STEPS
            found.append(Size(name, one.device_seconds, one.work.passes, sites, one.disk_bytes))
    return found


def find_rates(sizes: list[Size], measured: Mapping[str, tuple[int, float]]) -> dict[str, float]:
    """Returns the tera operations per second that each measured model reached."""
    by_name = {one.name: one for one in sizes}
    known = {name: values for name, values in measured.items() if name in by_name}
    return {
        name: by_name[name].tera / by_name[name].passes * branches / (ms / 1000)
        for name, (branches, ms) in known.items()
    }


def render(sizes: list[Size], rates: Mapping[str, float]) -> dict[str, str]:
    """Returns the tables by their names."""
    usual = statistics.median(rates.values())
    placed = [Size(**{**vars(one), "rate": rates.get(one.name, usual)}) for one in sizes]
    placed.sort(key=lambda one: -one.hours)
    return {"models": _models(placed, rates), "whole": _whole(placed, rates), "gpus": _gpus(placed)}


def _models(sizes: list[Size], rates: Mapping[str, float]) -> str:
    lines = ["| model | tera operations per clip | speed (tera/s) | speed from | GPU hours | disk (GB) |"]
    lines.append("| --- | ---: | ---: | --- | ---: | ---: |")
    for one in sizes:
        source = "its own pass" if one.name in rates else "the median"
        disk = CLIPS * one.disk / 1e9
        lines.append(f"| {one.name} | {one.tera:,.0f} | {one.rate:.0f} | {source} | {one.hours:,.1f} | {disk:.0f} |")
    return "\n".join(lines) + "\n"


def _whole(sizes: list[Size], rates: Mapping[str, float]) -> str:
    scale = MODELS / len(sizes)
    hours = sum(one.hours for one in sizes)
    tera = CLIPS * PROBING * sum(one.tera for one in sizes) / 3600
    fastest, slowest = (tera / pick(rates.values()) for pick in (max, min))
    rows = CLIPS * COLUMNS * sum(one.sites for one in sizes)
    disk = CLIPS * sum(one.disk for one in sizes)
    facts: list[tuple[str, Callable[[float], str], float]] = [
        ("GPU hours", lambda value: f"{value:,.0f}", hours),
        ("GPU hours, if all models reach the highest measured speed", lambda value: f"{value:,.0f}", fastest),
        ("GPU hours, if all models reach the lowest measured speed", lambda value: f"{value:,.0f}", slowest),
        ("predictions and lossless videos (TB)", lambda value: f"{value / 1e12:.1f}", disk),
        ("rows of scores (billions)", lambda value: f"{value / 1e9:.1f}", rows),
        ("scores on disk (GB)", lambda value: f"{value / 1e9:.0f}", rows * ROW_BYTES),
        ("files", lambda value: f"{value:,.0f}", 4.0 * CLIPS * len(sizes)),
    ]
    lines = [f"| | {len(sizes)} models | {MODELS} models, at the mean |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {show(value)} | {show(scale * value)} |" for name, show, value in facts]
    return "\n".join(lines) + "\n"


def _gpus(sizes: list[Size]) -> str:
    scale = MODELS / len(sizes)
    lines = ["| GPUs | hours, runs one after the other | hours, if no GPU ever waited | share of time in use |"]
    lines.append("| ---: | ---: | ---: | ---: |")
    for gpus in (1, 10, 100, 400, 1000):
        workers = min(gpus, CLIPS)
        waits = sum(math.ceil(CLIPS / workers) * one.seconds + LOAD_SECONDS for one in sizes) / 3600 * scale
        ideal = sum(one.hours for one in sizes) * scale / gpus
        lines.append(f"| {gpus:,} | {waits:,.1f} | {ideal:,.1f} | {100 * ideal / waits:.0f} % |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Writes the tables into the page."""
    measured = read_measured(MEASURED.read_text(encoding="utf-8"))
    sizes = size_models(measured)
    tables = render(sizes, find_rates(sizes, measured))
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(BLOCK.sub(lambda found: found[1] + tables[found[2]] + found[3], text), encoding="utf-8")
    sys.stdout.write("".join(tables.values()))


if __name__ == "__main__":
    main()
