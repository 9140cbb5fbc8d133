"""Measures what accelerators cost the embedded model: ``python -m vcorr_tiny.accelerated --docs docs``.

It runs `vcorr study accelerators` and writes the table of docs/accelerators.md from the table of the study.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from vcorr import MissingError, VcorrError
from vcorr_tiny.command_runs import end
from vcorr_tiny.statements import write_blocks

COMMAND = ("study", "accelerators", "--model", "tiny", "--set", "data.level=hard")
BLOCK = "accelerators-tiny"
TABLE, RECORD = "accelerators.arrow", "study.json"
FLAGS = {"limit": 6, "videos": 1, "num-steps": 6, "pairs": 1}
"""Clips, prompts, sampling steps and timed pairs: what two busy cores measure in half an hour."""
ARMS = ("nf4", "windowed:frames=1", "windowed:frames=0", "fp8", "mag-cache", "taylorseer")

Rows = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Rows of the study by arm and measure."""


def run_study(out: Path, flags: Mapping[str, int], arms: Sequence[str]) -> None:
    """Runs the study, or goes on with it.

    Raises:
        VcorrError: the command failed.
    """
    numbers = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    named = [word for arm in arms for word in ("--accelerator", arm)]
    line = [*COMMAND, *numbers, *named, "--out", str(out)]
    if subprocess.run([sys.executable, "-m", "vcorr", *line], check=False).returncode:
        raise VcorrError(f"This command failed: vcorr {' '.join(line)}")


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


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the options of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m vcorr_tiny.accelerated", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--out", type=Path, default=Path("runs/accelerators"), help="folder of the study")
    parser.add_argument("--docs", type=Path, help="docs folder whose page is updated")
    parser.add_argument("--tables-only", action="store_true", help="run nothing; make the table of a stored study")
    parser.add_argument("--arms", nargs="*", default=ARMS, metavar="TEXT", help="arms; none for all usual ones")
    for name, value in FLAGS.items():
        parser.add_argument(f"--{name}", type=int, default=value, help="as in vcorr study accelerators")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options = read_options(arguments)
    if not options.tables_only:
        run_study(options.out, {name: getattr(options, name.replace("-", "_")) for name in FLAGS}, options.arms)
    block = make_block(read_rows(options.out), json.loads((options.out / RECORD).read_text(encoding="utf-8")))
    if options.docs:
        write_blocks(options.docs / "accelerators.md", {BLOCK: block})
    sys.stdout.write(f"{block}\n")
    return 0


if __name__ == "__main__":
    end(main)
