"""Run directories: `run.json` and the shards of three tables. They are valid at every instant."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from vcorr.contract.errors import StoreError, UsageError
from vcorr.store import shards
from vcorr.store.atomic_files import cannot_write, remove_temporaries, write_text
from vcorr.store.fingerprint import LENGTH, is_unicode
from vcorr.store.lock import hold_lock
from vcorr.store.record import DamagedRecordError, read_record
from vcorr.store.record_form import Status
from vcorr.store.remedies import without_record
from vcorr.store.remote import working_copies
from vcorr.store.remote.addresses import place_of
from vcorr.store.run_names import PACKED, RECORD, TABLES
from vcorr.store.schema import TableName, schema
from vcorr.store.upgrades import RECORD_VERSION


@dataclass(frozen=True)
class RunDirectory:
    """One run on disk. `path` ends in the run id, a prefix of the fingerprint of its predictions.

    For results behind a URL, `path` is the working copy of the run (`vcorr.store.remote`).
    """

    path: Path

    @property
    def is_copy(self) -> bool:
        """Whether this is a small copy, which holds scores alone."""
        return (self.path / PACKED).is_file() and not self.shard_paths("predictions")

    @property
    def run_id(self) -> str:
        """The name of the directory."""
        return self.path.name

    @property
    def place(self) -> str:
        """What users call the directory: its path or its URL."""
        return place_of(self.path)

    @classmethod
    def create(cls, out: Path, fingerprint: str, *, beside: bool = False) -> RunDirectory:
        """Opens the run with this fingerprint below `out`, and creates it if it does not exist.

        Args:
            out: the folder that holds many runs.
            fingerprint: fingerprint of the predictions; its prefix is the run id.
            beside: whether to create a new directory, `<run id>-2`, `-3` …, if the run exists.

        Raises:
            StoreError: `out` is itself a run, is not UTF-8 text, cannot be written, or holds another run with this id.
        """
        working_copies.refresh(out)
        if is_run(out):
            raise StoreError(
                f"{place_of(out)} is itself a run, not a folder of runs.",
                hint=f"Use --out {place_of(out.parent)} (the folder above it).",
            )
        path = out / fingerprint[:LENGTH]
        if not is_unicode(str(path)):
            raise StoreError(
                f"{str(path)!a} is not UTF-8 text, and Arrow writes no file with such a name.",
                hint="Choose another folder with --out DIR.",
            )
        try:
            run = cls(_make_beside(path) if beside else path)
            working_copies.refresh(run.path)
            for table in TABLES:
                (run.path / table).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(path, error) from error
        run.check(fingerprint)
        return run

    @contextlib.contextmanager
    def write_lock(self) -> Iterator[None]:
        """Holds the lock of the directory during the block, and removes temporary files of killed writers.

        Everything that writes into a run does so inside this block; reading needs no lock. Behind a URL, the block
        begins with all that the store holds, and what is new is uploaded at its end.

        Raises:
            NotWritableError: this process may not write in the directory.
            StoreError: another process is writing the run, or the directory cannot be written.
        """
        with hold_lock(self.path), working_copies.hold(self.path):
            inside = [path for path in self.path.iterdir() if path.is_dir() and not path.name.startswith(".")]
            for folder in (self.path, *inside):
                remove_temporaries(folder)
            yield

    def upload(self) -> None:
        """Uploads what is new, inside `write_lock`; nothing for a run without a URL.

        Raises:
            StoreError: the store cannot be written. Everything stays in the directory.
        """
        working_copies.upload(self.path)

    def check(self, fingerprint: str) -> None:
        """Checks that the run has this fingerprint of the predictions. Without a usable record, its shards say it.

        Raises:
            StoreError: the fingerprints differ.
        """
        stored = {shards.read_fingerprint(path) for path in self.shard_paths("predictions")} - {""}
        try:
            found = {str((self.record().get("fingerprints") or {}).get("predict"))}
        except DamagedRecordError:
            found = stored
        if not found or fingerprint in found:
            return
        hint = "Choose another folder with --out DIR, or start a new run next to it with --reuse never."
        if fingerprint in stored:
            record = shlex.quote(str(self.path / RECORD))
            move = f"mv {record} {record}.old"
            hint = f"The tables are of this spec. If {RECORD} is damaged, move it away and repeat: {move}"
        raise StoreError(
            f"{self.path / RECORD} belongs to another spec (fingerprint {min(found)[:LENGTH]}, this run's is "
            f"{fingerprint[:LENGTH]}).",
            hint=hint,
        )

    def record(self) -> dict[str, Any]:
        """Returns the contents of run.json, in the current layout; each value has the type in `record_form`.

        Raises:
            DamagedRecordError: the file is missing or damaged, or has a value that it cannot have.
            StoreError: the file may not be read, or was written by a newer vcorr.
        """
        try:
            return read_record(self.path / RECORD)
        except DamagedRecordError as error:
            stamps = (shards.read_stamp(path) for path in self.shard_paths("scores"))
            facts = next((stamp.facts for stamp in stamps if stamp and stamp.facts), {})
            raise DamagedRecordError(error.message, hint=error.hint + without_record(self.place, facts)) from error

    def write_record(self, values: dict[str, Any], status: Status) -> None:
        """Writes run.json atomically, with the given status and the current time."""
        values = {"record_version": RECORD_VERSION, "run": self.run_id, "status": status, **values}
        values["updated"] = datetime.now(UTC).isoformat(timespec="seconds")
        # a path on the command line may hold bytes that are not UTF-8; JSON writes them as \udcXX, as this does
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        write_text(self.path / RECORD, text, errors="backslashreplace")

    def check_names(self, clips: Iterable[str]) -> None:
        """Checks that no two clips share their files, on a file system for which "Bear" and "bear" are one name.

        Raises:
            UsageError: two clips do; the message names both.
        """
        if not (self.path / TABLES[0].upper()).exists():
            return
        seen: dict[str, str] = {}
        for clip in clips:
            other = seen.setdefault(shards.shard_name(clip).casefold(), clip)
            if other != clip:
                raise UsageError(
                    f"The clips {other!r} and {clip!r} would share their files in {self.path}: this file system takes "
                    "names that differ only in case for one name.",
                    hint="Rename one of them, or choose a folder on another file system with --out DIR.",
                )

    def shard(self, table: TableName, clip_id: str) -> Path:
        """Returns the path of a clip's shard."""
        return self.folder(table) / shards.shard_name(clip_id)

    def shard_paths(self, table: TableName) -> list[Path]:
        """Returns the files of a table, sorted by name, without hidden ones such as macOS adds to copies."""
        return list_shards(self.folder(table))

    def folder(self, name: str) -> Path:
        """Returns the path of a folder of the run. Behind a URL, its files are downloaded first.

        Raises:
            StoreError: they cannot be downloaded.
        """
        working_copies.fetch(self.path, name)
        return self.path / name

    def holds(self, table: TableName, name: str, fingerprint: str) -> bool:
        """Returns whether a shard with this file name exists, is undamaged and has this fingerprint.

        Raises:
            StoreError: it was written by a newer vcorr, or may not be read.
        """
        try:
            found = shards.read_shard(self.path / table / name, table)
        except shards.DamagedShardError:
            return False
        return shards.fingerprint_of(found) == fingerprint

    def read(self, table: TableName) -> pa.Table:
        """Returns all shards of a table as one table, in the order of their names.

        Raises:
            StoreError: a shard is damaged; the message names it.
        """
        found = list(self.iter_shards(table))
        return pa.concat_tables(found) if found else schema(table).empty_table()

    def iter_shards(self, table: TableName, clips: Collection[str] | None = None) -> Iterator[pa.Table]:
        """Yields the shards of a table one by one, without the metadata of the stage that wrote them.

        clips: only shards of clips with these ids; None for all.

        Scores that were packed into one file are read from there, clip by clip.

        Raises:
            StoreError: a shard is damaged, or its rows name another run than the shards before it.
        """
        first = None
        for path, shard in self._read_each(table, clips):
            found = shard.replace_schema_metadata(schema(table).metadata)
            run = found["run"][0].as_py() if found.num_rows else first
            if table == "scores" and first not in (None, run):
                raise StoreError(
                    f"{path} holds scores of run {run!a}, and the shards before it hold scores of run {first!a}.",
                    hint=f"Scores of several runs do not belong together: vcorr score {self.path} makes them anew.",
                )
            first = run
            yield found

    def _read_each(self, table: TableName, clips: Collection[str] | None) -> Iterator[tuple[Path, pa.Table]]:
        """Yields the file and the rows of each clip. clips: as in `iter_shards`."""
        paths, packed = self.shard_paths(table), self.path / PACKED
        if table == "scores" and not paths and packed.is_file():
            for rows in shards.read_packed(packed):
                if clips is None or rows["clip"][0].as_py() in clips:
                    yield packed, rows
            return
        names = None if clips is None else {shards.shard_name(clip) for clip in clips}
        for path in paths:
            if names is None or path.name in names:
                yield path, shards.read_shard(path, table)


