"""Makes small dataset folders."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from support import sliding
from vcorr.data.clip_row import ClipRow
from vcorr.data.dataset_card import card
from vcorr.data.dataset_folder import VIDEOS, DatasetFolder, file_hash
from vcorr.data.dataset_options import FolderConfig
from vcorr.data.stored_dataset import StoredDataset
from vcorr.data.video.lossless import write_lossless

QUERIES = np.float32([[4.5, 4.5], [20, 30], [60.25, 0]])


def row(clip: str = "clip-0", **changes: object) -> ClipRow:
    """A clip of the sliding test pictures with its exact tracks; no file."""
    frames, side = sliding.FRAMES, sliding.SIDE
    xy = QUERIES[:, None] + np.arange(frames, dtype=np.float32)[None, :, None] * np.float32([sliding.SHIFT, 0])
    base = ClipRow(
        dataset="small",
        split="test",
        clip=clip,
        prompt="a sliding picture",
        model="sliding-model",
        weights="random:0",
        seed=int(clip[-1]),
        num_steps=10,
        frames=frames,
        height=side,
        width=side,
        queries=QUERIES,
        xy=xy,
        visible=xy[..., 0] < side,
        tracker="exact",
        tracker_version=1,
        tracker_licence="CC0-1.0",
    )
    return dataclasses.replace(base, **changes)


def make_folder(path: Path, clips: int = 2, **changes: object) -> DatasetFolder:
    """A dataset folder of `clips` clips with their videos."""
    folder = DatasetFolder.create(path, "f" * 64)
    (path / VIDEOS).mkdir()
    rows = [with_video(folder, row(f"clip-{n}", **changes)) for n in range(clips)]
    for made in rows:
        folder.write(made)
    folder.write_text("README.md", card("small", rows, "A small one.", {}))
    return folder


def with_video(folder: DatasetFolder, made: ClipRow) -> ClipRow:
    """The row with its video, written."""
    name = folder.video_name(made.clip)
    digest = write_lossless(folder.path / name, sliding.slide(made.seed)[0], made.fps)
    files = {"video": name, "video_sha256": digest, "file_sha256": file_hash(folder.path / name)}
    return dataclasses.replace(made, **files)


def open_folder(path: Path) -> StoredDataset:
    """Opens a dataset folder as a run does."""
    return StoredDataset(FolderConfig(path=str(path)))


def check_all(path: Path) -> None:
    """Checks the files of all clips of a dataset folder."""
    data = open_folder(path)
    data.check_files(data.ids())
