"""Makes a model that is named, with a probe at a site, follow points through videos of one's own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vcorr.contract.errors import UsageError
from vcorr.contract.records import Clip, Queries, RunSettings, Tracks, is_random
from vcorr.contract.variants import NamedVariant
from vcorr.data.video.frame_stream import FrameSource
from vcorr.plugins.registry import Registry
from vcorr.runner.followed import SiteChoice, follow
from vcorr.runner.gaps import Gap
from vcorr.runner.hardware import Hardware
from vcorr.runner.parts import Part
from vcorr.runner.scored_variants import run_variants
from vcorr.runner.sited_model import find_sited_model
from vcorr.runner.spec import RunSpec
from vcorr.tracking.frame_store import store_frames

if TYPE_CHECKING:
    from vcorr.tracking.tracker_model import TrackerModel

CLIP = "video"
"""Id of the clip: the noise depends on it, and not on the name of the file."""


@dataclass(frozen=True)
class ModelFollower:
    """Follows points by a model, whose weights are read when points are followed.

    label: the model and its site, for records and pictures. part: makes the `TrackerModel`. notes: where the site
    comes from. missing: what it lacks, where gaps are collected for a dry run.
    """

    label: str
    part: Part
    settings: RunSettings
    hardware: Hardware
    weights: str
    notes: tuple[str, ...]
    missing: tuple[Gap, ...]

    def follow(self, source: FrameSource, queries: Queries) -> Tracks:
        """Returns the tracks of queries in pixels of `source`; the frames are kept on disk at the model's size.

        Raises:
            UsageError: the model cannot read such a video, or the video cannot be read to its end.
            MissingError: the weights are not available.
        """
        model: TrackerModel = self.part.create()
        height, width = _find_size(model, source)
        model.load(self.hardware.device, self.hardware.dtype, self.weights)
        scale = np.divide((width, height), source.shown_size).astype(np.float32)
        with store_frames(source, height, width, queries.t) as video:
            clip = Clip(CLIP, "", Queries(queries.t, queries.xy * scale), video, fps=source.fps)
            found = _run(model, clip, self.settings)
        return replace(found, xy=(found.xy / scale).astype(np.float32))

    def count_passes(self, source: FrameSource, queries: Queries) -> int:
        """Returns the number of forward passes of the network; raises UsageError for a video that it cannot read."""
        model: TrackerModel = self.part.create()
        _find_size(model, source)
        return model.passes(_make_empty_clip(source, queries))


def make_model_follower(spec: RunSpec, registry: Registry, *, dry: bool = False) -> ModelFollower:
    """Returns the model of a spec with its probe and site, all checked.

    dry: whether what is missing is kept in `ModelFollower.missing`, and is no error.

    Raises:
        UsageError: a name or an option is unknown, or nothing names a layer.
        MissingError: weights or a device are not available.
        PluginError: the model breaks the contract.
    """
    found = find_sited_model(replace(spec, task="tracking"), registry, dry=dry)
    choice = SiteChoice(found.sites, found.settings, _one_variant(found.spec))
    made = {probe.entry.name: probe.create() for probe in found.probes}
    part, _ = follow(found.spec, found.part, made, found.probes, choice)
    label = _describe(found.spec, found.settings) + (", random weights" if is_random(found.weights) else "")
    return ModelFollower(label, part, found.settings, found.hardware, found.spec.weights, found.notes, found.missing)


def _one_variant(spec: RunSpec) -> tuple[NamedVariant, ...]:
    variants = run_variants(spec.variant)
    if len(variants) > 1:
        raise UsageError(
            f"--set variant={spec.variant} names {len(variants)} variants; a video is followed under one.",
            hint=f"For example: --set variant={variants[0].text}",
        )
    return variants


def _describe(spec: RunSpec, settings: RunSettings) -> str:
    """Returns the model with its probe, layers and step, in words."""
    if not spec.probe:
        return spec.model
    site = [f"layer {spec.layers}"] if spec.layers != "all" else []
    site += [f"step {settings.steps[0]}"] if settings.steps else []
    return ", ".join([f"{spec.model} {spec.probe}", *site])


def _make_empty_clip(source: FrameSource, queries: Queries) -> Clip:
    """Returns a clip with a video of this length and size, without any memory behind it."""
    width, height = source.shown_size
    video = np.broadcast_to(np.zeros((1, 1, 1, 3), dtype=np.uint8), (len(source.times), height, width, 3))
    return Clip(CLIP, "", queries, video, fps=source.fps)


def _find_size(model: TrackerModel, source: FrameSource) -> tuple[int, int]:
    """Returns the (height, width) at which the model reads a video of this length and size."""
    frames = len(source.times)
    grid = model.grid(_make_empty_clip(source, Queries.at(np.zeros((0, 2)))), None)
    if grid.video_frames < frames:
        raise UsageError(
            f"The model follows points through {grid.video_frames} frames, and the video has {frames}.",
            hint=f"Read as many: --set data.frames={grid.video_frames}",
        )
    return round(grid.height), round(grid.width)


def _run(model: TrackerModel, clip: Clip, settings: RunSettings) -> Tracks:
    from vcorr.capture.recorder import Recorder

    recorder = Recorder({}, clip.queries)
    model.run(clip, settings, recorder)
    found = recorder.predictions[0]
    visible = np.ones(found.xy.shape[:2], dtype=bool) if found.visible is None else found.visible
    return Tracks(found.xy, visible, found.probe, confidence=found.confidence, query_frame=clip.queries.t)
