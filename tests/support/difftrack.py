"""Makes a small dataset in the layout of DiffTrack's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

FRAMES, HEIGHT, WIDTH = 49, 480, 720


def grid(side: int) -> np.ndarray:
    """(side², 2): a regular grid with a margin of its own, row by row."""
    y, x = np.meshgrid(np.linspace(10, HEIGHT - 10, side), np.linspace(11.25, WIDTH - 11.25, side), indexing="ij")
    return np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float32)


def make_set(root: Path, model: str = "cogvideox_t2v_2b", scenes: str = "fg", clips: int = 2, images: int = 0) -> Path:
    """One set: points that move right by 1, 2 ... pixels a frame, every fifth one hidden in the second half."""
    folder = root / model / scenes
    for name in ("tracks", "visibility", *(["image"] if images else [])):
        (folder / name).mkdir(parents=True)
    (folder / "prompt.txt").write_text("\n".join(f"a thing, number {n}" for n in range(clips)))
    queries = grid({"fg": 20, "bg": 10}[scenes])
    for n in range(clips):
        np.save(folder / "tracks" / f"{n:03d}.npy", tracks(queries, n + 1))
        np.save(folder / "visibility" / f"{n:03d}.npy", visibility(len(queries)))
    for n in range(images):
        picture = np.random.default_rng(n).integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / "image" / f"{n:03d}.png")
    return folder


def tracks(queries: np.ndarray, speed: float) -> np.ndarray:
    """(1, T, P, 2)."""
    moved = np.arange(FRAMES, dtype=np.float32)[:, None, None] * np.float32([speed, 0])
    return (queries[None] + moved)[None]


def visibility(points: int) -> np.ndarray:
    """(1, T, P)."""
    seen = np.ones((1, FRAMES, points), dtype=bool)
    seen[:, FRAMES // 2 :, ::5] = False
    return seen
