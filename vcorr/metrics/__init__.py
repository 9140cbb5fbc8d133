"""Scores of predicted tracks against reference tracks, and the floor and ceiling beside each of them. numpy only."""

from vcorr.metrics.accuracy import Share, accuracy, scored_pairs, shares_within
from vcorr.metrics.bounds import ceiling_tracks, token_oracle, zero_motion
from vcorr.metrics.builtin import MatchingAccuracy, MatchingAccuracyConfig, Pck, PckConfig
from vcorr.metrics.timemap import FrameMap, frame_map, to_frames

__all__ = [
    "FrameMap",
    "MatchingAccuracy",
    "MatchingAccuracyConfig",
    "Pck",
    "PckConfig",
    "Share",
    "accuracy",
    "ceiling_tracks",
    "frame_map",
    "scored_pairs",
    "shares_within",
    "to_frames",
    "token_oracle",
    "zero_motion",
]
