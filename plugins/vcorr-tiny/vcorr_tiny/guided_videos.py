"""Studies the guidances on the embedded model: ``python -m vcorr_tiny.guided_videos --docs docs``.

Every guidance generates the captions of the same clips of `sprites` from the same seed. The table and the picture of
docs/guidance.md come from it. A study that was stopped goes on.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcorr import StoreError, installed
from vcorr.contract.noun_counts import say_count
from vcorr.runner.events import Events, Silent
from vcorr.runner.plan import Plan
from vcorr.runner.spec import NO_GUIDANCE, RunSpec, build_spec
from vcorr.runner.track import read_video
from vcorr.stats.sign_flips import show_p
from vcorr.studies.guidance_arms import Arm, parse_arms
from vcorr.studies.guidance_page import make_strip, show, show_interval, summarise_study, write_page, write_png
from vcorr.studies.guidance_rows import TABLE, GuidanceRow
from vcorr.studies.guidance_study import ROWS, ArmRuns, GuidanceQuestion, GuidanceStudy, run_guidance_study
from vcorr.studies.study_runs import RECORD, RUNS
from vcorr_tiny.command_runs import Call, Command, Work, end, read_count
from vcorr_tiny.measurements import Kept, Measurement
from vcorr_tiny.rigid_layers import RigidLayers
from vcorr_tiny.statements import write_blocks
from vcorr_tiny.task_pool import Task

CLIPS, STEPS, CFG, SEEDS = 24, 20, 2.0, (42,)
"""Size of the study for the page. The videos of docs/findings.md have the same steps and strength."""
METRICS = "track-survival,track-steadiness,frame-changes,subject-drift,dynamic-degree,rigid-layers"
"""The usual metrics of generated videos, and the exact measure that videos like `sprites` have."""
BLOCK, PICTURE = "guidance-study", "guidance.png"
PROMPTS_DRAWN, FRAMES_DRAWN = 2, 5
STUDY = "study"
"""The task that compares the arms."""


def list_tasks(work: Work, steps: int = STEPS, guidances: str | None = None) -> list[Task]:
    """Returns a task per guidance, which generates its videos, and the study that compares them.

    steps: of the sampler. guidances: as `vcorr study guidance` takes them; None for all.
    """
    arms = parse_arms(guidances, installed())
    made = [Task(arm.label, partial(generate, work, steps, arm), seconds=8 + 6.0 * work.limit) for arm in arms]
    asked = (work.out, work.limit, steps, guidances or "")
    call = Call("vcorr_tiny.guided_videos:finish_study", asked, on_device=True)
    return [*made, Task(STUDY, lambda: call, tuple(task.name for task in made), 40.0)]


def generate(work: Work, steps: int, arm: Arm) -> Command:
    """Returns the command that generates the videos of an arm where the study looks for them."""
    asked = ("--num-steps", str(steps), "--cfg", f"{CFG:g}", "--seed", str(SEEDS[0]), "--guidance", arm.guidance)
    set_here = {"metrics": METRICS, **{f"guidance.{name}": value for name, value in arm.options.items()}}
    options = [word for name, value in set_here.items() for word in ("--set", f"{name}={value}")]
    where = ("--limit", str(work.limit), "--out", str(work.out / RUNS))
    return Command(("generate", "--model", "tiny", "--data", "sprites", *asked, *options, *where), on_device=True)


def make_spec(limit: int, steps: int, device: str) -> RunSpec:
    """Returns what all runs of the study share. steps: of the sampler."""
    flags = {
        "model": "tiny",
        "data": "sprites",
        "task": "generation",
        "limit": limit,
        "num_steps": steps,
        "cfg": CFG,
        "metrics": METRICS,
        "device": device,
        "dtype": "float32",
    }
    return build_spec(flags)


def finish_study(out: str, limit: int, steps: int, guidances: str, device: str) -> None:
    """Compares the videos of all arms, makes those that are missing, and draws strips of some of them."""
    arms = parse_arms(guidances or None, installed())
    asked = GuidanceQuestion(make_spec(limit, steps, device), arms, SEEDS, ("python", "-m", "vcorr_tiny.guided_videos"))
    found = run_guidance_study(asked, installed(), Path(out), _watch)
    write_page(found)
    draw(found, Path(out) / PICTURE)
    if found.failed:
        raise StoreError(f"{say_count(found.failed, 'video')} could not be made.")


def read_study(folder: Path) -> GuidanceStudy:
    """Reads what the page needs of a study: its rows and facts, and the names of its arms.

    Raises:
        StoreError: it was not measured.
    """
    if not (folder / RECORD).is_file():
        raise StoreError(f"{folder / RECORD} does not exist.", hint="Leave --tables-only out to measure it.")
    facts = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    rows = tuple(GuidanceRow(**row) for row in TABLE.read(folder / ROWS).to_pylist())
    arms = tuple(
        ArmRuns(Arm(each["label"], each["guidance"]), {}, each["layers"], math.nan, 0) for each in facts["arms"]
    )
    return GuidanceStudy(folder, arms, rows, {}, facts)


@contextmanager
def _watch(plan: Plan, title: str) -> Iterator[Events]:
    sys.stderr.write(f"{title}: {len(plan.selection.clips)} videos\n")
    yield Silent()


def make_block(found: GuidanceStudy) -> str:
    """Returns the text for the page: what was done, every difference from no guidance, and what they say."""
    facts = found.facts
    rows = [row for row in found.rows if row.control == NO_GUIDANCE]
    asked = f"{facts['clips']} captions of `{facts['dataset']}`, seed {facts['seeds'][0]}, {facts['num_steps']} steps"
    intro = (
        f"{asked}, strength of classifier-free guidance {facts['cfg']:g}. Differences from `none`. Bold: p is under "
        "0.05, corrected by Holm over the guidances of a score."
    )
    lines = [
        intro,
        "",
        "| score | guidance | layers | mean | difference | 95 % interval | p |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
        *(_line(row) for row in rows),
        "",
        *(f"- `{text.partition(':')[0]}`:{text.partition(':')[2]}." for text in summarise_study(found)),
    ]
    return "\n".join(lines)


def _line(row: GuidanceRow) -> str:
    difference = show(row.difference, signed=True)
    bold = f"**{difference}**" if row.is_significant else difference
    names = (f"`{row.metric}`", f"`{row.guidance}`", row.layers or "–")
    return f"| {' | '.join((*names, show(row.value), bold, show_interval(row), show_p(row.p_holm)))} |"


def draw(found: GuidanceStudy, path: Path) -> None:
    """Draws strips of the first prompts, all arms below each other in the order of the table, as one picture."""
    parts: list[NDArray[np.uint8]] = []
    for clip in list(found.clips)[:PROMPTS_DRAWN]:
        for one in found.arms:
            run = next(iter(one.runs.values()))
            parts.append(make_strip(read_video(run, clip), FRAMES_DRAWN))
            parts.append(np.full((4, parts[-1].shape[1], 3), 255, np.uint8))
        parts.append(np.full((12, parts[-1].shape[1], 3), 255, np.uint8))
    write_png(path, np.concatenate(parts[:-2]))


def list_titles(found: GuidanceStudy) -> list[str]:
    """Returns the titles of the strips that `draw` draws: each arm with its layers, for each prompt."""
    return [_title(one) for one in found.arms] * min(PROMPTS_DRAWN, int(found.facts["clips"]))


def _title(one: ArmRuns) -> str:
    word = "layers" if "," in one.layers else "layer"
    return f"{one.arm.label}, {word} {one.layers}" if one.layers else one.arm.label


def write_tables(work: Work, docs: Path | None) -> dict[str, str]:
    """Makes the block of docs/guidance.md, and writes it and its picture."""
    found = read_study(work.out)
    blocks = {BLOCK: make_block(found)}
    if docs:
        write_blocks(docs / "guidance.md", blocks)
        from vcorr_tiny.training.sheets import title_strips

        title_strips(work.out / PICTURE, list_titles(found), docs / "images" / PICTURE)
    return blocks


_KEPT = Kept((RigidLayers.primary,), (ROWS, RECORD, PICTURE), for_boards=True)
MEASUREMENT = Measurement("guidance", CLIPS, list_tasks, write_tables, _KEPT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = MEASUREMENT.make_parser("guided_videos", __doc__ or "")
    parser.add_argument("--steps", type=read_count, default=STEPS, help="steps of the sampler (default: %(default)s)")
    parser.add_argument("--guidances", help="guidances (default: all)")
    options = parser.parse_args(arguments)
    tasks = partial(list_tasks, steps=options.steps, guidances=options.guidances)
    return replace(MEASUREMENT, list_tasks=tasks).run(options)


if __name__ == "__main__":
    end(main)
