"""Finds where the tokens of a pipeline are: from a hand-written layout, or from the plugin of a known model.

Shape legend: B batch, C latent channels, F x h x w latents, T video frames, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from vcorr.capture.captures import TextPlace, TokenLayout
from vcorr.capture.latent_sizes import latent_size
from vcorr.capture.modules import denoisers_of, find, find_all
from vcorr.capture.split import check_layout
from vcorr.contract.errors import PluginError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Attention, BlockAxes, Clip, Factorised, Site, Unrotated

if TYPE_CHECKING:
    from vcorr.capture.latent_tokens import LatentReading
    from vcorr.diffusion.adapter import DiffusersVideoModel


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a model are, written by hand.

    Args:
        grid: how the video tokens lie over the video.
        sites: the attention modules in the order they run: paths inside the denoiser, or `vcorr.Site` records. A path
            with "{}" stands for all modules that exist with a number from 0 in its place.
        text: where the text tokens are in the sequence: "before" or "after" the video tokens, or "none".
        branches: the guidance branches in batch order, if one batch holds them; "cond" is read.
        per_sample: whether each batch row has an attention call of its own, in the order of `branches`.
        passes: if each branch is a pass of its own without a label (`cache_context`): the branches in the order of the
            passes of a step.
        heads: of every site; 0 if unknown (only `hidden-fair` needs it).
        attention: what the tokens of a site can see.
        block: path of the modules whose output is the hidden state, with "{}" for the site's number; for `hidden`.
        block_output: index of the output with the video tokens.
        block_axes: the axes of that output.
        factorised: of sites with spatial or temporal attention: which of the two, and the order of the batch.
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
    """A layout on a denoiser, or on several that take turns.

    grid: None until a denoiser runs, if only its latents show it; `measure` fills it in. compression: of the model, if
    a plugin declares it. coarseness: width of a site's tokens divided by the width of the grid's tokens, by the site's
    name; 1 for sites that are not listed. adapter: of the plugin, if it has the whole pipeline.
    """

    modules: tuple[nn.Module, ...]
    sites: tuple[Site, ...]
    layout: TokenLayout
    grid: TokenGrid | None
    compression: Any = None
    coarseness: Mapping[str, int] = field(default_factory=dict)
    adapter: DiffusersVideoModel[Any] | None = None

    @property
    def latents(self) -> LatentReading | None:
        """How latents become tokens; None if only the denoiser is known, and not how its pipeline makes latents."""
        return None if self.adapter is None or self.grid is None else self.adapter.latent_reading(self.grid)

    def grid_at(self, site: Site) -> TokenGrid:
        """Returns how the tokens of a site lie over the video."""
        assert self.grid is not None  # `measure` comes first
        return self.grid.coarser(self.coarseness.get(site.name, 1))

    @property
    def name(self) -> str:
        """The model's name for messages."""
        return type(self.modules[0]).__name__

    def measure(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Placement:
        """Returns the placement with its grid, read from the arguments of a pass if it was not known before.

        Raises:
            UsageError: the arguments do not show the size of the latents, or contradict the given grid.
        """
        size = latent_size(self.modules[0], args, kwargs)
        if self.grid is not None:
            self._check_grid(self.grid, size)
            return self
        if size is None:
            raise UsageError(
                f"The arguments of {self.name} do not show the size of the latents.",
                hint="Give the size of the video: size=(T, H, W).",
            )
        return replace(self, grid=token_grid(self.compression, *size))

    def _check_grid(self, grid: TokenGrid, size: tuple[int, int, int] | None) -> None:
        """Compares a given grid with the grid that the latents make, if the plugin's compression gives it."""
        if size is None or self.compression is None or self.compression.front_padded:
            return
        found = token_grid(self.compression, *size)
        if found != grid:
            raise UsageError(
                f"The given grid is {_in_words(grid)}; the latents of this video make {_in_words(found)}.",
                hint="Leave out grid and size: the latents show them.",
            )


def place_by_hand(module: Any, layout: Layout) -> Placement:
    """Checks a hand-written layout against the module, or against each of several that take turns.

    Raises:
        UsageError: an item is not a module, or the layout contradicts itself or a module.
    """
    if not isinstance(layout, Layout):
        raise UsageError(f"layout must be a vcorr.Layout or a model's name, got {type(layout).__name__}.")
    if not isinstance(layout.grid, TokenGrid):
        raise UsageError(f"Layout: grid must be a vcorr.TokenGrid, got {type(layout.grid).__name__}.")
    several = denoisers_of(module, "record()")
    tokens = TokenLayout(layout.text, tuple(layout.branches), per_sample=layout.per_sample, passes=tuple(layout.passes))
    try:
        check_layout(tokens)
    except PluginError as error:
        raise UsageError(error.message, hint=error.hint) from error
    sites = _sites(several[0], layout)
    for other in several[1:]:
        find_all(other, [site.name for site in sites])
    return Placement(several, sites, tokens, layout.grid)


def place_by_plugin(
    module: Any, name: str, *, grid: TokenGrid | None = None, size: tuple[int, int, int] | None = None
) -> Placement:
    """Places the layout of a model that vcorr knows on a denoiser or pipeline, at its sizes.

    Args:
        module: the denoiser, or the pipeline around it.
        name: of the model.
        grid: used as it is, if given.
        size: (T, H, W) of the video. With neither `size` nor `grid`, the grid is read when the module runs.

    Raises:
        UsageError: the model is unknown, has no token layout, or does not take these sizes.
    """
    from vcorr.diffusion.configs import pipeline_configs

    adapter = _find_adapter(name, size)
    pipe = None if isinstance(module, nn.Module) else module
    denoiser = _find_denoiser(module, pipe, adapter, name)
    _check_class(adapter, denoiser, name)
    if adapter.configs:
        adapter.take_sizes(pipeline_configs(pipe) if pipe is not None else {adapter.denoiser: _config(denoiser)})
    if pipe is not None:
        _adopt(adapter, pipe)
    sites = tuple(adapter.sites())
    modules = (denoiser,) if pipe is None else tuple(_module(getattr(pipe, part)) for part in adapter.denoisers)
    for one in modules:
        find_all(one, [site.name for site in sites])
    if grid is None and size is not None:
        grid = adapter.grid(Clip("record", "", np.zeros((0, 2), np.float32)), None)
    base = adapter.compression.patch
    coarseness = {site.name: adapter.compression_at(site).patch // base for site in sites}
    # the user's pipeline may use a prompt of another length than the adapter's own runs
    layout = replace(adapter.layout(), text_tokens=None)
    return Placement(modules, sites, layout, grid, adapter.compression, coarseness, None if pipe is None else adapter)


def _find_adapter(name: str, size: tuple[int, int, int] | None) -> DiffusersVideoModel[Any]:
    """Returns the adapter of a model at a size, or at its own; raises UsageError if it has no token layout."""
    from vcorr.diffusion.adapter import DiffusersVideoModel
    from vcorr.plugins.model_names import find_model
    from vcorr.plugins.registry import installed

    entry = find_model(name, installed()).entry
    config_type = entry.config_type()
    adapter = entry.create()
    if config_type is None or not isinstance(adapter, DiffusersVideoModel):
        raise UsageError(
            f"{entry.label} has no token layout that another pipeline could share.",
            hint="Write the layout by hand: vcorr.Layout(grid=..., sites=...).",
        )
    if size is None:
        return adapter
    frames, height, width = _size(size)
    sized: DiffusersVideoModel[Any] = entry.create(replace(config_type(), frames=frames, height=height, width=width))
    return sized


def _find_denoiser(module: Any, pipe: Any, adapter: DiffusersVideoModel[Any], name: str) -> nn.Module:
    """Returns the denoiser in a pipeline, or `module` itself; raises UsageError if only one of several is given."""
    denoiser = _module(getattr(pipe, adapter.denoiser, pipe) if pipe is not None else module)
    if pipe is None and len(adapter.denoisers) > 1:
        raise UsageError(
            f"record(): {name} has {len(adapter.denoisers)} denoisers that take turns, {', '.join(adapter.denoisers)}.",
            hint="Give it the whole pipeline, so that no step is missed: record(pipe, ...)",
        )
    return denoiser


def token_grid(compression: Any, frames: int, rows: int, cols: int) -> TokenGrid:
    """Returns the grid of F x h x w latents under a plugin's `Compression`.

    Raises:
        UsageError: the latents do not make whole tokens, or do not show the number of frames.
    """
    if compression.front_padded:
        raise UsageError(
            "This model pads its latents in front, so they do not show the number of frames.",
            hint="Give the size of the video: size=(T, H, W).",
        )
    patch, lead = compression.patch, int(compression.causal)
    if rows % patch or cols % patch:
        raise UsageError(f"{rows} x {cols} latents do not divide into patches of {patch} x {patch}.")
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


def _in_words(grid: TokenGrid) -> str:
    return (
        f"{grid.frames} x {grid.rows} x {grid.cols} tokens over {grid.video_frames} frames of "
        f"{grid.height:g}x{grid.width:g} pixels"
    )


def _module(module: Any) -> nn.Module:
    return denoisers_of((module,), "record()")[0]


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
    """Returns the modules that match a pattern, each with its number."""
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
        raise UsageError(f"size must be (T, H, W), frames and pixels, got {size!r}.")
    frames, height, width = (int(side) for side in size)
    return frames, height, width


def _check_class(adapter: DiffusersVideoModel[Any], denoiser: nn.Module, name: str) -> None:
    # "package.module:Class" where diffusers has no such class
    named = adapter.denoiser_class or str(adapter.network.get("_class_name") or "").rpartition(":")[2]
    expected, found = named, type(find(denoiser, "")[0]).__name__
    if expected not in ("", found):
        raise UsageError(
            f"The denoiser of {name} is a {expected}, not a {found}.",
            hint="Name the model whose pipeline it is, see vcorr list models, or describe it: vcorr.Layout(...)",
        )


def _config(module: nn.Module) -> dict[str, Any]:
    """Returns the denoiser's own configuration, by diffusers' names."""
    config = getattr(module, "config", None)
    return dict(config) if isinstance(config, Mapping) else {}


def _adopt(adapter: DiffusersVideoModel[Any], pipe: Any) -> None:
    """Switches the attention of a user's pipeline to torch's function; its progress bar stays as it is."""
    progress = dict(getattr(pipe, "_progress_bar_config", None) or {})
    adapter.adopt(pipe, str(pipe.device))
    pipe.set_progress_bar_config(**progress)
