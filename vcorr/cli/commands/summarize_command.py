"""Defines `vcorr summarize`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from vcorr.cli.commands import run_flags
from vcorr.cli.commands.site_flags import read_site_flags, site_options
from vcorr.cli.folder_type import FOLDER
from vcorr.cli.hints import SpecCommand
from vcorr.cli.number_types import WHOLE_NUMBER
from vcorr.contract.errors import EXIT_OK


@click.command(cls=SpecCommand, short_help="Choose key frames of a video by correspondence.")
@click.argument("video", metavar="VIDEO")
@click.option("-k", "count", type=WHOLE_NUMBER, default=6, show_default=True, metavar="K", help="Number of key frames.")
@site_options
@click.option(
    "--compare", type=WHOLE_NUMBER, default=48, show_default=True, metavar="N", help="Frames that are compared."
)
@click.option(
    "--grid", type=WHOLE_NUMBER, default=12, show_default=True, metavar="N", help="N x N points in each of them."
)
@click.option("--out", type=FOLDER, help="Folder to write.  [default: key-frames/NAME]")
@run_flags.RESULTS_AS_JSON
def summarize(
    video: str,
    count: int,
    compare: int,
    grid: int,
    out: Path | None,
    as_json: bool,
    assignments: tuple[str, ...],
    **flags: Any,
) -> int:
    """Choose the frames of a video at which correspondence to the frames before breaks down.

    \b
    Six key frames as PNG and as a contact sheet, offline:
      vcorr summarize clip.mp4 -k 6 --tracker dis

    The first frame is kept; each next one is the frame whose points are found again least in the frames kept so far.
    The same number of evenly spaced frames is printed next to them.
    """
    from vcorr.cli.quiet import quiet_libraries
    from vcorr.cli.views.terminal import print_json
    from vcorr.contract.text_files import expand_home
    from vcorr.data.video_names import show_name
    from vcorr.plugins.registry import installed
    from vcorr.runner.spec import build_spec
    from vcorr.runner.video_summary import find_tracker, summarize_video
    from vcorr.tracking.tracks_folder import choose_folder

    quiet_libraries()
    path = expand_home(Path(video))
    folder = choose_folder(out, path, "key-frames")
    spec = build_spec(read_site_flags(flags), assignments=assignments)
    found = find_tracker(spec, installed())
    made = summarize_video(path, count, found.tracker, compare=compare, grid=grid)
    facts = {
        "video": show_name(path),
        "follows": spec.tracker or spec.model,
        "notes": list(found.notes),
        "command": ["vcorr", *sys.argv[1:]],
    }
    files = made.write(folder, facts)
    result = {**facts, **made.facts(), "files": [show_name(one) for one in files]}
    if as_json:
        print_json(result)
    else:
        _say(result, folder)
    return EXIT_OK


def _say(result: Mapping[str, Any], folder: Path) -> None:
    from vcorr.cli.views.table_width import Column, Row, fit_table
    from vcorr.cli.views.terminal import cell, console, number, say

    columns = [
        Column("key frames", is_name=True),
        Column("frames", is_name=True),
        Column("coverage"),
        Column("of the worst frame"),
    ]
    rows: list[Row] = [
        [
            cell(name),
            cell(" ".join(map(str, sorted(result[frames])))),
            *(number(result[found][which]) for which in ("mean", "least")),
        ]
        for name, frames, found in (
            ("chosen", "key_frames", "coverage"),
            ("evenly spaced", "even_frames", "even_coverage"),
        )
    ]
    for note in result["notes"]:
        say(note)
    out = console()
    title = f"{result['follows']}: {result['compared']} of {result['frames']} frames compared"
    out.print(fit_table(out, title, columns, rows))
    say(f"Key frames, and the contact sheet to look at: {folder}")
