"""The built-in plugin: what comes with the core registers through the same door as everybody else's."""

from __future__ import annotations

from vcorr.contract.entries import DatasetEntry, MetricEntry, ModelEntry, ProbeEntry, TrackerEntry
from vcorr.contract.hookspecs import hookimpl


@hookimpl
def vcorr_models() -> list[ModelEntry]:
    """Baselines that answer without attention, on the same clips as the models."""
    from vcorr.baselines.baseline_entries import ENTRIES

    return list(ENTRIES)


@hookimpl
def vcorr_probes() -> list[ProbeEntry]:
    """The descriptors of DiffTrack, others treated like them, and attention rows."""
    probes = {
        "qk": ("matching_probes:QueryKey", "Query-key matching: symmetric softmax, mean over heads, argmax."),
        "qk-position": (
            "matching_probes:QueryKeyPosition",
            "Baseline: as qk, all content replaced by its mean: what positions alone answer.",
        ),
        "kk": ("matching_probes:KeyKey", "Keys matched with keys, exactly as queries and keys are."),
        "qq": ("matching_probes:QueryQuery", "Queries matched with queries, exactly as queries and keys are."),
        "vv": ("matching_probes:ValueValue", "Values matched with values, exactly as queries and keys are."),
        "feature": (
            "matching_probes:Feature",
            "Attention output, one way, raw dot product (DiffTrack's intermediate feature).",
        ),
        "feature-fair": ("matching_probes:FeatureFair", "Attention output, matched exactly as queries and keys are."),
        "hidden": ("matching_probes:Hidden", "Output of the block, one way, raw dot product."),
        "hidden-fair": ("matching_probes:HiddenFair", "Output of the block, matched exactly as queries and keys are."),
        "attention": (
            "attention_probe:Attention",
            "Attention rows of the query points: peaks and sums over later frames, the first, and the text.",
        ),
    }
    return [
        ProbeEntry(
            name=name,
            summary=summary,
            factory=f"vcorr.probes.{factory}",
            config="vcorr.probes.probe_options:ProbeConfig",
        )
        for name, (factory, summary) in probes.items()
    ]


@hookimpl
def vcorr_metrics() -> list[MetricEntry]:
    """Matching accuracy and PCK, over all and over moving points."""
    return [
        MetricEntry(
            name="matching_accuracy",
            summary="Share of visible points within half a token of the reference.",
            version=2,
            factory="vcorr.metrics.builtin_metrics:MatchingAccuracy",
            default=True,
        ),
        MetricEntry(
            name="pck",
            summary="Share of visible points within 1, 2, 4, 8, 16 pixels of a 256x256 frame.",
            version=2,
            factory="vcorr.metrics.builtin_metrics:Pck",
            config="vcorr.metrics.builtin_metrics:PckConfig",
            default=True,
        ),
        MetricEntry(
            name="strata",
            summary="matching_accuracy by kind of pair: displacement, frames, occlusion, distance to a boundary.",
            version=2,
            factory="vcorr.metrics.strata:Strata",
            config="vcorr.metrics.strata:StrataConfig",
        ),
        MetricEntry(
            name="confidence",
            summary="Largest attention weight on later frames, the first frame and the text; of probe attention.",
            factory="vcorr.metrics.builtin_metrics:Confidence",
            default=True,
        ),
        MetricEntry(
            name="attention",
            summary="Attention weight on later frames, the first frame and the text together; of probe attention.",
            factory="vcorr.metrics.builtin_metrics:AttentionScore",
            default=True,
        ),
    ]


@hookimpl
def vcorr_datasets() -> list[DatasetEntry]:
    """The user's own videos and prompts."""
    from vcorr.data import ENTRIES

    return list(ENTRIES)


@hookimpl
def vcorr_trackers() -> list[TrackerEntry]:
    """Trackers without weights."""
    from vcorr.trackers import ENTRIES

    return list(ENTRIES)
