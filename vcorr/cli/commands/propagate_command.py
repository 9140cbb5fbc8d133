"""Defines `vcorr propagate`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vcorr.cli.commands.site_flags import read_site_flags, site_options
from vcorr.cli.folder_type import FOLDER
from vcorr.cli.hints import SpecCommand
from vcorr.cli.number_types import WHOLE_NUMBER
from vcorr.contract.errors import EXIT_OK, EXIT_SOME_FAILED, UsageError

if TYPE_CHECKING:
    from vcorr.runner.spec import RunSpec
    from vcorr.tracking.propagation_options import PropagationOptions

TABLE = "propagation.arrow"
"""The table of a measurement, one row per object."""


@click.command(cls=SpecCommand, short_help="Carry a mask through a video along correspondences.")
@click.argument("video", required=False, metavar="[VIDEO]")
@click.option("--mask", type=click.Path(path_type=Path), metavar="FILE", help="Mask of one frame of VIDEO, a PNG.")
@click.option("--frame", type=WHOLE_NUMBER, default=0, show_default=True, metavar="N", help="Frame of the mask.")
@site_options
@click.option("--context", type=WHOLE_NUMBER, metavar="N", help="Earlier frames that give labels.  [default: 7]")
@click.option("--radius", type=WHOLE_NUMBER, metavar="R", help="Neighbourhood in tokens; 0 for all.  [default: 12]")
@click.option("--top-k", type=WHOLE_NUMBER, metavar="K", help="Tokens that give a token its labels.  [default: 5]")
@click.option("--data", metavar="NAME", help="In place of VIDEO, a dataset with masks, to measure on.")
@click.option("--data-root", metavar="PATH", help="Folder of the dataset's files; means --set data.path=PATH.")
@click.option("--limit", type=WHOLE_NUMBER, metavar="N", help="Only the first N clips.")
@click.option("--out", type=FOLDER, help="Folder to write.  [default: propagated/NAME]")
@click.option("--json", "as_json", is_flag=True, help="Results as JSON on standard output.")
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
    mask with points.
    """
    from vcorr.cli.quiet import quiet_libraries
    from vcorr.plugins.part_options import make_config
    from vcorr.runner.spec import build_spec
    from vcorr.tracking.propagation_options import PropagationOptions

    quiet_libraries()
    _check_form(video, mask, frame, {"data": data, "data-root": data_root, "limit": limit})
    root = [] if data_root is None else [f"data.path={data_root}"]
    given = {**read_site_flags(flags), "data": data, "limit": limit}
    spec = build_spec(given, assignments=[*root, *assignments])
    numbers = {"context": context, "radius": radius, "top_k": top_k}
    asked = {name: value for name, value in numbers.items() if value is not None}
    options: PropagationOptions = make_config(PropagationOptions, asked, "propagate")
    if video is None or mask is None:
        return _measure(spec, options, out, as_json)
    return _carry(Path(video), mask, frame, spec, options, out, as_json)


def _check_form(video: str | None, mask: Path | None, frame: int, of_dataset: Mapping[str, Any]) -> None:
    """Checks that the flags of one form are given; raises UsageError if not."""
    if video is not None and mask is None:
        raise UsageError("No mask was named.", hint=f"vcorr propagate {video} --mask FIRST.png")
    if video is None and mask is not None:
        raise UsageError("A mask was named, and no video.", hint=f"vcorr propagate VIDEO --mask {mask}")
    if video is None and frame:
        raise UsageError("--frame is for a mask of your own; data have the mask of frame 0.", hint="Leave it out.")
    for name, value in of_dataset.items():
        if video is not None and value is not None:
            raise UsageError(
                f"--{name} is for measuring on a dataset, and a video is named.",
                hint=f"Leave out --{name}, or the video.",
            )


def _carry(
    video: Path, mask: Path, frame: int, spec: RunSpec, options: PropagationOptions, out: Path | None, as_json: bool
) -> int:
    from vcorr.cli.views.mask_view import say_carried
    from vcorr.cli.views.terminal import print_json
    from vcorr.contract.text_files import expand_home
    from vcorr.data.video_names import show_name
    from vcorr.plugins.registry import installed
    from vcorr.runner.mask_propagation import make_carrier, propagate_mask
    from vcorr.tracking.tracks_folder import choose_folder

    path = expand_home(video)
    folder = choose_folder(out, path, "propagated")
    carrier = make_carrier(spec, installed(), options)
    made, notes = propagate_mask(path, expand_home(mask), frame, carrier)
    facts = {
        "video": show_name(path),
        "mask": show_name(mask),
        "frame": frame,
        "frames": len(made.labels),
        "pixels": made.labels[0].size,
        **carrier.facts,
        "notes": [*carrier.notes, *notes],
        "command": ["vcorr", *sys.argv[1:]],
    }
    files = made.write(folder, facts)
    result = {**facts, "areas": made.areas, "files": [show_name(one) for one in files]}
    if as_json:
        print_json(result)
    else:
        say_carried(result, folder)
    return EXIT_OK


def _measure(spec: RunSpec, options: PropagationOptions, out: Path | None, as_json: bool) -> int:
    from vcorr.cli.views.mask_view import say_failure, say_measured, summary_dict
    from vcorr.cli.views.terminal import print_json
    from vcorr.plugins.registry import installed
    from vcorr.runner.mask_propagation import make_carrier, measure_masks, open_mask_data
    from vcorr.store.atomic_files import make_folder
    from vcorr.tracking.mask_table import summarise_masks, write_mask_table
    from vcorr.tracking.tracks_folder import choose_folder

    data = open_mask_data(spec, installed())
    carrier = make_carrier(spec, installed(), options)
    name = re.sub(r"[^\w.-]", "-", f"{carrier.facts['model']}-{data.part.entry.name}")
    folder = choose_folder(out, Path(name), "propagated")
    rows = []
    for done in measure_masks(data, carrier):
        rows += done
        say_failure(done)
    summary = summarise_masks(rows)
    make_folder(folder)
    write_mask_table(folder / TABLE, rows)
    facts = {**carrier.facts, "data": data.part.entry.name, "notes": list(carrier.notes), "table": str(folder / TABLE)}
    if as_json:
        print_json({**facts, **summary_dict(summary)})
    else:
        say_measured(summary, facts)
    return EXIT_SOME_FAILED if summary.failed else EXIT_OK
