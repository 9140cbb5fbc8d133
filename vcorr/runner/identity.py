"""Collects what can change the numbers of a run, and makes fingerprints of the stages predict, track and score."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import metadata
from typing import Any

from vcorr.contract.entries import TrackerEntry
from vcorr.contract.variants import DEFAULT_VARIANT, NamedVariant
from vcorr.runner.clip_fit import RESIZE
from vcorr.runner.hardware import Hardware
from vcorr.runner.parts import Part, Parts
from vcorr.runner.selection import Selection
from vcorr.runner.shared_passes import describe_ranks
from vcorr.store.fingerprint import fingerprint, plain, plain_options
from vcorr.store.schema import SCHEMA_VERSION

CAPTURE_VERSION = 1
"""Raised with every change of the code that may change what probes get; part of the fingerprint of predictions."""

SCORING_VERSION = 2
"""Raised with every change of the code that may change floors, ceilings or the time map."""

NUMERIC_PACKAGES = ("torch", "diffusers", "transformers", "numpy")

PICTURE_PACKAGES = ("av", "opencv", "pillow")
"""Packages that decode and resize videos and images. They count for runs whose clips have a video or an image."""

_OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")
"""Distributions of OpenCV. Any of them may be the one that is installed."""

_CORE = "vcorr"
"""Distribution of the built-in trackers; their entries have a version of their own."""


@dataclass(frozen=True)
class Identity:
    """What identifies the weights, files and packages that a run uses.

    Args:
        weights: what identifies the weights of the model, from its adapter.
        data: name, version, options and split of the dataset, and the content of its files if it has files.
        tracker_files: what identifies the files that the tracker reads; empty if it reads none.
        versions: versions of the packages that compute predictions.
        tracker_versions: versions of the packages that make the tracks; empty without a tracker.
    """

    weights: str
    data: Mapping[str, Any]
    tracker_files: Mapping[str, Any]
    versions: Mapping[str, str]
    tracker_versions: Mapping[str, str] = field(default_factory=dict)


def numeric_versions(*, pictures: bool) -> dict[str, str]:
    """Returns the versions of the packages that compute. pictures: whether the clips have a video or an image."""
    names = (*NUMERIC_PACKAGES, *PICTURE_PACKAGES) if pictures else NUMERIC_PACKAGES
    return {name: _remember(_find_version, name) for name in names}


def computing_versions(model: Part, *, pictures: bool) -> dict[str, str]:
    """Returns the versions of all packages that compute predictions, also in a tracker that takes the model's place."""
    tracker = model if isinstance(model.entry, TrackerEntry) else None
    return {**numeric_versions(pictures=pictures), **tracker_versions(tracker)}


def tracker_versions(tracker: Part | None) -> dict[str, str]:
    """Returns the versions of what makes tracks: OpenCV, and the distribution of a tracker that comes from a plugin."""
    if tracker is None:
        return {}
    distribution, _, version = tracker.plugin.rpartition(" ")
    own = {} if distribution == _CORE else {distribution: version}
    return {"opencv": _remember(_find_version, "opencv"), **own}


@cache
def _remember(find: Callable[[str], str], name: str) -> str:
    """Returns what `find` says about a package: it reads a file, and a sweep asks hundreds of times."""
    return find(name)


def _find_version(name: str) -> str:
    """Returns the version of an installed package; of OpenCV, the module's own one if no distribution is known."""
    for distribution in _OPENCV if name == "opencv" else (name,):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(distribution)
    return str(importlib.import_module({"opencv": "cv2", "pillow": "PIL"}.get(name, name)).__version__)


def predict_identity(parts: Parts, selection: Selection, hardware: Hardware, identity: Identity) -> dict[str, Any]:
    """Returns everything that can change a prediction. The list of clips is not part of it: more clips extend a run.

    Settings that the model applies by itself are left out if there are none, so that runs of other models keep their
    fingerprints. So is the way in which noise is drawn, unless every generated clip draws its own: earlier versions
    had one draw for all.
    """
    applied = plain(selection.applied.values)
    tracking = {} if selection.tracking is None else plain(selection.tracking.identity())
    guidance = {} if selection.guided is None else {"guidance": selection.guided.identity()}
    draw = {"noise_draw": selection.noise_draw} if selection.noise_draw == "clip" else {}
    return {
        "capture": CAPTURE_VERSION,
        "model": parts.model.identity(),
        "weights": identity.weights,
        "probes": [_probe_identity(probe, selection.readings[probe.entry.name]) for probe in parts.probes],
        "data": dict(identity.data),
        "resize": RESIZE,
        "sites": [[site.layer, site.name] for site in selection.sites],
        # a guidance is an object; what it is made of identifies it
        "settings": plain_options(replace(selection.settings, guidance=None), "settings"),
        **draw,
        **tracking,
        **guidance,
        **({"applied": applied} if applied else {}),
        "device": hardware.name,
        **({"parallel": describe_ranks(hardware.ranks)} if hardware.ranks > 1 else {}),
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


def tracker_identity(tracker: Part | None, identity: Identity) -> dict[str, Any] | None:
    """Returns what can change the tracks in addition to the video; None if the tracks are the dataset's own."""
    if tracker is None:
        return None
    values = tracker.identity()
    config = {**(values["config"] or {}), **identity.tracker_files}
    return {**values, "config": config, "versions": dict(identity.tracker_versions)}


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
