"""Measures what accelerators cost the embedded model: ``python -m vcorr_tiny.accelerated --docs docs``.

It runs `vcorr study accelerators` and writes the table of docs/accelerators.md from the table of the study.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from vcorr import MissingError
from vcorr_tiny.command_runs import Command, Work, end
from vcorr_tiny.measurements import Kept, Measurement
from vcorr_tiny.statements import write_blocks
from vcorr_tiny.task_pool import Task

COMMAND = ("study", "accelerators", "--model", "tiny", "--set", "data.level=hard")
BLOCK = "accelerators-tiny"
TABLE, RECORD = "accelerators.arrow", "study.json"
CLIPS = 6
FLAGS = {"videos": 1, "num-steps": 6, "pairs": 1}
"""Prompts, sampling steps and timed pairs: with so many clips, what two busy cores measure in half an hour."""
STUDY = "study"
"""The task."""
ARMS = ("nf4", "windowed:frames=1", "windowed:frames=0", "fp8", "mag-cache", "taylorseer")

Rows = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Rows of the study by arm and measure."""


def list_tasks(work: Work, flags: Mapping[str, int] = FLAGS, arms: Sequence[str] = ARMS) -> list[Task]:
    """Returns the task that runs the study. flags: numbers, as `vcorr study accelerators` takes them."""
    numbers = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    named = [word for arm in arms for word in ("--accelerator", arm)]
    words = (*COMMAND, "--limit", str(work.limit), *numbers, *named, "--out", str(work.out))
    clips = work.limit + flags["videos"] * flags["num-steps"] / 4
    return [Task(STUDY, lambda: Command(words, on_device=True, study=True), seconds=10 + 3.0 * clips * (1 + len(arms)))]


def read_rows(folder: Path) -> Rows:
    """Reads the table of a study.

    Raises:
        MissingError: there is none.
    """
    path = folder / TABLE
    if not path.is_file():
        raise MissingError(f"{path} does not exist.", hint="Leave --tables-only out to measure it.")
    with pa.OSFile(str(path)) as source:
        rows = pa.ipc.open_file(source).read_all().to_pylist()
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["accelerator"], {})[row["metric"]] = row
    return found


def make_block(rows: Rows, facts: Mapping[str, Any]) -> str:
    """Returns the generated block of the page. facts: the `study.json`."""
    videos = f"{facts['prompts']} prompt{'s' if facts['prompts'] > 1 else ''}"
    intro = (
        f"`{facts['model']}` on {facts['clips']} clips of `{facts['dataset']}` (level hard), skill of "
        f"`{facts['probe']}` at site {facts['site']}; videos of {videos} with {facts['num_steps']} "
        "steps. Differences from the plain model with 95 % intervals, paired by clip. Bold: p under 0.05 by the "
        "sign-flip test, after Holm's correction over the arms of a column."
    )
    plain = next(iter(rows.values()))
    first = next((arm for arm in rows.values() if not math.isnan(arm["skill"]["plain"])), plain)
    skill, loss = (first[name]["plain"] for name in ("skill", "denoising_loss"))
    lines = [
        "| arm | skill | denoising loss | PSNR of videos | time | remark |",
        "| --- | --- | --- | ---: | ---: | --- |",
        f"| plain | {skill:.3f} | {loss:.4f} | | 1 | |",
        *(_line(label, arm) for label, arm in rows.items()),
    ]
    return "\n\n".join([intro, "\n".join(lines)])


def _line(label: str, arm: Mapping[str, Mapping[str, Any]]) -> str:
    ratio = arm["seconds_per_video"]["ratio"]
    cells = [
        f"`{label}`",
        _difference(arm["skill"], 3),
        _difference(arm["denoising_loss"], 4),
        "–" if math.isnan(arm["psnr"]["value"]) else f"{arm['psnr']['value']:.1f}",
        "not timed" if math.isnan(ratio) else f"{ratio:.2f}",
        arm["skill"]["reason"] or arm["skill"]["note"],
    ]
    return f"| {' | '.join(cells)} |"


def _difference(row: Mapping[str, Any], digits: int) -> str:
    if math.isnan(row["difference"]):
        return "–"
    text = f"{row['difference']:+.{digits}f}"
    shown = f"**{text}**" if row["p_holm"] <= 0.05 else text
    if math.isnan(row["low"]):
        return shown
    return f"{shown} ({row['low']:+.{digits}f} … {row['high']:+.{digits}f})"


def write_tables(work: Work, docs: Path | None) -> dict[str, str]:
    """Makes the block of docs/accelerators.md, and writes it."""
    rows = read_rows(work.out)
    blocks = {BLOCK: make_block(rows, json.loads((work.out / RECORD).read_text(encoding="utf-8")))}
    if docs:
        write_blocks(docs / "accelerators.md", blocks)
    return blocks


MEASUREMENT = Measurement("accelerators", CLIPS, list_tasks, write_tables, Kept(files=(TABLE, RECORD)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = MEASUREMENT.make_parser("accelerated", __doc__ or "")
    parser.add_argument("--arms", nargs="*", default=ARMS, metavar="TEXT", help="arms; none for all usual ones")
    for name, value in FLAGS.items():
        parser.add_argument(f"--{name}", type=int, default=value, help="as in vcorr study accelerators")
    options = parser.parse_args(arguments)
    flags = {name: int(getattr(options, name.replace("-", "_"))) for name in FLAGS}
    return replace(MEASUREMENT, list_tasks=partial(list_tasks, flags=flags, arms=options.arms)).run(options)


if __name__ == "__main__":
    end(main)
