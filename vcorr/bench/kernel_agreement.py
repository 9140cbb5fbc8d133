"""Compares the fused kernels with float64 on drawn cases, and says how often they find the same token."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from vcorr.bench.measuring import Progress
from vcorr.bench.side_tasks import Deadline, run_tasks
from vcorr.kernels.segment_rows import weigh_segments
from vcorr.kernels.self_check import correlate
from vcorr.kernels.tilings import interprets
from vcorr.kernels.token_matches import Scores, Slots, Sums, find_best, read_peaks, read_tokens
from vcorr.kernels.token_rows import RowSums, write_rows
from vcorr.kernels.token_sums import sum_frames

ROUNDING = 1e-5
"""Two correlations count as equal up to rounding if they differ by less than this share, for small logits.

A logit of size x has an error of about x times `LOGIT_ERROR` in float32, and its exponential the same relative error.
"""

LOGIT_ERROR = 2.0**-22
"""Relative error of a sum of products in float32."""

SHARPNESS = (0.5, 1.0, 3.0, 20.0)
"""Factors on the vectors: from flat softmaxes to logits in the thousands."""


@dataclass(frozen=True)
class Agreement:
    """How far one kernel agrees with float64, over all cases of one dtype.

    Attributes:
        kernel: what was computed.
        dtype: of the tokens.
        cases: number of drawn cases.
        results: number of best tokens, or of summaries.
        equal: results with the token of float64; summaries within rounding of float64.
        rounding: results with another token, whose correlation in float64 is the same up to rounding.
        wrong: all other results.
        largest_error: largest relative error of a peak, or absolute error of a probability.
    """

    kernel: str
    dtype: str
    cases: int = 0
    results: int = 0
    equal: int = 0
    rounding: int = 0
    wrong: int = 0
    largest_error: float = 0.0

    def add(self, other: Agreement) -> Agreement:
        """Returns the counts of two sets of cases of the same kernel and dtype."""
        return Agreement(
            self.kernel,
            self.dtype,
            self.cases + other.cases,
            self.results + other.results,
            self.equal + other.equal,
            self.rounding + other.rounding,
            self.wrong + other.wrong,
            max(self.largest_error, other.largest_error),
        )


@dataclass(frozen=True)
class DrawnCase:
    """One drawn case. q, k: (A, F, P, d). text: (A, n, d). hidden: (n,) bool. tokens: (U,) in frame `own`."""

    q: Tensor
    k: Tensor
    text: Tensor
    hidden: Tensor
    tokens: Tensor
    own: int

    @property
    def scale(self) -> float:
        """1/sqrt(d)."""
        return float(self.q.shape[-1] ** -0.5)

    @property
    def rounding(self) -> float:
        """The relative difference of two correlations that float32 cannot tell apart."""
        longest = max(float(torch.linalg.vector_norm(part.double(), dim=-1).max()) for part in (self.q, self.k))
        return ROUNDING + LOGIT_ERROR * longest**2 * self.scale


@dataclass(frozen=True)
class Drawing:
    """What is drawn. cases: per dtype. widths: of a head, which the cases take in turns; each is compiled anew."""

    cases: int
    seed: int
    widths: Sequence[int]


def measure_agreement(
    device: torch.device,
    dtypes: Sequence[torch.dtype],
    drawing: Drawing,
    say: Progress,
    *,
    threads: int = 1,
    deadline: Deadline | None = None,
) -> list[Agreement]:
    """Draws cases and compares every kernel with float64.

    Args:
        device: of the kernels.
        dtypes: of the tokens.
        drawing: the cases.
        say: gets one line of progress per case.
        threads: comparisons at a time. Most of their time goes to the compiler.
        deadline: the end of the measurement; what was compared until then counts.
    """
    began, end = time.monotonic(), deadline or Deadline()
    found: dict[tuple[str, str], Agreement] = {}
    open_parts = {(index, dtype): COMPARISONS for index in range(drawing.cases) for dtype in _slowest_first(dtypes)}
    tasks = [partial(_compare, *case, number, drawing, device) for case in open_parts for number in range(COMPARISONS)]
    for one, index, case in run_tasks(tasks, threads, end):
        key = (one.kernel, one.dtype)
        found[key] = found.get(key, Agreement(*key)).add(one)
        open_parts[index, case.q.dtype] -= 1
        if not open_parts[index, case.q.dtype]:
            done, wrong = sum(not left for left in open_parts.values()), sum(each.wrong for each in found.values())
            where = f"case {done} of {len(open_parts)}, {one.dtype}: {' x '.join(map(str, case.q.shape))}"
            say(f"{where}, {wrong} wrong so far ({time.monotonic() - began:.0f} s)")
    return [found[key] for key in sorted(found)]


def _slowest_first(dtypes: Sequence[torch.dtype]) -> list[torch.dtype]:
    """Returns float32 first: its products have no unit of their own, so their code is long and compiles slowly."""
    return sorted(dtypes, key=lambda dtype: dtype != torch.float32)


def _compare(
    index: int, dtype: torch.dtype, number: int, drawing: Drawing, device: torch.device
) -> tuple[Agreement, int, DrawnCase]:
    """Returns one comparison of a case, the index of the case, and the case, which is drawn for it."""
    random = np.random.default_rng((drawing.seed, index))
    with torch.no_grad():  # a thread has its own mode
        case = draw_case(random, device, dtype, drawing.widths[index % len(drawing.widths)])
        return list(_list_comparisons(case))[number](), index, case


def draw_case(random: np.random.Generator, device: torch.device, dtype: torch.dtype, width: int) -> DrawnCase:
    """Draws sizes, layout and vectors; small ones for the interpreter.

    On a GPU the number of heads is even, so that strides differ as little as Triton's compiler tells apart.
    """
    small = interprets()
    heads = int(random.integers(1, 3)) if small else int(random.choice((2, 4, 6)))
    frames, tokens = int(random.integers(2, 4 if small else 6)), int(random.integers(1, 40 if small else 1600))
    words, own = int(random.integers(0, 40 if small else 300)), int(random.integers(frames))
    sharp = float(random.choice(SHARPNESS))
    generator = torch.Generator(device).manual_seed(int(random.integers(1 << 31)))

    def draw(*shape: int) -> Tensor:
        return (torch.randn(shape, generator=generator, device=device) * sharp).to(dtype)

    # heads last in memory, as many models keep them
    q, k = (draw(frames, tokens, heads, width).permute(2, 0, 1, 3) for _ in range(2))
    picked = np.sort(random.choice(tokens, size=int(random.integers(1, tokens + 1)), replace=False))
    hidden = torch.rand(words, generator=generator, device=device) < 0.3
    return DrawnCase(q, k, draw(heads, words, width), hidden, torch.from_numpy(picked).to(device), own)


_SLOTS = {"": Slots(each=False, with_mean=True), ", each head": Slots(each=True, with_mean=True)}
"""What `match` reads, by the end of a kernel's name: the mean over heads, or each head and the mean."""


