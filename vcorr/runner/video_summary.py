"""Chooses key frames of a video of one's own with a tracker or a model that is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vcorr.contract.errors import UsageError
from vcorr.contract.protocols import Tracker
from vcorr.data.video.frame_stream import FrameSource
from vcorr.data.video.mask_drawing import draw_sheet
from vcorr.plugins.registry import Registry
from vcorr.runner.named_model import load_model, load_tracker
from vcorr.runner.spec import RunSpec
from vcorr.runner.tracking import check_one_named
from vcorr.runner.unread_words import refuse_unread
from vcorr.store.atomic_files import replace_folder, write_text
from vcorr.tracking.key_frames import KeyFrames, choose_key_frames, find_again, space_evenly
from vcorr.tracking.own_video import MAX_SIDE, open_frames

SHEET, RECORD = "sheet.png", "key-frames.json"


@dataclass(frozen=True)
class VideoSummary:
    """Key frames of a video, compared with evenly spaced ones.

    source: the video at its own size. candidates: numbers of the frames that were compared. chosen, even: with frames
    as positions among the candidates.
    """

    source: FrameSource
    candidates: tuple[int, ...]
    chosen: KeyFrames
    even: KeyFrames

    def facts(self) -> dict[str, Any]:
        """Returns the frames in the order in which they were chosen, their times, and the coverages."""
        kept, even = self._number(self.chosen), self._number(self.even)
        return {
            "frames": len(self.source.times),
            "compared": len(self.candidates),
            "key_frames": kept,
            "times": [round(float(self.source.times[frame]), 3) for frame in kept],
            "coverage": {"mean": self.chosen.mean, "least": self.chosen.least},
            "even_frames": even,
            "even_coverage": {"mean": self.even.mean, "least": self.even.least},
        }

    def write(self, folder: Path, facts: Mapping[str, Any]) -> tuple[Path, ...]:
        """Writes the key frames as PNG, a contact sheet and a record, and returns their paths; whole or not at all.

        facts: more for the record, as plain values.

        Raises:
            StoreError: the folder cannot be written.
        """
        kept = sorted(self._number(self.chosen))
        frames = [self.source.read(frame, frame + 1)[0] for frame in kept]
        names = [f"{frame:06d}.png" for frame in kept]
        captions = [f"frame {frame}, {self.source.times[frame]:.2f} s" for frame in kept]
        with replace_folder(folder) as draft:
            for name, frame in zip(names, frames, strict=True):
                Image.fromarray(frame).save(draft / name)
            Image.fromarray(draw_sheet(frames, captions)).save(draft / SHEET)
            record = json.dumps({**facts, **self.facts()}, indent=2, ensure_ascii=False)
            write_text(draft / RECORD, f"{record}\n", errors="backslashreplace")
        return tuple(folder / name for name in (*names, SHEET, RECORD))

    def _number(self, found: KeyFrames) -> list[int]:
        return [self.candidates[position] for position in found.frames]


@dataclass(frozen=True)
class NamedTracker:
    """What finds points again. notes: sentences on the site and the weights of a model."""

    tracker: Tracker
    notes: tuple[str, ...] = ()


def find_tracker(spec: RunSpec, registry: Registry) -> NamedTracker:
    """Returns the tracker that a spec names, or its model as a tracker; raises as `load_model` and `load_tracker`."""
    check_one_named(spec)
    refuse_unread(spec, fields=("mode",))
    if spec.tracker:
        return NamedTracker(load_tracker(spec, registry))
    named = load_model(spec, registry)
    return NamedTracker(named.as_tracker(), named.notes)


def summarize_video(video: Path, count: int, tracker: Tracker, *, compare: int = 48, grid: int = 12) -> VideoSummary:
    """Chooses `count` key frames of a video; see `vcorr.tracking.key_frames`.

    Args:
        video: the file.
        count: number of key frames.
        tracker: finds points again.
        compare: number of frames that are compared, evenly spaced over the video.
        grid: points along one side of the grid in each of them.

    Raises:
        MissingError: there is no such file.
        UsageError: the file cannot be read, or it has fewer frames than wanted.
    """
    if compare < count:
        raise UsageError(f"-k {count}: only {compare} frames are compared.", hint=f"Write --compare {count} or more.")
    shown = open_frames(video, max_side=MAX_SIDE)
    total = len(shown.times)
    candidates = np.unique(np.linspace(0, total - 1, min(compare, total)).round().astype(np.int64))
    found = find_again(tracker, _read(shown, candidates), grid)
    return VideoSummary(
        open_frames(video),
        tuple(candidates.tolist()),
        choose_key_frames(found, count),
        space_evenly(found, count),
    )


def _read(source: FrameSource, frames: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.stack([source.read(frame, frame + 1)[0] for frame in frames.tolist()])
