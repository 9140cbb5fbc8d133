"""The records that pass between the parts: numpy and plain values only, so that they are cheap to import.

One module per subject defines them; this module names all of them, so that their readers need not know the subjects.
"""

from __future__ import annotations

from vcorr.contract.clip_record import DEFAULT_FPS, Clip, InputClass
from vcorr.contract.model_records import (
    NO_SITE,
    Attention,
    Axes,
    BatchOrder,
    BlockAxes,
    Factorised,
    FactorisedKind,
    ModelCard,
    Site,
    Unrotated,
)
from vcorr.contract.point_records import NO_QUERIES, UNKNOWN_LAYER, Queries, QueryMode, Tracks
from vcorr.contract.prediction_records import HEAD_MEAN, Prediction, Readout, RowsPrediction, Score
from vcorr.contract.run_records import RANDOM, AppliedSettings, Mode, Reconstruction, RunSettings, is_random

__all__ = [
    "DEFAULT_FPS",
    "HEAD_MEAN",
    "NO_QUERIES",
    "NO_SITE",
    "RANDOM",
    "UNKNOWN_LAYER",
    "AppliedSettings",
    "Attention",
    "Axes",
    "BatchOrder",
    "BlockAxes",
    "Clip",
    "Factorised",
    "FactorisedKind",
    "InputClass",
    "Mode",
    "ModelCard",
    "Prediction",
    "Queries",
    "QueryMode",
    "Readout",
    "Reconstruction",
    "RowsPrediction",
    "RunSettings",
    "Score",
    "Site",
    "Tracks",
    "Unrotated",
    "is_random",
]
