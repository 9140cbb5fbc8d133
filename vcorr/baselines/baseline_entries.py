"""Entries of the baselines, the models that vcorr itself brings. They need neither torch nor weights."""

from __future__ import annotations

from vcorr.contract.entries import ModelEntry

_SUMMARIES = {
    "zero-motion": ("ZeroMotion", "every point stays where it is."),
    "random-token": ("RandomToken", "a token drawn uniformly for every point and frame."),
    "position-only": ("PositionOnly", "a rotary embedding of tokens that all have the same content."),
    "nearest-colour": (
        "NearestColour",
        "the token with the mean colour nearest to the mean colour of the query's token.",
    ),
    "token-patches": (
        "TokenPatches",
        "the token whose pixel patch is nearest to the patch of the query's token, by L2.",
    ),
    "dense-search": (
        "DenseSearch",
        "the nearest pixel window to the window around the query, every 2 px of the whole frame, by L2.",
    ),
    "zncc-search": (
        "ZnccSearch",
        "the pixel window that correlates best with the window around the query (ZNCC), every 2 px of the whole frame.",
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
