"""Estimates time, memory and disk space of a run for `--dry-run`, without loading weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vcorr.contract.bases import ProbeBase, with_defaults
from vcorr.contract.errors import VcorrError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Clip, ModelCard, Site
from vcorr.runner.called import whole_number
from vcorr.runner.guided import CalledGuidance
from vcorr.runner.hardware import Hardware
from vcorr.runner.parts import Part
from vcorr.runner.plan import Plan
from vcorr.runner.predict import DEFAULT_QUERY_SIDE, fit_to_model
from vcorr.store.fingerprint import LENGTH

SAMPLE_SIZE = 1024
SAMPLE_SECONDS = 0.2
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
STORED_SHARE = 0.55
"""Share of a predictions table's raw bytes that is left after zstd. This is the largest value that was measured: for
scattered predictions of full-size models with random weights. For the embedded model it is 0.35."""
LOSSLESS_SHARE = 0.8
"""Share of a generated video's raw bytes that is left in its lossless file; measured on noise, the worst case."""


@dataclass(frozen=True)
class Work:
    """What the model computes for one clip.

    runs: of the denoiser, whether they are read or not. branches: guidance branches that each run computes. read: steps
    that probes read. encodes, decodes: videos that go through the autoencoder. further: predictions that a guidance
    adds, each at most a pass of one branch.
    """

    runs: int
    branches: int
    read: int
    encodes: int
    decodes: int
    further: int = 0

    @property
    def passes(self) -> int:
        """Forward passes of the denoiser, one per run and branch, and one per further prediction."""
        return self.runs * self.branches + self.further


@dataclass(frozen=True)
class Estimate:
    """What a run would take.

    path, exists: the run's folder; None and False if it depends on what is missing. work: what is computed per clip.
    clips: how many clips there are; None if the data are missing. seconds: time of the forward passes, of all clips, or
    of one if their number is not known. device_seconds: the same, added up over the devices that share the clips.
    memory_bytes: weights and activations. disk_bytes: of all clips, or of one. seconds, device_seconds, memory_bytes
    and disk_bytes are None if model card, data or device do not say enough. notes: what the dataset says about the clip
    that was read for the estimate.
    """

    path: Path | None
    exists: bool
    work: Work
    clips: int | None
    seconds: float | None
    memory_bytes: float | None
    disk_bytes: float | None
    notes: tuple[str, ...] = ()
    device_seconds: float | None = None

    @property
    def forward_passes(self) -> int:
        """Forward passes of the denoiser over all clips; per clip if their number is not known."""
        return self.work.passes * (1 if self.clips is None else self.clips)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return {
            "path": None if self.path is None else str(self.path),
            "exists": self.exists,
            "per_clip": {**vars(self.work), "passes": self.work.passes},
            "forward_passes": None if self.clips is None else self.forward_passes,
            "seconds": None if self.seconds is None else round(self.seconds, 1),
            "device_seconds": None if self.device_seconds is None else round(self.device_seconds, 1),
            "memory_bytes": None if self.memory_bytes is None else round(self.memory_bytes),
            "disk_bytes": None if self.disk_bytes is None else round(self.disk_bytes),
        }


@dataclass(frozen=True)
class _Sample:
    """A clip that stands for all. clip: as the model reads it. grid: None if the model's size depends on the clip."""

    clip: Clip
    grid: TokenGrid | None
    notes: tuple[str, ...] = ()

    @property
    def points(self) -> int:
        """Number of query points."""
        return len(self.clip.queries) or DEFAULT_QUERY_SIDE**2


class SampleClips:
    """Reads clips, and keeps each with a black video, which takes no memory: estimates depend on sizes alone."""

    def __init__(self) -> None:
        self._read: dict[tuple[str, str, str], tuple[Clip, tuple[str, ...]]] = {}

    def read(self, plan: Plan, clip_id: str) -> tuple[Clip, tuple[str, ...]]:
        """Returns a clip of the plan's data, and what the dataset says about it; raises what the dataset raises."""
        data = plan.parts.data
        key = data.plugin, repr((data.entry.name, data.config)), clip_id
        if key not in self._read:
            self._read[key] = _blacken(plan.live.dataset.clip(clip_id)), tuple(plan.live.dataset.notes(clip_id))
        return self._read[key]


