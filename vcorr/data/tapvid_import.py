"""Imports the published files of TAP-Vid and RoboTAP as dataset folders (docs/tracking.md).

Clips are read, decoded and written one after the other. The video and the row of a clip are on disk before the next
clip is read, and a repeated import goes on from there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from vcorr.contract.errors import InterruptedRunError, StoreError, UsageError, VcorrError, unknown_name
from vcorr.contract.noun_counts import say_count
from vcorr.contract.records import Tracks
from vcorr.data.clip_row import FAILED, OK, ClipRow
from vcorr.data.clip_table import read_fingerprint, read_rows
from vcorr.data.dataset_card import card
from vcorr.data.dataset_folder import CARD, VIDEOS, DatasetFolder, file_hash
from vcorr.data.pickle_files import check_whole
from vcorr.data.tap_queries import choose_tap_queries, move_inside
from vcorr.data.tapvid_files import (
    FILTER,
    SIDE,
    Resize,
    SourceClip,
    SourceEntry,
    count_missing,
    find_files,
    iterate_file,
    read_entry,
    recognise_set,
)
from vcorr.data.tapvid_sets import KIND, SOURCE, TapVidSet
from vcorr.data.video.lossless import write_lossless
from vcorr.store.atomic_files import make_folder
from vcorr.store.fingerprint import fingerprint

IMPORT_VERSION = 1
"""Raised when an import of the same files makes other clips."""
SPLIT = "test"
PLAYBACK_FPS = 25.0
"""Frames per second of the stored videos. The sources do not say theirs; Kinetics is sampled at 25."""

ABOUT = """\
{about}; from the files listed below, imported by vcorr. {size} The rows ask for each track in the first frame in which
it is visible, and `--data {dataset} --set data.queries=strided` in every fifth frame. Tracks that are never visible are
left out. The source does not say how many frames per second there are: {fps:g} is what the stored videos play at."""


@dataclass(frozen=True)
class ImportedTapVid:
    """The result of an import.

    clips: number of clips of the source. failed: ids and reasons of those that cannot be used. reused: number of clips
    that were there already. missing_files: number of files of the set that were not at the path.
    """

    name: str
    path: Path
    clips: int
    failed: dict[str, str]
    reused: int
    missing_files: int = 0


@dataclass(frozen=True)
class _Source:
    """What is imported. hashes: the SHA-256 of each file by its name."""

    kind: TapVidSet
    files: tuple[Path, ...]
    hashes: dict[str, str]
    resize: Resize

    def identify(self) -> dict[str, Any]:
        """Returns everything that decides what the clips are."""
        size = None if self.resize == "none" else {"side": SIDE, "filter": FILTER}
        return {"set": self.kind.name, "sources": self.hashes, "resize": size, "import_version": IMPORT_VERSION}


def import_tapvid(
    path: Path,
    out: Path,
    *,
    name: str = "",
    resize: str = "256",
    report: Callable[[ClipRow], None] = lambda row: None,
) -> ImportedTapVid:
    """Imports a set as the dataset folder `out/NAME`.

    A clip that cannot be used becomes a row of status "failed", and the others go on.

    Args:
        path: a file of the set, or the folder of its files.
        out: the folder of imported sets.
        name: which set it is; "" to recognise it.
        resize: "256" for frames of 256x256 pixels, as in the published protocol; "none" for the frames of the source.
        report: is called with the row of each clip, after it was written or found.

    Raises:
        MissingError: a file is missing or cannot be read.
        UsageError: a file is not a whole pickle of a set, or names a clip twice.
        StoreError: the folder holds another dataset, cannot be written, or another process is writing it.
    """
    if resize not in get_args(Resize):
        raise unknown_name("--resize", resize, get_args(Resize))
    files = tuple(find_files(path))
    for file in files:
        check_whole(file)
    kind = recognise_set(files, name)
    source = _Source(kind, files, {file.name: file_hash(file) for file in files}, cast(Resize, resize))
    digest = fingerprint(source.identify())
    folder = DatasetFolder.create(out / kind.name, digest)
    with folder.write_lock():
        folder.check(digest)  # another process may have made a dataset here before the lock was taken
        return _Importer(source, folder, digest, report).run()


class _Importer:
    """Writes the clips of a source into a folder whose lock is held."""

    def __init__(self, source: _Source, folder: DatasetFolder, digest: str, report: Callable[[ClipRow], None]) -> None:
        self._source, self._folder, self._digest, self._report = source, folder, digest, report
        self._reused = 0

    def run(self) -> ImportedTapVid:
        """Imports every clip that is not there yet."""
        record = {"name": self._source.kind.dataset, "kind": KIND, "source": SOURCE, **self._source.identify()}
        record["fingerprint"] = self._digest
        self._folder.keep_damaged_record()
        self._folder.write_record(record, "started")
        rows: dict[str, str] = {}
        try:
            for entry in self._iterate_entries():
                if entry.clip in rows:
                    raise UsageError(f"The files name the clip {entry.clip!r} twice.", hint="Import them one by one.")
                rows[entry.clip] = self._import(entry)
                del entry  # it would stay in memory while the next one is read
            self._write_card()
        except BaseException as error:
            with contextlib.suppress(VcorrError):  # the user must see the error that ended the import
                self._write_card()
                self._folder.write_record(record, "partial")
            self._end_early(error, len(rows))
            raise
        failed = {clip: reason for clip, reason in rows.items() if reason}
        self._folder.write_record(record, "partial" if failed else "complete")
        lacking = count_missing(self._source.files)
        return ImportedTapVid(self._source.kind.dataset, self._folder.path, len(rows), failed, self._reused, lacking)

    def _end_early(self, error: BaseException, done: int) -> None:
        """Raises an error that says what is kept, if it is one that a user can do something about."""
        kept = f"{say_count(done, 'clip')} {'is' if done == 1 else 'are'} kept"
        said = f"{kept} in {self._folder.path}. The same command goes on from there."
        if isinstance(error, KeyboardInterrupt):
            raise InterruptedRunError(said) from error
        if isinstance(error, UsageError | StoreError):
            raise type(error)(error.message, hint=f"{error.hint}\n{said}".strip()) from error

    def _iterate_entries(self) -> Iterator[SourceEntry]:
        for path in self._source.files:
            yield from iterate_file(path)

    def _import(self, entry: SourceEntry) -> str:
        """Imports a clip, or finds it imported; returns why it cannot be used, "" if it can."""
        row = self._find(entry.clip)
        if row is None:
            row = self._make(entry)
            self._folder.write(row, self._digest)
        else:
            self._reused += 1
        self._report(row)
        return row.reason

    def _find(self, clip: str) -> ClipRow | None:
        """Returns the row of a clip that an earlier import finished."""
        path = self._folder.row_path(clip)
        if read_fingerprint(path) != self._digest:
            return None
        try:
            (row,) = read_rows(path)
            if row.status == OK:
                self._folder.check_video(row)
                return row
        except (VcorrError, ValueError):  # it is imported again
            pass
        return None

    def _make(self, entry: SourceEntry) -> ClipRow:
        kind = self._source.kind
        empty = ClipRow(dataset=kind.dataset, split=SPLIT, clip=entry.clip, prompt="", model="", fps=PLAYBACK_FPS)
        try:
            return self._store(read_entry(entry, self._source.resize), empty)
        except UsageError as error:
            return replace(empty, status=FAILED, reason=error.message.rstrip("."))
        except MemoryError:
            return replace(empty, status=FAILED, reason="there is not enough memory for its video")

    def _store(self, clip: SourceClip, empty: ClipRow) -> ClipRow:
        """Writes the video of a clip and returns its row."""
        frames, height, width = clip.video.shape[:3]
        kind = self._source.kind
        every = choose_tap_queries(Tracks(clip.xy, clip.visible, kind.tracker), "first")
        asked = move_inside(every, height, width)
        name = self._folder.video_name(empty.clip)
        path = self._folder.path / name
        make_folder(self._folder.path / VIDEOS)
        return replace(
            empty,
            frames=frames,
            height=height,
            width=width,
            queries=asked.queries.xy,
            query_frames=asked.queries.t,
            query_mode="first",
            input_class="256" if max(height, width) <= SIDE else "full",
            xy=asked.tracks.xy,
            visible=asked.tracks.visible,
            tracker=kind.tracker,
            tracker_licence=kind.licence,
            video=name,
            video_sha256=write_lossless(path, clip.video, PLAYBACK_FPS),
            file_sha256=file_hash(path),
            visible_share=float(asked.tracks.visible.mean()),
        )

    def _write_card(self) -> None:
        rows = self._folder.rows()
        if not rows:
            return
        kind, resize = self._source.kind, self._source.resize
        size = f"Frames are resized to {SIDE}x{SIDE} with the filter {FILTER}." if resize == "256" else ""
        about = ABOUT.format(about=kind.about, size=size, dataset=kind.dataset, fps=PLAYBACK_FPS)
        files = {f"file {name}": f"sha256 {digest}" for name, digest in self._source.hashes.items()}
        self._folder.write_text(CARD, card(kind.dataset, rows, about, {"source": SOURCE, **files}))
