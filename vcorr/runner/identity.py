"""Collects what can change the numbers of a run, and makes fingerprints of the stages predict, track and score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from vcorr.contract.variants import DEFAULT_VARIANT, NamedVariant
from vcorr.runner.clip_fit import RESIZE
from vcorr.runner.hardware import Hardware
from vcorr.runner.parts import Part, Parts
from vcorr.runner.selection import Selection
from vcorr.store.fingerprint import fingerprint, plain
from vcorr.store.schema import SCHEMA_VERSION

CAPTURE_VERSION = 1
"""Raised with every change of the code that may change what probes get; part of the fingerprint of predictions."""

SCORING_VERSION = 1
"""Raised with every change of the code that may change floors, ceilings or the time map."""

NUMERIC_PACKAGES = ("torch", "diffusers", "transformers", "numpy")


@dataclass(frozen=True)
class Identity:
    """What identifies the weights, files and packages that a run uses.

    Args:
        weights: what identifies the weights of the model, from its adapter.
        data: name, version, options and split of the dataset, and the content of its files if it has files.
        tracker_files: what identifies the files that the tracker reads; empty if it reads none.
        versions: versions of the packages that compute.
    """

    weights: str
    data: Mapping[str, Any]
    tracker_files: Mapping[str, Any]
    versions: Mapping[str, str]


def numeric_versions() -> dict[str, str]:
    """Returns the versions of the packages that compute."""
    return {name: metadata.version(name) for name in NUMERIC_PACKAGES}


def predict_identity(parts: Parts, selection: Selection, hardware: Hardware, identity: Identity) -> dict[str, Any]:
    """Returns everything that can change a prediction. The list of clips is not part of it: more clips extend a run."""
    return {
        "capture": CAPTURE_VERSION,
        "model": parts.model.identity(),
        "weights": identity.weights,
        "probes": [_probe_identity(probe, selection.readings[probe.entry.name]) for probe in parts.probes],
        "data": dict(identity.data),
        "resize": RESIZE,
        "sites": [[site.layer, site.name] for site in selection.sites],
        "settings": plain(selection.settings),
        "device": hardware.name,
        "dtype": hardware.dtype,
        "versions": dict(identity.versions),
    }


def _probe_identity(probe: Part, readings: Sequence[NamedVariant]) -> dict[str, Any]:
    """Returns what identifies a probe and its variants.

    `corrected` alone is left out, so that runs from before there were variants keep their fingerprints.
    """
    if tuple(readings) == (DEFAULT_VARIANT,):
        return probe.identity()
    return {**probe.identity(), "variants": [reading.text for reading in readings]}


def tracker_identity(tracker: Part | None, files: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns what can change the tracks in addition to the video; None if the tracks are the dataset's own."""
    if tracker is None:
        return None
    values = tracker.identity()
    return {**values, "config": {**(values["config"] or {}), **files}}


def track_fingerprint(predict: str, tracker: Mapping[str, Any] | None) -> str:
    """Returns the fingerprint of tracks that belong to predictions with fingerprint `predict`."""
    return fingerprint({"predict": predict, "tracker": tracker or "dataset", "layout": SCHEMA_VERSION})


def score_fingerprint(track: str, metrics: Sequence[Part], variants: Sequence[NamedVariant]) -> str:
    """Returns the fingerprint of scores of the tracks and predictions with fingerprint `track`.

    The layout of the tables is part of it, so that all rows of a run have the same columns.
    """
    return fingerprint(
        {
            "track": track,
            "scoring": SCORING_VERSION,
            "layout": SCHEMA_VERSION,
            "metrics": [metric.identity() for metric in metrics],
            "variant": ",".join(variant.text for variant in variants),
        }
    )
