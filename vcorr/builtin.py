"""The built-in plugin: what comes with the core registers through the same door as everybody else's."""

from __future__ import annotations

from vcorr.entries import MetricEntry, ModelEntry, ProbeEntry
from vcorr.hookspecs import hookimpl


@hookimpl
def vcorr_models() -> list[ModelEntry]:
    """Baselines that answer without attention, on the same clips as the models."""
    from vcorr.models import ENTRIES

    return list(ENTRIES)


@hookimpl
def vcorr_probes() -> list[ProbeEntry]:
    """The descriptors of DiffTrack, and features treated like them."""
    config = "vcorr.probes.config:ProbeConfig"
    return [
        ProbeEntry(
            name="qk",
            summary="Query-key matching: symmetric softmax, mean over heads, argmax.",
            factory="vcorr.probes.builtin:QueryKey",
            config=config,
        ),
        ProbeEntry(
            name="feature",
            summary="Attention output, one way, raw dot product (DiffTrack's intermediate feature).",
            factory="vcorr.probes.builtin:Feature",
            config=config,
        ),
        ProbeEntry(
            name="feature-fair",
            summary="Attention output, matched exactly as queries and keys are.",
            factory="vcorr.probes.builtin:FeatureFair",
            config=config,
        ),
    ]


@hookimpl
def vcorr_metrics() -> list[MetricEntry]:
    """Matching accuracy and PCK, over all and over moving points."""
    return [
        MetricEntry(
            name="matching_accuracy",
            summary="Share of visible points within half a token of the reference.",
            factory="vcorr.metrics.builtin:MatchingAccuracy",
            config="vcorr.metrics.builtin:MatchingAccuracyConfig",
            default=True,
        ),
        MetricEntry(
            name="pck",
            summary="Share of visible points within 1, 2, 4, 8, 16 pixels of a 256x256 frame.",
            factory="vcorr.metrics.builtin:Pck",
            config="vcorr.metrics.builtin:PckConfig",
            default=True,
        ),
    ]
