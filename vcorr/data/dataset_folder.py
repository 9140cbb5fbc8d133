"""Reads and writes dataset folders: one Parquet file per clip, with videos, images, a card and a record.

Files of a folder::

    README.md         the card; it tells `datasets.load_dataset` where the table is
    dataset.json      the record: name, split, fingerprint, versions, status
    data/CLIP.parquet one row per clip (`vcorr.data.clip_table`)
    videos/CLIP.mkv   the videos, bit for bit
    layers/CLIP.mkv   the layer maps of datasets that know them, bit for bit
    images/CLIP.png   first frames for models that start from an image

The folder is valid at every instant, because every file is written under a temporary name and then renamed.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import MissingError, StoreError, UsageError, VcorrError
from vcorr.data.clip_row import ClipRow
from vcorr.data.clip_table import SUFFIX, read_fingerprint, read_rows, write_row
from vcorr.data.dataset_home import RECORD
from vcorr.data.video.layer_maps import read_layers, write_layers
from vcorr.data.video.lossless import SUFFIX as VIDEO_SUFFIX
from vcorr.data.video.lossless import read_lossless, video_hash
from vcorr.store import shards
from vcorr.store.atomic_files import TEMPORARY_SUFFIX, make_folder, remove_temporaries, write_text
from vcorr.store.fingerprint import LENGTH, hash_file
from vcorr.store.lock import LOCK, hold_lock
from vcorr.store.record import DamagedRecordError, read_values
from vcorr.store.recovery import set_aside_record

RECORD_VERSION = 1
CARD = "README.md"
DATA, VIDEOS, IMAGES, LAYERS = "data", "videos", "images", "layers"
_WITHOUT_RECORD = (
    "The command that built the dataset writes it again. Or move it away: the clips can be used without it."
)


@dataclass(frozen=True)
class DatasetFolder:
    """The files of one dataset."""

    path: Path

    @classmethod
    def create(cls, path: Path, fingerprint: str) -> DatasetFolder:
        """Opens the dataset with this fingerprint at `path`; creates it if it does not exist.

        Raises:
            StoreError: the folder holds something else, or cannot be written.
        """
        folder = cls(path)
        folder.check(fingerprint)
        make_folder(path / DATA)
        return folder

    def check(self, fingerprint: str) -> None:
        """Checks that the folder is empty or holds the dataset with this fingerprint.

        Without a usable record, the clips say it.

        Raises:
            StoreError: it holds something else.
        """
        try:
            found = self.record().get("fingerprint")
        except DamagedRecordError as error:
            self._check_clips(fingerprint, error)
            return
        if found is None and holds_files(self.path) and self._fingerprints() != {fingerprint}:
            raise StoreError(
                f"{self.path} is not empty, and not a dataset.", hint="Choose another folder with --out DIR."
            )
        if found not in (None, fingerprint):
            raise StoreError(
                f"{self.path / RECORD} belongs to another dataset (fingerprint {str(found)[:LENGTH]}, this one's is "
                f"{fingerprint[:LENGTH]}).",
                hint="Choose another folder with --out DIR.",
            )

    def _check_clips(self, fingerprint: str, error: DamagedRecordError) -> None:
        """Checks that all clips have this fingerprint, in a folder whose record is damaged, as `error` says."""
        if not self._fingerprints() <= {fingerprint}:
            raise StoreError(
                f"{error.message} Its clips do not say that this command built them.",
                hint=f"Get {RECORD} again, or choose another folder with --out DIR.",
            ) from error

    def _fingerprints(self) -> set[str]:
        """Returns the fingerprints of all clips whose files can be read; "" for a clip that has none."""
        return {found for found in map(read_fingerprint, _tables(self.path)) if found is not None}

    def keep_damaged_record(self) -> str:
        """Renames a damaged record; returns what was done, "" if it is not damaged. The caller holds the lock."""
        try:
            self.record()
        except DamagedRecordError as error:
            kept = set_aside_record(self.path / RECORD)
            (self.path / RECORD).unlink(missing_ok=True)  # an empty file, which is not kept
            return f"{error.message} It is written again.{kept}"
        return ""

    def name(self) -> str:
        """Returns the name of the dataset, which a renamed folder keeps. Without a record, its clips know it."""
        if found := self.record().get("name"):
            return str(found)
        for path in _tables(self.path):
            with contextlib.suppress(VcorrError):  # a damaged file does not say it; the build makes it again
                return next(read_rows(path)).dataset
        return self.path.resolve().name

    @contextlib.contextmanager
    def write_lock(self) -> Iterator[None]:
        """Holds the lock of the folder during the block, and removes what killed writers left behind.

        Raises:
            StoreError: another process is writing the dataset, or the folder cannot be written.
        """
        with hold_lock(self.path):
            for place in (self.path, self.path / DATA, self.path / VIDEOS, self.path / LAYERS):
                remove_temporaries(place)
            yield

    @classmethod
    def open(cls, path: Path) -> DatasetFolder:
        """Opens an existing dataset.

        Raises:
            UsageError: there is no dataset.
        """
        if not _tables(path):
            raise UsageError(
                f"{path} is not a dataset folder: it has no {DATA}/*{SUFFIX}.",
                hint=f"A folder of videos is named --data video:{path}; datasets are made by: vcorr dataset build",
            )
        return cls(path)

    def record(self) -> dict[str, Any]:
        """Returns the record: how the dataset was made. Empty if there is none.

        Raises:
            DamagedRecordError: the record is damaged.
            StoreError: it may not be read, or was written by a newer vcorr.
        """
        path = self.path / RECORD
        if not os.path.lexists(path):
            return {}
        try:
            values = read_values(path)
        except DamagedRecordError as error:
            raise DamagedRecordError(error.message, hint=_WITHOUT_RECORD) from error
        if not isinstance(values, dict) or not isinstance(values.get("record_version", 0), int):
            raise DamagedRecordError(f"{path} does not say how a dataset was made.", hint=_WITHOUT_RECORD)
        if values.get("record_version", 0) > RECORD_VERSION:
            raise StoreError(f"{path} was written by a newer vcorr.", hint="Upgrade: pip install --upgrade vcorr")
        return values

    def write_record(self, values: dict[str, Any], status: str) -> None:
        """Writes the record with a status ("started", "partial" or "complete") and the time."""
        updated = datetime.now(UTC).isoformat(timespec="seconds")
        values = {"record_version": RECORD_VERSION, **values, "status": status, "updated": updated}
        self.write_text(RECORD, json.dumps(values, indent=2, ensure_ascii=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Writes a file at the top of the folder; atomic."""
        write_text(self.path / name, text)

    def rows(self) -> list[ClipRow]:
        """Returns all clips in the order of their file names, including rejected and failed ones.

        Raises:
            StoreError, UsageError: a file is damaged or a row contradicts itself, as `read_rows` says.
        """
        return [row for path in _tables(self.path) for row in read_rows(path)]

    def row_path(self, clip_id: str) -> Path:
        """Returns the path of the file with a clip's row."""
        return self.path / DATA / (file_stem(clip_id) + SUFFIX)

    def write(self, row: ClipRow, fingerprint: str = "") -> None:
        """Writes the row of a clip; atomic. fingerprint: of the build that made it; "" for other clips."""
        write_row(self.row_path(row.clip), row, fingerprint)

    def video_name(self, clip_id: str) -> str:
        """Returns the path of a clip's video inside the folder."""
        return f"{VIDEOS}/{file_stem(clip_id)}{VIDEO_SUFFIX}"

    def write_layers(self, row: ClipRow, layers: NDArray[np.uint8]) -> ClipRow:
        """Writes the layer map (T, H, W) uint8 of a clip next to its video; atomic.

        Returns:
            The row with the path and the hash of the map. `write` stores it.

        Raises:
            UsageError: the map does not have the frames and the size of the row, or is too small to be stored.
            StoreError: the file cannot be written.
        """
        if layers.shape != (row.frames, row.height, row.width):
            raise UsageError(
                f"Clip {row.clip}: layers must have the frames and size of the video, "
                f"{(row.frames, row.height, row.width)}, got {layers.shape}."
            )
        name = f"{LAYERS}/{file_stem(row.clip)}{VIDEO_SUFFIX}"
        make_folder(self.path / LAYERS)
        return replace(row, layers=name, layers_sha256=write_layers(self.path / name, layers, row.fps))

    def read_layers(self, row: ClipRow) -> NDArray[np.uint8] | None:
        """Reads the layer map (T, H, W) uint8 of a clip; None if it has none.

        Raises:
            MissingError: there is no such file.
            StoreError: it is damaged, or holds another map.
        """
        if not row.layers:
            return None
        path = self.path / row.layers
        if not path.is_file():
            raise MissingError(
                f"Clip {row.clip}: its layer map {path} is missing.",
                hint="Get the whole dataset again, maps included.",
            )
        try:
            return read_layers(path, row.layers_sha256)
        except StoreError as error:
            raise StoreError(f"Clip {row.clip}: {error.message}", hint=error.hint) from error

    def check_video(self, row: ClipRow) -> None:
        """Checks that a clip's video is the one its tracks were made on.

        Equal hashes of the file are enough. A file that was written again is decoded, and its frames are compared.

        Raises:
            MissingError: there is no such file.
            StoreError: it holds another video.
        """
        path = self.path / row.video
        if not path.is_file():
            raise MissingError(
                f"Clip {row.clip}: its video {path} is missing.", hint="Get the whole dataset again, videos included."
            )
        if file_hash(path) == row.file_sha256:
            return
        try:
            frames = read_lossless(path)
        except StoreError as error:
            raise StoreError(f"Clip {row.clip}: {error.message}", hint=error.hint) from error
        if video_hash(frames) != row.video_sha256:
            raise StoreError(
                f"Clip {row.clip}: its tracks were made on another video than {path} holds (the hash of the frames is "
                "not the one kept with the tracks), so they cannot be its reference.",
                hint="Get that file again, or make the clip anew: delete its file in data/ and repeat the build.",
            )


