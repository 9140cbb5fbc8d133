"""Carries out `vcorr track VIDEO`: follows points through a video of one's own, and writes their tracks."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcorr.contract.errors import EXIT_OK

if TYPE_CHECKING:
    from vcorr.data.video.frame_stream import FrameSource
    from vcorr.runner.point_tracking import VideoTracking
    from vcorr.runner.spec import RunSpec
    from vcorr.tracking.tracked_points import TrackedPoints


def track_video(
    video: str,
    points: Sequence[str],
    grid: int | None,
    given: Mapping[str, Any],
    assignments: Sequence[str],
    *,
    out: Path | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Follows points through a video; prints what was done and returns the exit code.

    Args:
        video: the file.
        points: texts such as "120,80@35", each with one or several points.
        grid: points along one side of a regular grid in the first frame; None for `points`.
        given: values of the flags that are fields of a run, such as the tracker; None where none was given.
        assignments: the values of `--set`.
        out: the folder to write; None for a new one in `tracks/`.
        dry_run: whether to say only what would be done.
        as_json: whether to print JSON.

    Raises:
        UsageError: a flag, a point or the video cannot be used.
        MissingError: the video does not exist, or weights are missing.
        StoreError: the folder exists, or cannot be written.
    """
    from vcorr.cli.quiet import quiet_libraries
    from vcorr.contract.text_files import expand_home
    from vcorr.data.video_names import show_name
    from vcorr.plugins.registry import installed
    from vcorr.runner.point_tracking import plan_video_tracking
    from vcorr.runner.spec import build_spec
    from vcorr.tracking.tracks_folder import choose_folder

    quiet_libraries()
    spec = build_spec(given, assignments=assignments)
    path = expand_home(Path(video))
    folder = choose_folder(out, path)
    asked = None if grid is not None and not points else list(points)
    plan = plan_video_tracking(path, asked, grid, spec, installed(), dry=dry_run)
    facts = _facts(path, plan, folder)
    if dry_run:
        facts["passes"] = plan.follower.count_passes(plan.source, plan.queries)
        facts["missing"] = [vars(gap) for gap in plan.follower.missing]
        _say(facts, as_json, f"Would write {folder}. Nothing was followed.")
        return EXIT_OK
    tracks = _follow(plan)
    written = _write(folder, tracks, _open_original(path, spec), facts)
    result = {**facts, "visible": float(tracks.visible.mean()), "files": [show_name(one) for one in written]}
    _say(result, as_json, f"Tracks, and the overlay to look at: {folder}")
    return EXIT_OK


def _facts(path: Path, plan: VideoTracking, folder: Path) -> dict[str, Any]:
    """Returns what is known before points are followed, as plain values."""
    from importlib import metadata

    from vcorr.data.video_names import show_name

    source, queries = plan.source, plan.queries
    return {
        "video": show_name(path),
        "frames": len(source.times),
        "fps": float(source.fps),
        "size": list(source.size),
        "followed_at": list(source.shown_size),
        "follows": plan.follower.label,
        "points": len(queries),
        "queries": [[int(t), float(x), float(y)] for t, (x, y) in zip(queries.t, queries.xy, strict=True)],
        "notes": [*source.notes, *plan.follower.notes],
        "out": show_name(folder),
        "command": ["vcorr", *sys.argv[1:]],
        "vcorr": metadata.version("vcorr"),
    }


def _follow(plan: VideoTracking) -> TrackedPoints:
    from dataclasses import replace

    from vcorr.cli.views.progress import count_items
    from vcorr.data.video.frame_stream import WatchedFrames

    total = plan.follower.count_frames(plan.source, plan.queries)
    with count_items(plan.follower.label, total) as watch:
        return replace(plan, source=WatchedFrames(plan.source, watch)).run()


def _open_original(path: Path, spec: RunSpec) -> FrameSource:
    from vcorr.runner.point_tracking import read_config

    return read_config(spec).open(path, original=True)


def _write(folder: Path, tracks: TrackedPoints, original: FrameSource, facts: Mapping[str, Any]) -> tuple[Path, ...]:
    from vcorr.cli.views.progress import count_items
    from vcorr.data.video.frame_stream import WatchedFrames
    from vcorr.tracking.tracks_folder import write_tracks_folder

    with count_items("overlay", len(original.times)) as watch:
        return write_tracks_folder(folder, tracks, WatchedFrames(original, watch), facts)


def _say(facts: Mapping[str, Any], as_json: bool, last: str) -> None:
    """Prints what was done, or would be."""
    from vcorr.cli.views.terminal import print_json, say
    from vcorr.contract.noun_counts import say_count

    if as_json:
        print_json(dict(facts))
        return
    for note in facts["notes"]:
        say(note)
    size = "x".join(map(str, facts["size"]))
    points = say_count(facts["points"], "point")
    seen = f"; {100 * facts['visible']:.0f} % of the positions are visible" if "visible" in facts else ""
    passes = f"; forward passes: {facts['passes']}" if facts.get("passes") else ""
    say(f"{facts['follows']}: {points} through {facts['frames']} frames of {size} pixels{seen}{passes}.")
    for gap in facts.get("missing", ()):
        say(f"Missing ({gap['kind']}): {gap['message']}\n{gap['hint']}".rstrip())
    say(last)
