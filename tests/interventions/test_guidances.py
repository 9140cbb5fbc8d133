"""The built-in guidances: their formulas, their perturbed attention against masks, and their choices."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vcorr
from vcorr import Factorised, GuidedCall, GuidedSite, GuidedStep, Site, TokenGrid, UsageError
from vcorr.interventions.guidance_options import (
    CfgZeroOptions,
    CrossFrameOptions,
    LayerOptions,
    MoreStepsOptions,
)
from vcorr.interventions.guidances import CfgZero, CrossFrameGuidance, MoreSteps, RandomLayers
from vcorr.interventions.perturbed_attention import attend_own_frame, attend_own_token
from vcorr.plugins.option_values import options_from
from vcorr.testing import assert_passed, check_entry, check_guidance

fast = settings(max_examples=40, deadline=None, derandomize=True)
STEP = GuidedStep(3, 50)
SITES = [GuidedSite(Site(layer, f"blocks.{layer}.attn", 4), layer in (2, 5)) for layer in range(8)]
PUBLISHED = [
    [-1.0673947, -0.7172453, 1.0897193, -1.5746837, 1.4460111, 0.6191256, -0.7736893, -2.4655654],
    [0.8376547, 0.1602482, -0.3353947, -1.4567648, 0.059112, -1.1711553, 0.6088688, -1.481413],
    [-0.6945326, -0.3532124, -2.2200427, 0.9683226, 2.6667712, -0.6656363, -1.2645276, 0.1253227],
]
WITH_CFG_6 = [[11.8950891, 5.0611768, -5.5763168, -3.292258, -9.4830418, -10.6280794, 9.3950558, 1.8326137]][0]
WITHOUT_CFG = [[-2.9724441, -1.594739, 2.5148335, -1.6926025, 2.8329101, 2.4094067, -2.1562474, -3.449718]][0]
"""From the published code of DiffTrack: predictions (uncond, cond, perturbed), and their sums."""
NAMES = ("cag", "pag", "slg", "random-layers", "cfg-zero", "more-steps")


@pytest.mark.parametrize("name", NAMES)
def test_the_built_in_guidances_keep_the_contract(name):
    entry = vcorr.installed().guidances.get(name).entry
    assert_passed(check_entry(entry))
    assert_passed(check_guidance(entry))


def test_the_sum_of_the_published_code():
    """Checks the formula with numbers of the published code, case e_guidance: cfg 6, scale 1, and without cfg."""
    u, c, perturbed = (torch.tensor(row) for row in PUBLISHED)
    guidance = CrossFrameGuidance(CrossFrameOptions(layers="0"))
    new = guidance.combine({"uncond": u, "cond": c, "perturbed": perturbed}, STEP)
    torch.testing.assert_close(new["uncond"] + 6 * (new["cond"] - new["uncond"]), torch.tensor(WITH_CFG_6))
    alone = guidance.combine({"cond": u, "perturbed": c}, STEP)  # without cfg, the batch begins with (cond, perturbed)
    torch.testing.assert_close(alone["cond"], torch.tensor(WITHOUT_CFG))


def random_call(seed, *, frames, h, w, text, text_first, masked, scale, temporal=False):
    generator = torch.Generator().manual_seed(seed)
    grid = TokenGrid(frames=frames, rows=h, cols=w, stride=(16, 16), temporal_ratio=4)
    rows, tokens, text = (h * w, frames, 0) if temporal else (1, grid.tokens, text)
    q, k, v = torch.randn(3, rows, 2, text + tokens, 4, generator=generator)
    mask = torch.arange(text) < max(1, text - 1) if masked and text else None
    site = Site(0, "attn", 2)
    if temporal:
        site = Site(0, "attn", 2, "factorised", factorised=Factorised("temporal"))
    return GuidedCall(site, grid, q, k, v, text, text_first, mask, scale)


def attend_densely(call, may_see, *, drop=False):
    """Returns attention with a mask over all pairs. may_see: of the video tokens, (P, P) bool."""
    n, total = call.n_text, call.q.shape[2]
    seen = torch.ones(total, total, dtype=torch.bool)
    video = slice(n, total) if call.text_first else slice(0, total - n)
    seen[video, video] = may_see
    real = torch.ones(total, dtype=torch.bool)
    if call.key_mask is not None:
        real[slice(0, n) if call.text_first else slice(total - n, total)] = call.key_mask
    scale = call.q.shape[-1] ** -0.5 if call.scale is None else call.scale
    logits = (call.q.double() @ call.k.double().mT * scale).masked_fill(~real, -math.inf)
    weights = logits.softmax(-1) * seen if drop else logits.masked_fill(~seen, -math.inf).softmax(-1)
    return weights @ call.v.double()


CALLS = st.builds(
    random_call,
    st.integers(0, 10_000),
    frames=st.integers(1, 3),
    h=st.integers(1, 3),
    w=st.integers(1, 3),
    text=st.integers(0, 3),
    text_first=st.booleans(),
    masked=st.booleans(),
    scale=st.sampled_from([None, 0.3]),
    temporal=st.booleans(),
)


def frames_of(call):
    tokens = call.q.shape[2] - call.n_text
    per_frame = 1 if call.site.factorised is not None else call.grid.tokens_per_frame
    return torch.arange(tokens) // per_frame


@fast
@given(CALLS, st.sampled_from(["corrected", "difftrack"]))
def test_own_frames_agree_with_a_mask_over_all_pairs(call, variant):
    frame = frames_of(call)
    wanted = attend_densely(call, frame[:, None] == frame, drop=variant == "difftrack")
    found = attend_own_frame(call, variant)
    assert found.dtype == call.v.dtype
    torch.testing.assert_close(found.double(), wanted, atol=1e-5, rtol=1e-5)


@fast
@given(CALLS)
def test_own_tokens_agree_with_a_mask_over_all_pairs(call):
    token = torch.arange(call.q.shape[2] - call.n_text)
    wanted = attend_densely(call, token[:, None] == token)
    torch.testing.assert_close(attend_own_token(call).double(), wanted, atol=1e-5, rtol=1e-5)


def test_no_tensor_over_all_pairs_is_made():
    """Checks the largest tensor that any operation returns, on 300 tokens in 10 frames."""
    from torch.utils._python_dispatch import TorchDispatchMode

    sizes = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            sizes.append(
                max((each.untyped_storage().nbytes() for each in [out] if isinstance(each, torch.Tensor)), default=0)
            )
            return out

    call = random_call(0, frames=10, h=5, w=6, text=4, text_first=True, masked=True, scale=None)
    for edit in (attend_own_frame, attend_own_token):
        with Sizes():
            edit(call)
    assert max(sizes) < 4 * 300 * 300 / 4


# ------------------------------------------------------------------------------------------------------------ choices


def test_the_card_chooses_unless_the_options_do():
    assert CrossFrameGuidance(CrossFrameOptions()).perturb(SITES).layers == (2, 5)
    found = CrossFrameGuidance(CrossFrameOptions(layers="0,4-6", heads="1,3")).perturb(SITES)
    assert (found.layers, found.heads) == ((0, 4, 5, 6), (1, 3))


def test_random_layers_are_others_and_come_from_the_seed():
    drawn = [RandomLayers(CrossFrameOptions()).with_seed(seed).perturb(SITES).layers for seed in range(40)]
    assert all(len(layers) == 2 and not {2, 5} & set(layers) for layers in drawn)
    assert len(set(drawn)) > 8
    assert drawn == [RandomLayers(CrossFrameOptions()).with_seed(seed).perturb(SITES).layers for seed in range(40)]
    with pytest.raises(UsageError, match="random-layers needs 6 layers other than"):
        RandomLayers(CrossFrameOptions(layers="0-5")).perturb(SITES)


def test_random_layers_have_attention_between_frames():
    kinds = [Factorised("spatial"), Factorised("temporal")]
    sites = [
        GuidedSite(Site(layer, f"b.{layer}", 2, "factorised", factorised=kinds[layer % 2]), layer == 1)
        for layer in range(8)
    ]
    drawn = {RandomLayers(CrossFrameOptions()).with_seed(seed).perturb(sites).layers for seed in range(20)}
    assert drawn == {(3,), (5,), (7,)}


def test_cfg_zero_fits_the_unconditional_prediction():
    guidance, u, c = CfgZero(CfgZeroOptions()), torch.randn(1, 2, 3), torch.randn(1, 2, 3)
    new = guidance.combine({"uncond": u, "cond": c}, STEP)
    rest = c - new["uncond"]
    assert (rest * u).sum().item() == pytest.approx(0, abs=1e-5)
    assert torch.equal(new["cond"], c)
    assert not any(each.any() for each in guidance.combine({"uncond": u, "cond": c}, GuidedStep(0, 50)).values())
    assert torch.equal(guidance.combine({"cond": c}, STEP)["cond"], c)
    never = CfgZero(CfgZeroOptions(zero_steps=0)).combine({"uncond": u, "cond": c}, GuidedStep(0, 50))
    assert torch.equal(never["cond"], c)


@pytest.mark.parametrize(("asked", "factor", "steps"), [(50, 1.5, 75), (5, 1.5, 8), (7, 1.0, 7)])
def test_more_steps(asked, factor, steps):
    assert MoreSteps(MoreStepsOptions(factor=factor)).num_steps(asked) == steps


@pytest.mark.parametrize(("text", "steps"), [("all", range(50)), ("0-24", range(25)), ("3, 7-8", [3, 7, 8])])
def test_intervals(text, steps):
    guidance = CrossFrameGuidance(CrossFrameOptions(steps=text))
    assert [step for step in range(50) if guidance.guides(GuidedStep(step, 50))] == list(steps)


def test_a_scale_that_is_not_finite_is_refused_in_python():
    with pytest.raises(UsageError, match="scale: expected a finite number"):
        LayerOptions(scale=math.inf)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scale": math.nan}, "guidance.scale: expected a number"),
        ({"scale": math.inf}, "guidance.scale: expected a number"),
        ({"steps": "9-3"}, "guidance.steps: 9-3 runs backwards"),
        ({"steps": "some"}, "guidance.steps: 'some' cannot be read"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, said):
    with pytest.raises(UsageError, match=said):
        options_from(LayerOptions, options, "guidance.")
