"""Measures quality against cost of cross-attention guidance: ``python -m vcorr_tiny.guided_costs --docs docs``.

A later first perturbed layer shares more blocks with the plain pass, and an interval guides some of the steps. Every
choice generates the captions of the same clips of `sprites` from the same seed. Their scores and costs are compared
with no guidance.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from vcorr import VcorrError, installed
from vcorr.bench.guidance_cost import make_guidance_bench
from vcorr.contract.index_text import read_indices
from vcorr.runner.spec import NO_GUIDANCE, build_spec
from vcorr.store.atomic_files import write_text
from vcorr.studies.guidance_page import show, show_interval
from vcorr.studies.guidance_rows import GuidanceRow
from vcorr.studies.guidance_study import ROWS
from vcorr.studies.study_runs import RECORD
from vcorr_tiny import guided_videos
from vcorr_tiny.command_runs import Call, Work, end, read_count
from vcorr_tiny.guided_videos import read_study
from vcorr_tiny.measurements import Kept, Measurement
from vcorr_tiny.network_folder import find_networks
from vcorr_tiny.rigid_layers import RigidLayers
from vcorr_tiny.statements import write_blocks
from vcorr_tiny.task_pool import Task

CLIPS, STEPS = 24, 20
BLOCK, PICTURE, COSTS = "guidance-costs", "guidance-costs.png", "costs.json"
ROUNDS = 5
SHOWN = {
    RigidLayers.primary: "departure, px",
    "dynamic_degree": "dynamic degree",
    "track_survival": "survival",
    "track_jerk": "jerk",
    "warp_error": "warp error",
}
"""Scores in the table, with their titles; the first two are drawn."""
BESIDE = 0.008
"""Distance in the picture between choices of the same cost."""
TITLES = {RigidLayers.primary: "departure from rigid motion, px", "dynamic_degree": "dynamic degree (guard)"}


def list_layers() -> tuple[str, ...]:
    """Returns the choices of perturbed layers: all that the network's facts name, then each time without the first."""
    layers = find_networks().facts.guided_layers
    return tuple(",".join(map(str, layers[first:])) for first in range(len(layers)))


def list_arms(steps: int) -> str:
    """Returns what is compared, as `vcorr study guidance` takes it. steps: of the sampler.

    The second choice of layers is also guided in half of the steps alone.
    """
    choices, half = list_layers(), steps // 2
    second = choices[min(1, len(choices) - 1)]
    parts = [f"cag+layers={second}+steps={span}" for span in (f"0-{half - 1}", f"{half}-{steps - 1}")]
    return ",".join([*(f"cag+layers={layers}" for layers in choices), *parts])


def list_tasks(work: Work, steps: int = STEPS) -> list[Task]:
    """Returns the tasks of the study of guidances, and one that times their steps."""
    timing = Call("vcorr_tiny.guided_costs:time_steps", (work.out,), on_device=True)
    return [*guided_videos.list_tasks(work, steps, list_arms(steps)), Task("step-times", lambda: timing, seconds=60.0)]


def time_steps(out: str, device: str) -> None:
    """Stores ratios of the time of a guided step and of a plain one, in one process, for each choice of layers.

    Raises:
        VcorrError: they cannot be timed.
    """
    Path(out).mkdir(parents=True, exist_ok=True)
    ratios = {}
    for layers in list_layers():
        flags = {"model": "tiny", "device": device, "dtype": "float32"}
        spec = build_spec(flags, assignments=[f"guidance.layers={layers}"])
        found = make_guidance_bench(spec, installed(), "cag", ROUNDS).run()
        if found.error:
            raise VcorrError(found.error)
        ratios[layers] = found.ratio
        write_text(Path(out) / COSTS, json.dumps(ratios, indent=1) + "\n")  # what was timed is kept


def count_blocks() -> int:
    """Returns the number of blocks of the embedded network, of one layer each."""
    return len(installed().models.get("tiny").entry.create().sites())


@dataclass(frozen=True)
class Choice:
    """One choice of layers and steps.

    label: the arm of the study. layers, steps: as text. counted: rows of blocks that a video takes / rows that it takes
    without the guidance. timed: the same ratio of times; NaN if steps were not timed. rows: the differences from no
    guidance, by score.
    """

    label: str
    layers: str
    steps: str
    counted: float
    timed: float
    rows: Mapping[str, GuidanceRow]


def read_choices(folder: Path) -> list[Choice]:
    """Reads what was measured.

    Raises:
        StoreError: it was not measured.
    """
    study, path = read_study(folder), folder / COSTS
    ratios = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    rows = [row for row in study.rows if row.control == NO_GUIDANCE]
    return [
        _read_choice(arm, study.facts["num_steps"], ratios, [row for row in rows if row.guidance == arm["label"]])
        for arm in study.facts["arms"]
        if arm["label"] != NO_GUIDANCE
    ]


