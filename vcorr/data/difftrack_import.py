"""Imports the dataset of DiffTrack (docs/datasets.md) as dataset folders, and checks every file.

Each of its folders `MODEL/fg|bg/` holds `prompt.txt` with one prompt per line, and these files per prompt:
`tracks/NNN.npy`, float (1, T, P, 2) pixels; `visibility/NNN.npy`, bool (1, T, P); `image/NNN.png` for models that start
from an image. The P points are a regular grid, row by row. The dataset has no videos.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import MissingError, StoreError, UsageError, first_line
from vcorr.contract.visible_text import join_words
from vcorr.data.clip_row import ClipRow, check_inside, check_tracks
from vcorr.data.dataset_card import card
from vcorr.data.dataset_folder import CARD, DATA, IMAGES, DatasetFolder, file_hash, holds_files
from vcorr.data.image_reader import read_image
from vcorr.data.prompt_dataset import OBJECTS_SIDE, SCENES_SIDE, read_lines
from vcorr.store.atomic_files import cannot_write, replace_folder
from vcorr.store.lock import hold_lock
from vcorr.store.record import DamagedRecordError

PROMPTS, TRACKS, VISIBILITY, IMAGE = "prompt.txt", "tracks", "visibility", "image"
SUFFIXES = {TRACKS: ".npy", VISIBILITY: ".npy", IMAGE: ".png"}
SIDES = {"fg": OBJECTS_SIDE, "bg": SCENES_SIDE}
FRAMES, HEIGHT, WIDTH, FPS = 49, 480, 720, 8.0
SEED, NUM_STEPS, HUNYUAN_NUM_STEPS = 42, 50, 30
KIND = "difftrack"
EVEN = 0.5
"""Tolerance in pixels for the points of a regular grid; the source is exact to less than 0.001."""
LEAST_SPACING = 8.0
"""Least distance in pixels between neighbouring grid points; normalised coordinates have less."""
TRACKER, TRACKER_LICENCE = "cotracker", "CC-BY-NC-4.0"
SOURCE = "https://github.com/cvlab-kaist/DiffTrack (arXiv 2506.17220)"

_NPY, _ZIP, _PICKLE, _LFS = b"\x93NUMPY", b"PK", b"\x80", b"version https://git-lfs"
_AGAIN = "Get the file from its source again; arrays of numbers need no pickle."

ABOUT = """\
Prompts and CoTracker tracks of DiffTrack (Nam et al., *Emergent Temporal Correspondences from Video Diffusion
Transformers*, NeurIPS 2025), imported by vcorr. The videos are not part of it. **The tracks hold only for a
bit-identical generation** ({frames} frames of {width} x {height}, seed {seed}, {steps} steps), which no other machine
is sure to repeat; vcorr therefore takes the prompts, the images and the query grid of {side} x {side} points from here,
and tracks the videos that it makes."""


@dataclass(frozen=True)
class SourceSet:
    """One `MODEL/fg|bg` folder of the source."""

    path: Path
    model: str
    scenes: str

    @property
    def name(self) -> str:
        """The name after `difftrack:`."""
        return f"{self.model}/{self.scenes}"

    @property
    def needs_images(self) -> bool:
        """Whether its model starts from an image."""
        return "i2v" in self.model

    @property
    def num_steps(self) -> int:
        """Sampling steps of the videos the tracks were made on."""
        return HUNYUAN_NUM_STEPS if self.model.startswith("hunyuan") else NUM_STEPS


@dataclass(frozen=True)
class ImportedSet:
    """The result of importing one set. with_tracks: number of clips with tracks. images: number with a first frame."""

    name: str
    path: Path
    clips: int
    with_tracks: int
    images: int


def find_sets(path: Path) -> list[SourceSet]:
    """Returns the sets at a path: the folder of the dataset, of one model, or of one set.

    Raises:
        MissingError: there is no such folder.
        UsageError: the folder holds no set.
    """
    if not path.is_dir():
        raise MissingError(f"The folder {path} does not exist.", hint=f"The dataset comes with {SOURCE}.")
    path = path.resolve()
    places = [path, *path.glob("*"), *path.glob("*/*")]
    found = [p for p in places if p.name in SIDES and (p / PROMPTS).is_file()]
    if not found:
        raise UsageError(
            f"{path} does not hold DiffTrack's dataset: there is no MODEL/fg/{PROMPTS} or MODEL/bg/{PROMPTS}.",
            hint="Name the folder that holds cogvideox_t2v_2b and the others: DiffTrack/dataset",
        )
    return [SourceSet(p, p.parent.name, p.name) for p in sorted(found)]


def import_set(source: SourceSet, out: Path, *, partial: bool = False) -> ImportedSet:
    """Imports one set as the dataset folder `out/MODEL/fg|bg`, and replaces an earlier import.

    The folder is written under a temporary name and renamed when it is complete.

    Args:
        source: the set.
        out: the folder of imported sets.
        partial: also imports prompts whose tracks or images are missing.

    Raises:
        UsageError: a file contradicts another file or the layout; the message names both.
        MissingError: a file is missing.
        StoreError: the folder cannot be written, or another process is writing it.
    """
    target = out / source.model / source.scenes
    _check_target(target)
    rows, images = read_set(source, partial=partial)
    _replace(target, source, rows, images)
    with_tracks = sum(bool(len(row.queries)) for row in rows)
    return ImportedSet(source.name, target, len(rows), with_tracks, len(images))


def _replace(target: Path, source: SourceSet, rows: Sequence[ClipRow], images: dict[str, Path]) -> None:
    """Writes a set in place of an earlier import, under the lock of the folder."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with hold_lock(target.parent), replace_folder(target) as folder:
            _write(source, DatasetFolder(folder), rows, images)
    except OSError as error:
        raise cannot_write(target, error) from error


