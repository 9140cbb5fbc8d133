"""Pure functions on tensors: matching, attention summaries, scores, attention for guidance (docs/functional.md).

They run on any device, have no global state, take one clip at a time, and need nothing else of vcorr. Shapes: H heads,
F latent frames, h x w tokens of a frame, d width of a head, N query points, T video frames. Positions are (x, y) raster
pixels. `variant` is "corrected", "difftrack", or `Switches` that flip single differences between the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vcorr.contract.variants import CORRECTED as CORRECTED
    from vcorr.contract.variants import DIFFTRACK as DIFFTRACK
    from vcorr.contract.variants import DIFFTRACK_TAPVID as DIFFTRACK_TAPVID
    from vcorr.contract.variants import Switches as Switches
    from vcorr.contract.variants import Variant as Variant
    from vcorr.functional.api import latent_to_frames as latent_to_frames
    from vcorr.functional.api import match as match
    from vcorr.functional.api import match_features as match_features
    from vcorr.functional.attention import AttentionRows as AttentionRows
    from vcorr.functional.attention import attention_rows as attention_rows
    from vcorr.functional.cosines import unit_vectors as unit_vectors
    from vcorr.functional.cross_frame import cross_frame_attention as cross_frame_attention
    from vcorr.functional.drift import descriptor_drift as descriptor_drift
    from vcorr.functional.query_points import QueryPoints as QueryPoints
    from vcorr.functional.scores import attention_score as attention_score
    from vcorr.functional.scores import confidence_score as confidence_score
    from vcorr.functional.scores import harmonic_mean as harmonic_mean
    from vcorr.functional.scores import matching_accuracy as matching_accuracy
    from vcorr.functional.scores import tapvid as tapvid
    from vcorr.functional.traits import head_traits as head_traits
    from vcorr.kernels.kernel_choice import use_kernels as use_kernels
else:
    from vcorr.contract.lazy_names import lazy_names

    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        {
            "vcorr.contract.variants": "CORRECTED DIFFTRACK DIFFTRACK_TAPVID Switches Variant",
            "vcorr.functional.api": "latent_to_frames match match_features",
            "vcorr.functional.attention": "AttentionRows attention_rows",
            "vcorr.functional.cross_frame": "cross_frame_attention",
            "vcorr.functional.query_points": "QueryPoints",
            "vcorr.functional.scores": "attention_score confidence_score harmonic_mean matching_accuracy tapvid",
            "vcorr.functional.drift": "descriptor_drift",
            "vcorr.functional.traits": "head_traits",
            "vcorr.functional.cosines": "unit_vectors",
            "vcorr.kernels.kernel_choice": "use_kernels",
        },
    )
