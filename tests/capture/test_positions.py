"""q and k of positions alone: the content of every video token replaced by its mean, the model's own rotation kept."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from vcorr.capture import TokenLayout
from vcorr.capture.recorder import Recorder
from vcorr.contract.errors import CaptureError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Factorised, Site, Unrotated
from vcorr.probes.matching_probes import QueryKey, QueryKeyPosition

BOTH = ("q_position", "k_position")


def test_it_is_the_mean_turned_as_the_model_turns(tiny, queries, spy, run, rotated_as_diffusers_does):
    probe, plain = spy("q", *BOTH, "q_unrotated", "k_unrotated"), tiny()
    outputs = []
    run(tiny, {"spy": probe}, queries, call=lambda: outputs.append(tiny()))
    assert torch.equal(outputs[0], plain)
    assert [capture.site.name for capture in probe.captures] == tiny.names
    for capture in probe.captures:
        for part in ("q", "k"):
            content = getattr(capture, f"{part}_unrotated")
            mean = content.mean(dim=(1, 2, 3), keepdim=True).expand_as(content)
            expected = rotated_as_diffusers_does(tiny, mean)
            torch.testing.assert_close(getattr(capture, f"{part}_position").flatten(1, 3), expected)


def test_other_readings_are_not_changed_by_it(tiny, queries, spy, run):
    needs = ("q", "k", "v", "out", "hidden", "q_unrotated", "k_unrotated", "mask")
    alone, beside = spy(*needs), spy(*needs)
    run(tiny, {"spy": alone}, queries)
    run(tiny, {"spy": beside, "positions": spy(*BOTH)}, queries)
    for one, other in zip(alone.captures, beside.captures, strict=True):
        for part in needs[:-1]:
            assert torch.equal(getattr(one, part), getattr(other, part))


class Attention(nn.Module):
    """Rotary attention that no library has: each head turns at a speed of its own, channel i pairs with d/2 + i."""

    heads, width = 2, 8

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.to_q, self.to_k = (nn.Linear(16, 16) for _ in range(2))

    def forward(self, x, places):
        q, k = (self.turned(project(x), places) for project in (self.to_q, self.to_k))
        return F.scaled_dot_product_attention(q, k, x.unflatten(2, (2, 8)).transpose(1, 2), scale=0.7)

    def turned(self, content, places):
        first, second = content.unflatten(2, (self.heads, self.width)).transpose(1, 2).chunk(2, dim=-1)
        speeds = torch.tensor([[1.0, 0.3, 0.1, 0.02], [2.0, 0.7, 0.2, 0.05]])
        angle = places[None, :, None] * speeds[:, None]
        return torch.cat(
            [first * angle.cos() - second * angle.sin(), first * angle.sin() + second * angle.cos()], dim=-1
        )


GRID = TokenGrid(frames=3, rows=2, cols=3, stride=(8, 8))
POINTS = [[4.0, 4.0], [20.0, 12.0], [9.0, 2.0]]
SITE = Site(0, "0", heads=2, unrotated=Unrotated("to_q", "to_k", "bnc"))


def answers(x, *, probes=None, text="none", places=None):
    model = nn.ModuleList([Attention()])
    places = torch.arange(GRID.tokens).float() if places is None else places
    recorder = Recorder(probes or {"p": QueryKeyPosition(), "qk": QueryKey()}, POINTS)
    with recorder.attach(model, [SITE], TokenLayout(text), GRID), recorder.step(0):
        model[0](x, places)
    return {prediction.probe: prediction.xy for prediction in recorder.predictions}


def content(seed=0, tokens=GRID.tokens):
    return torch.randn(1, tokens, 16, generator=torch.Generator().manual_seed(seed))


def test_by_hand_for_a_rotation_nobody_knows(spy):
    probe, x = spy(*BOTH), content()
    answers(x, probes={"spy": probe})
    attention = Attention()
    for part, project in (("q_position", attention.to_q), ("k_position", attention.to_k)):
        mean = project(x)[0].mean(0)
        for head in range(2):
            for token in range(GRID.tokens):
                own = mean[8 * head : 8 * head + 8]
                expected = torch.zeros(8)
                for pair, speed in enumerate([[1.0, 0.3, 0.1, 0.02], [2.0, 0.7, 0.2, 0.05]][head]):
                    cos, sin = math.cos(speed * token), math.sin(speed * token)
                    expected[pair] = own[pair] * cos - own[pair + 4] * sin
                    expected[pair + 4] = own[pair] * sin + own[pair + 4] * cos
                found = getattr(probe.captures[0], part)[head].flatten(0, 2)[token]
                torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_moving_the_content_changes_qk_and_not_positions():
    x = content()
    shuffled = x[:, torch.randperm(GRID.tokens, generator=torch.Generator().manual_seed(1))]
    before, after = answers(x), answers(shuffled)
    assert (before["p"] == after["p"]).all()
    assert (before["qk"] != after["qk"]).any()


def test_places_are_all_it_sees():
    """Other positions give other predictions. With all tokens at one position all are alike, so the first one wins."""
    x = content()
    far = torch.arange(GRID.tokens).float().flip(0)
    assert (answers(x, places=far)["p"] != answers(x)["p"]).any()
    nowhere = answers(x, places=torch.zeros(GRID.tokens))["p"]
    moved = nowhere[:, 1:] - torch.tensor(POINTS)[:, None].numpy()
    assert moved.tolist() == [[[0, 0]] * 2, [[-16, -8]] * 2, [[-8, 0]] * 2]


@pytest.mark.parametrize("text", ["before", "after"])
def test_text_is_left_out_of_the_mean(text, spy):
    x, words = content(), 100 * content(1, tokens=4)
    joint = torch.cat([words, x] if text == "before" else [x, words], 1)
    first = 4 if text == "before" else 0
    places = torch.zeros(GRID.tokens + 4)
    places[first : first + GRID.tokens] = torch.arange(GRID.tokens).float()
    alone, together = spy(*BOTH), spy(*BOTH)
    answers(x, probes={"spy": alone})
    answers(joint, probes={"spy": together}, text=text, places=places)
    for part in BOTH:
        torch.testing.assert_close(getattr(alone.captures[0], part), getattr(together.captures[0], part))


def test_only_the_conditional_branch_is_rehearsed(cog, queries, spy):
    probe = spy(*BOTH)
    recorder = Recorder({"spy": probe}, queries)
    ran = []
    handle = cog.module.transformer_blocks[0].attn1.to_q.register_forward_hook(lambda *_: ran.append(1))
    with recorder.attach(cog.module, cog.sites[:1], replace(cog.layout, passes=("uncond", "cond")), cog.grid):
        cog()
        assert len(ran) == 1
        with recorder.step(0):
            cog()
            assert len(ran) == 2
            cog()
    handle.remove()
    assert (len(ran), len(probe.captures)) == (4, 1)


def test_nothing_is_hooked_or_patched_afterwards(cog, queries, spy, run, hooks_of, original):
    def broken():
        raise RuntimeError("the model broke")

    run(cog, {"spy": spy(*BOTH)}, queries)
    assert hooks_of(cog.module) == []
    cog.module.transformer_blocks[1].attn1.to_out[0].forward = lambda x: broken()
    with pytest.raises(RuntimeError, match="the model broke"):
        run(cog, {"spy": spy(*BOTH)}, queries)
    assert hooks_of(cog.module) == []
    assert F.scaled_dot_product_attention is original


def test_no_attention_is_computed_for_it(cog, queries, spy, run, monkeypatch):
    computed, real = [], F.scaled_dot_product_attention
    with monkeypatch.context() as patched:
        patched.setattr(F, "scaled_dot_product_attention", lambda *a, **k: computed.append(1) or real(*a, **k))
        run(cog, {"spy": spy(*BOTH)}, queries)
    assert len(computed) == 2


def test_compiled_models_are_read_alike(cog, queries, spy, run):
    expected, found = spy(*BOTH), spy(*BOTH)
    run(cog, {"spy": expected}, queries)
    torch._dynamo.reset()
    for block in cog.module.transformer_blocks:
        block.compile(backend="eager")
    run(cog, {"spy": found}, queries)
    for part in BOTH:
        assert torch.equal(getattr(expected.captures[0], part), getattr(found.captures[0], part))


def test_models_whose_forward_was_replaced_are_read_alike(cog, queries, spy, run):
    """As offloading does, to bring weights to the device right before a module runs."""
    expected, found, brought = spy(*BOTH), spy(*BOTH), []
    run(cog, {"spy": expected}, queries)
    attention = cog.module.transformer_blocks[0].attn1
    plain = attention.forward
    attention.forward = lambda *args, **kwargs: brought.append(1) or plain(*args, **kwargs)
    run(cog, {"spy": found}, queries)
    assert len(brought) == 2
    for part in BOTH:
        assert torch.equal(getattr(expected.captures[0], part), getattr(found.captures[0], part))


class RowByRow(Attention):
    """Attends to each row of the batch in a call of its own."""

    def forward(self, x, places):
        return torch.cat([super(RowByRow, self).forward(row[None], places) for row in x])


@pytest.mark.parametrize(("branches", "row"), [(("uncond", "cond"), 1), (("cond", "uncond"), 0)])
def test_the_conditional_call_is_read_where_rows_have_calls_of_their_own(branches, row, spy):
    rows, places = torch.cat([content(0), content(1)]), torch.arange(GRID.tokens).float()
    alone, probe, model = spy(*BOTH), spy(*BOTH), nn.ModuleList([RowByRow()])
    answers(rows[row : row + 1], probes={"spy": alone})
    recorder = Recorder({"spy": probe}, POINTS)
    layout = TokenLayout("none", branches, per_sample=True)
    with recorder.attach(model, [SITE], layout, GRID), recorder.step(0):
        model[0](rows, places)
    for part in BOTH:
        torch.testing.assert_close(getattr(alone.captures[0], part), getattr(probe.captures[0], part))


def test_models_without_rotary_embedding_are_refused_by_name(cog, queries, run):
    silent = [replace(site, unrotated=None) for site in cog.sites]
    message = r"'mine' reads positions apart .*CogVideoX\w+ .*blocks.0.attn1(.|\n)*sines(.|\n)*cannot be separated"
    with pytest.raises(UsageError, match=message):
        run(cog, {"mine": QueryKeyPosition()}, queries, sites=silent)


@pytest.mark.parametrize(
    ("unrotated", "message"),
    [
        (Unrotated("norm_z"), "no module 'transformer_blocks.0.attn1.norm_z'"),
        (Unrotated(axes="bnc"), r"norm_q: its output \(2, 2, 77, 16\) does not hold the 72 video tokens on axis 1"),
        (Unrotated(q="spare"), r"attn1.spare: the site names it for q or k .*, but it did not run"),
    ],
)
def test_sites_that_are_wrong_are_reported(cog, queries, run, spy, unrotated, message, hooks_of):
    cog.module.transformer_blocks[0].attn1.spare = nn.Identity()
    with pytest.raises(CaptureError, match=message):
        run(cog, {"mine": spy(*BOTH)}, queries, sites=[replace(cog.sites[0], unrotated=unrotated)])
    assert hooks_of(cog.module) == []


def test_attention_that_sees_a_part_of_the_video_is_refused_by_name(cog, queries, run, spy):
    parts = [replace(site, attention="factorised", factorised=Factorised("spatial")) for site in cog.sites]
    with pytest.raises(
        UsageError, match=r"'mine' reads attention over all tokens .*blocks.0.attn1 .*spatial, within one frame"
    ):
        run(cog, {"mine": spy(*BOTH)}, queries, sites=parts)
