"""Checks query points once on the CPU and looks up their tokens."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid, check_grid
from vcorr.contract.records import Queries
from vcorr.contract.variants import Variant, switches_of
from vcorr.functional.arguments import host_numbers
from vcorr.metrics.published_field import field_samples, find_exchanged_tokens


@dataclass(frozen=True)
class QueryTokens:
    """Checked query points, on the device that matches them.

    xy: (N, 2) float32 pixels.
    tokens: (U,) int64, the distinct tokens to read, as ascending row-major indices.
    index: (N,) int64, which of `tokens` each query reads; (N, 4) for the field read-out of difftrack.
    weights: (N, 4) float32, bilinear weights of the four tokens around each query, for the field read-out of difftrack;
    else None.
    latent: the latent frame of the tokens, which covers the frame of the queries.
    landings: what reads positions for these tokens (`vcorr.functional.landing`), by grid and radius.
    """

    xy: Tensor
    tokens: Tensor
    index: Tensor
    weights: Tensor | None = None
    latent: int = 0
    landings: dict[tuple[TokenGrid, int], Any] = field(default_factory=dict, repr=False, compare=False)


class QueryPoints:
    """Query points of one video frame, as probes get them. Their tokens are looked up once per grid and device.

    Every function of `vcorr.functional` with the argument `queries` takes them. They keep what was looked up: points
    that are read at 1,500 sites are checked and uploaded once per grid.

    Args:
        xy: (N, 2) raster pixels; copied to float32 on the CPU.
        frame: the video frame of the points, counted from 0.

    Attributes:
        xy: (N, 2) float32 on the CPU, so reading them waits for no device. Do not write into it.
        frame: the video frame of the points.
        lookups: number of look-ups so far; a repeated one does not count.

    Raises:
        UsageError: xy is not (N, 2) numbers, or frame is not a whole number of at least 0.
    """

    def __init__(self, xy: Tensor | ArrayLike | QueryPoints, frame: int = 0) -> None:
        self.xy = torch.from_numpy(as_points(xy).copy())
        self.frame = check_frame(frame)
        self.lookups = 0
        self._located: dict[tuple[TokenGrid, torch.device, str], QueryTokens] = {}

    def __len__(self) -> int:
        return len(self.xy)

    def __repr__(self) -> str:
        return f"QueryPoints({len(self)} points in frame {self.frame})"

    def locate(self, grid: TokenGrid, device: torch.device | str, variant: Variant = "corrected") -> QueryTokens:
        """Returns the tokens that matching reads, on `device`, and keeps them for the next call.

        Of the variant, only `readout` matters here.

        Raises:
            UsageError: a point lies outside the frame, or no latent covers the frame.
        """
        field = switches_of(variant).readout == "field"
        return self._lookup(grid, device, "field" if field else "token", _locate_samples if field else _locate_own)

    def locate_rows(self, grid: TokenGrid, device: torch.device | str, variant: Variant = "corrected") -> QueryTokens:
        """Returns the tokens whose attention is summarised, on `device`, and keeps them for the next call.

        Of the variant, only `lookup` matters here. In corrected they are the tokens that matching reads, so both share
        one look-up.

        Raises:
            UsageError: a point lies outside the frame, or no latent covers the frame.
        """
        own = switches_of(variant).lookup == "own"
        return self._lookup(grid, device, "token" if own else "exchanged", _locate_own if own else _locate_exchanged)

    def _lookup(self, grid: TokenGrid, device: torch.device | str, kind: str, locate: _Locate) -> QueryTokens:
        check_grid(grid)
        key = (grid, torch.device(device), kind)
        if key not in self._located:
            points = check_points(grid, self)
            self._located[key] = locate(grid, points, device, _query_latent(grid, self.frame))
            self.lookups += 1
        return self._located[key]


_Locate = Callable[[TokenGrid, NDArray[np.float32], torch.device | str, int], QueryTokens]


def query_points(queries: Tensor | ArrayLike | QueryPoints | Queries, query_frame: int = 0) -> QueryPoints:
    """Returns `queries` as `QueryPoints`; an array is taken as points in `query_frame`.

    Raises:
        UsageError: `queries` is not an (N, 2) array of numbers, is in another frame than `query_frame`, or is `Queries`
            in several frames.
    """
    if isinstance(queries, Queries):
        queries = _of_one_frame(queries, query_frame)
    if not isinstance(queries, QueryPoints):
        return QueryPoints(queries, query_frame)
    if check_frame(query_frame) not in (0, queries.frame):
        raise UsageError(
            f"query_frame: got {query_frame}, but these queries are in frame {queries.frame}.",
            hint="QueryPoints know their frame: leave query_frame out.",
        )
    return queries


def locate_queries(
    grid: TokenGrid,
    queries: Tensor | ArrayLike | QueryPoints,
    device: torch.device | str,
    *,
    query_frame: int = 0,
    variant: Variant = "corrected",
) -> QueryTokens:
    """Checks queries and looks up their tokens, for every layer and step on the same grid.

    The work is done on the CPU. Queries on the CPU are uploaded without waiting for the device. Queries on a GPU must
    be copied back first, which waits for all work queued on it.

    Args:
        grid: the token grid.
        queries: (N, 2) raster pixels, or `QueryPoints`, which keep what was looked up.
        device: device of q and k.
        query_frame: the video frame of the queries; `QueryPoints` know theirs.
        variant: "corrected", "difftrack" or `Switches` (`readout`).

    Raises:
        UsageError: `queries` is not an (N, 2) array of numbers, a position is not finite or outside the frame, or no
            latent covers the frame.
    """
    return query_points(queries, query_frame).locate(grid, device, variant)


def check_points(grid: TokenGrid, queries: Tensor | ArrayLike | QueryPoints) -> NDArray[np.float32]:
    """Checks that queries lie inside the frame; returns them as an (N, 2) float32 array in host memory.

    Raises:
        UsageError: a query lies outside, or they are not (N, 2) numbers.
    """
    points = as_points(queries)
    check_grid(grid)
    try:
        grid.check_inside(points)
    except UsageError as error:
        raise UsageError(f"queries: {error.message}", hint=error.hint) from error
    return points


def as_points(queries: Tensor | ArrayLike | QueryPoints) -> NDArray[np.float32]:
    """Returns queries as an (N, 2) float32 array in host memory.

    Raises:
        UsageError: they are not (N, 2) numbers.
    """
    if isinstance(queries, QueryPoints):
        return np.asarray(queries.xy.numpy())
    numbers = host_numbers("queries", queries, "(N, 2)")
    with np.errstate(over="ignore"):  # a number too large for float32 becomes infinity, which is outside any frame
        points = numbers.astype(np.float32)
    if points.ndim != 2 or points.shape[1] != 2:
        raise UsageError(f"queries: expected shape (N, 2) with (x, y) last, got {points.shape}.")
    return points


def upload(array: ArrayLike, device: torch.device | str) -> Tensor:
    """Copies a small host array to `device`, without waiting for the device's queue."""
    # the copy owns its memory: the caller may change the array afterwards
    return torch.from_numpy(np.array(array)).to(device, non_blocking=True)


