"""Registers what the core itself contains, with the same hooks as any other plugin."""

from __future__ import annotations

from vcorr.contract.entries import DatasetEntry, GuidanceEntry, MetricEntry, ModelEntry, ProbeEntry, TrackerEntry
from vcorr.contract.hookspecs import hookimpl
from vcorr.contract.tasks import GENERATION, PROPAGATION, TRACKING

_PROBES = {
    "qk": ("matching_probes:QueryKey", "Query-key matching: symmetric softmax, mean over heads, argmax."),
    "qk-position": (
        "matching_probes:QueryKeyPosition",
        "Baseline: as qk, with all content replaced by its mean: what positions alone predict.",
    ),
    "kk": ("matching_probes:KeyKey", "Keys matched with keys, in the same way as qk."),
    "qq": ("matching_probes:QueryQuery", "Queries matched with queries, in the same way as qk."),
    "vv": ("matching_probes:ValueValue", "Values matched with values, in the same way as qk."),
    "feature": (
        "matching_probes:Feature",
        "Attention output, one way, raw dot product (DiffTrack's intermediate feature).",
    ),
    "feature-fair": ("matching_probes:FeatureFair", "Attention output, matched in the same way as qk."),
    "feature-cos": (
        "cosine_probes:FeatureCosine",
        "Attention output, unit vectors per head: as qk, with cosine over temperature.",
    ),
    "feature-cos-token": (
        "cosine_probes:FeatureCosineToken",
        "Attention output, all heads as one unit vector per token: as qk, with cosine over temperature.",
    ),
    "hidden": ("matching_probes:Hidden", "Output of the block, one way, raw dot product."),
    "hidden-fair": ("matching_probes:HiddenFair", "Output of the block, matched in the same way as qk."),
    "hidden-cos": (
        "cosine_probes:HiddenCosine",
        "Output of the block, one unit vector per token: as qk, with cosine over temperature.",
    ),
    "attention": (
        "attention_probe:Attention",
        "Attention summary per query point: peak and sum over later frames, the first frame and the text.",
    ),
    "head-traits": (
        "traits_probe:HeadTraits",
        "As attention, with cheap traits of each head: spatial or temporal, diagonal, sinks, second eigenvalue.",
    ),
}
"""Factory and summary of each probe that matches tokens or reads attention, by name."""


@hookimpl
def vcorr_models() -> list[ModelEntry]:
    """Returns the baselines, which predict without attention on the same clips as the models."""
    from vcorr.baselines.baseline_entries import ENTRIES

    return list(ENTRIES)


@hookimpl
def vcorr_probes() -> list[ProbeEntry]:
    """Returns the probes: DiffTrack's descriptors, others matched in the same way, and the attention summary."""
    options = {name: "CosineConfig" if "cosine" in factory else "ProbeConfig" for name, (factory, _) in _PROBES.items()}
    options |= dict.fromkeys(("qk", "kk", "qq"), "RotaryConfig")
    options |= {"feature": "OneWayConfig", "hidden": "HiddenConfig", "hidden-cos": "HiddenCosineConfig"}
    options |= dict.fromkeys(("attention", "head-traits"), "SummaryConfig")
    latent = ProbeEntry(
        name="latent",
        summary="Baseline: latents that the denoiser gets, grouped to its tokens; nearest by L2, layer -1.",
        factory="vcorr.probes.latent_probe:Latent",
    )
    return [
        *(
            ProbeEntry(
                name=name,
                summary=summary,
                factory=f"vcorr.probes.{factory}",
                config=f"vcorr.probes.probe_options:{options[name]}",
            )
            for name, (factory, summary) in _PROBES.items()
        ),
        latent,
    ]


@hookimpl
def vcorr_metrics() -> list[MetricEntry]:
    """Returns the metrics: matching accuracy and PCK, their strata, scores of the attention summary, and of tracks."""
    return [*matching_metrics(), *metrics_through_videos(), *video_metrics()]


def matching_metrics() -> list[MetricEntry]:
    """Returns the metrics of what attention sites predict (docs/protocol.md)."""
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
            version=3,
            factory="vcorr.metrics.builtin_metrics:Pck",
            config="vcorr.metrics.builtin_metrics:PckConfig",
            default=True,
        ),
        MetricEntry(
            name="strata",
            summary="matching_accuracy by kind of pair: displacement, frames, occlusion, boundary, layer.",
            version=2,
            factory="vcorr.metrics.strata:Strata",
            config="vcorr.metrics.strata:StrataConfig",
        ),
        MetricEntry(
            name="confidence",
            summary="Largest attention weight on later frames, on the first frame and on the text; of probe attention.",
            factory="vcorr.metrics.builtin_metrics:Confidence",
            default=True,
        ),
        MetricEntry(
            name="attention",
            summary="Sum of attention weights on later frames, on the first frame and on the text; of probe attention.",
            factory="vcorr.metrics.builtin_metrics:AttentionScore",
            default=True,
        ),
        MetricEntry(
            name="head_traits",
            summary="Traits of attention heads, as others use to choose heads; of probe head-traits.",
            factory="vcorr.metrics.trait_scores:HeadTraitScores",
            default=True,
        ),
    ]


