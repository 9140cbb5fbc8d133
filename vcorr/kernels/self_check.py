"""Tries the fused kernels on a small case, against float64 in plain torch."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from vcorr.contract.errors import first_line
from vcorr.kernels.segment_rows import weigh_segments
from vcorr.kernels.token_matches import Scores, Slots, Sums, find_best, read_peaks, read_tokens

TOLERANCE = 1e-3
"""How far a value of a check may be off, relative to the largest one."""


def find_fault(device: torch.device) -> str:
    """Runs matching and attention on a small case; returns what went wrong, or "".

    It waits for the device, and compiles two kernels per dtype: the first use in a process takes seconds.

    Raises:
        OutOfMemoryError: of torch; it says nothing about the kernels.
    """
    try:
        wrong = [dtype for dtype in (torch.bfloat16, torch.float32) if not _agrees(device, dtype)]
    except torch.OutOfMemoryError:
        raise  # plain torch needs more
    except Exception as error:  # whatever the compiler or the driver raises: plain torch still computes
        return f"a first try on {device} failed with {type(error).__name__}: {first_line(error)}"
    return f"a first try on {device} gave wrong numbers in {wrong[0]}" if wrong else ""


def correlate(scores: Scores, frame: int) -> Tensor:
    """Returns the correlation of the query tokens with one frame in float64, (A, U, P), as the kernels add it."""
    q, k = scores.q.double(), scores.k.double()
    logits = q[:, scores.own, scores.tokens] @ k[:, frame].mT
    if not scores.softmax:
        return logits
    forward = (logits * scores.scale).softmax(dim=-1)
    if not scores.symmetric:
        return forward
    reverse = (k[:, scores.own] @ q[:, frame].mT * scores.scale).softmax(dim=1)
    return forward + reverse[:, scores.tokens]


def _agrees(device: torch.device, dtype: torch.dtype) -> bool:
    generator = torch.Generator().manual_seed(0)
    # the caller may have another default device or dtype
    draw = partial(torch.randn, generator=generator, device="cpu", dtype=torch.float32)
    q, k = (draw(2, 3, 35, 24).to(device, dtype) for _ in range(2))
    tokens = torch.tensor([0, 3, 17, 34], device=device)
    scores = Scores(q, k, tokens, own=1, scale=0.5)
    best = find_best(scores, Sums(scores.sum_forward(), scores.sum_reverse()), Slots(each=True, with_mean=True))
    return _best_agree(scores, best) and _rows_agree(scores)


def _best_agree(scores: Scores, keys: Tensor) -> bool:
    costs = torch.stack([correlate(scores, frame) for frame in (0, 2)], dim=2)
    costs = torch.cat([costs, costs.sum(dim=0, keepdim=True)])
    chosen = costs.gather(-1, read_tokens(keys)[..., None])[..., 0]
    return bool(
        (chosen >= costs.amax(-1) * (1 - TOLERANCE)).all()
        and torch.allclose(read_peaks(keys).double(), chosen, rtol=TOLERANCE, atol=0)
    )


def _rows_agree(scores: Scores) -> bool:
    q, k, tokens = scores.q, scores.k, scores.tokens
    rows = weigh_segments(scores, k[:, 0, :5], hidden=None)
    keys = torch.cat([k[:, 0, :5], k.flatten(1, 2)], dim=1).double()
    weights = (q[:, scores.own, tokens].double() @ keys.mT * scores.scale).softmax(dim=-1).mean(dim=0)
    parts = torch.split(weights, [5, *[k.shape[2]] * k.shape[1]], dim=1)
    sums, peaks = (torch.stack([reduce(part) for part in parts], dim=1) for reduce in (_sum, _peak))
    return all(
        torch.allclose(got.double(), wanted, rtol=TOLERANCE, atol=0) and math.isfinite(float(got.sum()))
        for got, wanted in ((rows.sums, sums), (rows.peaks, peaks))
    )


def _sum(part: Tensor) -> Tensor:
    return part.sum(dim=1)


def _peak(part: Tensor) -> Tensor:
    return part.amax(dim=1)
