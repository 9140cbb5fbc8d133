"""Writes a lost or damaged run.json again, from what the shards of the run say about themselves.

Shards of older versions say too little. Then only the command that made the run can write it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from vcorr.contract.errors import StoreError
from vcorr.store import shards
from vcorr.store.atomic_files import set_aside
from vcorr.store.fingerprint import LENGTH
from vcorr.store.record import DamagedRecordError
from vcorr.store.record_form import Status
from vcorr.store.remedies import REPEAT
from vcorr.store.rundir import RECORD, RunDirectory
from vcorr.store.schema import TableName
from vcorr.store.shards import Stamp


@dataclass(frozen=True)
class _Stages:
    """What the shards of each table say, one stamp per shard that can be read."""

    predictions: Sequence[Stamp]
    tracks: Sequence[Stamp]
    scores: Sequence[Stamp]

    @classmethod
    def of(cls, run: RunDirectory) -> _Stages:
        """Reads the stamps of a run, without the rows."""
        return cls(_stamps(run, "predictions"), _stamps(run, "tracks"), _stamps(run, "scores"))


def _stamps(run: RunDirectory, table: TableName) -> list[Stamp]:
    found = (shards.read_stamp(path) for path in run.shard_paths(table))
    return [stamp for stamp in found if stamp is not None]


def heal_record(run: RunDirectory) -> str:
    """Writes run.json again if it is missing or damaged; returns what was done, "" for nothing.

    A damaged file is kept under another name.

    Raises:
        StoreError: the shards do not say enough, the file cannot be written, or another process is writing the run.
    """
    try:
        run.record()
        return ""
    except DamagedRecordError:
        with run.write_lock():
            return _heal(run)


def _heal(run: RunDirectory) -> str:
    try:
        run.record()  # another process may have written it before the lock was taken
    except DamagedRecordError as error:
        values, status = rebuild_record(run)
        aside = set_aside_record(run.path / RECORD)
        run.write_record(values, status)
        return f"{error.message} It is written again from the tables.{aside}"
    return ""


def set_aside_record(path: Path) -> str:
    """Renames a damaged record that holds anything; returns a sentence about it, "" if there was nothing to keep."""
    if not os.path.lexists(path) or (path.is_file() and not path.stat().st_size):
        return ""
    return f" The old file is kept as {set_aside(path).name}."


def rebuild_record(run: RunDirectory) -> tuple[dict[str, Any], Status]:
    """Returns what run.json says about a run, without times and commands, and its status, as far as shards tell.

    Raises:
        StoreError: the shards do not say enough.
    """
    stages = _Stages.of(run)
    print_ = _main_fingerprint(stages.predictions, run.run_id)
    own = [stamp for stamp in stages.predictions if stamp.fingerprint == print_ and stamp.facts]
    tracks, scores = _main_stamp(stages.tracks), _main_stamp(stages.scores)
    if not own or not tracks or not scores:
        raise StoreError(
            f"{run.path / RECORD} cannot be written again from the tables: they do not say how they were made.",
            hint=REPEAT,
        )
    # the command with the most clips made the run; another --limit shows a part of it
    facts = dict(max(own, key=lambda stamp: int(stamp.facts.get("selected") or 0)).facts)
    wanted = int(facts.pop("selected", 0) or 0)
    failed = _count_failed(run)
    done = len(run.shard_paths("predictions"))
    values = {
        "command": [],
        **{name: value for name, value in facts.items() if name != "video"},
        **tracks.facts,
        **scores.facts,
        "fingerprints": {"predict": print_, "track": tracks.fingerprint, "score": scores.fingerprint},
        "rebuilt": True,
        "clips": {"total": max(wanted, done), "done": done, "failed": failed, "reused": done},
    }
    return values, _status(max(wanted, done), done, failed)


def _status(total: int, done: int, failed: int) -> Status:
    if failed == total:
        return "failed"
    return "complete" if done == total and not failed else "partial"


def _main_fingerprint(stamps: Iterable[Stamp], run_id: str) -> str:
    """Returns the fingerprint that the name of the run begins with; in a renamed directory the most common one."""
    counts = Counter(stamp.fingerprint for stamp in stamps if stamp.fingerprint)
    named = [print_ for print_ in counts if run_id.startswith(print_[:LENGTH])]
    return max(named or counts, key=lambda print_: (counts[print_], print_), default="")


def _main_stamp(stamps: Sequence[Stamp]) -> Stamp | None:
    """Returns a stamp with the most common fingerprint; None without any that has facts."""
    known = [stamp for stamp in stamps if stamp.facts]
    counts = Counter(stamp.fingerprint for stamp in known)
    return max(known, key=lambda stamp: (counts[stamp.fingerprint], stamp.fingerprint), default=None)


def _count_failed(run: RunDirectory) -> int:
    failed = 0
    for path in run.shard_paths("predictions"):
        try:
            table: pa.Table = shards.read_shard(path, "predictions")
        except StoreError:
            continue
        failed += table.num_rows > 0 and table["status"][0].as_py() == "failed"
    return failed


def count_kept(run: RunDirectory, clips: Iterable[str], fingerprint: str) -> int:
    """Returns how many of these clips have predictions with this fingerprint on disk."""
    return sum(shards.read_fingerprint(run.shard("predictions", clip)) == fingerprint for clip in clips)
