"""Defines `vcorr propagate`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from vcorr.cli.commands import run_flags
from vcorr.cli.commands.run_command import carry_out
from vcorr.cli.commands.site_flags import read_site_flags, refuse_data_flags, site_options
from vcorr.cli.folder_type import RESULTS
from vcorr.cli.hints import SpecCommand
from vcorr.cli.number_types import WHOLE_NUMBER
from vcorr.contract.errors import EXIT_OK, UsageError


@click.command(cls=SpecCommand, short_help="Carry a mask through a video along correspondences.")
@click.argument("video", required=False, metavar="[VIDEO]")
@click.option("--mask", type=click.Path(path_type=Path), metavar="FILE", help="Mask of one frame of VIDEO, a PNG.")
@click.option("--frame", type=WHOLE_NUMBER, default=0, show_default=True, metavar="N", help="Frame of the mask.")
@site_options
@click.option("--context", type=WHOLE_NUMBER, metavar="N", help="Earlier frames that give labels.  [default: 7]")
@click.option("--radius", type=WHOLE_NUMBER, metavar="R", help="Neighbourhood in tokens; 0 for all.  [default: 12]")
@click.option("--top-k", type=WHOLE_NUMBER, metavar="K", help="Tokens that give a token its labels.  [default: 5]")
@click.option("--data", metavar="NAME", help="In place of VIDEO, a dataset with masks, to measure on.")
@run_flags.DATA_ROOT
@run_flags.LIMIT_CLIPS
@click.option(
    "--out", type=RESULTS, help="Folder of runs, or for the masks of VIDEO.  [default: runs; propagated/NAME]"
)
@click.option(
    "--reuse",
    type=click.Choice(["never", "matching", "only"]),
    default="matching",
    show_default=True,
    help="Earlier results of --data: continue from them, compute nothing new (only), or start a new run (never).",
)
@click.option("--dry-run", is_flag=True, help="Print what would run on --data, and what is missing.")
@run_flags.RESULTS_AS_JSON
def propagate(
    video: str | None,
    mask: Path | None,
    frame: int,
    context: int | None,
    radius: int | None,
    top_k: int | None,
    data: str | None,
    data_root: str | None,
    limit: int | None,
    out: Path | None,
    reuse: str,
    dry_run: bool,
    as_json: bool,
    assignments: tuple[str, ...],
    **flags: Any,
) -> int:
    """Carry a mask, or several labels, from one frame of a video to all others. Or measure how well that works.

    \b
    A video of your own; writes a mask per frame, an overlay to look at, and the areas:
      vcorr propagate clip.mp4 --mask first.png --model tiny
    Measured on exact masks, offline:
      vcorr propagate --data sprites --model tiny --limit 8

    Every token takes its labels from the most similar tokens of earlier frames (docs/tracking.md). A tracker moves the
    mask with points. A measurement is a run: stored, continued, scored again and compared as any other.
    """
    of_runs = {"limit": limit, "reuse": None if reuse == "matching" else reuse, "dry-run": dry_run or None}
    _check_form(video, mask, frame, {"data": data, "data-root": data_root, **of_runs})
    numbers = {"context": context, "radius": radius, "top_k": top_k}
    more = [f"propagate.{name}={value}" for name, value in numbers.items() if value is not None]
    given = {**read_site_flags(flags), "data": data, "limit": limit}
    if video is not None and mask is not None:
        return _carry(Path(video), mask, frame, given, [*more, *assignments], out, as_json)
    if data is None:
        raise UsageError(
            "Neither a video nor data was named.",
            hint="vcorr propagate VIDEO --mask FIRST.png, or vcorr propagate --data sprites",
        )
    root = [] if data_root is None else [f"data.path={data_root}"]
    given["task"] = "propagation"
    return carry_out(
        given, [*root, *more, *assignments], out=out or Path("runs"), reuse=reuse, dry_run=dry_run, as_json=as_json
    )


def _check_form(video: str | None, mask: Path | None, frame: int, of_dataset: Mapping[str, Any]) -> None:
    """Checks that the flags of one form are given; raises UsageError if not."""
    if video is not None and mask is None:
        raise UsageError("No mask was named.", hint=f"vcorr propagate {video} --mask FIRST.png")
    if video is None and mask is not None:
        raise UsageError("A mask was named, and no video.", hint=f"vcorr propagate VIDEO --mask {mask}")
    if video is None and frame:
        raise UsageError("--frame is for a mask of your own; data have the mask of frame 0.", hint="Leave it out.")
    if video is not None:
        refuse_data_flags(of_dataset)


def _carry(
    video: Path,
    mask: Path,
    frame: int,
    given: Mapping[str, Any],
    assignments: Sequence[str],
    out: Path | None,
    as_json: bool,
) -> int:
    from vcorr.cli.quiet import quiet_libraries
    from vcorr.cli.views.mask_view import say_carried
    from vcorr.cli.views.terminal import print_json
    from vcorr.contract.text_files import expand_home
    from vcorr.data.video_names import show_name
    from vcorr.plugins.registry import installed
    from vcorr.runner.mask_propagation import make_carrier, propagate_mask
    from vcorr.runner.spec import build_spec
    from vcorr.tracking.tracks_folder import choose_folder

    quiet_libraries()
    spec = build_spec(given, assignments=assignments)
    path = expand_home(video)
    folder = choose_folder(out, path, "propagated")
    carrier = make_carrier(spec, installed())
    made, notes = propagate_mask(path, expand_home(mask), frame, carrier)
    given_facts = {"video": show_name(path), "mask": show_name(mask), "frame": frame}
    found = {"frames": len(made.labels), "pixels": made.labels[0].size, **carrier.facts}
    said = {"notes": [*carrier.notes, *notes], "command": ["vcorr", *sys.argv[1:]]}
    facts = {**given_facts, **found, **said}
    files = made.write(folder, facts)
    result = {**facts, "areas": made.areas, "files": [show_name(one) for one in files]}
    if as_json:
        print_json(result)
    else:
        say_carried(result, folder)
    return EXIT_OK
