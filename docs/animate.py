"""Makes the animation of README.md: points that the embedded model follows through a rendered clip.

The clip is one of the level `clean` of `sprites`, rendered larger. The model reads it at its own size, 128x128 pixels.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import vcorr
from vcorr.data.video import Drawing
from vcorr.data.video.track_drawing import Overlay
from vcorr.tracking.tracked_points import TrackedPoints

CLIP, SIDE, FRAMES, FPS = "test-0005", 320, 33, 10
"""Clip of the dataset, its side in pixels, its number of frames, and frames per second of the animation."""

PER_LAYER = 4
"""Points on each thing that moves, and on the background."""

STILL = 8
"""Frames for which the last frame is shown before the animation begins again."""


def load_clip() -> vcorr.Clip:
    """Returns the clip with exact tracks of a grid of points."""
    entry = vcorr.installed().datasets.get("sprites").entry
    config = entry.config_type()
    assert config is not None
    dataset = entry.create(config(size=SIDE, frames=FRAMES, level="clean"))
    clip: vcorr.Clip = dataset.clip(CLIP)
    return clip


def choose_points(clip: vcorr.Clip) -> vcorr.Queries:
    """Returns some points of the grid: evenly chosen ones of every layer that are visible in the first frame."""
    assert clip.tracks is not None
    assert clip.tracks.layer is not None
    chosen: list[int] = []
    for layer in np.unique(clip.tracks.layer):
        own = np.flatnonzero((clip.tracks.layer == layer) & clip.tracks.visible[:, 0])
        chosen += own[np.linspace(0, len(own) - 1, PER_LAYER + 2).round().astype(int)[1:-1]].tolist()
    return clip.queries[np.array(chosen)]


def follow(clip: vcorr.Clip) -> TrackedPoints:
    """Returns the tracks that the model finds, at the site that its card names."""
    assert clip.video is not None
    options = {"probe": {"radius": 1}}  # the mean over neighbouring tokens, which are 20 pixels apart here
    return vcorr.track(clip.video, choose_points(clip), model="tiny", options=options, fps=FPS)


def draw(video: NDArray[np.uint8], tracks: TrackedPoints) -> list[Image.Image]:
    """Returns the frames with the tracks over them, without the legend."""
    drawing = Drawing(queries=tracks.queries, predicted=tracks.as_tracks(), by_query=True)
    overlay = Overlay(len(video), (SIDE, SIDE), drawing)
    drawn = (overlay.draw(frame, t) for t, frame in enumerate(video))
    return [Image.fromarray(one[: one.shape[1]]) for one in drawn]  # the picture is square, and the legend below it


def main(path: Path) -> None:
    """Writes the animation as WebP, which GitHub shows and repeats without end."""
    clip = load_clip()
    assert clip.video is not None
    first, *others = draw(clip.video, follow(clip))
    step = round(1000 / FPS)
    durations = [step] * len(others) + [STILL * step]
    first.save(path, save_all=True, append_images=others, duration=durations, loop=0, quality=70, method=6)
    sys.stdout.write(f"{path}: {path.stat().st_size / 1000:.0f} kB, {len(clip.video)} frames\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
