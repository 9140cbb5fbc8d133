"""vcorr: where, when and how well video diffusion models know which point is which.

Importing this package is cheap: everything below is loaded on first use, and nothing here imports torch until a
function that computes with tensors is touched.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vcorr import functional as functional
    from vcorr.contract.bases import DatasetBase as DatasetBase
    from vcorr.contract.bases import MetricBase as MetricBase
    from vcorr.contract.bases import ProbeBase as ProbeBase
    from vcorr.contract.bases import TrackerBase as TrackerBase
    from vcorr.contract.bases import VariantProbeBase as VariantProbeBase
    from vcorr.contract.bases import VideoModelBase as VideoModelBase
    from vcorr.contract.entries import DatasetEntry as DatasetEntry
    from vcorr.contract.entries import GuidanceEntry as GuidanceEntry
    from vcorr.contract.entries import MetricEntry as MetricEntry
    from vcorr.contract.entries import ModelEntry as ModelEntry
    from vcorr.contract.entries import PageEntry as PageEntry
    from vcorr.contract.entries import ProbeEntry as ProbeEntry
    from vcorr.contract.entries import TrackerEntry as TrackerEntry
    from vcorr.contract.errors import CaptureError as CaptureError
    from vcorr.contract.errors import MissingError as MissingError
    from vcorr.contract.errors import PluginError as PluginError
    from vcorr.contract.errors import UsageError as UsageError
    from vcorr.contract.errors import VcorrError as VcorrError
    from vcorr.contract.geometry import TokenGrid as TokenGrid
    from vcorr.contract.hookspecs import hookimpl as hookimpl
    from vcorr.contract.protocols import Positions as Positions
    from vcorr.contract.records import Clip as Clip
    from vcorr.contract.records import ModelCard as ModelCard
    from vcorr.contract.records import Prediction as Prediction
    from vcorr.contract.records import Queries as Queries
    from vcorr.contract.records import RowsPrediction as RowsPrediction
    from vcorr.contract.records import RunSettings as RunSettings
    from vcorr.contract.records import Score as Score
    from vcorr.contract.records import Site as Site
    from vcorr.contract.records import Tracks as Tracks
    from vcorr.contract.records import Unrotated as Unrotated
    from vcorr.contract.rotary import Rotary as Rotary
    from vcorr.notebook.layouts import Layout as Layout
    from vcorr.notebook.recording import record as record

_HOME = {
    "hookimpl": "contract.hookspecs",
    "TokenGrid": "contract.geometry",
    **dict.fromkeys(
        ("ModelEntry", "ProbeEntry", "MetricEntry", "DatasetEntry", "TrackerEntry", "GuidanceEntry", "PageEntry"),
        "contract.entries",
    ),
    **dict.fromkeys(("VcorrError", "UsageError", "PluginError", "CaptureError", "MissingError"), "contract.errors"),
    **dict.fromkeys(
        (
            "Clip",
            "ModelCard",
            "Prediction",
            "Queries",
            "RowsPrediction",
            "RunSettings",
            "Score",
            "Site",
            "Tracks",
            "Unrotated",
        ),
        "contract.records",
    ),
    **dict.fromkeys(
        ("VideoModelBase", "ProbeBase", "VariantProbeBase", "MetricBase", "DatasetBase", "TrackerBase"),
        "contract.bases",
    ),
    "Rotary": "contract.rotary",
    "Layout": "notebook.layouts",
    "Positions": "contract.protocols",
    "record": "notebook.recording",
}

__all__ = sorted([*_HOME, "functional"])  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name == "functional":
        return importlib.import_module("vcorr.functional")
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("vcorr")
    if name not in _HOME:
        raise AttributeError(f"module 'vcorr' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"vcorr.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
