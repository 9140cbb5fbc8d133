"""Changes pixels and finds the token where the change arrives; this tests grid, token order and latent time at once.

Shape legend: H heads, F x h x w video tokens, d head width, T video frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vcorr.capture.needs import has_attention
from vcorr.capture.recorder import Recorder
from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Clip, RunSettings, Site
from vcorr.functional.query_points import QueryPoints

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)


def make_local(autoencoder: nn.Module, *, causal: bool = True) -> None:
    """Sets the weights of an autoencoder so that every convolution passes on only the value at its own position.

    With random weights a causal autoencoder of many layers spreads a change over later frames and neighbouring latents.
    Then nobody can say which latent a change belongs to. With local weights the architecture alone (strides, padding,
    causality) decides where a change arrives. Convolutions pass on the mean over channels at their own pixel and frame.
    Attention is switched off; other linear layers pass on the mean of their input.

    Args:
        autoencoder: changed in place.
        causal: whether a convolution over time is placed at its last element, else at its middle one.
    """
    with torch.no_grad():
        for module in autoencoder.modules():
            if isinstance(module, (*_CONVOLUTIONS, nn.Linear)):
                _pass_on(module, causal)
        for module in autoencoder.modules():
            if "Attention" in type(module).__name__:
                for linear in (part for part in module.modules() if isinstance(part, nn.Linear)):
                    linear.weight.zero_()


def _pass_on(module: nn.Conv2d | nn.Conv3d | nn.Linear, causal: bool) -> None:
    if module.bias is not None:
        module.bias.zero_()
    if isinstance(module, nn.Linear):
        module.weight.fill_(1 / module.in_features)
        return
    module.weight.zero_()
    height, width = module.weight.shape[-2:]
    here = module.weight[..., height // 2, width // 2]
    if isinstance(module, nn.Conv3d):
        here = here[..., -1 if causal else here.shape[-1] // 2]
    here.fill_(1 / module.weight.shape[1])


def make_pointwise(denoiser: nn.Module) -> None:
    """Sets the convolutions of a denoiser to 0 except at their centre, where the weights stay.

    Patch embeddings, whose stride equals their kernel size, are not changed.
    """
    with torch.no_grad():
        for module in denoiser.modules():
            if isinstance(module, _CONVOLUTIONS) and tuple(module.kernel_size) != tuple(module.stride):
                sizes = tuple(module.kernel_size)
                centre: tuple[Any, ...] = (..., *(size // 2 for size in sizes))
                kept = module.weight[centre].clone()
                module.weight.zero_()
                module.weight[centre] = kept


def find_impulse(
    model: Any, clip: Clip, token: tuple[int, int, int], step: int, num_steps: int, site: Site | None = None
) -> tuple[int, ...]:
    """Finds the token whose queries change most when the pixels of one token change, in renoise mode.

    If a site shows no attention, its hidden state is compared in place of the queries.

    Args:
        model: a loaded adapter.
        clip: with a video of the size that the model takes.
        token: (latent frame, row, column); its pixels are inverted in all video frames that it covers.
        step: the step that is run; the last one has the least noise.
        num_steps: number of sampling steps.
        site: the site whose queries are read; the first one when None.

    Returns:
        (latent frame, row, column); empty when no query changes.

    Raises:
        UsageError: the clip has no video.
    """
    site = model.sites()[0] if site is None else site
    return find_impulses(model, clip, token, step, num_steps, [site])[site.layer]


def find_impulses(
    model: Any, clip: Clip, token: tuple[int, int, int], step: int, num_steps: int, sites: Sequence[Site]
) -> dict[int, tuple[int, ...]]:
    """Runs `find_impulse` for several sites on one grid at once; returns the tokens by layer."""
    grid = model.grid(clip, sites[0])
    pair = (clip, _invert(clip, grid, token))
    before, after = (_tokens(model, each, step, num_steps, sites) for each in pair)
    return {site.layer: _largest(before[site.layer] - after[site.layer]) for site in sites}


def _largest(change: Tensor) -> tuple[int, ...]:
    """Returns the (F, h, w) index of the token that changed most, from (H, F, h, w, d); empty when none changed."""
    size = change.float().norm(dim=-1).sum(dim=0)
    if not bool(size.any()):
        return ()
    return tuple(int(index) for index in np.unravel_index(int(size.argmax()), size.shape))


def _invert(clip: Clip, grid: TokenGrid, token: tuple[int, int, int]) -> Clip:
    if clip.video is None:
        raise UsageError(
            f"Clip {clip.id} has no video to change.", hint="vcorr.testing.random_clip makes a clip with a video."
        )
    latent, row, col = token
    first, last = (int(frame) for frame in grid.time_spans[latent])
    width, height = grid.stride
    area = (
        slice(first, last + 1),
        slice(round(row * height), round((row + 1) * height)),
        slice(round(col * width), round((col + 1) * width)),
    )
    video = clip.video.copy()
    video[area] = 255 - video[area]
    return replace(clip, video=video)


def _tokens(model: Any, clip: Clip, step: int, num_steps: int, sites: Sequence[Site]) -> dict[int, Tensor]:
    probe = _Tokens("q" if all(has_attention(site) for site in sites) else "hidden")
    recorder = Recorder({"tokens": probe}, clip.queries, layers={site.layer for site in sites})
    model.run(clip, RunSettings("renoise", (step,), num_steps), recorder)
    return probe.seen


class _Tokens:
    """Keeps one tensor of each layer, (H, F, h, w, d), with H = 1 for the hidden state; predicts that nothing moves."""

    def __init__(self, part: str) -> None:
        self._part = part
        self.needs = frozenset({part})
        self.seen: dict[int, Tensor] = {}

    def read(self, capture: Any, queries: QueryPoints) -> dict[int, Tensor]:
        tensor = getattr(capture, self._part).detach().clone()
        self.seen[capture.site.layer] = tensor if self._part == "q" else tensor[None]
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}