COMPARISONS = 9
"""How many comparisons a case has: one per kernel and way of matching."""


def _list_comparisons(case: DrawnCase) -> Iterator[Callable[[], Agreement]]:
    for name, scores in {
        "both directions": Scores(case.q, case.k, case.tokens, case.own, case.scale),
        "one direction": Scores(case.q, case.k, case.tokens, case.own, case.scale, symmetric=False),
        "a tensor with itself": Scores(case.k, case.k, case.tokens, case.own, case.scale),
    }.items():
        for end, slots in _SLOTS.items():
            yield partial(_compare_best, f"match, {name}{end}", scores, slots, case.rounding)
    raw = Scores(case.k, case.k, case.tokens, case.own, 1.0, softmax=False, symmetric=False)
    yield partial(_compare_best, "match_features", raw, _SLOTS[""], ROUNDING)
    yield partial(_compare_tracked, case)
    yield partial(_compare_rows, case)


def _compare_best(name: str, scores: Scores, slots: Slots, rounding: float) -> Agreement:
    """Compares the best tokens of all slots with float64."""
    result = Agreement(name, _name(scores.q.dtype), cases=1)
    sums = None
    if scores.softmax:
        sums = Sums(scores.sum_forward(), scores.sum_reverse() if scores.both else None)
    keys = find_best(scores, sums, slots)
    best, peaks = read_tokens(keys), read_peaks(keys)
    frames = [frame for frame in range(scores.q.shape[1]) if frame != scores.own]
    for job, frame in enumerate(frames):
        costs = correlate(scores, frame)
        costs = torch.cat([costs, costs.sum(dim=0, keepdim=True)])[-len(best) :]
        top, expected = costs.max(dim=-1)
        chosen = best[..., job]
        reached = costs.gather(-1, chosen[..., None])[..., 0]
        size = costs.abs().amax(dim=-1)
        equal = chosen == expected
        close = ~equal & (top - reached <= rounding * size)
        error = ((peaks[..., job].double() - reached).abs() / size).max()
        result = result.add(_count(result, equal, close, float(error)))
    return result


