"""vcorr: where, when and how well video diffusion models know which point is which.

Importing this package is cheap: everything below is loaded on first use, and nothing here imports torch until a
function that computes with tensors is touched.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vcorr import functional as functional
    from vcorr.bases import DatasetBase as DatasetBase
    from vcorr.bases import MetricBase as MetricBase
    from vcorr.bases import ProbeBase as ProbeBase
    from vcorr.bases import TrackerBase as TrackerBase
    from vcorr.bases import VariantProbeBase as VariantProbeBase
    from vcorr.bases import VideoModelBase as VideoModelBase
    from vcorr.entries import DatasetEntry as DatasetEntry
    from vcorr.entries import GuidanceEntry as GuidanceEntry
    from vcorr.entries import MetricEntry as MetricEntry
    from vcorr.entries import ModelEntry as ModelEntry
    from vcorr.entries import PageEntry as PageEntry
    from vcorr.entries import ProbeEntry as ProbeEntry
    from vcorr.entries import TrackerEntry as TrackerEntry
    from vcorr.errors import CaptureError as CaptureError
    from vcorr.errors import MissingError as MissingError
    from vcorr.errors import PluginError as PluginError
    from vcorr.errors import UsageError as UsageError
    from vcorr.errors import VcorrError as VcorrError
    from vcorr.geometry import TokenGrid as TokenGrid
    from vcorr.hookspecs import hookimpl as hookimpl
    from vcorr.layouts import Layout as Layout
    from vcorr.notebook import record as record
    from vcorr.protocols import Positions as Positions
    from vcorr.records import Clip as Clip
    from vcorr.records import ModelCard as ModelCard
    from vcorr.records import Prediction as Prediction
    from vcorr.records import Queries as Queries
    from vcorr.records import RowsPrediction as RowsPrediction
    from vcorr.records import RunSettings as RunSettings
    from vcorr.records import Score as Score
    from vcorr.records import Site as Site
    from vcorr.records import Tracks as Tracks
    from vcorr.records import Unrotated as Unrotated
    from vcorr.rotary import Rotary as Rotary

_HOME = {
    "hookimpl": "hookspecs",
    "TokenGrid": "geometry",
    **dict.fromkeys(
        ("ModelEntry", "ProbeEntry", "MetricEntry", "DatasetEntry", "TrackerEntry", "GuidanceEntry", "PageEntry"),
        "entries",
    ),
    **dict.fromkeys(("VcorrError", "UsageError", "PluginError", "CaptureError", "MissingError"), "errors"),
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
        "records",
    ),
    **dict.fromkeys(
        ("VideoModelBase", "ProbeBase", "VariantProbeBase", "MetricBase", "DatasetBase", "TrackerBase"),
        "bases",
    ),
    "Rotary": "rotary",
    "Layout": "layouts",
    "Positions": "protocols",
    "record": "notebook",
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
