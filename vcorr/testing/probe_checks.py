"""The contract of probes, checked on made-up attention with known answers.

Axes: H heads, F x h x w video tokens, d head width, N query points.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vcorr.capture.captures import Capture, TokenLayout
from vcorr.capture.needs import PARTS
from vcorr.capture.predictions import SUMMARY_PARTS
from vcorr.capture.split import hidden_capture, split_call
from vcorr.capture.tap import AttentionCall
from vcorr.contract.bases import ProbeBase, with_defaults
from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.protocols import Positions, Rows, VariantProbe
from vcorr.contract.records import HEAD_MEAN, Site, Unrotated
from vcorr.contract.variants import CORRECTED, DIFFTRACK, Switches
from vcorr.functional.query_points import QueryPoints
from vcorr.testing.report import CheckFunction, Report, expect, make, run_checks

Answer = Tensor | Positions | Rows
HEADS, WIDTH, TEXT = 4, 32, 3
TENSORS = PARTS - {"mask"}
SHIFT = (2, 1)
"""Columns and rows the known motion moves in each latent frame."""
GRID = TokenGrid(frames=3, rows=5, cols=7, stride=(16, 8), temporal_ratio=4)
QUERIES = ((3.0, 2.0), (20.5, 9.25), (47.0, 23.0), (8.0, 20.0))
"""Inside tokens the known motion does not push out of the frame."""


def check_probe(
    probe: Any,
    *,
    config: Any = None,
    device: str = "cpu",
    dtypes: Collection[str] = ("float32", "bfloat16"),
    skip: Collection[str] = (),
) -> Report:
    """Checks a probe against the contract of `vcorr.Probe`.

    Args:
        probe: a ProbeEntry, a class, or the probe itself.
        config: its options; the defaults when None.
        device: where the tensors are.
        dtypes: of the tensors; every one is checked.
        skip: names of checks to leave out. A probe that finds points by other means than similarity of tokens leaves
            out "finds a still picture" and "finds a known motion".

    Rows that a probe answers are held to their form alone; the checks of positions pass over them.
    """
    label, made = make(probe, config)
    suite = _ProbeSuite(made, device)
    checks: list[tuple[str, CheckFunction]] = [("needs are known", suite.needs)]
    for name in dtypes:
        dtype = getattr(torch, name)
        checks.append((f"answers have the right form in {name}", partial(suite.form, dtype)))
    checks += [
        ("frame 0 is the query", suite.first_frame),
        ("queries may be in a later frame", suite.later_frame),
        ("finds a still picture", lambda: suite.motion((0, 0))),
        ("finds a known motion", lambda: suite.motion(SHIFT)),
        ("one query does not depend on another", suite.independent),
        ("takes a single latent frame", suite.single_frame),
        ("same tensors, same answer", suite.repeat),
        ("tensors and random state are left alone", suite.untouched),
    ]
    if isinstance(made, VariantProbe):
        checks.append(("answers several variants as each alone", suite.variants))
    return run_checks(label, checks, skip)


class _ProbeSuite:
    def __init__(self, probe: Any, device: str) -> None:
        self._probe = probe
        self._device = device
        self._queries = torch.tensor(QUERIES)

    def needs(self) -> str:
        needs: Any = getattr(self._probe, "needs", None)
        expect(isinstance(needs, frozenset), f"needs must be a frozenset, got {needs!r}.")
        expect(bool(needs) and needs <= PARTS, f"needs must name some of {sorted(PARTS)}, got {sorted(needs)}.")
        readout = with_defaults(self._probe, ProbeBase).readout
        expect(readout in ("token", "free"), f"readout must be 'token' or 'free', got {readout!r}.")
        return f"needs {', '.join(sorted(needs))}"

    def form(self, dtype: torch.dtype) -> str:
        answers = self._read(self._random(dtype))
        for head, answer in answers.items():
            expect(isinstance(head, int) and HEAD_MEAN <= head < HEADS, f"head {head!r} is not -1 or a head.")
            if isinstance(answer, (Tensor, Positions)):
                self._expect_positions(head, answer)
            else:
                self._expect_rows(head, answer)
        return f"heads {sorted(answers)}"

    def _expect_positions(self, head: int, answer: Tensor | Positions) -> None:
        shape = (len(QUERIES), GRID.frames)
        self._expect_tensor(f"head {head}", _xy(answer), (*shape, 2))
        if not isinstance(answer, Positions):
            return
        if answer.visible is not None:
            right = tuple(answer.visible.shape) == shape and answer.visible.dtype == torch.bool
            expect(right, f"head {head}, visible: not a bool tensor {shape}.")
        if answer.confidence is not None:
            self._expect_tensor(f"head {head}, confidence", answer.confidence, shape)
            inside = ((answer.confidence >= 0) & (answer.confidence <= 1)).all()
            expect(bool(inside), f"head {head}, confidence: a value is not in [0, 1].")

    def _expect_rows(self, head: int, rows: Rows) -> None:
        expect(isinstance(rows, Rows), f"head {head}: neither positions nor rows, but {type(rows).__name__}.")
        shapes = {"peak_cross": (len(QUERIES), GRID.frames - 1), **dict.fromkeys(SUMMARY_PARTS, (len(QUERIES),))}
        for part, shape in shapes.items():
            self._expect_tensor(f"head {head}, {part}", getattr(rows, part), shape)
            inside = (getattr(rows, part) >= 0) & (getattr(rows, part) <= 1.001)
            expect(bool(inside.all()), f"head {head}, {part}: weights of attention are between 0 and 1.")
        total = rows.sum_cross + rows.sum_self + rows.sum_text
        expect(bool((total - 1).abs().max() < 1e-2), f"head {head}: the sums of a row are {total.tolist()}, not 1.")

    def _expect_tensor(self, what: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
        expect(isinstance(tensor, Tensor) and tuple(tensor.shape) == expected, f"{what}: not a tensor {expected}.")
        expect(tensor.is_floating_point(), f"{what}: must be floating point, got {tensor.dtype}.")
        expect(tensor.device.type == torch.device(self._device).type, f"{what}: moved to {tensor.device}.")
        expect(bool(tensor.isfinite().all()), f"{what}: a value is not finite.")

    def first_frame(self) -> None:
        for head, xy in self._positions(self._random()).items():
            expect(torch.equal(xy[:, 0].cpu().float(), self._queries), f"head {head}: [:, 0] is not the query.")

    def later_frame(self) -> None:
        capture = self._moving(SHIFT)
        for frame in (GRID.video_frames - 1, 1):
            latent = GRID.latent_at(frame)
            for head, xy in self._positions(capture, frame=frame).items():
                same = torch.equal(xy[:, latent].cpu().float(), self._queries)
                expect(same, f"head {head}: queries in frame {frame}: [:, {latent}] is not the query.")

    def motion(self, shift: tuple[int, int]) -> None:
        # tokens are found again exactly; a refined position may lean towards neighbours, by less than half a token
        free = with_defaults(self._probe, ProbeBase).readout == "free"
        tolerance = [side / 2 if free else 1e-3 for side in GRID.stride]
        step = torch.tensor([shift[0] * GRID.stride[0], shift[1] * GRID.stride[1]])
        expected = self._queries[:, None] + torch.arange(GRID.frames)[None, :, None] * step
        for head, xy in self._positions(self._moving(shift)).items():
            off = (xy.cpu().float() - expected).abs()
            worst = off.flatten(0, 1).amax(0)
            expect(
                bool((worst <= torch.tensor(tolerance)).all()),
                f"head {head}: off by up to {worst.tolist()} px in (x, y).",
            )

    def independent(self) -> None:
        capture = self._random()
        together = self._positions(capture)
        for index in range(len(QUERIES)):
            for head, xy in self._positions(capture, self._queries[index : index + 1]).items():
                close = torch.allclose(xy[0], together[head][index], atol=1e-2)
                expect(close, f"head {head}: query {index} by itself is answered otherwise.")

    def single_frame(self) -> None:
        grid = TokenGrid(frames=1, rows=GRID.rows, cols=GRID.cols, stride=GRID.stride)
        for head, xy in self._positions(self._capture(*self._noise(grid), grid=grid)).items():
            expect(tuple(xy.shape) == (len(QUERIES), 1, 2), f"head {head}: shape {tuple(xy.shape)}.")

    def repeat(self) -> None:
        capture = self._random()
        first, second = self._read(capture), self._read(capture)
        expect(first.keys() == second.keys(), "other heads the second time.")
        same = all(
            torch.equal(one, other)
            for head in first
            for one, other in zip(*map(_parts, (first[head], second[head])), strict=True)
        )
        expect(same, "other answers the second time.")

    def variants(self) -> str:
        """Of a `VariantProbe`: `corrected` is what `read` answers, and no variant depends on which others are asked."""
        capture = self._random(torch.bfloat16)
        asked = [variant for variant in (CORRECTED, DIFFTRACK) if self._takes(variant)]
        answers = self._probe.answers
        expect(answers in ("positions", "rows"), f"answers must be 'positions' or 'rows', got {answers!r}.")
        together = self._read_each(capture, asked)
        expect(len(together) == len(asked), f"read_each() answered {len(together)} of {len(asked)} variants.")
        alone = [self._read_each(capture, [variant])[0] for variant in asked]
        self._expect_same("read_each() of corrected is not what read() answers", together[0], self._read(capture))
        for one, other in zip(together, alone, strict=True):
            self._expect_same("read_each() answers a variant otherwise beside another", one, other)
        kinds = {isinstance(answer, (Tensor, Positions)) for answer in together[0].values()}
        expect(kinds == {answers == "positions"}, f"answers is {answers!r}, and the answers are others.")
        return str(answers)

    def _takes(self, variant: Switches) -> bool:
        """Whether the probe's options make sense under a variant."""
        try:
            with_defaults(self._probe, ProbeBase).check_variants([variant])
        except UsageError:
            return False
        return True

    def _read_each(self, capture: Capture, variants: Sequence[Switches]) -> Sequence[Mapping[int, Answer]]:
        with torch.no_grad():
            points = QueryPoints(self._queries)
            found: Sequence[Mapping[int, Answer]] = self._probe.read_each(capture, points, variants)
        return found

    def _expect_same(self, what: str, one: Mapping[int, Answer], other: Mapping[int, Answer]) -> None:
        same = one.keys() == other.keys() and all(
            torch.equal(a, b) for head in one for a, b in zip(*map(_parts, (one[head], other[head])), strict=True)
        )
        expect(same, f"{what}.")

    def untouched(self) -> None:
        capture = self._random()
        tensors = {part: getattr(capture, part) for part in TENSORS & self._probe.needs}
        before = {part: tensor.clone() for part, tensor in tensors.items()}
        state = torch.random.get_rng_state()
        self._read(capture)
        for part, tensor in tensors.items():
            expect(torch.equal(tensor, before[part]), f"{part} was written to: the model would compute with it.")
        expect(torch.equal(state, torch.random.get_rng_state()), "random numbers were drawn: the model's would change.")

    def _positions(self, capture: Capture, queries: Tensor | None = None, frame: int = 0) -> Mapping[int, Tensor]:
        answers = self._read(capture, queries, frame).items()
        return {head: _xy(answer) for head, answer in answers if isinstance(answer, (Tensor, Positions))}

    def _read(self, capture: Capture, queries: Tensor | None = None, frame: int = 0) -> Mapping[int, Answer]:
        with torch.no_grad():
            answers = self._probe.read(capture, QueryPoints(self._queries if queries is None else queries, frame))
        expect(
            isinstance(answers, Mapping) and bool(answers), f"read() must return a mapping of heads, got {answers!r}."
        )
        found: Mapping[int, Answer] = answers
        return found

    def _random(self, dtype: torch.dtype = torch.float32) -> Capture:
        return self._capture(*self._noise(GRID), grid=GRID, dtype=dtype)

    def _noise(self, grid: TokenGrid) -> list[Tensor]:
        generator = torch.Generator().manual_seed(0)
        return [torch.randn(grid.tokens, HEADS, WIDTH, generator=generator) for _ in range(4)]

    def _moving(self, shift: tuple[int, int]) -> Capture:
        """Tokens with random features, all moving by `shift` a frame and going round at the edges."""
        picture = torch.randn(GRID.rows, GRID.cols, HEADS, WIDTH, generator=torch.Generator().manual_seed(1))
        # of one length, so that nothing is more like a token than the token itself; long, so that softmax is sharp
        picture = picture / picture.norm(dim=-1, keepdim=True) * 3 * WIDTH**0.5
        frames = [picture.roll((shift[1] * j, shift[0] * j), dims=(0, 1)) for j in range(GRID.frames)]
        tokens = torch.stack(frames).flatten(0, 2)
        return self._capture(tokens, tokens, tokens, tokens, grid=GRID)

    def _capture(
        self, q: Tensor, k: Tensor, v: Tensor, out: Tensor, *, grid: TokenGrid, dtype: torch.dtype = torch.float32
    ) -> Capture:
        """Tokens (N, H, d) as a capture, strided as models stride them, with text before of which the first is padding.

        Before the rotary embedding q and k are the same, and of positions alone too; the hidden state is `out` with its
        heads side by side.
        """

        def sequence(tokens: Tensor) -> Tensor:
            padded = torch.cat([tokens.new_ones(TEXT, HEADS, WIDTH), tokens])
            return padded.to(self._device, dtype)[None].transpose(1, 2)

        mask = torch.arange(TEXT + grid.tokens, device=self._device)[None, None, None] > 0
        call = AttentionCall("attn", q=sequence(q), k=sequence(k), v=sequence(v), out=sequence(out), mask=mask)
        site, layout = Site(0, "attn", HEADS, block="block", unrotated=Unrotated()), TokenLayout("before")
        needs = frozenset(getattr(self._probe, "needs", ()))
        unrotated = {"q": call.q, "k": call.k}
        capture = split_call(
            call,
            site,
            grid,
            layout,
            step=0,
            noise=0.5,
            unrotated=unrotated,
            positions=call,
        )
        side_by_side = sequence(out).transpose(1, 2).flatten(2)
        hidden = hidden_capture(side_by_side, site, grid, layout, step=0, noise=0.5).hidden
        return capture.replace(hidden=hidden).restrict_to(needs)


def _xy(answer: Tensor | Positions) -> Tensor:
    return answer.xy if isinstance(answer, Positions) else answer


def _parts(answer: Answer) -> list[Tensor]:
    if isinstance(answer, (Tensor, Positions)):
        extras = (answer.visible, answer.confidence) if isinstance(answer, Positions) else ()
        return [_xy(answer), *(part for part in extras if part is not None)]
    return [getattr(answer, part) for part in ("peak_cross", *SUMMARY_PARTS)]