def _of_one_frame(queries: Queries, query_frame: int) -> QueryPoints:
    frames = [frame for frame, _ in queries.by_frame()] or [query_frame]
    if len(frames) > 1:
        raise UsageError(
            f"queries: {len(queries)} points in {len(frames)} frames; a call takes points in one frame.",
            hint="For each: for frame, index in queries.by_frame(): ... queries[index] ...",
        )
    return QueryPoints(queries.xy, frames[0])


def _query_latent(grid: TokenGrid, frame: int) -> int:
    try:
        return grid.latent_at(frame)
    except UsageError as error:
        raise UsageError(f"query_frame: {error.message}", hint=error.hint) from error


def check_frame(frame: int) -> int:
    """Checks the number of a video frame, counted from 0, and returns it.

    Raises:
        UsageError: it is not a whole number of at least 0.
    """
    try:
        whole = operator.index(frame)
    except TypeError:
        whole = -1
    if isinstance(frame, bool) or whole < 0:
        raise UsageError(f"query_frame: expected the number of a video frame, counted from 0, got {frame!r}.")
    return whole


def _locate_own(grid: TokenGrid, points: NDArray[np.float32], device: torch.device | str, latent: int) -> QueryTokens:
    tokens, index = np.unique(grid.tokens_at(points), return_inverse=True)
    return QueryTokens(upload(points, device), upload(tokens, device), upload(index, device), latent=latent)


def _locate_exchanged(
    grid: TokenGrid, points: NDArray[np.float32], device: torch.device | str, latent: int
) -> QueryTokens:
    tokens = upload(find_exchanged_tokens(grid, points), device)
    return QueryTokens(upload(points, device), tokens, torch.arange(len(tokens), device=device), latent=latent)


def _locate_samples(
    grid: TokenGrid, points: NDArray[np.float32], device: torch.device | str, latent: int
) -> QueryTokens:
    samples = field_samples(grid, points)
    (cols, rows), (across, down) = samples.corners.transpose(1, 0, 2), samples.weights.transpose(1, 0, 2)
    corners = (rows[:, :, None] * grid.cols + cols[:, None]).reshape(-1, 4)
    weights = (down[:, :, None] * across[:, None]).reshape(-1, 4).astype(np.float32)
    tokens, index = np.unique(corners, return_inverse=True)
    index = index.reshape(corners.shape)  # its shape differs between numpy 2.0 and later versions
    xy, read, which, shares = (upload(array, device) for array in (points, tokens, index, weights))
    return QueryTokens(xy, read, which, shares, latent)
