"""Divides clips into two halves that are alike, by the data alone (docs/statistics.md)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.modes import MODES

_GENERATING = frozenset(mode.name for mode in MODES if mode.makes_video)


class Halves(NamedTuple):
    """Indices of the clips of two disjoint halves, in rising order. Together they are all clips."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]


def split_clips(
    ids: Sequence[str],
    stillness: Sequence[float] | NDArray[np.floating] | None = None,
    content: Sequence[str] | None = None,
    *,
    mode: str,
) -> Halves:
    """Divides clips into halves that are equally still. Scores have no influence, so all models get the same halves.

    Clips are sorted by stillness, and equally still ones by id. Of each two neighbours one goes to the first half and
    the other to the second. Which one is drawn, with a seed hashed from the content of all clips. A single last clip
    goes to a half that is drawn in the same way.

    In a mode where models generate the videos, clips are sorted by id (of the prompt), and the ids give the seed: a
    generated clip has neither stillness nor content of its own before a model made it.

    Args:
        ids: one id per clip, all different, in any order.
        stillness: accuracy of zero motion per clip (column `still`), NaN where unknown; unknown clips come last.
            None if it is unknown for all.
        content: hash of each clip's content (column `data_hash`); "" where unknown, and the id counts there. None if
            it is unknown for all.
        mode: name of the run's mode (column `mode`).

    Raises:
        UsageError: ids repeat, or the arguments have different lengths.
    """
    generates = mode in _GENERATING
    still = [math.nan] * len(ids) if stillness is None or generates else [float(value) for value in stillness]
    hashes = list(ids) if content is None or generates else list(content)
    _check(ids, len(still), len(hashes))
    order = sorted(range(len(ids)), key=lambda clip: (math.isnan(still[clip]), _number(still[clip]), ids[clip]))
    seed = "\0".join(sorted(known or clip for known, clip in zip(hashes, ids, strict=True)))
    halves: tuple[list[int], list[int]] = ([], [])
    for pair, start in enumerate(range(0, len(order), 2)):
        drawn = _draw(seed, pair)
        for place, clip in enumerate(order[start : start + 2]):
            halves[drawn ^ place].append(clip)
    return Halves(*(np.array(sorted(half), dtype=np.int64) for half in halves))


def _draw(seed: str, pair: int) -> int:
    """Returns 0 or 1. A hash gives the same draw with every version of numpy and on every machine."""
    return hashlib.sha256(f"{pair}\0{seed}".encode()).digest()[0] & 1


def _number(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _check(ids: Sequence[str], still: int, hashes: int) -> None:
    if len(set(ids)) != len(ids) or {still, hashes} != {len(ids)}:
        raise UsageError(
            "ids: expected different ids, as many as there are values of stillness and hashes of content; "
            f"got {len(set(ids))} different ids of {len(ids)}, {still} values and {hashes} hashes."
        )
