"""Studies the guidances on the embedded model: ``python -m vcorr_tiny.guided_videos --docs docs``.

Every guidance generates the captions of the same clips of `sprites` from the same seed. The table and the picture of
docs/guidance.md come from it. A study that was stopped goes on.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcorr import installed
from vcorr.runner.events import Events, Silent
from vcorr.runner.plan import Plan
from vcorr.runner.spec import NO_GUIDANCE, build_spec
from vcorr.runner.track import read_video
from vcorr.studies.guidance_arms import parse_arms
from vcorr.studies.guidance_page import make_strip, show, show_interval, summarise_study, write_page, write_png
from vcorr.studies.guidance_rows import GuidanceRow
from vcorr.studies.guidance_study import GuidanceQuestion, GuidanceStudy, run_guidance_study
from vcorr_tiny.command_runs import end
from vcorr_tiny.statements import write_blocks

CLIPS, STEPS, CFG, SEEDS = 24, 20, 2.0, (42,)
"""Size of the study for the page. The videos of docs/findings.md have the same steps and strength."""
BLOCK, PICTURE = "guidance-study", "guidance.png"
PROMPTS_DRAWN, FRAMES_DRAWN = 2, 5


def study(options: argparse.Namespace) -> GuidanceStudy:
    """Runs what is missing of the study, and returns it."""
    flags = {
        "model": "tiny",
        "data": "sprites",
        "task": "generation",
        "limit": options.limit,
        "num_steps": options.steps,
        "cfg": CFG,
        "device": options.device,
    }
    arms = parse_arms(options.guidances, installed())
    words = ("python", "-m", "vcorr_tiny.guided_videos")
    asked = GuidanceQuestion(build_spec(flags), arms, SEEDS, words)
    found = run_guidance_study(asked, installed(), options.out, _watch)
    write_page(found)
    return found


@contextmanager
def _watch(plan: Plan, title: str) -> Iterator[Events]:
    sys.stderr.write(f"{title}: {len(plan.selection.clips)} videos\n")
    yield Silent()


def make_block(found: GuidanceStudy) -> str:
    """Returns the text for the page: what was done, every difference from no guidance, and what they say."""
    facts = found.facts
    rows = [row for row in found.rows if row.control == NO_GUIDANCE]
    asked = f"{facts['clips']} captions of `{facts['dataset']}`, seed {facts['seeds'][0]}, {facts['num_steps']} steps"
    lines = [
        f"{asked}, strength of classifier-free guidance {facts['cfg']:g}. Differences from `none`:",
        "",
        "| score | guidance | layers | mean | difference | 95 % interval | p |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
        *(_line(row) for row in rows),
        "",
        *(f"- `{text.partition(':')[0]}`:{text.partition(':')[2]}." for text in summarise_study(found)),
    ]
    return "\n".join(lines)


def _line(row: GuidanceRow) -> str:
    p = "–" if math.isnan(row.p_holm) else f"{row.p_holm:.3f}"
    difference = show(row.difference, signed=True)
    bold = f"**{difference}**" if row.is_significant else difference
    cells = (f"`{row.metric}`", f"`{row.guidance}`", row.layers or "–", show(row.value), bold, show_interval(row), p)
    return f"| {' | '.join(cells)} |"


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m vcorr_tiny.guided_videos", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/guidance"), help="folder of the study")
    parser.add_argument("--limit", type=int, default=CLIPS, help="captions (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of the sampler (default: %(default)s)")
    parser.add_argument("--guidances", help="guidances (default: all)")
    parser.add_argument("--device", default="cpu", help="of the network (default: %(default)s)")
    parser.add_argument("--docs", type=Path, help="docs folder whose page is updated")
    options = parser.parse_args(arguments)
    found = study(options)
    block = make_block(found)
    if options.docs:
        write_blocks(options.docs / "guidance.md", {BLOCK: block})
        draw(found, options.docs / "images" / PICTURE)
    sys.stdout.write(block + "\n")
    return 1 if found.failed else 0


if __name__ == "__main__":
    end(main)
