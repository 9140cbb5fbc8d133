"""Names the functions on tensors that probes call, and imports each on first use.

A probe is made before anything is computed: a plan asks it for its needs, and a finished run is answered without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vcorr.functional.api import match_features
    from vcorr.functional.attention import attention_token_rows, locate_rows, weigh_tokens
    from vcorr.functional.cosines import unit_vectors
    from vcorr.functional.matching import Reading, join_heads, match_joined_heads, match_readings
    from vcorr.functional.nearest_tokens import match_nearest
    from vcorr.functional.query_points import query_points, upload
    from vcorr.functional.token_costs import MatchedTokens, NearestTokens
    from vcorr.functional.traits import traits_of
else:
    from vcorr.contract.lazy_names import lazy_names

    __getattr__, __dir__, _ = lazy_names(
        __name__,
        {
            "vcorr.functional.api": "match_features",
            "vcorr.functional.attention": "attention_token_rows locate_rows weigh_tokens",
            "vcorr.functional.cosines": "unit_vectors",
            "vcorr.functional.matching": "Reading join_heads match_joined_heads match_readings",
            "vcorr.functional.nearest_tokens": "match_nearest",
            "vcorr.functional.query_points": "query_points upload",
            "vcorr.functional.token_costs": "MatchedTokens NearestTokens",
            "vcorr.functional.traits": "traits_of",
        },
    )

__all__ = [
    "MatchedTokens",
    "NearestTokens",
    "Reading",
    "attention_token_rows",
    "join_heads",
    "locate_rows",
    "match_features",
    "match_joined_heads",
    "match_nearest",
    "match_readings",
    "query_points",
    "traits_of",
    "unit_vectors",
    "upload",
    "weigh_tokens",
]
