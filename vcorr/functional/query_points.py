"""Query points, checked once on the CPU and turned into the tokens they read."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass

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
    """Checked query points on the device that matches them.

    xy: (N, 2) float32 pixels. tokens: (U,) int64, the distinct tokens that are read, ascending row-major indices.
    index: (N,) int64, which of `tokens` each query reads. weights: None; or, for the field read-out of difftrack,
    (N, 4) float32 weights of the four tokens beside each query, and index is (N, 4) as well. latent: the latent frame
    that the tokens are in, the one that covers the frame of the queries.
    """

    xy: Tensor
    tokens: Tensor
    index: Tensor
    weights: Tensor | None = None
    latent: int = 0


class QueryPoints:
    """Query points of one video frame, as probes get them. Their tokens are looked up once per grid and device.

    Every function of `vcorr.functional` that takes `queries` takes them. What was looked up is kept: a clip's points
    that are read at 1,500 sites are checked and uploaded once for each grid.

    Args:
        xy: (N, 2) raster pixels. They are copied to float32 on the CPU.
        frame: the video frame they are in, counted from 0.

    Attributes:
        xy: (N, 2) float32 on the CPU: looking at them waits for no device. Not to be written into.
        frame: the video frame they are in.
        lookups: how often tokens were looked up, that is how many different look-ups were asked for.

    Raises:
        UsageError: xy are not (N, 2) numbers, or frame is not a whole number of at least 0.
    """

    def __init__(self, xy: Tensor | ArrayLike | QueryPoints, frame: int = 0) -> None:
        self.xy = torch.from_numpy(as_points(xy).copy())
        self.frame = checked_frame(frame)
        self.lookups = 0
        self._located: dict[tuple[TokenGrid, torch.device, str], QueryTokens] = {}

    def __len__(self) -> int:
        return len(self.xy)

    def __repr__(self) -> str:
        return f"QueryPoints({len(self)} points in frame {self.frame})"

    def located(self, grid: TokenGrid, device: torch.device | str, variant: Variant = "corrected") -> QueryTokens:
        """The tokens that matching reads, on `device`; kept for the next call.

        The variants differ in `readout` alone here.

        Raises:
            UsageError: a point lies outside the frame, or no latent covers the frame.
        """
        field = switches_of(variant).readout == "field"
        return self._lookup(grid, device, "field" if field else "token", _locate_samples if field else _locate_own)

    def located_rows(self, grid: TokenGrid, device: torch.device | str, variant: Variant = "corrected") -> QueryTokens:
        """The tokens whose attention rows are read, on `device`; kept for the next call.

        The variants differ in `lookup` alone here. Corrected, they are the tokens that matching reads as well, and one
        look-up serves both.

        Raises:
            UsageError: a point lies outside the frame, or no latent covers the frame.
        """
        own = switches_of(variant).lookup == "own"
        return self._lookup(grid, device, "token" if own else "exchanged", _locate_own if own else _locate_exchanged)

    def _lookup(self, grid: TokenGrid, device: torch.device | str, kind: str, locate: _Locate) -> QueryTokens:
        check_grid(grid)
        key = (grid, torch.device(device), kind)
        if key not in self._located:
            points = checked_points(grid, self)
            self._located[key] = locate(grid, points, device, _query_latent(grid, self.frame))
            self.lookups += 1
        return self._located[key]


_Locate = Callable[[TokenGrid, NDArray[np.float32], torch.device | str, int], QueryTokens]


def query_points(queries: Tensor | ArrayLike | QueryPoints | Queries, query_frame: int = 0) -> QueryPoints:
    """`queries` as `QueryPoints`: they themselves if they are, else points of `query_frame`.

    Raises:
        UsageError: not an (N, 2) array of numbers, `QueryPoints` of another frame than `query_frame` says, or `Queries`
            of several frames.
    """
    if isinstance(queries, Queries):
        queries = _of_one_frame(queries, query_frame)
    if not isinstance(queries, QueryPoints):
        return QueryPoints(queries, query_frame)
    if checked_frame(query_frame) not in (0, queries.frame):
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
    """Checks queries and looks up their tokens; the result can be used for every layer and step on the same grid.

    The work is done on the CPU. Queries that live there are uploaded without waiting for the device; queries that live
    on a GPU must be copied back first, which waits for all work queued on it.

    Args:
        grid: the token grid.
        queries: (N, 2) raster pixels, or `QueryPoints`, which keep what was looked up.
        device: where q and k are.
        query_frame: the video frame the queries are in; `QueryPoints` know theirs.
        variant: "corrected", "difftrack" or `Switches` (`readout`).

    Raises:
        UsageError: not an (N, 2) array of numbers, a position that is not finite or outside the frame, or a frame that
            no latent covers.
    """
    return query_points(queries, query_frame).located(grid, device, variant)


def checked_points(grid: TokenGrid, queries: Tensor | ArrayLike | QueryPoints) -> NDArray[np.float32]:
    """Queries as an (N, 2) float32 array in host memory, all inside the frame.

    Raises:
        UsageError: they are not.
    """
    points = as_points(queries)
    check_grid(grid)
    try:
        grid.check_inside(points)
    except UsageError as error:
        raise UsageError(f"queries: {error.message}", hint=error.hint) from error
    return points


def as_points(queries: Tensor | ArrayLike | QueryPoints) -> NDArray[np.float32]:
    """Queries as an (N, 2) float32 array in host memory.

    Raises:
        UsageError: they are not (N, 2) numbers.
    """
    if isinstance(queries, QueryPoints):
        return np.asarray(queries.xy.numpy())
    numbers = host_numbers("queries", queries, "(N, 2)")
    with np.errstate(over="ignore"):  # what is too large for float32 is outside any frame, as infinity is
        points = numbers.astype(np.float32)
    if points.ndim != 2 or points.shape[1] != 2:
        raise UsageError(f"queries: expected shape (N, 2) with (x, y) last, got {points.shape}.")
    return points


def upload(array: ArrayLike, device: torch.device | str) -> Tensor:
    """A copy of a small host array on `device`, without waiting for the device's queue."""
    # the copy owns its memory: the caller may change the array afterwards
    return torch.from_numpy(np.array(array)).to(device, non_blocking=True)


def _of_one_frame(queries: Queries, query_frame: int) -> QueryPoints:
    frames = [frame for frame, _ in queries.by_frame()] or [query_frame]
    if len(frames) > 1:
        raise UsageError(
            f"queries: {len(queries)} points in {len(frames)} frames; a call takes those of one frame.",
            hint="For each: for frame, index in queries.by_frame(): ... queries[index] ...",
        )
    return QueryPoints(queries.xy, frames[0])


def _query_latent(grid: TokenGrid, frame: int) -> int:
    try:
        return grid.latent_at(frame)
    except UsageError as error:
        raise UsageError(f"query_frame: {error.message}", hint=error.hint) from error


def checked_frame(frame: int) -> int:
    """A frame of a video, counted from 0.

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
    beside = (rows[:, :, None] * grid.cols + cols[:, None]).reshape(-1, 4)
    weights = (down[:, :, None] * across[:, None]).reshape(-1, 4).astype(np.float32)
    tokens, index = np.unique(beside, return_inverse=True)
    index = index.reshape(beside.shape)  # numpy 2.0 and later disagree about its shape
    xy, read, which, shares = (upload(array, device) for array in (points, tokens, index, weights))
    return QueryTokens(xy, read, which, shares, latent)
