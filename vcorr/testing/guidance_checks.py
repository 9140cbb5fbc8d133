"""Checks the contract of guidances on an invented model: 30 layers over text and video tokens, 4 heads.

Axes: H heads, n text tokens, F x h x w video tokens, d head width.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from vcorr.contract.bases import GuidanceBase, with_defaults
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.guidance_protocols import COND, PERTURBED, UNCOND, GuidedCall, GuidedSite, GuidedStep, Perturbation
from vcorr.contract.records import Site
from vcorr.testing.report import CheckFunction, Report, expect, make, run_checks

LAYERS, HEADS, WIDTH, TEXT = 30, 4, 16, 3
RECOMMENDED = (13, 17, 21)
"""Layers that the invented model's card names."""
GRID = TokenGrid(frames=3, rows=2, cols=4, stride=(16, 16), temporal_ratio=4)
STEPS = tuple(GuidedStep(step, 20, 1 - step / 20) for step in (0, 1, 10, 19))
SHAPE = (1, 4, 3, 6, 8)
"""Shape of the invented predictions."""


def check_guidance(
    guidance: Any,
    *,
    config: Any = None,
    device: str = "cpu",
    dtypes: Collection[str] = ("float32", "bfloat16"),
    skip: Collection[str] = (),
) -> Report:
    """Checks a guidance against the contract of `vcorr.Guidance`.

    Args:
        guidance: a GuidanceEntry, a class, or the guidance itself.
        config: its options; the defaults when None.
        device: device of the tensors.
        dtypes: dtypes of the tensors; every one is checked.
        skip: names of checks to leave out.
    """
    label, made = make(guidance, config)
    suite = _GuidanceSuite(made, device)
    checks: list[tuple[str, CheckFunction]] = [
        ("layers and heads are the model's own", suite.choice),
        ("same seed, same layers", suite.seeds),
        ("steps have the right form", suite.steps),
    ]
    for name in dtypes:
        dtype = getattr(torch, name)
        checks.append((f"perturbed attention has the right form in {name}", partial(suite.attention, dtype)))
        checks.append((f"combined predictions have the right form in {name}", partial(suite.form, dtype)))
    checks += [
        ("the conditional prediction does not depend on the unconditional one", suite.separate),
        ("same predictions, same result", suite.repeat),
        ("tensors and random state are not changed", suite.side_effects),
    ]
    return run_checks(label, checks, skip)


