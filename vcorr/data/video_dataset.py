"""The dataset `video`: the user's own files. Their motion is not known, so a tracker makes the reference tracks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from vcorr.contract.bases import DatasetBase
from vcorr.contract.errors import MissingError, UsageError, VcorrError, unknown_name
from vcorr.contract.records import Clip
from vcorr.data.dataset_folder import file_hash
from vcorr.data.dataset_options import VideoConfig
from vcorr.data.query_grids import query_grid
from vcorr.data.video.video_reader import ReadVideo, read_video
from vcorr.data.video_names import find_videos, name_files


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
        self._found = find_videos(config.path)
        self._files = name_files(self._found.paths)
        self._notes: dict[str, tuple[str, ...]] = {}
        self._first_noted = ""

    def ids(self) -> Sequence[str]:
        """Returns the names of the files, without suffix where that is unique."""
        return tuple(self._files)

    def clip(self, clip_id: str) -> Clip:
        """Reads the clip at its own size. The runner brings it to the model's size.

        Raises:
            UsageError: there is no such clip, or its file is damaged or was changed since `identity` was asked.
        """
        read = self._read_clip(clip_id)
        self._check_unchanged(clip_id)
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

        The notes of the first clip that could be read also say which files of the folder were passed over.

        Raises:
            UsageError: there is no such clip, or its file is damaged.
        """
        if clip_id not in self._notes:
            self._read_clip(clip_id)
        self._first_noted = self._first_noted or clip_id
        passed = self._found.passed if clip_id == self._first_noted else ""
        return (*filter(None, [passed]), *self._notes[clip_id])

    def check_files(self, clip_ids: Sequence[str]) -> None:
        """Checks that at least one of these clips can be read. Stops at the first one that can, or was read before.

        A file that cannot be read then fails as a clip of the run, and the others are not lost.

        Raises:
            MissingError: none can be read, and the first file is not there.
            UsageError: none can be read as a video, or all end before the start. It names the first one.
        """
        first: VcorrError | None = None
        for clip_id in clip_ids:
            try:
                if clip_id not in self._notes:
                    self._read(self._path(clip_id), frames=2)
            except VcorrError as error:
                first = first or error
            else:
                return
        if first is not None:
            raise first

    def identity(self) -> Mapping[str, Any]:
        """Returns the SHA-256 of every file. The paths of the files do not count."""
        return {"files": self._hashes}

    @cached_property
    def _hashes(self) -> dict[str, str]:
        return {clip_id: _hash(path) for clip_id, path in self._files.items()}

    def _check_unchanged(self, clip_id: str) -> None:
        """Checks a file that was just read, so that no results are stored under the hash of another content."""
        path = self._path(clip_id)
        if "_hashes" in vars(self) and _hash(path) != self._hashes[clip_id]:
            raise UsageError(
                f"{path} was changed after the run was planned.",
                hint="Repeat the command: results of the changed file belong to a run of their own.",
            )

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
        try:
            return read_video(
                path,
                frames=frames or None,
                fps=config.fps or None,
                start=config.start,
                max_side=config.max_side,
            )
        except MissingError as error:
            if len(self._files) == 1:
                raise
            # data that is missing ends a run; one file of many is only one clip
            raise UsageError(error.message, hint=error.hint) from error


def _hash(path: Path) -> str:
    try:
        return file_hash(path)
    except MissingError:
        return "unreadable"  # its clip fails, and is computed under another fingerprint once the file can be read
