"""Where the tokens of a pipeline are that vcorr has never heard of: told by hand, or taken from a known plugin.

Shape legend: B batch, C latent channels, F x h x w latents, T video frames, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from vcorr.capture.modules import find, find_all
from vcorr.capture.records import TextPlace, TokenLayout
from vcorr.capture.split import check_layout
from vcorr.errors import PluginError, UsageError
from vcorr.geometry import TokenGrid
from vcorr.records import Attention, BlockAxes, Clip, Factorised, Site, Unrotated


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a model are, told by hand.

    Args:
        grid: how the video tokens lie over the video.
        sites: the attention modules in the order they run: their paths inside the denoiser, patterns with "{}" in place
            of a number that counts from 0 as far as there are modules, or `vcorr.Site` records.
        text: where text tokens stand in the sequence of the attention: "before" or "after" the video tokens, or "none".
        branches: the guidance branches in the order of the batch, where they are run in one; "cond" is read.
        per_sample: whether every row of the batch is attended to in a call of its own, in the order of `branches`.
        passes: the branches in the order of the passes of a step, where each is a pass of its own that the pipeline
            does not label with `cache_context`.
        heads: of every site; 0 when it does not matter (only `hidden-fair` asks).
        attention: what the tokens of a site can see.
        block: the modules that put out the hidden state, as a pattern that takes the site's number, for `hidden`.
        block_output: which of their outputs holds the video tokens.
        block_axes: the axes of that output.
        factorised: how sites that see space or time alone lay out their tokens.
        unrotated: where q and k are before the rotary embedding, for probes with `rotary=False`.
    """

    grid: TokenGrid
    sites: str | Sequence[str | Site]
    text: TextPlace = "none"
    branches: tuple[str, ...] = ("cond",)
    passes: tuple[str, ...] = ()
    heads: int = 0
    attention: Attention = "full3d"
    block: str = ""
    block_output: int = 0
    unrotated: Unrotated | None = None
    factorised: Factorised | None = None
    block_axes: BlockAxes = "bnc"
    per_sample: bool = False


