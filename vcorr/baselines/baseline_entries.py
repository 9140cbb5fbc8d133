"""Models that vcorr brings itself: the baselines. They need neither torch nor weights."""

from __future__ import annotations

from vcorr.contract.entries import ModelEntry

_SUMMARIES = {
    "zero-motion": ("ZeroMotion", "every point stays where it is."),
    "random-token": ("RandomToken", "a token drawn uniformly for every point and frame."),
    "position-only": ("PositionOnly", "a rotary embedding of tokens that all have the same content."),
    "nearest-colour": ("NearestColour", "the token whose mean colour is nearest to that of the query's token."),
    "token-patches": (
        "TokenPatches",
        "the pixel patch under the query's token against the patches of all tokens, by L2.",
    ),
    "dense-search": (
        "DenseSearch",
        "the pixel window around the query against windows every 2 px of the whole frame, by L2.",
    ),
}

ENTRIES: tuple[ModelEntry, ...] = tuple(
    ModelEntry(
        name=name,
        summary=f"Baseline: {summary}",
        factory=f"vcorr.baselines:{factory}",
        config="vcorr.baselines:BaselineConfig",
        card=f"vcorr.baselines:cards/{name}.yaml",
        data="sprites",
    )
    for name, (factory, summary) in _SUMMARIES.items()
)