def _check_target(target: Path) -> None:
    """Checks that the target is free or holds an earlier import: nothing else may be replaced."""
    what = "is not empty, and not a dataset"
    try:
        record = DatasetFolder(target).record()
    except DamagedRecordError as error:
        move = join_words(["mv", str(target), f"{target}.old"])
        raise StoreError(error.message, hint=f"Move the folder away and import it again: {move}") from error
    if record:
        if record.get("kind") == KIND:
            return
        what = "holds a dataset that was not imported"
    elif not holds_files(target):
        return
    raise StoreError(f"{target} {what}.", hint="Choose another folder with --out DIR.")


def read_set(source: SourceSet, *, partial: bool = False) -> tuple[list[ClipRow], dict[str, Path]]:
    """Returns the rows of a set, and its image files by clip. Checks everything.

    Raises:
        UsageError, MissingError: as `import_set`.
    """
    prompts = _prompts(source.path / PROMPTS)
    tracks, visibility, images = (_number_files(source, folder) for folder in (TRACKS, VISIBILITY, IMAGE))
    if not partial:
        _check_pairs(source, tracks, visibility)
    ids = [f"{number:03d}" for number in range(len(prompts))]
    for folder, files in ((TRACKS, tracks), (VISIBILITY, visibility), (IMAGE, images)):
        if files or folder != IMAGE or source.needs_images:
            _check_count(source, folder, files, ids, partial)
    rows = [
        _row(source, clip, prompt, tracks.get(clip), visibility.get(clip))
        for clip, prompt in zip(ids, prompts, strict=True)
    ]
    return [_with_image(row, images.get(row.clip)) for row in rows], images


def _prompts(path: Path) -> list[str]:
    """Reads one prompt per line. The number of a line is the number of its clip, so no line may be blank."""
    lines = read_lines(path)
    blank = next((number for number, line in enumerate(lines, 1) if not line), None)
    if blank is not None:
        raise UsageError(
            f"{path}: line {blank} is blank, and the number of a line is the number of its clip.",
            hint="Delete the line, or write its prompt.",
        )
    return lines


def _check_pairs(source: SourceSet, tracks: dict[str, Path], visibility: dict[str, Path]) -> None:
    """Checks that every clip has both tracks and visibility, or neither: one is useless without the other."""
    for folder, files, others in ((VISIBILITY, visibility, tracks), (TRACKS, tracks, visibility)):
        for clip in sorted(others.keys() - files.keys()):
            raise MissingError(
                f"{source.path / folder / (clip + SUFFIXES[folder])} is missing, and {others[clip]} is there.",
                hint="Import the prompt all the same, without its tracks: --partial",
            )


