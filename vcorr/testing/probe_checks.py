"""Checks the contract of probes on invented attention whose correspondences are known.

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
from vcorr.capture.predictions import SUMMARY_PARTS, TRAIT_PART
from vcorr.capture.split import hidden_capture, split_call
from vcorr.capture.tap import AttentionCall
from vcorr.contract.bases import ProbeBase, with_defaults
from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.head_traits import TRAITS
from vcorr.contract.protocols import Positions, Rows, VariantProbe
from vcorr.contract.records import HEAD_MEAN, Site, Unrotated
from vcorr.contract.variants import CORRECTED, DIFFTRACK, Switches
from vcorr.functional.query_points import QueryPoints
from vcorr.testing.report import CheckFunction, Report, expect, make, run_checks

Output = Tensor | Positions | Rows
"""What a probe may return for a head."""
HEADS, WIDTH, TEXT = 4, 32, 3
TENSORS = PARTS - {"mask"}
SHIFT = (2, 1)
"""Columns and rows by which the known motion moves per latent frame."""
GRID = TokenGrid(frames=3, rows=5, cols=7, stride=(16, 8), temporal_ratio=4)
QUERIES = ((3.0, 2.0), (20.5, 9.25), (47.0, 23.0), (8.0, 20.0))
"""Positions whose tokens stay inside the frame under the known motion."""


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
        device: device of the tensors.
        dtypes: dtypes of the tensors; every one is checked.
        skip: names of checks to leave out. A probe that does not find points by the similarity of tokens leaves out
            "finds a still picture" and "finds a known motion".

    For a probe that returns attention summaries (`Rows`), only their form is checked; checks of positions do nothing.
    """
    label, made = make(probe, config)
    suite = _ProbeSuite(made, device)
    checks: list[tuple[str, CheckFunction]] = [("needs are known", suite.needs)]
    for name in dtypes:
        dtype = getattr(torch, name)
        checks.append((f"predictions have the right form in {name}", partial(suite.form, dtype)))
    checks += [
        ("frame 0 is the query", suite.first_frame),
        ("queries may be in a later frame", suite.later_frame),
        ("finds a still picture", lambda: suite.motion((0, 0))),
        ("finds a known motion", lambda: suite.motion(SHIFT)),
        ("one query does not depend on another", suite.independent),
        ("takes a single latent frame", suite.single_frame),
        ("same tensors, same prediction", suite.repeat),
        ("tensors and random state are not changed", suite.side_effects),
    ]
    if isinstance(made, VariantProbe):
        checks.append(("several variants at once give the same as each alone", suite.variants))
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
        outputs = self._read(self._random(dtype))
        for head, output in outputs.items():
            expect(isinstance(head, int) and HEAD_MEAN <= head < HEADS, f"head {head!r} is not -1 or a head.")
            if isinstance(output, (Tensor, Positions)):
                self._expect_positions(head, output)
            else:
                self._expect_rows(head, output)
        return f"heads {sorted(outputs)}"

    def _expect_positions(self, head: int, output: Tensor | Positions) -> None:
        shape = (len(QUERIES), GRID.frames)
        self._expect_tensor(f"head {head}", _xy(output), (*shape, 2))
        if not isinstance(output, Positions):
            return
        if output.visible is not None:
            right = tuple(output.visible.shape) == shape and output.visible.dtype == torch.bool
            expect(right, f"head {head}, visible: not a bool tensor of shape {shape}.")
        if output.confidence is not None:
            self._expect_tensor(f"head {head}, confidence", output.confidence, shape)
            inside = ((output.confidence >= 0) & (output.confidence <= 1)).all()
            expect(bool(inside), f"head {head}, confidence: a value is not in [0, 1].")

    def _expect_rows(self, head: int, rows: Rows) -> None:
        expect(isinstance(rows, Rows), f"head {head}: expected positions or Rows, got {type(rows).__name__}.")
        shapes = {"peak_cross": (len(QUERIES), GRID.frames - 1), **dict.fromkeys(SUMMARY_PARTS, (len(QUERIES),))}
        if getattr(rows, TRAIT_PART, None) is not None:
            shapes[TRAIT_PART] = (len(QUERIES), len(TRAITS))
        for part, shape in shapes.items():
            self._expect_tensor(f"head {head}, {part}", getattr(rows, part), shape)
            inside = (getattr(rows, part) >= 0) & (getattr(rows, part) <= 1.001)
            expect(bool(inside.all()), f"head {head}, {part}: attention weights must be between 0 and 1.")
        total = rows.sum_cross + rows.sum_self + rows.sum_text
        expect(
            bool((total - 1).abs().max() < 1e-2),
            f"head {head}: the three sums of a query point add up to {total.tolist()}, not 1.",
        )

    def _expect_tensor(self, what: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
        expect(
            isinstance(tensor, Tensor) and tuple(tensor.shape) == expected, f"{what}: not a tensor of shape {expected}."
        )
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
                expect(same, f"head {head}, queries in frame {frame}: [:, {latent}] is not the query.")

    def motion(self, shift: tuple[int, int]) -> None:
        # a whole token is found exactly; a refined position may be off towards a neighbour by less than half a token
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
                expect(close, f"head {head}: the prediction for query {index} differs when it is the only query.")

    def single_frame(self) -> None:
        grid = TokenGrid(frames=1, rows=GRID.rows, cols=GRID.cols, stride=GRID.stride)
        for head, xy in self._positions(self._capture(*self._noise(grid), grid=grid)).items():
            expect(tuple(xy.shape) == (len(QUERIES), 1, 2), f"head {head}: shape {tuple(xy.shape)}.")

    def repeat(self) -> None:
        capture = self._random()
        first, second = self._read(capture), self._read(capture)
        expect(first.keys() == second.keys(), "heads differ the second time.")
        same = all(
            torch.equal(one, other)
            for head in first
            for one, other in zip(*map(_parts, (first[head], second[head])), strict=True)
        )
        expect(same, "predictions differ the second time.")

    def variants(self) -> str:
        """Checks a `VariantProbe`: `corrected` equals `read`, and no variant depends on the other variants."""
        capture = self._random(torch.bfloat16)
        variants = [variant for variant in (CORRECTED, DIFFTRACK) if self._takes(variant)]
        kind = self._probe.answers
        expect(kind in ("positions", "rows"), f"answers must be 'positions' or 'rows', got {kind!r}.")
        together = self._read_each(capture, variants)
        expect(len(together) == len(variants), f"read_each() returned {len(together)} of {len(variants)} variants.")
        alone = [self._read_each(capture, [variant])[0] for variant in variants]
        self._expect_same("read_each() of corrected differs from read()", together[0], self._read(capture))
        for one, other in zip(together, alone, strict=True):
            self._expect_same("read_each() of a variant depends on the other variants", one, other)
        kinds = {isinstance(output, (Tensor, Positions)) for output in together[0].values()}
        expect(kinds == {kind == "positions"}, f"answers is {kind!r}, but read_each() does not return {kind}.")
        return str(kind)

    def _takes(self, variant: Switches) -> bool:
        """Returns whether the probe's options are possible under a variant."""
        try:
            with_defaults(self._probe, ProbeBase).check_variants([variant])
        except UsageError:
            return False
        return True

    def _read_each(self, capture: Capture, variants: Sequence[Switches]) -> Sequence[Mapping[int, Output]]:
        with torch.no_grad():
            points = QueryPoints(self._queries)
            found: Sequence[Mapping[int, Output]] = self._probe.read_each(capture, points, variants)
        return found

    def _expect_same(self, what: str, one: Mapping[int, Output], other: Mapping[int, Output]) -> None:
        same = one.keys() == other.keys() and all(
            torch.equal(a, b) for head in one for a, b in zip(*map(_parts, (one[head], other[head])), strict=True)
        )
        expect(same, f"{what}.")

    def side_effects(self) -> None:
        capture = self._random()
        tensors = {part: getattr(capture, part) for part in TENSORS & self._probe.needs}
        before = {part: tensor.clone() for part, tensor in tensors.items()}
        state = torch.random.get_rng_state()
        self._read(capture)
        for part, tensor in tensors.items():
            expect(torch.equal(tensor, before[part]), f"the probe wrote into {part}, which the model goes on to use.")
        expect(
            torch.equal(state, torch.random.get_rng_state()),
            "the probe drew from torch's global random state, which the model may use.",
        )

    def _positions(self, capture: Capture, queries: Tensor | None = None, frame: int = 0) -> Mapping[int, Tensor]:
        outputs = self._read(capture, queries, frame).items()
        return {head: _xy(output) for head, output in outputs if isinstance(output, (Tensor, Positions))}

    def _read(self, capture: Capture, queries: Tensor | None = None, frame: int = 0) -> Mapping[int, Output]:
        with torch.no_grad():
            outputs = self._probe.read(capture, QueryPoints(self._queries if queries is None else queries, frame))
        expect(
            isinstance(outputs, Mapping) and bool(outputs), f"read() must return a mapping of heads, got {outputs!r}."
        )
        found: Mapping[int, Output] = outputs
        return found

    def _random(self, dtype: torch.dtype = torch.float32) -> Capture:
        return self._capture(*self._noise(GRID), grid=GRID, dtype=dtype)

    def _noise(self, grid: TokenGrid) -> list[Tensor]:
        generator = torch.Generator().manual_seed(0)
        return [torch.randn(grid.tokens, HEADS, WIDTH, generator=generator) for _ in range(4)]

    def _moving(self, shift: tuple[int, int]) -> Capture:
        """Makes tokens with random features that all move by `shift` per latent frame and wrap around at the edges."""
        picture = torch.randn(GRID.rows, GRID.cols, HEADS, WIDTH, generator=torch.Generator().manual_seed(1))
        # vectors of equal length, so that a token is most similar to itself; long ones, so that the softmax is sharp
        picture = picture / picture.norm(dim=-1, keepdim=True) * 3 * WIDTH**0.5
        frames = [picture.roll((shift[1] * j, shift[0] * j), dims=(0, 1)) for j in range(GRID.frames)]
        tokens = torch.stack(frames).flatten(0, 2)
        return self._capture(tokens, tokens, tokens, tokens, grid=GRID)

    def _capture(
        self, q: Tensor, k: Tensor, v: Tensor, out: Tensor, *, grid: TokenGrid, dtype: torch.dtype = torch.float32
    ) -> Capture:
        """Makes a capture of tokens (N, H, d), with the strides that models use.

        Text tokens come first, and the first of them is padding. Unrotated q and k equal q and k; so do the q and k of
        positions alone. The hidden state is `out` with its heads concatenated; the latents are this in float32.
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
        concatenated = sequence(out).transpose(1, 2).flatten(2)
        hidden = hidden_capture(concatenated, site, grid, layout, step=0, noise=0.5).hidden
        return capture.replace(hidden=hidden, latent=hidden.float()).restrict_to(needs)


def _xy(output: Tensor | Positions) -> Tensor:
    return output.xy if isinstance(output, Positions) else output


def _parts(output: Output) -> list[Tensor]:
    if isinstance(output, (Tensor, Positions)):
        extras = (output.visible, output.confidence) if isinstance(output, Positions) else ()
        return [_xy(output), *(part for part in extras if part is not None)]
    traits = getattr(output, TRAIT_PART, None)
    return [getattr(output, part) for part in ("peak_cross", *SUMMARY_PARTS)] + ([] if traits is None else [traits])
