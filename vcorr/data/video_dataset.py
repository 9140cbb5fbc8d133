"""The dataset `video`: the user's own files. Their motion is not known, so a tracker makes the reference tracks."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from vcorr.contract.bases import DatasetBase
from vcorr.contract.errors import MissingError, UsageError, unknown_name
from vcorr.contract.records import Clip
from vcorr.data.dataset_folder import file_hash
from vcorr.data.dataset_options import VideoConfig
from vcorr.data.query_grids import query_grid
from vcorr.data.video.video_reader import ReadVideo, read_video

SUFFIXES = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")
"""Suffixes of videos in a folder. A file that is named by itself may have any suffix."""


class VideoFiles(DatasetBase):
    """Clips from files, with query points on a regular grid over the first frame (`vcorr.Dataset`).

    Raises:
        MissingError: there is no such file.
        UsageError: an option is out of range.
    """

    split = "own"

    def __init__(self, config: VideoConfig) -> None:
        if not config.path:
            raise UsageError("No video was named.", hint="For example: --data video:clip.mp4")
        for name, least in (("frames", 0), ("fps", 0), ("start", 0), ("grid", 1), ("max_side", 0)):
            if not getattr(config, name) >= least:
                raise UsageError(f"data.{name} must be at least {least}, got {getattr(config, name)}.")
        if config.frames == 1:
            raise UsageError("data.frames must be at least 2, or 0 for all: there is no motion in one frame.")
        self.config = config
        self._files = _name_files(find_videos(config.path))
        self._notes: dict[str, tuple[str, ...]] = {}

    def ids(self) -> Sequence[str]:
        """Returns the names of the files, without suffix where that is unique."""
        return tuple(self._files)

    def clip(self, clip_id: str) -> Clip:
        """Reads the clip at its own size. The runner brings it to the model's size.

        Raises:
            UsageError: there is no such clip, or its file is damaged.
        """
        read = self._read_clip(clip_id)
        height, width = read.frames.shape[1:3]
        return Clip(
            id=clip_id,
            prompt=self.config.prompt,
            queries=query_grid(self.config.grid, height, width),
            video=read.frames,
            fps=read.fps,
        )

    def notes(self, clip_id: str) -> Sequence[str]:
        """Returns what reading the clip changed, one sentence each. Reads the clip if that has not happened yet.

        Raises:
            UsageError: there is no such clip, or its file is damaged.
        """
        if clip_id not in self._notes:
            self._read_clip(clip_id)
        return self._notes[clip_id]

    def check_files(self, clip_ids: Sequence[str]) -> None:
        """Opens the files of these clips and decodes their first frames. Clips that were read before are left out.

        Raises:
            MissingError: a file is not there.
            UsageError: a file cannot be read as a video, or ends before the start.
        """
        for clip_id in clip_ids:
            if clip_id not in self._notes:
                self._read(self._path(clip_id), frames=2)

    def identity(self) -> Mapping[str, Any]:
        """Returns the SHA-256 of every file. The paths of the files do not count."""
        return {"files": self._hashes}

    @cached_property
    def _hashes(self) -> dict[str, str]:
        return {clip_id: file_hash(path) for clip_id, path in self._files.items()}

    def _path(self, clip_id: str) -> Path:
        if clip_id not in self._files:
            raise unknown_name("clip", clip_id, self._files)
        return self._files[clip_id]

    def _read_clip(self, clip_id: str) -> ReadVideo:
        read = self._read(self._path(clip_id), self.config.frames)
        self._notes[clip_id] = read.notes
        return read

    def _read(self, path: Path, frames: int) -> ReadVideo:
        config = self.config
        return read_video(
            path,
            frames=frames or None,
            fps=config.fps or None,
            start=config.start,
            max_side=config.max_side,
        )


def find_videos(text: str) -> tuple[Path, ...]:
    """Returns the files that a path names, sorted: a file, the videos directly in a folder, or a pattern's matches.

    Raises:
        MissingError: there is none.
    """
    path = Path(text).expanduser()
    if path.is_dir():
        found = [p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()]
        missing = f"The folder {text} holds no videos ({', '.join(SUFFIXES)})."
    elif glob.has_magic(text) and not path.exists():
        found = [p for p in map(Path, glob.glob(str(path), recursive=True)) if p.is_file()]
        missing = f"No file matches {text}."
    else:
        found, missing = [path], ""
    if not found:
        raise MissingError(missing, hint="Name a file, a folder of videos or a pattern: --data video:PATH")
    return tuple(sorted(found))


def _name_files(paths: Sequence[Path]) -> dict[str, Path]:
    """Returns files by id: the shortest of name without suffix, name, and whole path that no other file shares."""
    by_id: dict[str, Path] = {}
    forms = [lambda p: p.stem, lambda p: p.name, Path.as_posix]
    counts = [Counter(form(path) for path in paths) for form in forms]
    for path in paths:
        form = next(f for f, count in zip(forms, counts, strict=True) if count[f(path)] == 1)
        by_id[form(path)] = path
    return by_id