def _number_files(source: SourceSet, folder: str) -> dict[str, Path]:
    """Returns the files of a folder by clip, without the hidden files that macOS adds when it copies."""
    suffix = SUFFIXES[folder]
    found = sorted(path for path in (source.path / folder).glob(f"*{suffix}") if not path.name.startswith("."))
    for path in found:
        if not (path.stem.isascii() and path.stem.isdecimal() and len(path.stem) == 3):
            raise UsageError(f"{path}: files here are called 000{suffix}, 001{suffix} and so on.")
    return {path.stem: path for path in found}


def _check_count(source: SourceSet, folder: str, files: dict[str, Path], ids: Sequence[str], partial: bool) -> None:
    """Checks that every prompt has its file, and every file its prompt."""
    extra, missing = sorted(files.keys() - set(ids)), [clip for clip in ids if clip not in files]
    if extra or (missing and not partial):
        which = f"{files[extra[0]]} has no prompt" if extra else f"{folder}/{missing[0]}{SUFFIXES[folder]} is missing"
        raise UsageError(
            f"{source.path}: {len(ids)} prompts in {PROMPTS}, but {len(files)} files in {folder}/: {which}.",
            hint="" if extra else "Import the prompts all the same, without what is missing: --partial",
        )


def _row(source: SourceSet, clip: str, prompt: str, tracks_file: Path | None, visibility_file: Path | None) -> ClipRow:
    row = ClipRow(
        dataset=source.name,
        split=source.scenes,
        clip=clip,
        prompt=prompt,
        model=source.model,
        seed=SEED,
        num_steps=source.num_steps,
        fps=FPS,
        query_side=SIDES[source.scenes],
    )
    if tracks_file is None or visibility_file is None:
        return replace(row, reason="the source has no tracks of it")
    return _with_tracks(row, tracks_file, visibility_file)


def _with_tracks(row: ClipRow, tracks_file: Path, visibility_file: Path) -> ClipRow:
    """Returns the row with the tracks of two files; raises UsageError if they do not fit each other or the row."""
    xy, visible = _tracks(tracks_file), _visibility(visibility_file)
    if visible.shape != xy.shape[:2]:
        frames, points = visible.shape[::-1]
        raise UsageError(
            f"{visibility_file} has {points} points over {frames} frames, and {tracks_file} {len(xy)} over "
            f"{xy.shape[1]}."
        )
    queries = np.ascontiguousarray(xy[:, 0])
    check_tracks(queries, xy, visible, str(tracks_file))
    check_inside(queries, HEIGHT, WIDTH, str(tracks_file))
    _check_grid(queries, row.query_side, tracks_file)
    return replace(
        row,
        frames=FRAMES,
        height=HEIGHT,
        width=WIDTH,
        queries=queries,
        xy=xy,
        visible=visible,
        tracker=TRACKER,
        tracker_licence=TRACKER_LICENCE,
        visible_share=float(visible.mean()),
    )


def _tracks(path: Path) -> NDArray[np.float32]:
    """Reads tracks (P, T, 2) from a file of (1, T, P, 2)."""
    found = _load(path)
    if found.ndim != 4 or found.shape[::3] != (1, 2) or found.shape[1] != FRAMES:
        raise UsageError(f"{path} has shape {found.shape}; tracks are (1, {FRAMES}, P, 2).")
    if not np.issubdtype(found.dtype, np.floating):
        raise UsageError(f"{path} is of type {found.dtype}; tracks are float32.")
    with np.errstate(over="ignore"):  # numbers too large for float32 become infinite, and are refused later
        return np.ascontiguousarray(found[0].transpose(1, 0, 2), dtype=np.float32)


def _visibility(path: Path) -> NDArray[np.bool_]:
    """Reads visibility (P, T) from a file of (1, T, P)."""
    found = _load(path)
    if found.dtype != np.bool_:
        raise UsageError(f"{path} is of type {found.dtype}; visibility is bool.")
    if found.ndim != 3 or len(found) != 1 or found.shape[1] != FRAMES:
        raise UsageError(f"{path} has shape {found.shape}; visibility is (1, {FRAMES}, P).")
    return np.ascontiguousarray(found[0].T)


