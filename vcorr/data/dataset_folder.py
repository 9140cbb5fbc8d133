"""A dataset folder, read and written: one Parquet file a clip, videos and images beside them, a card, and a record.

    README.md         the card: what it is, and how `datasets.load_dataset` finds its table
    dataset.json      how it came about (name, split, fingerprint, versions, status)
    data/CLIP.parquet one row a clip (`vcorr.data.clip_table`)
    videos/CLIP.mkv   the videos, bit-exactly
    images/CLIP.png   first frames for models that start from an image

Valid at every instant: every file is written beside its place and renamed into it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vcorr.contract.errors import MissingError, StoreError, UsageError
from vcorr.data.clip_table import SUFFIX, ClipRow, read_rows, write_row
from vcorr.data.dataset_home import RECORD
from vcorr.data.video.lossless import SUFFIX as VIDEO_SUFFIX
from vcorr.data.video.lossless import read_lossless, video_hash
from vcorr.store import shards
from vcorr.store.fingerprint import LENGTH, hash_file
from vcorr.store.lock import LOCK, hold_lock

RECORD_VERSION = 1
CARD = "README.md"
DATA, VIDEOS, IMAGES = "data", "videos", "images"
_WITHOUT_RECORD = "Get the file again, or delete it: the clips can be used without."


@dataclass(frozen=True)
class DatasetFolder:
    """The files of one dataset."""

    path: Path

    @classmethod
    def create(cls, path: Path, fingerprint: str) -> DatasetFolder:
        """Opens the dataset of that fingerprint at `path`, made if it is not there.

        Raises:
            StoreError: it holds something else, or cannot be written.
        """
        folder = cls(path)
        folder.check(fingerprint)
        try:
            (path / DATA).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{path} cannot be written: {error.strerror or error}.", hint="Choose another folder with --out DIR."
            ) from error
        return folder

    def check(self, fingerprint: str) -> None:
        """Refuses a folder that holds something else than the dataset of that fingerprint.

        Raises:
            StoreError: it does.
        """
        found = self.record().get("fingerprint") if self.has_record() else None
        if found is None and holds_files(self.path):
            raise StoreError(f"{self.path} is not empty, and no dataset.", hint="Choose another folder with --out DIR.")
        if found not in (None, fingerprint):
            raise StoreError(
                f"{self.path / RECORD} belongs to another dataset (fingerprint {str(found)[:LENGTH]}, this one's is "
                f"{fingerprint[:LENGTH]}).",
                hint="Choose another folder with --out DIR.",
            )

    @contextlib.contextmanager
    def write_lock(self) -> Iterator[None]:
        """Holds the lock of the folder during the block, and removes what killed writers left behind.

        Raises:
            StoreError: another process is writing the dataset, or the folder cannot be written.
        """
        with hold_lock(self.path):
            for place in (self.path, self.path / DATA, self.path / VIDEOS):
                shards.remove_temporaries(place)
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

    def has_record(self) -> bool:
        """Whether it says how it came about."""
        return (self.path / RECORD).is_file()

    def record(self) -> dict[str, Any]:
        """How the dataset came about; empty when it does not say.

        Raises:
            StoreError: the record is damaged or written by a newer vcorr.
        """
        path = self.path / RECORD
        if not path.exists():
            return {}
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} is damaged and cannot be read: {error}.", hint=_WITHOUT_RECORD) from error
        if not isinstance(values, dict) or not isinstance(values.get("record_version", 0), int):
            raise StoreError(f"{path} does not say how a dataset was made.", hint=_WITHOUT_RECORD)
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
        with shards.atomic_file(self.path / name) as temporary:
            Path(temporary).write_text(text, encoding="utf-8")

    def rows(self) -> list[ClipRow]:
        """All clips, by the names of their files; rejected and failed ones included.

        Raises:
            StoreError, UsageError: a file is damaged or a row contradicts itself, as `read_rows` says.
        """
        return [row for path in _tables(self.path) for row in read_rows(path)]

    def row_path(self, clip_id: str) -> Path:
        """Where the row of a clip is written."""
        return self.path / DATA / (file_stem(clip_id) + SUFFIX)

    def write(self, row: ClipRow) -> None:
        """Writes the row of a clip; atomic."""
        write_row(self.row_path(row.clip), row)

    def video_name(self, clip_id: str) -> str:
        """The path of a clip's video inside the folder."""
        return f"{VIDEOS}/{file_stem(clip_id)}{VIDEO_SUFFIX}"

    def check_video(self, row: ClipRow) -> None:
        """Checks that a clip's video is the one its tracks were made on.

        The hash of the file decides where it agrees; a file that was written anew is decoded and its frames compared.

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
    """The files of the table, by name; hidden ones, which a Mac leaves beside what it copies, are none of it."""
    return sorted(found for found in (path / DATA).glob(f"*{SUFFIX}") if not found.name.startswith("."))


def holds_files(path: Path) -> bool:
    """Whether a path is a file or has any below it; a lock and what an interrupted write left do not count."""
    if path.is_file():
        return True
    files = (found.name for found in path.rglob("*") if found.is_file())
    return any(name != LOCK and not name.endswith(shards.TEMPORARY_SUFFIX) for name in files)


def file_stem(clip_id: str) -> str:
    """File name, without suffix, of whatever belongs to a clip."""
    return shards.shard_name(clip_id).removesuffix(shards.SUFFIX)


def file_hash(path: Path) -> str:
    """Hex SHA-256 of a file.

    Raises:
        MissingError: it cannot be read.
    """
    try:
        return hash_file(path)
    except OSError as error:
        raise MissingError(f"{path} cannot be read: {error.strerror or error}.") from error


def one_of(rows: Sequence[ClipRow], column: str, where: Path) -> str:
    """The value of a column that all clips share.

    Raises:
        UsageError: they do not agree.
    """
    values = sorted({getattr(row, column) for row in rows})
    if len(values) != 1:
        raise UsageError(f"{where}: its clips do not agree on {column!r}: {', '.join(map(repr, values))}.")
    return str(values[0])
