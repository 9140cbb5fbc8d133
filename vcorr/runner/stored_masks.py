"""Stores the masks that a run carried through a clip, with the reference, so that they can be scored again."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcorr.metrics.mask_scores import VOID
from vcorr.runner.kept_files import DamagedFileError
from vcorr.store.atomic_files import atomic_file, make_folder
from vcorr.store.fingerprint import hash_file
from vcorr.store.rundir import RunDirectory
from vcorr.store.shards import SUFFIX, read_stamp, shard_name

MASKS = "masks"
"""Folder of a run that holds masks, and the key of the facts that name their file's hash."""
_AGAIN = "Repeat the command that made the run: only that clip is made again."


@dataclass(frozen=True, eq=False)
class StoredMasks:
    """The masks of one clip. predicted, reference: (T, H, W) uint8 labels; 255 in the reference does not count."""

    predicted: NDArray[np.uint8]
    reference: NDArray[np.uint8]


class DamagedMasksError(DamagedFileError):
    """Masks that are missing, or are not the ones that were made. The model makes them again."""


def masks_path(run: RunDirectory, clip_id: str) -> Path:
    """Returns where a run keeps the masks of a clip."""
    return run.folder(MASKS) / (shard_name(clip_id).removesuffix(SUFFIX) + ".npz")


def keep_masks(run: RunDirectory, clip_id: str, masks: StoredMasks) -> dict[str, dict[str, str]]:
    """Stores masks in the run, and returns the facts of the predictions shard by which `check_masks` knows them.

    Raises:
        StoreError: the file cannot be written.
    """
    path = masks_path(run, clip_id)
    make_folder(path.parent)
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, predicted=masks.predicted, reference=masks.reference)
    return {MASKS: {"file": hash_file(path)}}


def check_masks(run: RunDirectory, clip_id: str) -> None:
    """Checks that the masks of a predicted clip are there, and are the ones that were made.

    Raises:
        DamagedMasksError: they are not.
    """
    path = masks_path(run, clip_id)
    stamp = read_stamp(run.shard("predictions", clip_id))
    made = stamp.facts.get(MASKS) if stamp else None
    try:
        found = hash_file(path)
    except OSError as error:
        raise DamagedMasksError(f"{path} cannot be read: {error.strerror}.", hint=_AGAIN) from error
    if not isinstance(made, dict) or made.get("file") != found:
        raise DamagedMasksError(f"{path} does not hold the masks that were made.", hint=_AGAIN)


def read_masks(run: RunDirectory, clip_id: str) -> StoredMasks:
    """Returns the masks of a predicted clip.

    Raises:
        DamagedMasksError: they are missing, or are not the ones that were made.
    """
    check_masks(run, clip_id)
    path = masks_path(run, clip_id)
    try:
        with np.load(path, allow_pickle=False) as stored:
            return StoredMasks(stored["predicted"], stored["reference"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DamagedMasksError(f"{path} is damaged: {error}.", hint=_AGAIN) from error


def clear_void(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns a mask (H, W) of the reference as it is given: pixels that do not count are background."""
    return np.where(mask == VOID, 0, mask).astype(np.uint8)


def repeat_given(reference: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns the given mask, of frame 0, in every frame of a reference (T, H, W)."""
    return np.repeat(clear_void(reference[0])[None], len(reference), axis=0)
