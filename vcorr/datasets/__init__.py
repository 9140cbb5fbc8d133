"""The user's own videos, prompts and dataset folders as datasets, and the query points laid over them.

`query_grid` and `place_queries` are loaded on first use, so that listing the datasets needs no numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vcorr.entries import DatasetEntry

if TYPE_CHECKING:
    from vcorr.datasets.notes import fit_notes as fit_notes
    from vcorr.datasets.queries import place_queries as place_queries
    from vcorr.datasets.queries import query_grid as query_grid

ENTRIES: tuple[DatasetEntry, ...] = (
    DatasetEntry(
        name="video",
        summary="Your own video files, of any size, length and frame rate: --data video:PATH.",
        factory="vcorr.datasets.video:VideoFiles",
        config="vcorr.datasets.config:VideoConfig",
    ),
    DatasetEntry(
        name="prompts",
        summary="Prompts to generate from: a short built-in list, or a file with one a line, --data prompts:FILE.",
        factory="vcorr.datasets.prompts:Prompts",
        config="vcorr.datasets.config:PromptsConfig",
    ),
    DatasetEntry(
        name="folder",
        summary="A folder in the project's own format, with videos and their tracks: --data DIR.",
        factory="vcorr.datasets.stored:StoredDataset",
        config="vcorr.datasets.config:FolderConfig",
    ),
    DatasetEntry(
        name="difftrack",
        summary="The paper's prompts and query grids, once imported: --data difftrack:cogvideox_t2v_2b/fg.",
        factory="vcorr.datasets.stored:difftrack",
        config="vcorr.datasets.config:DiffTrackConfig",
    ),
)

_HOME = {"query_grid": "queries", "place_queries": "queries", "fit_notes": "notes"}

__all__ = ["ENTRIES", "fit_notes", "place_queries", "query_grid"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vcorr.datasets' has no attribute {name!r}")
    return getattr(importlib.import_module(f"vcorr.datasets.{_HOME[name]}"), name)