def metrics_through_videos() -> list[MetricEntry]:
    """Returns the metrics of tracks and of carried masks (docs/tracking.md)."""
    return [
        MetricEntry(
            name="tapvid",
            summary="TAP-Vid's position accuracy, Jaccard and occlusion accuracy, in pixels of a 256x256 frame.",
            factory="vcorr.metrics.tapvid_metric:TapVid",
            config="vcorr.metrics.tapvid_metric:TapVidConfig",
            default=True,
            task=TRACKING,
        ),
        MetricEntry(
            name="track-detail",
            summary="Re-detection, survival, accuracy by distance, displacement and occlusion; the reliability curve.",
            factory="vcorr.metrics.track_detail:TrackDetail",
            config="vcorr.metrics.track_detail:TrackDetailConfig",
            default=True,
            task=TRACKING,
        ),
        MetricEntry(
            name="masks",
            summary="J, F and J&F of DAVIS: region similarity and contour accuracy of masks, per clip and object.",
            factory="vcorr.metrics.mask_metric:MaskScores",
            default=True,
            task=PROPAGATION,
        ),
        MetricEntry(
            name="track-calibration",
            summary="Calibration of the confidence of tracks: expected calibration error, area of risk and coverage.",
            factory="vcorr.metrics.calibration:TrackCalibration",
            default=True,
            task=TRACKING,
        ),
    ]


def video_metrics() -> list[MetricEntry]:
    """Returns the metrics of generated videos (docs/video-scores.md)."""
    summaries = {
        "track-survival": ("TrackSurvival", "Share of a generated video for which the tracker keeps its points."),
        "track-steadiness": (
            "TrackSteadiness",
            "Cycle error, jerk and outliers of acceleration of points in a generated video.",
        ),
        "frame-changes": ("FrameChanges", "Warp error and flicker of a generated video, by optical flow."),
        "subject-drift": ("SubjectDrift", "How far the look of a generated video drifts, by a plain descriptor."),
        "dynamic-degree": ("DynamicDegree", "How much moves in a generated video, by tracks: a guard, no quality."),
    }
    return [
        MetricEntry(
            name=name,
            summary=summary,
            factory=f"vcorr.metrics.video_metrics:{factory}",
            default=True,
            task=GENERATION,
        )
        for name, (factory, summary) in summaries.items()
    ]


@hookimpl
def vcorr_datasets() -> list[DatasetEntry]:
    """Returns the datasets for a user's own videos and prompts."""
    from vcorr.data import ENTRIES

    return list(ENTRIES)


@hookimpl
def vcorr_trackers() -> list[TrackerEntry]:
    """Returns the trackers that need no weights."""
    from vcorr.trackers import ENTRIES

    return list(ENTRIES)


@hookimpl
def vcorr_guidances() -> list[GuidanceEntry]:
    """Returns cross-attention guidance and its controls."""
    guidances = {
        "cag": (
            "CrossFrameGuidance",
            "CrossFrameOptions",
            "Cross-attention guidance: away from a prediction whose frames do not see each other.",
        ),
        "pag": (
            "PerturbedAttentionGuidance",
            "AttentionOptions",
            "Control: away from a prediction whose tokens see themselves and the text alone.",
        ),
        "slg": ("SkipLayerGuidance", "LayerOptions", "Control: away from a prediction without some of the blocks."),
        "random-layers": (
            "RandomLayers",
            "CrossFrameOptions",
            "Control: as cag, in as many other layers, drawn from the seed.",
        ),
        "cfg-zero": ("CfgZero", "CfgZeroOptions", "Control: CFG-Zero*, a fitted scale and zero first steps; free."),
        "more-steps": ("MoreSteps", "MoreStepsOptions", "Control: plain guidance with more steps, at the cost of cag."),
    }
    return [
        GuidanceEntry(
            name=name,
            summary=summary,
            factory=f"vcorr.interventions.guidances:{factory}",
            config=f"vcorr.interventions.guidance_options:{config}",
        )
        for name, (factory, config, summary) in guidances.items()
    ]