class _GuidanceSuite:
    def __init__(self, made: Any, device: str) -> None:
        self._made = with_defaults(made, GuidanceBase)
        self._device = device
        sites = [Site(layer, f"blocks.{layer}.attn", HEADS) for layer in range(LAYERS)]
        self._sites = tuple(GuidedSite(site, site.layer in RECOMMENDED) for site in sites)

    def choice(self) -> str:
        found = self._perturbation
        if found is None:
            return "no further prediction"
        expect(isinstance(found, Perturbation), f"perturb() returned {found!r}, which is no vcorr.Perturbation.")
        expect(found.layers[-1] < LAYERS, f"layers {found.layers}: the model has layers 0 to {LAYERS - 1}.")
        heads = found.heads or (0,)
        expect(heads[-1] < HEADS, f"heads {heads}: the model has heads 0 to {HEADS - 1}.")
        return f"{found.kind}, layers {', '.join(map(str, found.layers))}"

    def seeds(self) -> None:
        for seed in (0, 7):
            one, other = (self._made.with_seed(seed).perturb(self._sites) for _ in range(2))
            same = (one and (one.layers, one.heads)) == (other and (other.layers, other.heads))
            expect(same, f"with_seed({seed}) chose {one} and then {other}.")

    def steps(self) -> str:
        for step in STEPS:
            guides: Any = self._made.guides(step)
            expect(isinstance(guides, bool), f"guides() returned {guides!r}, which is no bool.")
        found: Any = self._made.num_steps(20)
        expect(type(found) is int and found >= 1, f"num_steps(20) returned {found!r}; it must be an int of at least 1.")
        return f"20 steps become {found}"

    def attention(self, dtype: torch.dtype) -> str:
        found = self._perturbation
        if found is None or found.edit is None:
            return "no attention is edited"
        for text_first, masked in ((True, False), (False, True)):
            call = self._call(found, dtype, text_first=text_first, masked=masked)
            self._expect_like("the edited attention", found.edit(call), call.q)
        return "text before and after, with and without padding"

    def form(self, dtype: torch.dtype) -> None:
        given = self._predictions(dtype)
        for step in STEPS:
            combined = self._made.combine(given, step)
            expect(isinstance(combined, Mapping), f"combine() returned {type(combined).__name__}, which is no mapping.")
            unknown = sorted(set(combined) - set(given))
            expect(not unknown, f"combine() returned the branches {unknown}, which it was not given.")
            for branch, value in combined.items():
                self._expect_like(branch, value, given[branch])

    def separate(self) -> None:
        given = self._predictions(torch.float32)
        alone = {branch: value for branch, value in given.items() if branch != UNCOND}
        for step in STEPS:
            first, later = (self._made.combine(each, step).get(COND, given[COND]) for each in (alone, given))
            expect(
                torch.equal(first, later),
                f"step {step.step}: the new 'cond' changes when 'uncond' is known; separate passes need it before.",
            )

    def repeat(self) -> None:
        given = self._predictions(torch.float32)
        one, other = (self._made.combine(given, STEPS[1]) for _ in range(2))
        expect(all(torch.equal(one[name], other[name]) for name in one), "two calls give different predictions.")

    def side_effects(self) -> None:
        given, found = self._predictions(torch.float32), self._perturbation
        before, random = {name: value.clone() for name, value in given.items()}, torch.get_rng_state()
        for step in STEPS:
            self._made.combine(given, step)
        if found is not None and found.edit is not None:
            call = self._call(found, torch.float32, text_first=True, masked=False)
            tensors = {each.name: getattr(call, each.name) for each in fields(call)}
            kept = {name: value.clone() for name, value in tensors.items() if isinstance(value, Tensor)}
            found.edit(call)
            changed = [name for name, value in kept.items() if not torch.equal(value, tensors[name])]
            expect(not changed, f"the edit writes into {', '.join(changed)}.")
        written = [name for name in given if not torch.equal(given[name], before[name])]
        expect(not written, f"combine() writes into {', '.join(written)}.")
        expect(torch.equal(random, torch.get_rng_state()), "torch's random state has changed.")

    # ---------------------------------------------------------------------------------------------------------- shared

    @cached_property
    def _perturbation(self) -> Perturbation | None:
        return self._made.with_seed(0).perturb(self._sites)

    def _predictions(self, dtype: torch.dtype) -> dict[str, Tensor]:
        names = (UNCOND, COND, PERTURBED) if self._perturbation is not None else (UNCOND, COND)
        return {name: self._draw(SHAPE, seed, dtype) for seed, name in enumerate(names)}

    def _call(self, found: Perturbation, dtype: torch.dtype, *, text_first: bool, masked: bool) -> GuidedCall:
        heads = HEADS if found.heads is None else len(found.heads)
        q, k, v = (self._draw((1, heads, TEXT + GRID.tokens, WIDTH), seed, dtype) for seed in range(3))
        mask = torch.tensor([True] * (TEXT - 1) + [False], device=self._device) if masked else None
        site = self._sites[found.layers[0]].site
        return GuidedCall(site, GRID, q, k, v, n_text=TEXT, text_first=text_first, key_mask=mask)

    def _draw(self, shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(self._device, dtype)

    def _expect_like(self, name: str, value: Any, like: Tensor) -> None:
        expect(isinstance(value, Tensor), f"{name}: expected a tensor, got {type(value).__name__}.")
        same = value.shape == like.shape and value.dtype == like.dtype
        expect(
            same,
            f"{name}: expected {like.dtype} {tuple(like.shape)}, got {value.dtype} {tuple(value.shape)}.",
        )
        expect(bool(torch.isfinite(value).all()), f"{name}: some numbers are NaN or infinite.")
