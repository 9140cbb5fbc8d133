"""Carries masks with a model or a tracker that is named: through a video of one's own, or the clips of a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vcorr.baselines.tokens import TokenSearch
from vcorr.contract.errors import MissingError, PluginError, StoreError, UsageError
from vcorr.contract.part_calls import PartFailureError
from vcorr.contract.records import Clip
from vcorr.data.mask_files import read_mask
from vcorr.data.video.video_reader import read_video
from vcorr.metrics.mask_scores import VOID, score_objects
from vcorr.plugins.registry import Registry
from vcorr.runner.followed import name_files
from vcorr.runner.named_model import NamedModel, load_model, load_tracker
from vcorr.runner.parts import Part
from vcorr.runner.predict import error_code
from vcorr.runner.row_words import STATUS_FAILED
from vcorr.runner.run_data import ClipReader, choose_clips, find_data
from vcorr.runner.spec import RunSpec
from vcorr.runner.tracking import check_one_named
from vcorr.runner.unread_words import refuse_unread
from vcorr.tracking.cost_reader import NO_QUERIES
from vcorr.tracking.mask_carriers import CarriedByPoints, CarriedByTokens, MaskCarrier, PatchPropagator
from vcorr.tracking.mask_table import ObjectRow
from vcorr.tracking.propagated_masks import PropagatedMasks
from vcorr.tracking.propagation_options import PropagationOptions
from vcorr.tracking.propagation_passes import LabelPropagator


@dataclass(frozen=True)
class NamedCarrier:
    """What carries masks.

    facts: what tables and records say about it, by the columns of `ObjectRow`. notes: sentences on the site.
    """

    carrier: MaskCarrier
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def make_carrier(spec: RunSpec, registry: Registry, options: PropagationOptions) -> NamedCarrier:
    """Returns what carries masks: a tracker moves them with points; a model carries labels of its tokens.

    Models without attention sites that compare tokens of pixels carry labels as well. The others move points.

    Raises:
        UsageError: both or none are named, or a name, an option or an index cannot be used.
        MissingError: weights or a package are not available.
    """
    check_one_named(spec)
    refuse_unread(spec, parts=("data",) if spec.data else (), fields=("mode", "data", "limit"))
    if spec.tracker:
        tracker = load_tracker(spec, registry)
        return NamedCarrier(CarriedByPoints(tracker), {"model": spec.tracker, "weights": name_files(tracker)})
    named = load_model(spec, registry)
    facts = {"model": named.label, "weights": named.weights, "seed": named.settings.seed}
    if named.probe is None and not isinstance(named.model.made, TokenSearch):
        return NamedCarrier(CarriedByPoints(named.as_tracker()), facts, named.notes)
    of_tokens = {"context": options.context, "radius": options.radius, "top_k": options.top_k}
    if named.probe is None:
        propagator = PatchPropagator(named.model.made, options)
        return NamedCarrier(CarriedByTokens(propagator), {**facts, **of_tokens}, named.notes)
    return NamedCarrier(_carry_labels(named, options), {**facts, **of_tokens, **_site_facts(named)}, named.notes)


def _carry_labels(named: NamedModel, options: PropagationOptions) -> MaskCarrier:
    assert named.probe is not None  # the caller has asked
    return CarriedByTokens(
        LabelPropagator(named.model, named.probe, named.layers, named.settings, options, named.reading)
    )


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


@dataclass(frozen=True)
class MaskData:
    """A dataset with masks. clips: ids of the chosen clips."""

    part: Part
    reader: ClipReader
    clips: tuple[str, ...]


def open_mask_data(spec: RunSpec, registry: Registry) -> MaskData:
    """Returns the dataset that a spec names, with the chosen clips.

    Raises:
        UsageError: the name or an option is unknown, or no data were named.
        MissingError: its files are not available.
    """
    if not spec.data:
        raise UsageError(
            "Neither a video nor data was named.",
            hint="vcorr propagate VIDEO --mask FIRST.png, or vcorr propagate --data sprites",
        )
    part = find_data(spec, registry)
    reader = ClipReader(part)
    return MaskData(part, reader, choose_clips(reader, spec.limit, part.entry.label))


def measure_masks(data: MaskData, named: NamedCarrier) -> Iterator[list[ObjectRow]]:
    """Yields the rows of each clip: one per object in its first frame, or one with the error of a clip that failed.

    Raises:
        PluginError, MissingError, StoreError: as in a run, these end the command.
    """
    for clip_id in data.clips:
        blank = ObjectRow(**named.facts, dataset=data.part.entry.name, split=data.reader.split, clip=clip_id)
        try:
            yield _measure_clip(data.reader, named.carrier, blank)
        except PartFailureError as error:
            yield [replace(blank, status=STATUS_FAILED, error=error_code(error))]
        except (PluginError, MissingError, StoreError):
            raise
        except Exception as error:
            yield [replace(blank, status=STATUS_FAILED, error=error_code(error))]


def _measure_clip(reader: ClipReader, carrier: MaskCarrier, blank: ObjectRow) -> list[ObjectRow]:
    clip = reader.clip(blank.clip)
    masks = reader.masks(clip)
    given = np.where(masks[0] == VOID, 0, masks[0]).astype(np.uint8)
    scores = score_objects(carrier.carry(clip, given), masks)
    return [
        replace(blank, label=each.label, region=each.region, contour=each.contour, frames=each.frames)
        for each in scores
    ]
