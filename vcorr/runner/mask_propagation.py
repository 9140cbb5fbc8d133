"""Carries the mask of a frame through a video of one's own, with a model or a tracker that is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vcorr.contract.errors import UsageError
from vcorr.contract.records import NO_QUERIES, Clip
from vcorr.data.mask_files import read_mask
from vcorr.data.video.video_reader import read_video
from vcorr.plugins.part_options import make_config
from vcorr.plugins.registry import Registry
from vcorr.runner.followed import name_files
from vcorr.runner.named_model import NamedModel, load_model, load_tracker
from vcorr.runner.spec import RunSpec
from vcorr.runner.tracking import check_one_named
from vcorr.runner.unread_words import refuse_options, refuse_unread
from vcorr.store.fingerprint import plain
from vcorr.tracking.mask_carriers import CarriedByPoints, MaskCarrier, carry_by_patches, carry_by_sites
from vcorr.tracking.propagated_masks import PropagatedMasks
from vcorr.tracking.propagation_options import PropagationOptions


@dataclass(frozen=True)
class NamedCarrier:
    """What carries masks.

    facts: what records say about it. notes: sentences on the site.
    """

    carrier: MaskCarrier
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def make_carrier(spec: RunSpec, registry: Registry) -> NamedCarrier:
    """Returns what carries masks: a tracker moves them with points; a model carries labels of its tokens.

    Models without attention sites that compare tokens of pixels carry labels as well. The others move points.

    Raises:
        UsageError: both or none are named, or a name, an option or an index cannot be used.
        MissingError: weights or a package are not available.
    """
    check_one_named(spec)
    refuse_unread(spec, parts=() if spec.tracker else ("propagate",), fields=("mode",))
    options: PropagationOptions = make_config(PropagationOptions, spec.options.get("propagate", {}), "propagate")
    if spec.tracker:
        tracker = load_tracker(spec, registry)
        return NamedCarrier(CarriedByPoints(tracker), {"model": spec.tracker, "weights": name_files(tracker)})
    named = load_model(spec, registry)
    facts = {"model": named.label, "weights": named.weights, "seed": named.settings.seed}
    if named.probe is not None:
        carrier = carry_by_sites(named.model, named.probe, named.layers, named.settings, options, named.reading)
        return NamedCarrier(carrier, {**facts, **plain(options), **_site_facts(named)}, named.notes)
    patches = carry_by_patches(named.model.made, options)
    if patches is None:
        refuse_options(spec, ("propagate",))
        return NamedCarrier(CarriedByPoints(named.as_tracker()), facts, named.notes)
    return NamedCarrier(patches, {**facts, **plain(options)}, named.notes)


def _site_facts(named: NamedModel) -> dict[str, Any]:
    layers = ",".join(map(str, named.layers))
    return {"probe": named.spec.probe, "layers": layers, "step": named.settings.steps[0]}


def propagate_mask(video: Path, mask: Path, frame: int, named: NamedCarrier) -> tuple[PropagatedMasks, tuple[str, ...]]:
    """Carries the mask of one frame through a video; also returns notes on how the video was read.

    Raises:
        MissingError: a file does not exist.
        UsageError: a file cannot be read, the mask does not fit the video or has no object, or there is no such frame.
    """
    read = read_video(video)
    given = read_mask(mask, read.frames.shape[1:3])
    if not given.labels.any():
        raise UsageError(f"The mask {mask} has no object: all its pixels are 0, the background.")
    clip = Clip(video.stem, "", NO_QUERIES, read.frames, fps=read.fps)
    return PropagatedMasks(clip, named.carrier.carry(clip, given.labels, frame), given.palette, frame), read.notes
