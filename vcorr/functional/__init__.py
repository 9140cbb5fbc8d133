"""Pure functions on tensors: matching, attention rows, scores, guidance's attention (docs/functional.md).

Any device, no global state, one clip at a time; usable without the rest of vcorr. H heads, F latent frames, h x w
tokens of a frame, d width of a head, N query points, T video frames. Positions are (x, y) raster pixels. `variant` is
"corrected", "difftrack", or `Switches` that flip single differences between the two.
"""

from vcorr.contract.variants import CORRECTED, DIFFTRACK, DIFFTRACK_TAPVID, Switches, Variant
from vcorr.functional.api import latent_to_frames, match, match_features
from vcorr.functional.attention import AttentionRows, attention_rows
from vcorr.functional.cross_frame import cross_frame_attention
from vcorr.functional.query_points import QueryPoints
from vcorr.functional.scores import attention_score, confidence_score, harmonic_mean, matching_accuracy, tapvid

__all__ = [
    "CORRECTED",
    "DIFFTRACK",
    "DIFFTRACK_TAPVID",
    "AttentionRows",
    "QueryPoints",
    "Switches",
    "Variant",
    "attention_rows",
    "attention_score",
    "confidence_score",
    "cross_frame_attention",
    "harmonic_mean",
    "latent_to_frames",
    "match",
    "match_features",
    "matching_accuracy",
    "tapvid",
]