def _compare_tracked(case: DrawnCase) -> Agreement:
    """Compares the rows that a tracker reads, and the rows of the way back, with float64."""
    frames = [case.own, *(frame for frame in range(case.q.shape[1]) if frame != case.own)]
    q, k = (torch.stack([part[:, frame] for frame in frames], dim=1) for part in (case.q, case.k))
    back = torch.stack([case.tokens.roll(job) for job in range(len(frames) - 1)])
    forward = sum_frames(q, k, own=0, scale=case.scale)
    reverse = sum_frames(q, k, own=0, scale=case.scale, moving_left=True)
    write = partial(write_rows, q, k, scale=case.scale, share=1 / len(q))
    rows = write(case.tokens, RowSums(forward, True, reverse))
    back_rows = write(back, RowSums(reverse, True, forward), back=True)
    every = Scores(q, k, torch.arange(q.shape[2], device=q.device), 0, case.scale)
    errors = []
    for job, tokens in enumerate(back):
        cost = correlate(every, job + 1).mean(dim=0)  # (P, P)
        errors += [rows[job].double() - cost[case.tokens], back_rows[job].double() - cost[:, tokens].T]
    error = torch.stack(errors).abs()
    blank = Agreement("rows of a tracker", _name(q.dtype), cases=1)
    close = torch.zeros_like(error, dtype=torch.bool)
    return blank.add(_count(blank, error <= 2 * case.rounding, close, float(error.max())))


def _compare_rows(case: DrawnCase) -> Agreement:
    result = Agreement("attention_rows", _name(case.q.dtype), cases=1)
    scores = Scores(case.q, case.k, case.tokens, case.own, case.scale)
    rows = weigh_segments(scores, case.text, hidden=case.hidden)
    keys = torch.cat([case.text, case.k.flatten(1, 2)], dim=1).double()
    logits = case.q[:, case.own, case.tokens].double() @ keys.mT * case.scale
    logits[..., : len(case.hidden)].masked_fill_(case.hidden, -math.inf)
    weights = logits.softmax(dim=-1).mean(dim=0)
    parts = torch.split(weights, [len(case.hidden), *[case.k.shape[2]] * case.k.shape[1]], dim=1)
    sums = torch.stack([part.sum(dim=1) for part in parts], dim=1)
    peaks = torch.stack([part.amax(dim=1) if part.shape[1] else part.sum(dim=1) for part in parts], dim=1)
    errors = torch.maximum((rows.sums.double() - sums).abs(), (rows.peaks.double() - peaks).abs())
    return result.add(
        _count(result, errors <= case.rounding, torch.zeros_like(errors, dtype=torch.bool), float(errors.max()))
    )


def _count(blank: Agreement, equal: Tensor, close: Tensor, error: float) -> Agreement:
    counts = (equal.numel(), int(equal.sum()), int(close.sum()))
    return Agreement(blank.kernel, blank.dtype, 0, *counts, counts[0] - counts[1] - counts[2], error)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
