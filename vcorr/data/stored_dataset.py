"""The datasets `folder` and `difftrack`: clips from a dataset folder (`vcorr.data.dataset_folder`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.bases import DatasetBase
from vcorr.contract.errors import StoreError, UsageError, unknown_name
from vcorr.contract.noun_counts import say_count
from vcorr.contract.records import Clip, Queries
from vcorr.data.clip_row import FAILED, OK, ClipRow
from vcorr.data.dataset_folder import DatasetFolder, file_hash, one_of
from vcorr.data.dataset_home import find_folder, find_imported_folder
from vcorr.data.dataset_options import DiffTrackConfig, FolderConfig
from vcorr.data.image_reader import read_image
from vcorr.data.video.lossless import read_lossless


class StoredDataset(DatasetBase):
    """The usable clips of a dataset folder (`vcorr.Dataset`); `split` is the dataset's own name.

    A clip with a video has the tracks that were made on it. A clip without a video has its prompt, and its first frame
    where there is one. Its tracks are left out: they hold for the missing video only.

    All rows are checked when the dataset is created, because together they identify it. Videos and images are checked
    before use: by `check_files` for the clips of a run, and again by `clip`.

    Raises:
        UsageError: there is no dataset, no clip of it can be used, or a row contradicts itself.
        StoreError: a table is damaged.
    """

    def __init__(self, config: FolderConfig) -> None:
        if not config.path:
            raise UsageError("No dataset folder was named.", hint="For example: --data built/my-dataset")
        self._folder = DatasetFolder.open(find_folder(config.path))
        rows = self._folder.rows()
        usable = [row for row in rows if row.status == OK]
        if not usable:
            raise UsageError(
                f"{self._folder.path} has no clip that can be used: all were rejected, or failed.",
                hint=f"Why: vcorr dataset show {self._folder.path}",
            )
        self._left_out = len(rows) - len(usable)
        self._stopped = not any(row.status == FAILED for row in rows) and self._is_unfinished()
        self.split = one_of(usable, "dataset", self._folder.path)
        self._rows = {row.clip: row for row in usable}
        if len(self._rows) < len(usable):
            twice, _ = Counter(row.clip for row in usable).most_common(1)[0]
            raise UsageError(f"{self._folder.path} names the clip {twice!r} twice.")

    def ids(self) -> Sequence[str]:
        """Returns the ids of the usable clips, in the order of their files."""
        return tuple(self._rows)

    def clip(self, clip_id: str) -> Clip:
        """Returns the clip with its video decoded.

        Raises:
            UsageError: there is no such clip, or its video or layer map does not have the size in its row.
            StoreError: its video, layer map or image is damaged, or does not have the hash in its row.
            MissingError: its video, layer map or image is missing.
        """
        row = self._row(clip_id)
        if not row.video:
            image = self._image(row) if row.image else None
            nothing = np.zeros((0, 2), dtype=np.float32)
            return Clip(row.clip, row.prompt, nothing, image, fps=row.fps, query_side=row.query_side)
        video = read_lossless(self._folder.path / row.video, row.video_sha256)
        if video.shape[:3] != (row.frames, row.height, row.width):
            frames, height, width = video.shape[:3]
            raise UsageError(
                f"Clip {row.clip}: its row declares {row.frames} frames of {row.height}x{row.width} pixels, but its "
                f"video {self._folder.path / row.video} has {frames} frames of {height}x{width}. "
                "So the tracks do not belong to this video."
            )
        return Clip(
            row.clip,
            row.prompt,
            Queries(row.query_frames, row.queries),
            video,
            row.tracks,
            fps=row.fps,
            query_mode=row.query_mode,
            input_class=row.input_class,
            layers=self._folder.read_layers(row),
        )

    def notes(self, clip_id: str) -> Sequence[str]:
        """Returns which clips of the folder are missing or left out; with the first clip only."""
        if clip_id != next(iter(self._rows)):
            return ()
        return (*self._note_missing(), *self._note_left_out())

    def _is_unfinished(self) -> bool:
        try:
            return bool(self._folder.record().get("status", "complete") != "complete")
        except StoreError:  # the clips can be read without their record
            return False

    def _note_missing(self) -> Iterator[str]:
        if self._stopped:
            count = say_count(len(self._rows), "clip")
            yield f"{self._folder.path} has {count} so far: the command that makes it was stopped. Repeat it."

    def _note_left_out(self) -> Iterator[str]:
        if not self._left_out:
            return
        count = f"{self._left_out} of {self._left_out + len(self._rows)} clips"
        verb = "is" if self._left_out == 1 else "are"
        yield f"{self.split}: {count} {verb} left out, rejected or failed: vcorr dataset show {self._folder.path}"

    def identity(self) -> Mapping[str, Any]:
        """Returns the content of every clip as a hash. The path of the folder does not count."""
        return {"clips": {row.clip: row.identity() for row in self._rows.values()}}

    def check_files(self, clip_ids: Sequence[str]) -> None:
        """Checks the hashes of the videos, layer maps and images of these clips.

        Raises:
            MissingError: a file is not there.
            StoreError: a file is damaged, or a video is not the one that its tracks were made on.
        """
        for clip_id in clip_ids:
            row = self._row(clip_id)
            if row.video:
                self._folder.check_video(row)
            self._folder.read_layers(row)  # raises if the map is missing or another one
            if row.image:
                self._check_image(row)

    def _row(self, clip_id: str) -> ClipRow:
        if clip_id not in self._rows:
            raise unknown_name("clip", clip_id, self._rows)
        return self._rows[clip_id]

    def _check_image(self, row: ClipRow) -> None:
        if file_hash(self._folder.path / row.image) != row.image_sha256:
            raise StoreError(
                f"Clip {row.clip}: its image {self._folder.path / row.image} is not the one that was kept "
                "(the hash of the file is another).",
                hint="Get the dataset again.",
            )

    def _image(self, row: ClipRow) -> NDArray[np.uint8]:
        """Reads the first frame as a video (1, H, W, 3)."""
        self._check_image(row)
        return read_image(self._folder.path / row.image)[None]


class PublishedSet(StoredDataset):
    """An imported set of DiffTrack's dataset. Its videos were generated from one draw of the noise for all prompts."""

    noise_draw = "shared"


def difftrack(config: DiffTrackConfig) -> PublishedSet:
    """Opens an imported set of DiffTrack's dataset.

    Raises:
        MissingError: no set is imported.
        UsageError: this set is not imported; also as `StoredDataset`.
    """
    return PublishedSet(FolderConfig(path=str(find_imported_folder("difftrack", config.path))))
