"""Probes of one attention call: `qk`, `feature` and `feature-fair` (PROTOCOL sections 2 and 3).

Axes: H heads, F x h x w video tokens, d head width, N query points. Answers are {head: (N, F, 2) pixels}, -1 for
several heads together.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vcorr.capture.records import Capture
from vcorr.errors import UsageError
from vcorr.functional import match, match_features
from vcorr.geometry import TokenGrid
from vcorr.probes.config import ProbeConfig, head_column, parse_heads
from vcorr.records import HEAD_MEAN, Readout


class QueryKey:
    """`qk`: queries of frame 0 match keys of the later frames and the other way round, softmax per head and frame."""

    needs = frozenset({"q", "k"})

    def __init__(self, config: ProbeConfig | None = None) -> None:
        self._config = config or ProbeConfig()

    @property
    def readout(self) -> Readout:
        """What positions can be answered: those of whole tokens, unless a radius refines them."""
        return "free" if self._config.radius else "token"

    def read(self, capture: Capture, queries: Tensor) -> dict[int, Tensor]:
        """Positions per head; see `vcorr.protocols.Probe`.

        Raises:
            UsageError: a chosen head does not exist.
        """
        return _match(capture.q, capture.k, capture.grid, queries, self._config)


class FeatureFair:
    """`feature-fair`: the attention output matches itself per head and symmetrically, so that it compares with `qk`."""

    needs = frozenset({"out"})

    def __init__(self, config: ProbeConfig | None = None) -> None:
        self._config = config or ProbeConfig()

    @property
    def readout(self) -> Readout:
        """What positions can be answered: those of whole tokens, unless a radius refines them."""
        return "free" if self._config.radius else "token"

    def read(self, capture: Capture, queries: Tensor) -> dict[int, Tensor]:
        """Positions per head; see `vcorr.protocols.Probe`.

        Raises:
            UsageError: a chosen head does not exist.
        """
        return _match(capture.out, capture.out, capture.grid, queries, self._config)


class Feature:
    """`feature`: the attention output before its projection, heads side by side, matches itself by raw dot product.

    Raises:
        UsageError: a radius is asked for; raw dot products are no weights to average positions with.
    """

    needs = frozenset({"out"})
    readout: Readout = "token"

    def __init__(self, config: ProbeConfig | None = None) -> None:
        self._config = config or ProbeConfig()
        if self._config.radius:
            raise UsageError(
                f"Probe 'feature' has no radius, got {self._config.radius}.",
                hint="'feature-fair' and 'qk' have one: their correlation is a softmax.",
            )

    def read(self, capture: Capture, queries: Tensor) -> dict[int, Tensor]:
        """Positions per head; see `vcorr.protocols.Probe`.

        Raises:
            UsageError: a chosen head does not exist.
        """
        out, grid, chosen = capture.out, capture.grid, parse_heads(self._config.heads)
        if isinstance(chosen, tuple):
            return {head_column(chosen): match_features(_side_by_side(_take(out, chosen)), grid, queries)}
        answers = {HEAD_MEAN: match_features(_side_by_side(out), grid, queries)}
        if chosen == "each":
            answers.update({head: match_features(one, grid, queries) for head, one in enumerate(out)})
        return answers


def _match(q: Tensor, k: Tensor, grid: TokenGrid, queries: Tensor, config: ProbeConfig) -> dict[int, Tensor]:
    chosen, radius = parse_heads(config.heads), config.radius
    if isinstance(chosen, tuple):
        return {head_column(chosen): match(q, k, grid, queries, heads=chosen, radius=radius)}
    answers = {HEAD_MEAN: match(q, k, grid, queries, radius=radius)}
    if chosen == "each":
        answers.update(enumerate(match(q, k, grid, queries, heads="each", radius=radius)))
    return answers


def _take(out: Tensor, chosen: tuple[int, ...]) -> Tensor:
    if max(chosen) >= len(out):
        raise UsageError(f"heads: {max(chosen)} is out of range: there are {len(out)} heads, 0 to {len(out) - 1}.")
    return torch.stack([out[head] for head in chosen])  # indexing with a list would wait for the device


def _side_by_side(out: Tensor) -> Tensor:
    """(H, F, h, w, d) to features (F, h, w, H*d)."""
    return out.permute(1, 2, 3, 0, 4).flatten(3)
