"""Models that vcorr brings itself: the baselines. They need neither torch nor weights."""

from __future__ import annotations

from vcorr.entries import ModelEntry

_CONFIG = "vcorr.models.baselines:BaselineConfig"

ENTRIES: tuple[ModelEntry, ...] = (
    ModelEntry(
        name="zero-motion",
        summary="Baseline: every point stays where it is.",
        factory="vcorr.models.baselines:ZeroMotion",
        config=_CONFIG,
        card="vcorr.models:cards/zero-motion.yaml",
        data="sprites",
    ),
    ModelEntry(
        name="token-patches",
        summary="Baseline: the pixel patch under the query's token against the patches of all tokens, by L2.",
        factory="vcorr.models.baselines:TokenPatches",
        config=_CONFIG,
        card="vcorr.models:cards/token-patches.yaml",
        data="sprites",
    ),
    ModelEntry(
        name="dense-search",
        summary="Baseline: the pixel window around the query against windows every 2 px of the whole frame, by L2.",
        factory="vcorr.models.baselines:DenseSearch",
        config=_CONFIG,
        card="vcorr.models:cards/dense-search.yaml",
        data="sprites",
    ),
)
