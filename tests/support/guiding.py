"""A plugin for the tests: a generator that is guided, and a tracker that knows how its videos move, from any frame.

The model `drawer` draws a sliding picture and makes it darker by half; its one prediction is the brightness. The
guidance `lamp` adds light to it, so a guided video is brighter by a known amount.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

import vcorr
from support import sliding
from vcorr.contract.modes import mode_of

LIGHT = 20
"""Grey levels that a scale of 1 adds."""


class Drawer(sliding.SlidingModel):
    """Meets vcorr.VideoModel: generates, guided or not."""

    modes = ("generate",)
    takes_guidance = True
    needs_image = False

    def check_settings(self, settings):
        assert mode_of(settings.mode).makes_video
        if settings.guidance is not None:
            settings.guidance.perturb([vcorr.GuidedSite(site) for site in self.sites()])

    def run(self, clip, settings, recorder):
        if self.config.marker:
            with open(self.config.marker, "a", encoding="utf-8") as file:
                file.write(f"{clip.id} {settings.num_steps}\n")
        if "broken" in clip.prompt:
            raise vcorr.UsageError("The prompt cannot be drawn.")
        if clip.prompt == "stop":
            raise KeyboardInterrupt
        light = {"cond": torch.zeros(())}
        for step in settings.steps:
            if settings.guidance is not None:
                light = settings.guidance.combine(light, vcorr.GuidedStep(step, settings.num_steps))
        video = sliding.slide(settings.seed)[0] // 2
        if clip.video is not None:
            video[0] = clip.video[0] // 2
        return (video + np.uint8(light["cond"].item())).astype(np.uint8)


class ImageDrawer(Drawer):
    """Starts from an image."""

    needs_image = True


@dataclass
class LampConfig:
    """Options of the guidance."""

    layers: str = "0"
    scale: float = 1.0
    steps: str = "0"
    more: int = 0


class Lamp(vcorr.GuidanceBase):
    """Meets vcorr.Guidance."""

    def __init__(self, config):
        self.config = config

    def perturb(self, sites):
        layers = tuple(int(layer) for layer in self.config.layers.split(","))
        for layer in layers:
            if layer not in [each.layer for each in sites]:
                raise vcorr.UsageError(f"There is no layer {layer}.", hint="--layers 0 or 1")
        return vcorr.Perturbation(layers=layers, edit=lambda call: call.v)

    def guides(self, step):
        return step.step == int(self.config.steps)

    def combine(self, predictions, step):
        on = self.guides(step)
        return {name: each + LIGHT * self.config.scale * on for name, each in predictions.items()}

    def num_steps(self, asked):
        return asked + self.config.more


class Sure:
    """Meets vcorr.Tracker: knows how the videos move, from the frame of each query."""

    def track(self, video, queries):
        steps = np.arange(len(video), dtype=np.float32)[None] - queries.t[:, None]
        xy = queries.xy[:, None] + steps[..., None] * np.float32([sliding.SHIFT, 0])
        visible = (xy[..., 0] < video.shape[2]) & (xy[..., 0] >= 0)
        visible[np.arange(len(queries)), queries.t] = True
        return vcorr.Tracks(xy.astype(np.float32), visible, tracker="sure")


class Brightness(vcorr.MetricBase):
    """Meets vcorr.VideoMetric: mean grey level, and the least distance of a way back from its query."""

    higher_is_better = True
    columns = ("brightness", "return_error")
    primary = "brightness"

    def score_video(self, video, tracks):
        off = np.linalg.norm(tracks.backward.xy[:, 0] - tracks.forward.xy[:, 0], axis=-1)
        return {
            "brightness": vcorr.Score(float(video.mean()), video.size),
            "return_error": vcorr.Score(float(off.min()), len(off)),
        }


@vcorr.hookimpl
def vcorr_models():
    """Returns the two models."""
    return sliding.entries_of(vcorr.ModelEntry, Drawer, ImageDrawer)


@vcorr.hookimpl
def vcorr_guidances():
    """Returns the guidance."""
    config = f"{__name__}:LampConfig"
    return [vcorr.GuidanceEntry(name="lamp", summary="Adds light.", factory=f"{__name__}:Lamp", config=config)]


@vcorr.hookimpl
def vcorr_trackers():
    """Returns the tracker."""
    return [vcorr.TrackerEntry(name="sure", summary=".", factory=f"{__name__}:Sure")]


@vcorr.hookimpl
def vcorr_metrics():
    """Returns the metric."""
    entry = vcorr.MetricEntry(
        name="brightness", summary=".", factory=f"{__name__}:Brightness", task="generation", default=True
    )
    return [entry]