def _load(path: Path) -> NDArray[Any]:
    """Reads the array of a .npy file, and never unpickles anything."""
    try:
        begin = _begin(path)
        # mapped: a header that states terabytes is refused by the file's size, before memory is taken
        found = np.load(path, allow_pickle=False, mmap_mode="r") if begin.startswith(_NPY) else None
    except OSError as error:
        raise MissingError(f"{path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # a damaged header makes numpy raise errors of many types
        if "object" in str(error).lower():
            raise _pickle_error(path) from error
        raise UsageError(f"{path} is not a whole .npy file: {first_line(error)}.", hint=_AGAIN) from error
    if found is None:
        raise _not_npy(path, begin)
    return np.array(found)


def _begin(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def _not_npy(path: Path, begin: bytes) -> UsageError:
    """Returns the error for a file that is not in numpy's format, by its first bytes."""
    if begin.startswith(_LFS):
        return UsageError(f"{path} is a pointer of Git LFS, not the file itself.", hint="Get the files: git lfs pull")
    if begin.startswith(_PICKLE):
        return _pickle_error(path)
    what = "empty (0 bytes)" if not begin else "an archive" if begin.startswith(_ZIP) else "something else"
    return UsageError(f"{path} is not a .npy file, but {what}.", hint=_AGAIN)


def _pickle_error(path: Path) -> UsageError:
    return UsageError(f"{path} holds pickled objects, which are never loaded: reading them can run code.", hint=_AGAIN)


def _check_grid(queries: NDArray[np.float32], side: int, path: Path) -> None:
    """Checks that the points of frame 0 are a regular grid of `side` x `side`, row by row."""
    if len(queries) != side**2:
        raise UsageError(f"{path} has {len(queries)} points; this set's grid is {side} x {side}, {side**2} points.")
    grid = queries.reshape(side, side, 2).astype(np.float64)
    step = (grid[-1, -1] - grid[0, 0]) / (side - 1)
    rows, columns = np.indices((side, side))
    regular = grid[0, 0] + step * np.stack([columns, rows], axis=-1)
    if np.abs(grid - regular).max() > EVEN or step.min() <= 0:
        raise UsageError(f"{path}: its points in frame 0 are not a regular grid of {side} x {side}, row by row.")
    if step.min() < LEAST_SPACING:
        raise UsageError(
            f"{path}: the grid of its points in frame 0 has a spacing of {step[0]:.3g} x {step[1]:.3g} pixels, and "
            f"does not cover a frame of {WIDTH} x {HEIGHT}.",
            hint="Are the coordinates normalised? They must be pixels.",
        )


def _with_image(row: ClipRow, path: Path | None) -> ClipRow:
    if path is None:
        return row
    read_image(path)
    return replace(row, image=f"{IMAGES}/{path.name}", image_sha256=file_hash(path))


def _write(source: SourceSet, folder: DatasetFolder, rows: Sequence[ClipRow], images: dict[str, Path]) -> None:
    (folder.path / DATA).mkdir()
    for row in rows:
        folder.write(row)
    if images:
        (folder.path / IMAGES).mkdir()
        for path in images.values():
            shutil.copyfile(path, folder.path / IMAGES / path.name)
    side, steps = SIDES[source.scenes], source.num_steps
    about = ABOUT.format(frames=FRAMES, width=WIDTH, height=HEIGHT, seed=SEED, steps=steps, side=side)
    folder.write_text(CARD, card(f"DiffTrack {source.name}", rows, about, {"source": SOURCE}))
    digest = hashlib.sha256("".join(row.identity() for row in rows).encode()).hexdigest()
    folder.write_record({"name": source.name, "kind": KIND, "source": SOURCE, "fingerprint": digest}, "complete")


def import_all(path: Path, out: Path, *, partial: bool = False) -> Iterator[ImportedSet]:
    """Imports every set at a path, one after the other. Raises as `find_sets` and `import_set`."""
    for source in find_sets(path):
        yield import_set(source, out, partial=partial)