def _blacken(clip: Clip) -> Clip:
    return clip if clip.video is None else replace(clip, video=np.broadcast_to(np.uint8(0), clip.video.shape))


def estimate(
    plan: Plan, out: Path, speed: Callable[[Hardware], float] | None = None, samples: SampleClips | None = None
) -> Estimate:
    """Estimates a plan. Loads the first clip that can be read (for its size), never the model.

    speed: returns the floating-point operations per second of a device; by default it is measured. samples: keeps what
    was read of clips, for the estimates of several plans.
    """
    clips = None if plan.lacks("data") else len(plan.selection.clips)
    count, sample = 1 if clips is None else clips, _sample(plan, samples or SampleClips())
    work = _work(plan, sample)
    path = _path(plan, out)
    hardware = plan.hardware
    gpus = max(1, len(set(hardware.shared)))  # they work side by side
    rounds = count / gpus if hardware.ranks > 1 else math.ceil(count / gpus)
    flops = _forward_flops(plan, sample)
    rate = None if flops is None or plan.lacks("device") else (speed or flops_per_second)(plan.hardware)
    of_clip = None if flops is None or rate is None else work.passes * flops / rate
    return Estimate(
        path=path,
        exists=path is not None and path.exists(),
        work=work,
        clips=clips,
        seconds=None if of_clip is None else rounds * of_clip,
        memory_bytes=None if sample.grid is None else _memory(plan, sample),
        disk_bytes=None if sample.grid is None else count * _disk(plan, sample.grid, sample.points),
        notes=sample.notes,
        device_seconds=None if of_clip is None else count * of_clip,
    )


def _path(plan: Plan, out: Path) -> Path | None:
    """Returns the folder of the run; None while its name is not known."""
    if plan.lacks("weights", "data", "device"):
        return None
    return out / plan.fingerprints()["predict"][:LENGTH]


def _work(plan: Plan, sample: _Sample) -> Work:
    asked = plan.selection
    mode, settings = asked.mode, asked.settings
    if asked.tracking is not None:
        runs = plan.live.adapter.made.passes(sample.clip) if sample.clip.video is not None else 0
        return Work(runs, 1, runs, 0, 0)
    if not asked.sites:
        return Work(0, 1, 0, 0, 0)
    branches = plan.live.adapter.guidance_branches(settings) if mode.makes_video else 1
    noisy = settings.num_steps > 0  # a backbone has no autoencoder
    coded = mode.encodes * noisy, mode.decodes * noisy
    return Work(mode.passes(settings), branches, len(settings.steps), *coded, _further(plan))


def _further(plan: Plan) -> int:
    """Returns how many perturbed predictions a guidance makes per clip."""
    guided = plan.selection.guided
    if guided is None or not guided.layers:
        return 0
    return CalledGuidance(plan.parts.guidance, plan.live.guidance).count_guided(plan.selection.settings.num_steps)


def _sample(plan: Plan, samples: SampleClips) -> _Sample:
    for clip_id in () if plan.lacks("data") else plan.selection.clips:
        try:
            clip, notes = samples.read(plan, clip_id)
            _, fitted, grid = fit_to_model(plan, clip)
        except VcorrError:  # this clip fails in the run; others may not (`first_clip`)
            continue
        return _Sample(fitted, grid, notes)
    clip = Clip("sample", "", np.zeros((0, 2), np.float32))
    sites = plan.selection.sites
    try:
        return _Sample(clip, plan.live.adapter.grid(clip, sites[0] if sites else None))
    except VcorrError:  # a baseline has the size of its clip
        return _Sample(clip, None)