@dataclass(frozen=True)
class Placement:
    """A layout on a module. grid: None when it shows only once the module runs; `measured` tells it then.

    coarseness: how many times as wide and high as the grid's the tokens of a site are, by its name; 1 where not told.
    """

    module: nn.Module
    sites: tuple[Site, ...]
    layout: TokenLayout
    grid: TokenGrid | None
    passes: tuple[str, ...] = ()
    compression: Any = None
    coarseness: Mapping[str, int] = field(default_factory=dict)

    def grid_at(self, site: Site) -> TokenGrid:
        """How the tokens of a site lie over the video, once that is known."""
        assert self.grid is not None  # `measured` comes first
        return self.grid.coarser(self.coarseness.get(site.name, 1))

    def measured(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Placement:
        """With the grid, from the arguments of a pass where it was not known before.

        Raises:
            UsageError: they do not tell.
        """
        if self.grid is not None:
            return self
        frames, rows, cols = latent_size(self.module, args, kwargs)
        return replace(self, grid=token_grid(self.compression, frames, rows, cols))


def place_by_hand(module: Any, layout: Layout) -> Placement:
    """A layout that was told by hand, held against the module.

    Raises:
        UsageError: the module is none, or the layout contradicts itself or the module.
    """
    if not isinstance(layout, Layout):
        raise UsageError(f"record(): layout must be a vcorr.Layout or a model's name, got {type(layout).__name__}.")
    if not isinstance(layout.grid, TokenGrid):
        raise UsageError(f"Layout: grid must be a vcorr.TokenGrid, got {type(layout.grid).__name__}.")
    denoiser = _module(module)
    tokens = TokenLayout(layout.text, tuple(layout.branches), per_sample=layout.per_sample)
    try:
        check_layout(tokens)
    except PluginError as error:
        raise UsageError(error.message, hint=error.hint) from error
    if layout.passes and "cond" not in layout.passes:
        raise UsageError(f"Layout: passes must have 'cond' among them, got {tuple(layout.passes)!r}.")
    return Placement(denoiser, _sites(denoiser, layout), tokens, layout.grid, tuple(layout.passes))


def place_by_plugin(
    module: Any, name: str, *, grid: TokenGrid | None = None, size: tuple[int, int, int] | None = None
) -> Placement:
    """The layout of a model that vcorr knows, at the sizes of this denoiser or pipeline.

    Args:
        module: the denoiser, or the pipeline around it.
        name: of the model.
        grid: taken as it is when given.
        size: (T, H, W) of the video; when None and without `grid`, the grid shows once the module runs.

    Raises:
        UsageError: no such model, one without a token layout, or sizes it does not take.
    """
    from vcorr.registry import installed

    entry = installed().models.get(name).entry
    config_type = entry.config_type()
    adapter = entry.create()
    if config_type is None or not all(
        hasattr(adapter, part) for part in ("denoiser", "compression", "compression_at", "branches")
    ):
        raise UsageError(
            f"{entry.label} has no token layout that another pipeline could share.",
            hint="Tell it by hand: vcorr.Layout(grid=..., sites=...).",
        )
    pipe = None if isinstance(module, nn.Module) else module
    denoiser = _module(getattr(pipe, adapter.denoiser, pipe) if pipe is not None else module)
    sizes = _sizes_of_pipeline(adapter, pipe) if pipe is not None else _sizes_of_module(denoiser)
    if size is not None:
        sizes.update(zip(("frames", "height", "width"), _size(size), strict=True))
    usual = config_type()
    known = {field.name: type(getattr(usual, field.name)) for field in fields(config_type)}
    fitting = {key: value for key, value in sizes.items() if key in known and isinstance(value, known[key])}
    adapter = entry.create(replace(usual, **fitting))
    sites = tuple(adapter.sites())
    find_all(denoiser, [site.name for site in sites])
    if grid is None and size is not None:
        grid = adapter.grid(Clip("record", "", np.zeros((0, 2), np.float32)), None)
    one_by_one = bool(getattr(adapter, "per_sample", False))
    layout = TokenLayout(adapter.text, tuple(adapter.branches), per_sample=one_by_one)
    passes = tuple(getattr(adapter, "passes", ()))
    base = adapter.compression.patch
    coarseness = {site.name: adapter.compression_at(site).patch // base for site in sites}
    return Placement(denoiser, sites, layout, grid, passes, adapter.compression, coarseness)


def latent_size(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[int, int, int]:
    """F, h, w of the latents a diffusers transformer is called with.

    Raises:
        UsageError: the arguments do not tell.
    """
    latents = kwargs.get("hidden_states", kwargs.get("sample", args[0] if args else None))
    if isinstance(latents, Tensor) and latents.ndim == 5:
        channels = getattr(getattr(module, "config", None), "in_channels", None)
        _, first, second, rows, cols = latents.shape
        if channels in (first, second):
            return (first if second == channels else second), rows, cols
    sizes = tuple(kwargs.get(key) for key in ("num_frames", "height", "width"))
    if all(isinstance(value, int) for value in sizes):
        frames, rows, cols = (int(value) for value in sizes if value is not None)
        return frames, rows, cols
    raise UsageError(
        f"record(): the arguments of {type(module).__name__} do not tell the size of the latents.",
        hint="Tell the size of the video, record(..., size=(T, H, W)), or the tokens, record(..., grid=...).",
    )


def token_grid(compression: Any, frames: int, rows: int, cols: int) -> TokenGrid:
    """The grid of F x h x w latents under a plugin's `Compression`.

    Raises:
        UsageError: they do not make whole tokens, or do not tell the frames.
    """
    if compression.front_padded:
        raise UsageError(
            "record(): this model pads its latents in front, so they do not tell how many frames there are.",
            hint="Tell the size of the video: record(..., size=(T, H, W)).",
        )
    patch, lead = compression.patch, int(compression.causal)
    if rows % patch or cols % patch:
        raise UsageError(f"record(): {rows} x {cols} latents do not divide into patches of {patch} x {patch}.")
    video_frames = compression.temporal * (frames - lead) + lead
    tokens, spans = compression.time(video_frames)
    return TokenGrid(
        frames=tokens,
        rows=rows // patch,
        cols=cols // patch,
        stride=(compression.stride, compression.stride),
        video_frames=video_frames,
        temporal_ratio=compression.temporal_ratio,
        causal=compression.causal,
        spans=spans,
    )


def _module(module: Any) -> nn.Module:
    if isinstance(module, nn.Module):
        return module
    parts = [name for name in ("transformer", "unet") if isinstance(getattr(module, name, None), nn.Module)]
    hint = f"Give it the denoiser: pipe.{parts[0]}" if parts else "For example: record(pipe.transformer, ...)"
    raise UsageError(f"record(): expected a torch module, got {type(module).__name__}.", hint=hint)


def _sites(module: nn.Module, layout: Layout) -> tuple[Site, ...]:
    given = [layout.sites] if isinstance(layout.sites, (str, Site)) else list(layout.sites)
    if given and all(isinstance(site, Site) for site in given):
        sites = [site for site in given if isinstance(site, Site)]
    elif all(isinstance(site, str) for site in given):
        named = [found for pattern in given for found in _expand(module, str(pattern))]
        sites = [
            Site(
                layer,
                name,
                layout.heads,
                layout.attention,
                block=layout.block.format(number),
                block_output=layout.block_output,
                unrotated=layout.unrotated,
                factorised=layout.factorised,
                block_axes=layout.block_axes,
            )
            for layer, (name, number) in enumerate(named)
        ]
    else:
        raise UsageError("Layout: sites must be names, patterns such as 'blocks.{}.attn1', or all vcorr.Site records.")
    if not sites:
        raise UsageError("Layout: sites names no attention module.", hint="For example: sites='blocks.{}.attn1'")
    find_all(module, [site.name for site in sites])
    return tuple(sites)


def _expand(module: nn.Module, pattern: str) -> list[tuple[str, int]]:
    """The modules a pattern means, each with its number."""
    if "{}" not in pattern:
        return [(pattern, 0)]
    found: list[tuple[str, int]] = []
    while find(module, pattern.format(len(found)))[0] is not None:
        found.append((pattern.format(len(found)), len(found)))
    if not found:
        find_all(module, [pattern.format(0)])  # raises, and names the nearest modules
    return found


def _size(size: Sequence[int]) -> tuple[int, int, int]:
    if len(size) != 3 or not all(isinstance(side, (int, np.integer)) and side > 0 for side in size):
        raise UsageError(f"record(): size must be (T, H, W), frames and pixels, got {size!r}.")
    frames, height, width = (int(side) for side in size)
    return frames, height, width


def _sizes_of_module(module: nn.Module) -> dict[str, Any]:
    """What the denoiser's own configuration tells, by diffusers' names."""
    config = getattr(module, "config", None)
    found = dict(config) if isinstance(config, Mapping) else {}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def _sizes_of_pipeline(adapter: Any, pipe: Any) -> dict[str, Any]:
    progress = dict(getattr(pipe, "_progress_bar_config", None) or {})
    adapter.adopt(pipe, str(pipe.device))
    pipe.set_progress_bar_config(**progress)  # it is the user's pipeline, and may show its progress
    return dict(adapter.loaded_sizes())
