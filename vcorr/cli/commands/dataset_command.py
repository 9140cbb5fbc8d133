"""Defines `vcorr dataset`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vcorr.cli.commands import run_flags
from vcorr.cli.folder_type import FOLDER
from vcorr.cli.number_types import NUMBER
from vcorr.cli.views.terminal import console, print_json, say
from vcorr.contract.errors import EXIT_OK, EXIT_SOME_FAILED, UsageError, unknown_name
from vcorr.contract.text_files import expand_home

if TYPE_CHECKING:
    from vcorr.runner.plan import Plan

KINDS = ("difftrack", "tapvid")


@click.group(short_help="Build, import and look at datasets.")
def dataset() -> None:
    """Build, import and look at datasets in the project's own format: videos and their tracks."""


@dataset.command("import", short_help="Convert a published dataset to the project's own format.")
@click.argument("kind", metavar="difftrack|tapvid")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--out", type=FOLDER, help="Folder of the sets.  [default: where --data looks]")
@click.option("--partial", is_flag=True, help="difftrack: also import prompts whose tracks or images are missing.")
@click.option(
    "--name",
    metavar="NAME",
    help="tapvid: davis, kinetics, rgb-stacking or robotap.  [default: what the files are]",
)
@click.option(
    "--resize",
    metavar="256|none",
    help="tapvid: 256 for frames of 256x256, as published; none for the frames of the files.  [default: 256]",
)
@run_flags.FACTS_AS_JSON
def import_(
    kind: str, path: Path, out: Path | None, partial: bool, name: str | None, resize: str | None, as_json: bool
) -> int:
    """Convert a published dataset to the project's own format.

    \b
    The paper's prompts and query grids, from a checkout of its code:
      vcorr dataset import difftrack DiffTrack/dataset
      vcorr run --model cogvideox --probe qk --data difftrack:cogvideox_t2v_2b/fg

    \b
    The videos and tracks of TAP-Vid or RoboTAP, from their unpacked files:
      vcorr dataset import tapvid tapvid_davis/tapvid_davis.pkl
      vcorr track --tracker dis --data tapvid-davis
    """
    if kind not in KINDS:
        raise unknown_name("dataset to import", kind, KINDS)
    others = {"--partial": partial} if kind == "tapvid" else {"--name": name, "--resize": resize}
    for flag, value in others.items():
        if value:
            raise UsageError(f"{flag} is not for {kind}.", hint="Leave it out: vcorr dataset import --help")
    if kind == "difftrack":
        return _import_difftrack(expand_home(path), out, partial, as_json)
    return _import_tapvid(expand_home(path), out, name or "", resize or "256", as_json)


def _import_difftrack(path: Path, out: Path | None, partial: bool, as_json: bool) -> int:
    from vcorr.cli.views import dataset_view
    from vcorr.data.dataset_home import imports_folder
    from vcorr.data.difftrack_import import import_all

    folder = imports_folder("difftrack") if out is None else out
    done = []
    for found in import_all(path, folder, partial=partial):
        done.append(found)
        if not as_json:
            say(dataset_view.describe_import(found, by_name=out is None))
    if as_json:
        print_json([{**vars(found), "path": str(found.path)} for found in done])
    return EXIT_OK


def _import_tapvid(path: Path, out: Path | None, name: str, resize: str, as_json: bool) -> int:
    from vcorr.cli.views import dataset_view
    from vcorr.data.dataset_home import imports_folder
    from vcorr.data.tapvid_import import import_tapvid
    from vcorr.data.tapvid_sets import KIND

    folder = imports_folder(KIND) if out is None else out
    done = import_tapvid(path, folder, name=name, resize=resize, report=dataset_view.report_clip)
    if as_json:
        print_json({**vars(done), "path": str(done.path)})
    else:
        say(dataset_view.describe_tapvid(done, by_name=out is None))
    return EXIT_SOME_FAILED if done.failed else EXIT_OK


