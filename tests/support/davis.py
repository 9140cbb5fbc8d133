"""Makes a small folder in the layout of DAVIS-2017: squares that move over noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from vcorr.data.mask_files import Mask, usual_palette, write_mask


def frames_and_masks(
    seed: int = 0, frames: int = 4, height: int = 32, width: int = 48
) -> tuple[np.ndarray, np.ndarray]:
    """Draws (T, H, W, 3) and (T, H, W): object 1 moves right by 2 pixels per frame, object 2 stays."""
    random = np.random.default_rng(seed)
    video = np.repeat(random.integers(0, 60, (1, height, width, 3), dtype=np.uint8), frames, axis=0)
    masks = np.zeros((frames, height, width), np.uint8)
    moving, still = (random.integers(100, 256, (12, 12, 3), dtype=np.uint8) for _ in range(2))
    for t in range(frames):
        for label, texture, x, y in ((1, moving, 4 + 2 * t, 4), (2, still, 30, 18)):
            video[t, y : y + 12, x : x + 12] = texture
            masks[t, y : y + 12, x : x + 12] = label
    return video, masks


def make_davis(root: Path, clips: tuple[str, ...] = ("bear", "goat"), **size: int) -> Path:
    """Writes the folder and returns it."""
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("\n".join(clips) + "\n")
    for seed, clip in enumerate(clips):
        images, annotations = (root / kind / "480p" / clip for kind in ("JPEGImages", "Annotations"))
        images.mkdir(parents=True)
        annotations.mkdir(parents=True)
        video, masks = frames_and_masks(seed, **size)
        for t, (frame, mask) in enumerate(zip(video, masks, strict=True)):
            Image.fromarray(frame).save(images / f"{t:05d}.jpg", quality=100, subsampling=0)
            write_mask(annotations / f"{t:05d}.png", Mask(mask, usual_palette()))
    return root
