"""Finds the video files that a path names, and gives each a name that can be printed and stored."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vcorr.contract.errors import MissingError

SUFFIXES = (
    ".3gp",
    ".avi",
    ".flv",
    ".gif",
    ".m2ts",
    ".m4v",
    ".mkv",
    ".mov",
    ".mp4",
    ".mpeg",
    ".mpg",
    ".mts",
    ".mxf",
    ".ogv",
    ".ts",
    ".vob",
    ".webm",
    ".wmv",
    ".y4m",
)
"""Suffixes of videos in a folder. A file that is named by itself may have any suffix."""

_NAMED = 3
"""Files that a note names at most."""


@dataclass(frozen=True)
class FoundVideos:
    """Files, sorted by name. passed: a sentence on the files of the folder that were passed over; "" for none."""

    paths: tuple[Path, ...]
    passed: str = ""


def find_videos(text: str) -> FoundVideos:
    """Returns the files that a path names: a file, the videos directly in a folder, or the matches of a pattern.

    Hidden files of a folder are passed over. macOS writes a hidden file with the suffix of the video next to each.

    Raises:
        MissingError: there is none.
    """
    path = _expand(text)
    if os.path.isdir(path):
        return _search_folder(path, text)
    if glob.has_magic(text) and not os.path.exists(path):
        matches = [Path(p) for p in glob.glob(str(path), recursive=True) if os.path.isfile(p)]
        if not matches:
            raise _missing(f"No file matches {show_name(text)}.")
        return FoundVideos(tuple(sorted(matches)))
    return FoundVideos((path,))


def is_video_name(text: str) -> bool:
    """Returns whether a name ends in one of `SUFFIXES`, such as "clips/bear.mp4" or "clips/*.mov"."""
    return os.path.splitext(text)[1].lower() in SUFFIXES


def show_name(path: Path | str) -> str:
    r"""Returns a path as text that can be printed and stored: bytes that are not UTF-8 become \\xNN."""
    return os.fspath(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def name_files(paths: Sequence[Path]) -> dict[str, Path]:
    """Returns files by id: the shortest of name without suffix, name, and whole path that no other file shares."""
    by_id: dict[str, Path] = {}
    forms = [lambda p: show_name(p.stem), lambda p: show_name(p.name), lambda p: show_name(p.as_posix()), repr]
    counts = [Counter(form(path) for path in paths) for form in forms]
    for path in paths:
        form = next(f for f, count in zip(forms, counts, strict=True) if count[f(path)] == 1)
        by_id[form(path)] = path
    return by_id


def _expand(text: str) -> Path:
    """Returns a path with "~" replaced by the home folder, unless it begins the name of a file that exists."""
    if os.path.exists(text):
        return Path(text)
    return Path(os.path.expanduser(text))  # unlike pathlib, it keeps "~" if there is no such user


def _search_folder(path: Path, text: str) -> FoundVideos:
    files = sorted(p for p in path.iterdir() if not p.is_dir())
    found = tuple(p for p in files if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file())
    if not found:
        raise _missing(f"The folder {show_name(text)} holds no videos ({', '.join(SUFFIXES)}).")
    return FoundVideos(found, _say_passed(path, [p for p in files if p not in set(found)]))


def _say_passed(folder: Path, others: Sequence[Path]) -> str:
    if not others:
        return ""
    names = ", ".join(show_name(p.name) for p in others[:_NAMED])
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    counted = "1 file of the folder was" if len(others) == 1 else f"{len(others)} files of the folder were"
    return (
        f"{show_name(folder.absolute().name or folder)}: {counted} passed over, hidden or not a video: {names}{more}."
    )


def _missing(message: str) -> MissingError:
    return MissingError(message, hint="Name a file, a folder of videos or a pattern: --data video:PATH")