def _tables(path: Path) -> list[Path]:
    """Returns the files of the table by name, without the hidden files that macOS adds when it copies."""
    return sorted(found for found in (path / DATA).glob(f"*{SUFFIX}") if not found.name.startswith("."))


def holds_files(path: Path) -> bool:
    """Returns whether a path is a file or contains any. Locks and leftovers of interrupted writes do not count."""
    if path.is_file():
        return True
    files = (found.name for found in path.rglob("*") if found.is_file())
    return any(name != LOCK and not name.endswith(TEMPORARY_SUFFIX) for name in files)


def file_stem(clip_id: str) -> str:
    """Returns the file name, without suffix, of all files of a clip."""
    return shards.shard_name(clip_id).removesuffix(shards.SUFFIX)


def file_hash(path: Path) -> str:
    """Returns the hex SHA-256 of a file.

    Raises:
        MissingError: it cannot be read, or is a pipe or device, which might never end.
    """
    try:
        if path.is_fifo() or path.is_char_device():
            raise MissingError(f"{path} cannot be read: it is a pipe or a device.")
        return hash_file(path)
    except OSError as error:
        raise MissingError(f"{path} cannot be read: {error.strerror or error}.") from error


def one_of(rows: Sequence[ClipRow], column: str, where: Path) -> str:
    """Returns the value of a column that all clips share.

    Raises:
        UsageError: they do not agree.
    """
    values = sorted({getattr(row, column) for row in rows})
    if len(values) != 1:
        raise UsageError(f"{where}: its clips do not agree on {column!r}: {', '.join(map(repr, values))}.")
    return str(values[0])
