"""Masks carried through a video of one's own, and the files in which they are stored."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.records import Clip
from vcorr.data.mask_files import Mask, write_mask
from vcorr.data.video.browser_videos import write_mp4
from vcorr.data.video.mask_drawing import draw_masks
from vcorr.store.atomic_files import make_folder, replace_folder, write_text

MASKS = "masks"
OVERLAY, AREAS, RECORD = "overlay.mp4", "areas.csv", "masks.json"


@dataclass(frozen=True, eq=False)
class PropagatedMasks:
    """The masks of all frames of a video.

    clip: the video. labels: (T, H, W) uint8. palette: (256, 3) uint8 RGB, of the mask that was given. frame: number of
    its frame.
    """

    clip: Clip
    labels: NDArray[np.uint8]
    palette: NDArray[np.uint8]
    frame: int = 0

    @property
    def areas(self) -> dict[int, list[int]]:
        """The number of pixels in every frame, by label, for all labels of the given mask but 0."""
        values = [int(label) for label in np.unique(self.labels[self.frame]) if label]
        return {label: (self.labels == label).sum(axis=(1, 2)).tolist() for label in values}

    def write(self, folder: Path, facts: Mapping[str, Any]) -> tuple[Path, ...]:
        """Writes the folder, whole or not at all, and returns the paths in it.

        It holds a palette PNG per frame in `masks/`, with palette and labels of the given mask. It also holds an
        overlay and the areas as a table. The record `masks.json` has the areas and `facts`, which are plain values.

        Raises:
            StoreError: the folder cannot be written.
        """
        assert self.clip.video is not None  # the masks were carried through it
        with replace_folder(folder) as draft:
            make_folder(draft / MASKS)
            for number, labels in enumerate(self.labels):
                write_mask(draft / MASKS / f"{number:05d}.png", Mask(labels, self.palette))
            write_mp4(draft / OVERLAY, draw_masks(self.clip.video, self.labels, self.palette), self.clip.playback_fps)
            write_text(draft / AREAS, self._table())
            record = json.dumps({**facts, "areas": self.areas}, indent=2, ensure_ascii=False)
            write_text(draft / RECORD, f"{record}\n", errors="backslashreplace")
        return tuple(folder / name for name in (MASKS, OVERLAY, AREAS, RECORD))

    def _table(self) -> str:
        """Returns the areas as CSV, one row per frame and label."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["frame", "label", "pixels", "share"])
        for label, counts in self.areas.items():
            for frame, pixels in enumerate(counts):
                writer.writerow([frame, label, pixels, f"{pixels / self.labels[frame].size:.6f}"])
        return text.getvalue()
