"""Scores of predicted tracks against reference tracks, with the floor and ceiling of each score. numpy only."""

from vcorr.contract.variants import (
    CORRECTED,
    DIFFTRACK,
    DIFFTRACK_TAPVID,
    NamedVariant,
    Switches,
    Variant,
    switches_of,
)
from vcorr.metrics.accuracy import accuracy
from vcorr.metrics.bounds import zero_motion
from vcorr.metrics.builtin_metrics import MatchingAccuracy, Pck, PckConfig
from vcorr.metrics.ceilings import Ceilings, find_ceilings
from vcorr.metrics.pairs import Pairs, PairsMemo, Share, select_pairs
from vcorr.metrics.timemap import FrameMap, frame_map, to_frames

__all__ = [
    "CORRECTED",
    "DIFFTRACK",
    "DIFFTRACK_TAPVID",
    "Ceilings",
    "FrameMap",
    "MatchingAccuracy",
    "NamedVariant",
    "Pairs",
    "PairsMemo",
    "Pck",
    "PckConfig",
    "Share",
    "Switches",
    "Variant",
    "accuracy",
    "find_ceilings",
    "frame_map",
    "select_pairs",
    "switches_of",
    "to_frames",
    "zero_motion",
]
