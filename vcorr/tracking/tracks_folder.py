"""Writes the tracks of a video of one's own as a folder: tables, arrays, an overlay, a record; whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vcorr.contract.errors import StoreError, UsageError
from vcorr.data.video.frame_stream import FrameSource
from vcorr.store.atomic_files import replace_folder, write_text
from vcorr.store.remote.addresses import url_of
from vcorr.tracking.own_video import write_point_overlay
from vcorr.tracking.tracked_points import TrackedPoints

TRACKS = ("tracks.arrow", "tracks.csv", "tracks.npz")
OVERLAY = "overlay.mp4"
RECORD = "tracks.json"


def choose_folder(out: Path | None, video: Path, under: str = "tracks") -> Path:
    """Returns the folder to write: `out`, or a new one, `tracks/NAME`, `tracks/NAME-2` … by the name of the video.

    under: the folder of new ones.

    Raises:
        UsageError: `out` stands for a URL.
        StoreError: `out` exists and is not an empty folder.
    """
    if out is not None:
        if (url := url_of(out)) is not None:
            raise UsageError(
                f"--out {url} is a URL, and files of a video of your own are written to a folder of this machine.",
                hint="Name a folder. Results of runs can have a URL: vcorr run --out s3://bucket/runs",
            )
        _check_free(out)
        return out
    number, folder = 1, Path(under, video.stem)
    while os.path.lexists(folder):
        number += 1
        folder = folder.with_name(f"{video.stem}-{number}")
    return folder


def _check_free(out: Path) -> None:
    if out.is_dir() and not any(out.iterdir()):
        return
    if os.path.lexists(out):
        raise StoreError(
            f"{out} exists already, and is not overwritten.", hint="Choose another folder with --out DIR, or delete it."
        )


def write_tracks_folder(
    folder: Path, tracks: TrackedPoints, original: FrameSource, facts: Mapping[str, Any]
) -> tuple[Path, ...]:
    """Writes the files and returns their paths.

    Args:
        folder: new or empty.
        tracks: the tracks.
        original: the frames to draw on.
        facts: what is written to `tracks.json`, as plain values.

    Raises:
        UsageError: the video cannot be read to its end.
        StoreError: the folder cannot be written.
    """
    with replace_folder(folder) as draft:
        for name in TRACKS:
            tracks.save(draft / name)
        write_point_overlay(draft / OVERLAY, original, tracks)
        write_text(draft / RECORD, json.dumps(facts, indent=2, ensure_ascii=False) + "\n", errors="backslashreplace")
    return tuple(folder / name for name in (*TRACKS, OVERLAY, RECORD))