@dataset.command(short_help="Sample videos from a model, track them, and keep those that move enough.")
@click.option("--model", "-m", metavar="NAME", required=True, help="Model that generates the videos.")
@click.option(
    "--prompts",
    metavar="FILE",
    required=True,
    help="A file with one prompt per line (.jsonl: one object per line), or data such as difftrack:...",
)
@click.option("--tracker", metavar="NAME", help="Tracker that computes the tracks.  [default: dis]")
@click.option(
    "--seeds", metavar="S[,S]", default="42", show_default=True, help="Every prompt is sampled with every seed."
)
@run_flags.LIMIT_PROMPTS
@click.option("--out", type=FOLDER, help="Folder of the dataset.  [default: built/<model>-<id>]")
@click.option(
    "--min-moving",
    type=NUMBER,
    default=0.05,
    show_default=True,
    help="Share of the points that must move by more than a token.",
)
@click.option(
    "--min-visible",
    type=NUMBER,
    default=0.25,
    show_default=True,
    help="Share of the points, over all frames, that must be visible.",
)
@run_flags.DEVICE
@run_flags.DTYPE
@run_flags.WEIGHTS
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any option of vcorr run, e.g. --set num_steps=20."
)
@run_flags.RESULTS_AS_JSON
def build(
    model: str,
    prompts: str,
    tracker: str | None,
    seeds: str,
    limit: int | None,
    out: Path | None,
    min_moving: float,
    min_visible: float,
    device: str | None,
    dtype: str | None,
    weights: str | None,
    assignments: tuple[str, ...],
    as_json: bool,
) -> int:
    """Sample videos from a model, track them, and keep those that move enough and stay visible.

    \b
    Offline and on any machine, with one prompt per line in prompts.txt:
      vcorr dataset build --model tiny --prompts prompts.txt --limit 2 --set num_steps=20

    Every clip is on disk before the next one begins: repeat the command to go on after an interruption. Clips that
    the thresholds reject are stored with the reason, so other thresholds need no new sampling.
    """
    from vcorr.cli.quiet import quiet_libraries
    from vcorr.cli.views import dataset_view, progress
    from vcorr.data.clip_filters import Filters
    from vcorr.runner import dataset_building as stage

    quiet_libraries()
    filters = Filters(min_moving=min_moving, min_visible=min_visible)
    flags = {"model": model, "data": _data(prompts), "tracker": tracker, "limit": limit}
    plan = _plan({**flags, "device": device, "dtype": dtype, "weights": weights}, assignments)
    wanted = stage.items(plan, _seeds(seeds))
    with progress.events(plan, [item.clip_id for item in wanted]) as events:
        done = stage.build(
            plan, wanted, filters, out or stage.default_folder(plan), events, command=["vcorr", *sys.argv[1:]]
        )
    if as_json:
        print_json(dataset_view.build_dict(done))
    else:
        dataset_view.print_build(done)
    return EXIT_SOME_FAILED if done.with_status("failed") else EXIT_OK


@dataset.command(short_help="Show what is in a dataset.")
@click.argument("name", metavar="DIR|NAME")
@run_flags.FACTS_AS_JSON
def show(name: str, as_json: bool) -> None:
    """Show what is in a dataset: where it comes from, its clips, and which clips were rejected and why.

    \b
    For example:
      vcorr dataset show difftrack:cogvideox_t2v_2b/fg
    """
    from vcorr.cli.views import dataset_view
    from vcorr.data.dataset_folder import DatasetFolder
    from vcorr.data.dataset_home import find_folder

    folder = DatasetFolder.open(find_folder(name))
    rows = folder.rows()
    if as_json:
        print_json(dataset_view.dataset_dict(folder, rows))
    else:
        console().print(dataset_view.describe_dataset(folder, rows))


def _data(prompts: str) -> str:
    """Returns the dataset that `--prompts` means: a prompt file, unless the text names a dataset or has that form."""
    from vcorr.data.dataset_home import split_name
    from vcorr.plugins.registry import installed
    from vcorr.runner.run_data import DATA_WITH_PATH

    if not prompts.strip():
        raise UsageError("--prompts is empty.", hint="For example: --prompts prompts.txt")
    if split_name(prompts, DATA_WITH_PATH) or Path(prompts).is_dir():
        return prompts
    named = not Path(prompts).exists() and prompts in installed().datasets.names()
    return prompts if named else f"prompts:{prompts}"


def _plan(flags: dict[str, object], assignments: tuple[str, ...]) -> Plan:
    from vcorr.plugins.registry import installed
    from vcorr.runner.plan import make_plan
    from vcorr.runner.spec import build_spec

    spec = build_spec({**flags, "mode": "generate", "steps": "all"}, assignments=assignments)
    return make_plan(spec, installed(), probing=False)


def _seeds(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    try:
        return [int(word) for word in words]
    except ValueError as error:
        raise UsageError(f"--seeds {text!r}: seeds are whole numbers.", hint="For example: --seeds 42,43") from error