def _forward_flops(plan: Plan, sample: _Sample) -> float | None:
    """Returns 2 x parameters x tokens for the matrices, plus the attention product of every layer.

    Where sites have grids of several resolutions, a site's share of the parameters is assumed to be proportional to
    the square of its width.
    """
    card = plan.live.card
    if card is None or not card.parameters or not plan.selection.sites or sample.grid is None:
        return None
    read = _grids_of_pass(plan, sample)
    shares = [max(site.heads, 1) ** 2 for site, _ in read]
    tokens = sum(share * grid.tokens for share, (_, grid) in zip(shares, read, strict=True)) / sum(shares)
    products = sum(_product(site, grid) * site.heads for site, grid in read)
    return 2.0 * card.parameters * tokens + products * _head_dim(card)


def _grids_of_pass(plan: Plan, sample: _Sample) -> list[tuple[Site, TokenGrid]]:
    """Returns all sites of the model, each with its grid in one pass."""
    adapter = plan.live.adapter
    if plan.selection.tracking is not None:
        return list(adapter.made.grids_of_pass(sample.clip))
    clip = plan.selection.mode.size_source(sample.clip)
    return [(site, adapter.grid(clip, site)) for site in adapter.sites()]


def _product(site: Site, grid: TokenGrid) -> float:
    """Returns 4 x pairs of tokens that see each other: operations of one layer's attention per unit of width."""
    if site.factorised is None:
        return 4.0 * grid.tokens**2
    seen = grid.tokens_per_frame if site.factorised.kind == "spatial" else grid.frames
    return 4.0 * grid.tokens * seen


def _head_dim(card: ModelCard) -> int:
    return int(card.extra.get("head_dim", 64))


def _memory(plan: Plan, sample: _Sample) -> float | None:
    card, sites = plan.live.card, plan.selection.sites
    if card is None or not card.parameters or not sites:
        return None
    grid = sample.grid if plan.selection.tracking is None else _grids_of_pass(plan, sample)[0][1]
    assert grid is not None
    hidden = max(site.heads for site in sites) * _head_dim(card)
    activations = 24 * grid.tokens * hidden  # q, k, v, output, residual and the 4x wide feed-forward layer, in and out
    return float(BYTES[plan.hardware.dtype] * (card.parameters + activations / plan.hardware.ranks))


def _disk(plan: Plan, grid: TokenGrid, points: int) -> float:
    """Returns the bytes of one clip."""
    asked = plan.selection
    most = max((s.heads for s in asked.sites), default=1)
    made = {p.entry.name: _predictions_per_site(p, most) for p in plan.parts.probes}
    at_site = sum(count * len(asked.readings[name]) for name, count in made.items()) if made else 1
    of_step = sum(not count for count in made.values())  # these probes read no site
    steps = max(1, len(asked.settings.steps) if asked.sites else 1)
    predictions = steps * (max(1, len(asked.sites)) * at_site + of_step)
    stored = predictions * (STORED_SHARE * points * grid.frames * 8 + 400)
    video = 3 * grid.video_frames * grid.height * grid.width if asked.mode.makes_video else 0
    return stored + LOSSLESS_SHARE * video


def _predictions_per_site(probe: Part, heads: int) -> int:
    made = with_defaults(probe.create(), ProbeBase)
    with probe.name.calling("answers_per_site()"):
        return whole_number(made.answers_per_site(heads), "answers_per_site()")


def flops_per_second(hardware: Hardware) -> float:
    """Measures the rate of a square matrix product on this device: an upper bound for a forward pass."""
    import torch

    matrix = torch.ones(SAMPLE_SIZE, SAMPLE_SIZE, device=hardware.device, dtype=getattr(torch, hardware.dtype))
    _settle(matrix @ matrix)
    began, products = time.perf_counter(), 0
    while time.perf_counter() - began < SAMPLE_SECONDS:
        _settle(matrix @ matrix)
        products += 1
    return 2.0 * SAMPLE_SIZE**3 * products / (time.perf_counter() - began)


def _settle(result: Any) -> None:
    result[0, 0].item()  # waits for the device
