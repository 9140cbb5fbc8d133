"""Measures what reading one site costs a process, if all processes join the heads or add up over heads.

    python tests/support/joint_costs.py

It forks processes that exchange tensors through gloo on the CPU, one thread each. The tensors are random, in bfloat16,
of the size of a layer of Wan 2.1 1.3B on a small video. It prints the processor time of the slowest process in the
fastest of five rounds, and the size of what the processes exchange.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, distributed

from vcorr.capture.ranks import Ranks
from vcorr.contract.geometry import TokenGrid
from vcorr.functional.attention import attention_token_rows
from vcorr.functional.matching import Reading, match_joined_heads, match_readings
from vcorr.functional.query_points import QueryTokens, locate_queries

HEADS, WIDTH, POINTS, COUNTS, ROUNDS = 12, 128, 400, (2, 4), 5
GRID = TokenGrid(frames=9, rows=18, cols=30, stride=(16, 16), temporal_ratio=4)


def match_qk(q: Tensor, k: Tensor, points: QueryTokens, ranks: Ranks) -> None:
    """Matches as `qk` does."""
    match_readings(q, k, GRID, [Reading(points)], share=ranks.share)


def match_features(q: Tensor, k: Tensor, points: QueryTokens, ranks: Ranks) -> None:
    """Matches one tensor as `feature` does."""
    match_joined_heads(q, GRID, points, share=ranks.share)


def summarise(q: Tensor, k: Tensor, points: QueryTokens, ranks: Ranks) -> None:
    """Summarises attention as `attention` does."""
    attention_token_rows(q, k, k.new_empty(len(k), 0, WIDTH), GRID, points, share=ranks.share)


PROBES: dict[str, tuple[Callable[..., None], int]] = {
    "qk": (match_qk, 2),
    "feature": (match_features, 1),
    "attention": (summarise, 2),
}
"""What computes, and how many tensors it reads."""
ALONE = Ranks()


def measure(compute: Callable[..., None], tensors: int, points: QueryTokens, processes: int, *, joins: bool) -> float:
    """Returns the processor time of the slowest process in the fastest round, in seconds."""
    return min(_round(compute, tensors, points, processes, joins=joins) for _ in range(ROUNDS))


def _round(compute: Callable[..., None], tensors: int, points: QueryTokens, processes: int, *, joins: bool) -> float:
    with tempfile.TemporaryDirectory() as folder:
        children = [
            _fork(partial(_work, compute, tensors, points, rank, processes, joins, Path(folder)))
            for rank in range(processes)
        ]
        codes = [os.waitpid(child, 0)[1] for child in children]
        assert not any(codes), codes
        return max(float(path.read_text()) for path in Path(folder).glob("*.seconds"))


def _fork(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _work(compute, tensors, points, rank, processes, joins, folder) -> None:
    ranks = ALONE
    if processes > 1:
        store = torch._C._distributed_c10d.FileStore(str(folder / "store"), processes)
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=processes)
        ranks = Ranks(processes)
    generator = torch.Generator().manual_seed(rank)
    shape = (HEADS // processes, GRID.frames, GRID.rows, GRID.cols, WIDTH)
    q, k = (torch.randn(shape, generator=generator).bfloat16() for _ in range(2))
    ranks.mean(torch.zeros(1))  # the first call connects the processes
    began = time.process_time()
    if joins:
        q, k = (ranks.join_heads(tensor) if number < tensors else tensor for number, tensor in enumerate((q, k)))
    compute(q, k, points, ALONE if joins else ranks)
    (folder / f"{rank}.seconds").write_text(str(time.process_time() - began))


def main() -> None:
    """Prints the table."""
    torch.set_num_threads(1)
    xy = np.random.default_rng(0).uniform(0, 1, (POINTS, 2)) * [GRID.width, GRID.height]
    points = locate_queries(GRID, xy, "cpu")
    rows = 4 * len(points.tokens) * GRID.tokens_per_frame * (GRID.frames - 1) / 1e6
    each = 2 * HEADS * WIDTH * GRID.tokens / 1e6
    _say(f"{HEADS} heads, {GRID.tokens} tokens, {len(points.tokens)} query tokens; rows of other frames {rows:.1f} MB")
    for name, (compute, tensors) in PROBES.items():
        alone = measure(compute, tensors, points, 1, joins=False)
        _say(f"{name}: 1 process {alone:.3f} s; tensors of all heads {tensors * each:.1f} MB")
        for processes in COUNTS:
            joined, added = (measure(compute, tensors, points, processes, joins=joins) for joins in (True, False))
            _say(f"{name}: {processes} processes, heads joined {joined:.3f} s, added up {added:.3f} s")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