def _read_choice(
    arm: Mapping[str, Any], num_steps: int, ratios: Mapping[str, float], rows: Sequence[GuidanceRow]
) -> Choice:
    steps = str(arm["options"].get("steps", "all"))
    share = 1.0 if steps == "all" else len(read_indices(steps, num_steps, "steps", "'0-9'", "steps")) / num_steps
    first = min(int(layer) for layer in arm["layers"].split(","))
    counted = 1 + share * (count_blocks() - first) / (2 * count_blocks())
    timed = 1 + share * (ratios.get(arm["layers"], math.nan) - 1)
    return Choice(arm["label"], arm["layers"], steps, counted, timed, {row.metric: row for row in rows})


def make_block(choices: Sequence[Choice], facts: Mapping[str, Any]) -> str:
    """Returns the text for the page. facts: the `study.json`."""
    names = [name for name in SHOWN if any(name in one.rows for one in choices)]
    plain = [next(one.rows[name].control_value for one in choices if name in one.rows) for name in names]
    asked = f"{facts['clips']} captions of `{facts['dataset']}`, seed {facts['seeds'][0]}, {facts['num_steps']} steps"
    intro = (
        f"{asked}, strength of classifier-free guidance {facts['cfg']:g}. Scores are differences from `none` with 95 % "
        "intervals. The row of `none` has its means. Bold: p is under 0.05, corrected by Holm over the rows of a "
        "column."
    )
    lines = [
        f"| layers (of {count_blocks()}) | steps | counted | timed | {' | '.join(SHOWN[name] for name in names)} |",
        f"| --- | --- | ---: | ---: |{' ---: |' * len(names)}",
        f"| `none` | – | 1 | 1 | {' | '.join(map(show, plain))} |",
        *(f"| {' | '.join(_cells(one, names))} |" for one in choices),
    ]
    return f"{intro}\n\n" + "\n".join(lines)


def _cells(one: Choice, names: Sequence[str]) -> Iterator[str]:
    yield from (one.layers, one.steps, f"{one.counted:.2f}", "–" if math.isnan(one.timed) else f"{one.timed:.2f}")
    for name in names:
        row = one.rows[name]
        difference = show(row.difference, signed=True)
        shown = f"**{difference}**" if row.is_significant else difference
        yield shown if math.isnan(row.low) else f"{shown} ({show_interval(row)})"


def draw(choices: Sequence[Choice], path: Path) -> None:
    """Draws the differences of two scores against the counted cost, with their intervals."""
    import altair as alt

    alt.hconcat(*(_draw_score(name, choices) for name in TITLES)).save(str(path), scale_factor=1.5)


def _draw_score(name: str, choices: Sequence[Choice]) -> Any:
    import altair as alt

    def ends(row: GuidanceRow) -> dict[str, float | None]:
        found = {"difference": row.difference, "low": row.low, "high": row.high}
        return {key: None if math.isnan(value) else value for key, value in found.items()}

    points = [
        {"cost": _place(one, choices), "choice": f"{one.layers}; steps {one.steps}", **ends(one.rows[name])}
        for one in choices
        if name in one.rows
    ]
    wide = alt.Scale(domain=[1.0, max(one.counted for one in choices) + 0.05], nice=False)
    across = alt.X("cost:Q", title="cost of a video, none = 1", scale=wide)
    colour = alt.Color("choice:N", title="layers; steps", sort=None)
    base = alt.Chart({"values": points}).encode(x=across, color=colour)
    spans = base.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q", title="difference from none"), y2="high:Q")
    marks = base.mark_point(filled=True, size=70).encode(y=alt.Y("difference:Q", title="difference from none"))
    zero = alt.Chart({"values": [{"y": 0}]}).mark_rule(color="#888", strokeDash=[4, 4]).encode(y="y:Q")
    return alt.layer(zero, spans, marks).properties(width=260, height=200, title=TITLES[name])


def _place(one: Choice, choices: Sequence[Choice]) -> float:
    """Returns where a choice is drawn: at its cost, and side by side with the others of that cost."""
    equal = [other.label for other in choices if math.isclose(other.counted, one.counted)]
    return one.counted + BESIDE * (equal.index(one.label) - (len(equal) - 1) / 2)


def write_tables(work: Work, docs: Path | None) -> dict[str, str]:
    """Makes the block of docs/guidance.md, and writes it and its picture."""
    choices, facts = read_choices(work.out), read_study(work.out).facts
    made = {BLOCK: make_block(choices, facts)}
    if docs:
        write_blocks(docs / "guidance.md", made)
        draw(choices, docs / "images" / PICTURE)
    return made


MEASUREMENT = Measurement("guidance-costs", CLIPS, list_tasks, write_tables, Kept(files=(ROWS, RECORD, COSTS)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = MEASUREMENT.make_parser("guided_costs", __doc__ or "")
    parser.add_argument("--steps", type=read_count, default=STEPS, help="steps of the sampler (default: %(default)s)")
    options = parser.parse_args(arguments)
    return replace(MEASUREMENT, list_tasks=partial(list_tasks, steps=options.steps)).run(options)


if __name__ == "__main__":
    end(main)
