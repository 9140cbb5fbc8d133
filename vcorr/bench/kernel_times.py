"""Times the fused kernels against plain torch, at the size of one layer of CogVideoX-2B."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from vcorr.bench.measuring import Progress
from vcorr.bench.side_tasks import Deadline, run_tasks
from vcorr.bench.timing import settle, time_in_turns, time_run
from vcorr.contract.geometry import TokenGrid
from vcorr.data.query_grids import query_grid
from vcorr.functional.api import match, match_features
from vcorr.functional.attention import attention_rows
from vcorr.functional.query_points import QueryPoints
from vcorr.kernels.kernel_choice import Mode, use_kernels
from vcorr.kernels.tilings import TileSizeError, Tiling, force_tiling
from vcorr.kernels.token_matches import Scores, Slots, Sums, find_best
from vcorr.kernels.token_sums import merge_tokens

TILINGS = tuple(
    Tiling(rows, columns, 64, warps, stages, registers)
    for rows, columns in ((64, 64), (64, 128), (128, 64), (128, 128))
    for warps in (4, 8)
    for stages in (2, 3, 4)
    for registers in (None, 168)  # with 168, three programs of four warps fit on a multiprocessor of Hopper
)
"""Tilings that `time_tilings` tries."""


@dataclass(frozen=True)
class LayerSize:
    """The size of one layer: heads, width of a head, text tokens, and the grid of video tokens."""

    heads: int
    width: int
    text: int
    grid: TokenGrid


COGVIDEOX_2B = LayerSize(30, 64, 226, TokenGrid(13, 30, 45, (16, 16), video_frames=49, temporal_ratio=4))
"""One layer of CogVideoX-2B, for 49 frames of 480 x 720 pixels."""

SMALL = LayerSize(1, 8, 3, TokenGrid(2, 2, 3, (16, 16), video_frames=5, temporal_ratio=4))
"""A layer that the interpreter computes in seconds. Its times mean nothing."""


@dataclass(frozen=True)
class KernelTime:
    """The time of one function for one layer.

    Attributes:
        function: what was computed.
        points: number of query points.
        fused_ms, plain_ms: medians over the pairs, in milliseconds.
        ratio: median over the pairs of fused time / plain time.
        fused_mib, plain_mib: peak memory beyond the tensors of the layer; NaN on a CPU.
    """

    function: str
    points: int
    fused_ms: float
    plain_ms: float
    ratio: float
    fused_mib: float
    plain_mib: float


@dataclass(frozen=True)
class TilingTime:
    """The time of one pass with one tiling. error: why there is none; then ms is NaN."""

    kernel: str
    tiling: Tiling
    ms: float
    error: str = ""


def time_kernels(
    device: torch.device,
    dtype: torch.dtype,
    size: LayerSize,
    pairs: int,
    say: Progress,
    *,
    threads: int = 1,
    deadline: Deadline | None = None,
) -> list[KernelTime]:
    """Measures every function with 400 points and with every token of frame 0, plain and fused in turns.

    say: gets one line of progress per function. threads: functions that are compiled at a time, before all times.
    deadline: the end of the measurement; functions that were not timed until then are left out.
    """
    found: list[KernelTime] = []
    end = deadline or Deadline()
    layer = _draw_layer(size, device, dtype)
    some, every = _list_points(size.grid)
    for _ in run_tasks([partial(_compile, run) for _, run in _list_runs(layer, size, some)], threads, end):
        pass
    for points in (some, every):
        for name, run in _list_runs(layer, size, points):
            if not end.allows():
                return found
            found.append(_time_pair(name, len(points), run, str(device), pairs))
            say(f"{name}, {len(points)} points: {found[-1].fused_ms:.3f} ms fused, {found[-1].plain_ms:.3f} ms plain")
    return found


def _compile(run: Callable[[], object]) -> None:
    with torch.no_grad(), use_kernels("fused"):  # a thread has its own modes
        run()


def time_tilings(
    device: torch.device,
    dtype: torch.dtype,
    size: LayerSize,
    tilings: tuple[Tiling, ...],
    say: Progress,
    *,
    deadline: Deadline | None = None,
) -> list[TilingTime]:
    """Measures both passes of `match` with each tiling, for every token of frame 0; the fastest first.

    say: gets one line of progress per tiling. deadline: the end of the measurement, as for `time_kernels`.
    """
    end = deadline or Deadline()
    layer = _draw_layer(size, device, dtype)
    q, k = merge_tokens(layer.q), merge_tokens(layer.k)
    scores = Scores(q, k, torch.arange(q.shape[2], device=device), 0, size.width**-0.5)
    sums = Sums(scores.sum_forward(), scores.sum_reverse())
    passes: dict[str, Callable[[], object]] = {
        "sums, forward": scores.sum_forward,
        "sums, reverse": scores.sum_reverse,
        "costs": partial(find_best, scores, sums, Slots(each=False, with_mean=True)),
    }
    found = []
    for name, run in passes.items():
        for tiling in itertools.takewhile(lambda _: end.allows(), tilings):
            found.append(_time_tiling(name, tiling, run, str(device)))
            say(f"{name}, {tiling}: {found[-1].error or f'{found[-1].ms:.3f} ms'}")
    return sorted(found, key=lambda one: (one.kernel, bool(one.error), one.ms))


@dataclass(frozen=True)
class _Layer:
    """q, k: (H, F, h, w, d). text: (H, n, d). features: (F, h, w, H*d)."""

    q: Tensor
    k: Tensor
    text: Tensor
    features: Tensor


def _draw_layer(size: LayerSize, device: torch.device, dtype: torch.dtype) -> _Layer:
    generator = torch.Generator(device).manual_seed(0)
    shape = (size.heads, size.grid.frames, size.grid.rows, size.grid.cols, size.width)
    q, k = (torch.randn(shape, generator=generator, device=device).to(dtype) for _ in range(2))
    text = torch.randn(size.heads, size.text, size.width, generator=generator, device=device).to(dtype)
    return _Layer(q, k, text, k.permute(1, 2, 3, 0, 4).flatten(3))


def _list_points(grid: TokenGrid) -> list[QueryPoints]:
    some = query_grid(20, round(grid.height), round(grid.width))
    return [QueryPoints(some), QueryPoints(grid.centres)]


def _list_runs(layer: _Layer, size: LayerSize, points: QueryPoints) -> Iterator[tuple[str, Callable[[], object]]]:
    grid = size.grid
    yield "match", partial(match, layer.q, layer.k, grid, points)
    yield "match, each head", partial(match, layer.q, layer.k, grid, points, heads="each")
    yield "match, one direction", partial(match, layer.q, layer.k, grid, points, symmetric=False)
    yield "match, radius 2", partial(match, layer.q, layer.k, grid, points, radius=2)
    yield "match, a tensor with itself", partial(match, layer.k, layer.k, grid, points)
    yield "match_features", partial(match_features, layer.features, grid, points)
    yield "attention_rows", partial(attention_rows, layer.q, layer.k, layer.text, grid, points)


def _time_pair(name: str, points: int, run: Callable[[], object], device: str, pairs: int) -> KernelTime:
    def run_as(mode: Mode) -> None:
        with use_kernels(mode):
            run()

    base = _read_memory(device)
    turns = time_in_turns({"fused": partial(run_as, "fused"), "plain": partial(run_as, "plain")}, device, pairs)
    return KernelTime(
        name,
        points,
        turns.ms("fused"),
        turns.ms("plain"),
        turns.ratio("fused", "plain"),
        turns.gib("fused") * 1024 - base,
        turns.gib("plain") * 1024 - base,
    )


def _time_tiling(name: str, tiling: Tiling, run: Callable[[], object], device: str) -> TilingTime:
    blank = TilingTime(name, tiling, float("nan"))
    try:
        with force_tiling(tiling):
            run()
            settle(device)
            return replace(blank, ms=statistics.median(time_run(run, device).ms for _ in range(5)))
    except TileSizeError:
        return replace(blank, error="does not fit")


def _read_memory(device: str) -> float:
    return torch.cuda.memory_allocated(device) / 2**20 if torch.device(device).type == "cuda" else 0.0
