"""Compares tokens of one latent frame with several others, and finds the way back, with one call for all frames.

Shapes: J other frames, U tokens, P = h*w tokens of a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from vcorr.functional.blocks import plain_precision
from vcorr.functional.fused_path import fuse_back_rows, fuse_pair_rows
from vcorr.functional.paired_tokens import PairedTokens, WholePairs


class FramePairs(Protocol):
    """A latent frame and J others, whose tokens are compared both ways."""

    def rows(self, tokens: Tensor) -> Tensor:
        """Returns C of tokens (U,) of the frame with all tokens of every other one, (J, U, P)."""
        ...

    def back_rows(self, tokens: Tensor) -> Tensor:
        """Returns C of tokens (J, U) of every other frame with all tokens of the frame, (J, U, P)."""
        ...


class MatchedPairs:
    """Frames whose tokens match by dot products, at one site or at several, over which C is averaged.

    The fused kernels compute rows where they run. Else plain torch does. If the way back is wanted, C is symmetric and
    C of all tokens fits in memory, it computes that once. The rows of the way back are its columns, so all products
    serve both ways.

    Args:
        sites: the tokens of each site.
        both: whether `back_rows` is asked for after `rows`.
    """

    def __init__(self, sites: Sequence[PairedTokens], *, both: bool) -> None:
        self._sites, self._both = sites, both
        self._takes_whole = all(site.symmetric and site.fits for site in sites)
        self._whole: WholePairs | None = None

    @torch.no_grad()
    def rows(self, tokens: Tensor) -> Tensor:
        """Returns C of the frame's tokens (U,), (J, U, P)."""
        with plain_precision(tokens.device):
            if self._whole is None:
                fused = self._fuse(lambda site: fuse_pair_rows(site, tokens, both=self._both))
                if fused is not None:
                    return fused
            if self._both and self._takes_whole:
                return self._all_tokens().rows(tokens)
            return self._mean(lambda site: site.sum_rows(tokens))

    @torch.no_grad()
    def back_rows(self, tokens: Tensor) -> Tensor:
        """Returns C of tokens (J, U) of the others, (J, U, P)."""
        with plain_precision(tokens.device):
            if self._whole is None:
                fused = self._fuse(lambda site: fuse_back_rows(site, tokens))
                if fused is not None:
                    return fused
            if self._takes_whole:
                return self._all_tokens().back_rows(tokens)
            return self._mean(lambda site: site.sum_back_rows(tokens))

    def _all_tokens(self) -> WholePairs:
        if self._whole is None:
            self._whole = WholePairs(self._mean(PairedTokens.sum_whole), self._sites[0].others)
        return self._whole

    def _mean(self, add: Callable[[PairedTokens], Tensor]) -> Tensor:
        """Returns the mean over sites of what `add` returns for each, which is summed over `terms` softmaxes."""
        total: Tensor | None = None
        for site in self._sites:
            part = add(site).div_(site.terms * len(self._sites))
            total = part if total is None else total.add_(part)
        assert total is not None  # a pass reads at least one site
        return total

    def _fuse(self, compute: Callable[[PairedTokens], Tensor | None]) -> Tensor | None:
        """Returns the mean over sites of fused rows; None where plain torch must compute."""
        total: Tensor | None = None
        for site in self._sites:
            part = compute(site)
            if part is None:
                return None
            total = part if total is None else total.add_(part)
        return total if total is None or len(self._sites) == 1 else total.div_(len(self._sites))
