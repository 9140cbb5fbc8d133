"""Estimates time, memory and disk space of a run for `--dry-run`, without loading weights."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcorr.contract.bases import ProbeBase, with_defaults
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Clip, ModelCard, Site
from vcorr.runner.hardware import Hardware
from vcorr.runner.plan import Plan
from vcorr.runner.predict import prepare_clip
from vcorr.store.fingerprint import LENGTH
from vcorr.store.rundir import RunDirectory

SAMPLE_SIZE = 1024
SAMPLE_SECONDS = 0.2
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
STORED_SHARE = 0.55
"""Share of a predictions table's raw bytes that is left after zstd. This is the largest value that was measured: for
scattered predictions of full-size models with random weights. For the embedded model it is 0.35."""
LOSSLESS_SHARE = 0.8
"""Share of a generated video's raw bytes that is left in its lossless file; measured on noise, the worst case."""


@dataclass(frozen=True)
class Estimate:
    """What a run would take.

    seconds: time of the forward passes. memory_bytes: weights and activations. Both are None if the model card does not
    say enough.
    """

    path: Path
    exists: bool
    forward_passes: int
    seconds: float | None
    memory_bytes: float | None
    disk_bytes: float

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return {
            "path": str(self.path),
            "exists": self.exists,
            "forward_passes": self.forward_passes,
            "seconds": None if self.seconds is None else round(self.seconds, 1),
            "memory_bytes": None if self.memory_bytes is None else round(self.memory_bytes),
            "disk_bytes": round(self.disk_bytes),
        }


def estimate(plan: Plan, out: Path) -> Estimate:
    """Estimates a plan. Loads the first clip (for its size), never the model."""
    asked = plan.selection
    prepared = prepare_clip(plan, asked.clips[0])
    clip, grid = prepared.clip, prepared.grid
    passes = len(asked.clips) * (asked.mode.passes(asked.settings) if asked.sites else 0)
    run = RunDirectory(out / plan.fingerprints()["predict"][:LENGTH])
    flops = _forward_flops(plan, asked.mode.size_source(clip))
    return Estimate(
        path=run.path,
        exists=run.path.exists(),
        forward_passes=passes,
        seconds=None if flops is None else passes * flops / _flops_per_second(plan.hardware),
        memory_bytes=_memory(plan, grid),
        disk_bytes=_disk(plan, grid, len(clip.queries)),
    )


def _forward_flops(plan: Plan, clip: Clip) -> float | None:
    """Returns 2 x parameters x tokens for the matrices, plus the attention product of every layer.

    Where sites have grids of several resolutions, a site's share of the parameters is assumed to be proportional to
    the square of its width.
    """
    adapter, card = plan.live.adapter, plan.live.card
    if card is None or not card.parameters or not plan.selection.sites:
        return None
    sites = adapter.sites()
    grids = [adapter.grid(clip, site) for site in sites]
    shares = [max(site.heads, 1) ** 2 for site in sites]
    tokens = sum(share * grid.tokens for share, grid in zip(shares, grids, strict=True)) / sum(shares)
    products = sum(_product(site, grid) * site.heads for site, grid in zip(sites, grids, strict=True))
    return 2.0 * card.parameters * tokens + products * _head_dim(card)


def _product(site: Site, grid: TokenGrid) -> float:
    """Returns 4 x pairs of tokens that see each other: operations of one layer's attention per unit of width."""
    if site.factorised is None:
        return 4.0 * grid.tokens**2
    seen = grid.tokens_per_frame if site.factorised.kind == "spatial" else grid.frames
    return 4.0 * grid.tokens * seen


def _head_dim(card: ModelCard) -> int:
    return int(card.extra.get("head_dim", 64))


def _memory(plan: Plan, grid: TokenGrid) -> float | None:
    card, sites = plan.live.card, plan.selection.sites
    if card is None or not card.parameters or not sites:
        return None
    hidden = max(site.heads for site in sites) * _head_dim(card)
    activations = 24 * grid.tokens * hidden  # q, k, v, output, residual and the 4x wide feed-forward layer, in and out
    return float(BYTES[plan.hardware.dtype] * (card.parameters + activations))


def _disk(plan: Plan, grid: TokenGrid, points: int) -> float:
    asked = plan.selection
    most = max((s.heads for s in asked.sites), default=1)
    made = {p.entry.name: with_defaults(p.create(), ProbeBase) for p in plan.parts.probes}
    heads = {name: probe.answers_per_site(most) * len(asked.readings[name]) for name, probe in made.items()}
    sites = max(1, len(asked.sites)) * max(1, len(asked.settings.steps) if asked.sites else 1)
    predictions = sum(heads.values()) if heads else 1
    stored = sites * predictions * (STORED_SHARE * points * grid.frames * 8 + 400)
    video = 3 * grid.video_frames * grid.height * grid.width if asked.mode.makes_video else 0
    return len(asked.clips) * (stored + LOSSLESS_SHARE * video)


def _flops_per_second(hardware: Hardware) -> float:
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