def is_run(path: Path) -> bool:
    """Returns whether a directory is a run: it has a record, or shards or packed scores whose record was lost."""
    if os.path.lexists(path / RECORD) or os.path.isfile(path / PACKED):
        return True
    return any(list_shards(path / table) for table in TABLES)


def list_shards(folder: Path) -> list[Path]:
    """Returns the shards in a folder, sorted by name, without hidden files such as macOS adds to copies.

    There are none if the folder cannot exist, for example because its name is too long.
    """
    if not os.path.isdir(folder):  # `glob` raises for a name that is too long
        return []
    return sorted(path for path in folder.glob(f"*{shards.SUFFIX}") if not path.name.startswith("."))


def find_runs(folder: Path) -> list[RunDirectory]:
    """Returns the runs directly below a folder, sorted by name; if the folder is itself a run, this run.

    A run whose record was lost is among them: reading its record says what to do.
    """
    working_copies.refresh(folder)
    if is_run(folder):
        return [RunDirectory(folder)]
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    folders = [path for path in inside if path.is_dir() and not path.name.startswith(".")]
    working_copies.refresh_each(folders)
    return [RunDirectory(path) for path in folders if is_run(path)]


def _make_beside(path: Path) -> Path:
    """Creates the first of `path`, `path-2`, `path-3` … that does not exist, and returns it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        found = path if number == 1 else path.with_name(f"{path.name}-{number}")
        with contextlib.suppress(FileExistsError):
            found.mkdir()
            return found
        number += 1


__all__ = ["PACKED", "RECORD", "TABLES", "RunDirectory", "find_runs", "is_run", "list_shards"]
