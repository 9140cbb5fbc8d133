"""Makes small files in the published form of TAP-Vid."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FRAMES, HEIGHT, WIDTH = 12, 20, 30


def entry(seed: int = 0, frames: int = FRAMES, height: int = HEIGHT, width: int = WIDTH) -> dict[str, Any]:
    """Returns a clip of five points: seen always, hidden for a while, later, in one frame, never."""
    draw = np.random.default_rng(seed)
    occluded = np.zeros((5, frames), bool)
    occluded[1, 3:6] = occluded[2, :7] = occluded[4] = True
    occluded[3] = np.arange(frames) != frames - 2
    return {
        "video": draw.integers(0, 256, (frames, height, width, 3), dtype=np.uint8),
        "points": draw.uniform(0, 1, (5, frames, 2)).astype(np.float32),
        "occluded": occluded,
    }


def compress(video: np.ndarray) -> list[bytes]:
    """Returns the frames as JPEG files."""
    files = []
    for frame in video:
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "JPEG")
        files.append(file.getvalue())
    return files


def make_files(folder: Path, name: str, clips: int = 3, protocol: int = 4, **sizes: int) -> Path:
    """Writes the files of a set, and returns the path that a user would name."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [entry(number, **sizes) for number in range(clips)]
    if name == "davis":
        return write(folder / "tapvid_davis.pkl", {f"clip-{n}": e for n, e in enumerate(entries)}, protocol)
    if name == "rgb-stacking":
        return write(folder / "tapvid_rgb_stacking.pkl", entries, protocol)
    if name == "robotap":
        for number, found in enumerate(entries):
            write(folder / f"robotap_split{number}.pkl", {f"video {number}": found}, protocol)
        return folder
    for number in range(2):
        shard = [{**e, "video": np.array(compress(e["video"]))} for e in entries[number::2]]
        write(folder / f"{number:04d}_of_0002.pkl", shard, protocol)
    return folder


def write(path: Path, value: Any, protocol: int = 4) -> Path:
    """Writes a pickle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol))
    return path
