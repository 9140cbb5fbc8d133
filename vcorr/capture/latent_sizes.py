"""Compares the size of the latents that a denoiser is called with to the declared grid.

Shape legend: B batch, C channels, F x h x w latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from vcorr.capture.modules import find
from vcorr.capture.passes import Pass, PassListener
from vcorr.contract.errors import CaptureError
from vcorr.contract.geometry import TokenGrid

Size = tuple[int, int, int]


def latent_size(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Size | None:
    """Returns F, h, w of the latents a diffusers denoiser is called with; None if its arguments do not show them."""
    latents = kwargs.get("hidden_states", kwargs.get("sample", args[0] if args else None))
    if isinstance(latents, Tensor) and latents.ndim == 5:
        inner = find(module, "")[0]
        channels = getattr(getattr(inner, "config", None), "in_channels", None)
        _, first, second, rows, cols = latents.shape
        if channels in (first, second):
            return (first if second == channels else second), rows, cols
    sizes = [kwargs.get(key) for key in ("num_frames", "height", "width")]
    whole = [size for size in sizes if isinstance(size, int)]
    return (whole[0], whole[1], whole[2]) if len(whole) == 3 else None


def check_latents(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], grid: TokenGrid) -> None:
    """Checks that the latents of a pass can make the tokens of the grid.

    A token covers p x p latents, with the same p in both directions, and q latents in time. The first or the last token
    in time may cover fewer. Arguments that do not show the size of the latents pass the check.

    Raises:
        CaptureError: the latents cannot make these tokens.
    """
    size = latent_size(module, args, kwargs)
    if size is None:
        return
    frames, rows, cols = size
    square = rows % grid.rows == 0 and cols % grid.cols == 0 and rows // grid.rows == cols // grid.cols
    if square and _divides(frames, grid.frames):
        return
    raise CaptureError(
        f"{type(module).__name__} is called with {frames} x {rows} x {cols} latents (frames, rows, columns); the grid "
        f"declares {grid.frames} x {grid.rows} x {grid.cols} tokens.",
        hint="The grid was made for another size or number of frames than the video that the model reads or makes.",
    )


def _divides(latents: int, tokens: int) -> bool:
    """Returns whether `tokens` in time cover `latents` with the same number of latents each, but for one token."""
    return 0 < tokens <= latents and -(-latents // -(-latents // tokens)) == tokens


class LatentsCheck(PassListener):
    """Compares the latents of each denoiser's first call with the declared grids."""

    def __init__(self, modules: Sequence[nn.Module], grids: Sequence[TokenGrid]) -> None:
        self._modules, self._grids = modules, set(grids)
        self._checked: set[int] = set()

    def pass_begins(self, now: Pass) -> None:
        """Compares the latents if this is the first pass of its denoiser."""
        if now.denoiser not in self._checked:
            self._checked.add(now.denoiser)
            for grid in self._grids:
                check_latents(self._modules[now.denoiser], now.args, now.kwargs, grid)
