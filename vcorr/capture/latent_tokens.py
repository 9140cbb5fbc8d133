"""Reads the latents that a denoiser gets, as one vector per token.

Shape legend: C latent channels, F' x h' x w' latents, F x h x w tokens, c latent values that a token covers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vcorr.capture.captures import Capture
from vcorr.contract.errors import CaptureError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import NO_SITE, Site

LATENT_SITE = Site(NO_SITE, "latents", attention="none")
"""Stands in predictions for the attention site that they have not."""

TakeLatents = Callable[[int, tuple[Any, ...], Mapping[str, Any]], Tensor]
"""Takes the index of a denoiser and the arguments of one of its passes that holds the conditional branch; returns the
latents of that branch, (1, C, F', h', w'), without channels of a condition."""


@dataclass(frozen=True)
class LatentReading:
    """How the latents of a denoiser become tokens; the adapter declares it.

    take: finds the latents in the arguments of a pass. grid: of the tokens. patch: number of latents that a token
    covers in time, in y and in x.
    """

    take: TakeLatents
    grid: TokenGrid
    patch: tuple[int, int, int] = (1, 1, 1)

    def capture(self, latents: Tensor, *, step: int, noise: float) -> Capture:
        """Returns a capture with the latents alone, (F, h, w, c) float32: the values of each token, in one order.

        Args:
            latents: (1, C, F', h', w'), the conditional branch alone.
            step: 0-based index of the scheduler's timestep.
            noise: sigma / (alpha + sigma) of the step, NaN without noise.

        Raises:
            CaptureError: the latents cannot make these tokens.
        """
        grid = self.grid
        tokens = (grid.frames, grid.rows, grid.cols)
        expected = tuple(count * side for count, side in zip(tokens, self.patch, strict=True))
        if latents.ndim != 5 or len(latents) != 1 or tuple(latents.shape[2:]) != expected:
            raise CaptureError(
                f"The latents of the conditional branch have shape {tuple(latents.shape)}; the grid of "
                f"{' x '.join(map(str, tokens))} tokens (frames, rows, columns), each of "
                f"{' x '.join(map(str, self.patch))} latents, needs (1, C, {', '.join(map(str, expected))}).",
                hint="The model's adapter declares both: `grid`, and the latents of a token in `compression`.",
            )
        (f, h, w), (pf, ph, pw) = tokens, self.patch
        cut = latents[0].detach().float().reshape(-1, f, pf, h, ph, w, pw)
        values = cut.permute(1, 3, 5, 0, 2, 4, 6).flatten(3)
        return Capture(LATENT_SITE, grid, step, noise, latent=values)
