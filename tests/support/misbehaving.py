"""A plugin for the tests whose parts misbehave on demand: they raise, return nonsense, or change the process.

`support.sliding` and `support.knowing` do the work. `misbehave(...)` sets the fault; without one, the parts are right.
Faults inside a clip happen in the clip `BAD` alone. The clips have different numbers of query points, by which a
tracker, a probe and a metric know the clip.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import vcorr
from support import knowing, sliding

CLIPS, BAD = 3, "slide-1"
POINTS = 25
"""Query points of clip 0; clip i has i fewer."""

Behaviour = Callable[[Any], Any]
"""Gets what the part would have returned; returns something else, or raises."""


@dataclass(frozen=True)
class Fault:
    """part: kind of the part. call: name of the member. behaviour: what happens there."""

    part: str
    call: str
    behaviour: Behaviour


_fault: list[Fault] = []


@contextlib.contextmanager
def misbehave(fault: Fault | None) -> Iterator[None]:
    """Sets a fault during the block; none for None."""
    if fault is not None:
        _fault.append(fault)
    try:
        yield
    finally:
        _fault.clear()


def act(part: str, call: str, value: Any, clip: str | None = None) -> Any:
    """Returns what a part returns from a call. value: the right result. clip: None for calls outside clips."""
    for fault in _fault:
        if (fault.part, fault.call) == (part, call) and clip in (None, BAD):
            return fault.behaviour(value)
    return value


def _clip_of(points: int) -> str:
    return f"slide-{POINTS - points}"


class Model(sliding.SlidingModel):
    def __init__(self, config: sliding.ModelConfig) -> None:
        super().__init__(config)
        act("model", "factory", None)

    @property
    def steps(self):
        return act("model", "steps", 10)

    @property
    def needs_image(self):
        return act("model", "needs_image", False)

    @property
    def modes(self):
        return act("model", "modes", ("renoise", "generate"))

    def sites(self):
        return act("model", "sites", super().sites())

    def grid(self, clip, site):
        return act("model", "grid", super().grid(clip, site))

    def weights_id(self, weights):
        return act("model", "weights_id", weights)

    def check_settings(self, settings):
        return act("model", "check_settings", None)

    def load(self, device, dtype, weights):
        super().load(device, dtype, weights)
        act("model", "load", None)

    def run(self, clip, settings, recorder):
        return act("model", "run", super().run(clip, settings, recorder), clip.id)


class Data(sliding.SlidingData):
    @property
    def split(self):
        return act("data", "split", "test")

    def ids(self):
        return act("data", "ids", super().ids())

    def clip(self, clip_id):
        clip = super().clip(clip_id)
        kept = slice(POINTS - int(clip_id.split("-")[1]))
        tracks = vcorr.Tracks(clip.tracks.xy[kept], clip.tracks.visible[kept], tracker="exact")
        made = vcorr.Clip(clip.id, clip.prompt, clip.queries[kept], clip.video, tracks)
        return act("data", "clip", made, clip_id)

    def notes(self, clip_id):
        return act("data", "notes", (), clip_id)

    def identity(self):
        return act("data", "identity", {"files": "none"})

    def check_files(self, clip_ids):
        return act("data", "check_files", None)


class Probe(vcorr.ProbeBase):
    @property
    def needs(self):
        return act("probe", "needs", frozenset({"q", "k"}))

    @property
    def readout(self):
        return act("probe", "readout", "token")

    def check_sites(self, sites):
        return act("probe", "check_sites", None)

    def read(self, capture, queries):
        from vcorr.functional import match

        clip = _clip_of(len(queries.xy))
        return act("probe", "read", {-1: match(capture.q, capture.k, capture.grid, queries)}, clip)


class Tracker(knowing.Knowing):
    def identity(self):
        return act("tracker", "identity", {"weights": "none"})

    def track(self, video, queries):
        return act("tracker", "track", super().track(video, queries), _clip_of(len(queries)))


class Metric(vcorr.MetricBase):
    lower, upper = 0.0, 1.0

    @property
    def higher_is_better(self):
        return act("metric", "higher_is_better", True)

    def under(self, variant):
        return act("metric", "under", self)

    def score(self, tracks, reference, grid):
        near = np.linalg.norm(tracks - reference.xy, axis=-1)[:, 1:] < 3
        scores = {"near": vcorr.Score(float(near.mean()), near.size)}
        return act("metric", "score", scores, _clip_of(len(reference.xy)))


@vcorr.hookimpl
def vcorr_models():
    config = f"{sliding.__name__}:ModelConfig"
    return [vcorr.ModelEntry(name="odd-model", summary="", factory=f"{__name__}:Model", config=config, data="odd-data")]


@vcorr.hookimpl
def vcorr_datasets():
    config = f"{sliding.__name__}:DataConfig"
    return [vcorr.DatasetEntry(name="odd-data", summary="", factory=f"{__name__}:Data", config=config)]


@vcorr.hookimpl
def vcorr_probes():
    return [vcorr.ProbeEntry(name="odd-probe", summary="", factory=f"{__name__}:Probe")]


@vcorr.hookimpl
def vcorr_trackers():
    return [vcorr.TrackerEntry(name="odd-tracker", summary="", factory=f"{__name__}:Tracker")]


@vcorr.hookimpl
def vcorr_metrics():
    return [vcorr.MetricEntry(name="odd-metric", summary="", factory=f"{__name__}:Metric")]
