"""Datasets: the user's own videos, prompts and dataset folders, with their query points.

`query_grid` and `fit_notes` are loaded on first use, so that listing the datasets needs no numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vcorr.contract.entries import DatasetEntry

if TYPE_CHECKING:
    from vcorr.data.fitting_notes import fit_notes as fit_notes
    from vcorr.data.query_grids import query_grid as query_grid

ENTRIES: tuple[DatasetEntry, ...] = (
    DatasetEntry(
        name="video",
        summary="Your own video files, of any size, length and frame rate: --data video:PATH.",
        factory="vcorr.data.video_dataset:VideoFiles",
        config="vcorr.data.dataset_options:VideoConfig",
    ),
    DatasetEntry(
        name="prompts",
        summary="Prompts to generate from: a short built-in list, or a file with one per line, --data prompts:FILE.",
        factory="vcorr.data.prompt_dataset:Prompts",
        config="vcorr.data.dataset_options:PromptsConfig",
    ),
    DatasetEntry(
        name="folder",
        summary="A folder in the project's own format, with videos and their tracks: --data DIR.",
        factory="vcorr.data.stored_dataset:StoredDataset",
        config="vcorr.data.dataset_options:FolderConfig",
    ),
    DatasetEntry(
        name="run",
        summary="Videos that a run in mode generate made, with its query points and tracks: --data run:RUN.",
        factory="vcorr.runner.generated_videos:RunVideos",
        config="vcorr.data.dataset_options:RunVideosConfig",
    ),
    DatasetEntry(
        name="difftrack",
        summary="The paper's prompts and query grids, once imported: --data difftrack:cogvideox_t2v_2b/fg.",
        factory="vcorr.data.stored_dataset:difftrack",
        config="vcorr.data.dataset_options:DiffTrackConfig",
    ),
    DatasetEntry(
        name="davis17",
        summary="DAVIS-2017 at 480p with the masks of its objects, from its own folder: --data davis17:PATH.",
        factory="vcorr.data.davis_dataset:Davis17",
        config="vcorr.data.dataset_options:DavisConfig",
    ),
    DatasetEntry(
        name="tapvid-davis",
        summary="TAP-Vid-DAVIS, once imported: 30 real videos with point tracks that people made.",
        factory="vcorr.data.tapvid_dataset:Davis",
        config="vcorr.data.dataset_options:TapVidConfig",
    ),
    DatasetEntry(
        name="tapvid-kinetics",
        summary="TAP-Vid-Kinetics, once imported: real videos of people with point tracks that people made.",
        factory="vcorr.data.tapvid_dataset:Kinetics",
        config="vcorr.data.dataset_options:TapVidConfig",
    ),
    DatasetEntry(
        name="tapvid-rgb-stacking",
        summary="TAP-Vid-RGB-Stacking, once imported: 50 simulated videos of a robot with exact point tracks.",
        factory="vcorr.data.tapvid_dataset:RgbStacking",
        config="vcorr.data.dataset_options:TapVidConfig",
    ),
    DatasetEntry(
        name="robotap",
        summary="RoboTAP, once imported: real videos of robots at work with point tracks that people made.",
        factory="vcorr.data.tapvid_dataset:RoboTap",
        config="vcorr.data.dataset_options:TapVidConfig",
    ),
)

_HOME = {"query_grid": "query_grids", "fit_notes": "fitting_notes"}

__all__ = ["ENTRIES", "fit_notes", "query_grid"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vcorr.data' has no attribute {name!r}")
    return getattr(importlib.import_module(f"vcorr.data.{_HOME[name]}"), name)
