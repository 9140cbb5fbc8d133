"""Attention can be edited: what an interceptor returns is what the model goes on with, and nothing else changes."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from vcorr.capture import Recorder, TokenLayout, intercept
from vcorr.capture.tap import Tap, observing
from vcorr.contract.errors import CaptureError, PluginError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Factorised, Site

FRAMES, PLACES, WIDTH, HEADS = 3, 4, 8, 2
TOKENS = FRAMES * PLACES


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x):
        q, k, v = (part(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        return x + F.scaled_dot_product_attention(q, k, v, dropout_p=0.0).transpose(1, 2).flatten(2)


class Model(nn.Module):
    """Two layers of attention over the tokens of a video; labels its passes when asked to."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList([Attention(), Attention()])

    @contextlib.contextmanager
    def cache_context(self, name):
        yield

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


NAMES = ["blocks.0", "blocks.1"]


@pytest.fixture
def model():
    return Model().requires_grad_(False)


@pytest.fixture
def x():
    return torch.randn(1, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))


def cut_off(call, compute):
    """No token of a later frame sees frame 0."""
    mask = torch.ones(TOKENS, TOKENS, dtype=torch.bool)
    mask[PLACES:, :PLACES] = False
    return compute(replace(call, mask=mask))


def by_hand(attention, x, mask):
    """The attention written out."""
    q, k, v = (part(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (attention.q, attention.k, attention.v))
    weights = (q @ k.mT / (WIDTH / HEADS) ** 0.5).masked_fill(~mask, -torch.inf).softmax(-1)
    return x + (weights @ v).transpose(1, 2).flatten(2)


def test_a_knock_out_is_what_it_says(model, x):
    with intercept(model, "blocks.0", cut_off):
        out = model(x)
    mask = torch.ones(TOKENS, TOKENS, dtype=torch.bool)
    mask[PLACES:, :PLACES] = False
    expected = model.blocks[1](by_hand(model.blocks[0], x, mask))
    torch.testing.assert_close(out, expected)
    assert not torch.equal(out, model(x))


def test_only_the_named_sites_are_edited_and_the_model_is_as_before(model, x, hooks_of, original):
    before = model(x)
    sites = []
    with intercept(model, [Site(7, "blocks.1")], lambda call, compute: sites.append(call.site) or compute(call)):
        assert torch.equal(model(x), before)
    assert [(site.layer, site.name) for site in sites] == [(7, "blocks.1")]
    assert torch.equal(model(x), before)
    assert hooks_of(model) == []
    assert F.scaled_dot_product_attention is original


@pytest.mark.parametrize(
    "edit",
    [
        lambda call: replace(call, q=call.q * 2),
        lambda call: replace(call, k=call.k.flip(2)),
        lambda call: replace(call, v=call.v + 1),
        lambda call: replace(call, scale=0.1),
        lambda call: replace(call, causal=True),
    ],
)
def test_every_argument_can_be_changed(model, x, edit, original):
    seen = []

    def change(call, compute):
        edited = edit(call)
        out = compute(edited)
        seen.append((edited, out))
        return out

    with intercept(model, "blocks.0", change):
        out = model(x)
    call, own = seen[0]
    expected = original(call.q, call.k, call.v, attn_mask=call.mask, is_causal=call.causal, scale=call.scale)
    assert torch.equal(own, expected)
    assert not torch.equal(out, model(x))


def test_the_output_can_be_replaced_head_by_head(model, x):
    def silence(call, compute):
        out = compute(call).clone()
        out[:, 1] = 0  # heads are on axis 1
        return out

    shown = []
    with intercept(model, "blocks.0", silence), Tap(model.blocks[0], [""], observing(shown.append)):
        model(x)
    whole = []
    with Tap(model.blocks[0], [""], observing(whole.append)), intercept(model, "blocks.0", silence):
        model(x)
    assert shown[0].out[:, 1].abs().sum() > 0  # inside the edit: what was computed
    assert whole[0].out[:, 1].abs().sum() == 0  # outside of it: what the model goes on with
    assert torch.equal(whole[0].out[:, 0], shown[0].out[:, 0])


def test_the_first_opened_is_the_outermost(model, x):
    order = []

    def named(name):
        def edit(call, compute):
            order.append(f"{name} in {float(call.q.flatten()[0] / first):.0f}")
            out = compute(replace(call, q=call.q * 2))
            order.append(f"{name} out")
            return out

        return edit

    first = float(model.blocks[0].q(x)[0, 0, 0])
    with intercept(model, "blocks.0", named("outer")), intercept(model, "blocks.0", named("inner")):
        model(x)
    assert order == ["outer in 1", "inner in 2", "inner out", "outer out"]


def test_an_interceptor_need_not_compute_and_what_it_computes_is_not_intercepted(model, x):
    calls = []

    def twice(call, compute):
        calls.append(call.name)
        other = F.scaled_dot_product_attention(call.k, call.k, call.v)
        return (compute(call) + other) / 2

    with intercept(model, "blocks.0", twice):
        model(x)
    assert calls == ["blocks.0"]
    with intercept(model, "blocks.0", lambda call, compute: torch.zeros_like(call.q)):
        assert torch.equal(model(x), model.blocks[1](x))


GRID = TokenGrid(frames=FRAMES, rows=2, cols=2, stride=(8, 8))
SITES = [Site(layer, name, HEADS) for layer, name in enumerate(NAMES)]


class Keep:
    needs = frozenset({"q", "out"})

    def __init__(self):
        self.seen = {}

    def read(self, capture, queries):
        self.seen[capture.site.layer] = capture.q.clone(), capture.out.clone()
        return {-1: queries.xy[:, None].expand(-1, FRAMES, -1)}


def test_a_recorder_inside_reads_the_edited_model(model, x):
    def recorded(edit):
        keep = Keep()
        recorder = Recorder({"keep": keep}, np.array([[4, 4]], dtype=np.float32))
        with (
            intercept(model, "blocks.0", edit),
            recorder.attach(model, SITES, TokenLayout(), GRID),
            recorder.step(0),
        ):
            model(x)
        return keep.seen

    plain, cut = recorded(lambda call, compute: compute(call)), recorded(cut_off)
    assert torch.equal(plain[0][0], cut[0][0])  # the queries of the edited layer come before the cut
    same = plain[0][1] == cut[0][1]
    assert same[:, 0].all()  # frame 0 sees what it saw
    assert not same[:, 1:].all(-1).any()
    assert not torch.equal(plain[1][0], cut[1][0])


def test_step_and_branch_are_known(model, x):
    where = []

    def note(call, compute):
        where.append((call.site.layer, call.step, call.branch))
        return compute(call)

    with intercept(model, NAMES, note):
        for _ in range(2):
            for label in ("cond", "uncond"):
                with model.cache_context(label):
                    model(x)
    assert where == [(la, step, branch) for step in (0, 1) for branch in ("cond", "uncond") for la in (0, 1)]


def test_one_branch_of_a_batch_can_be_edited(model, x):
    layout = TokenLayout(branches=("uncond", "cond"))
    pair = torch.cat([x, x.flip(1)])

    def conditional_only(call, compute):
        out = compute(call).clone()
        assert call.branch == "uncond+cond"
        out[call.rows("cond")] = 0
        assert len(out[call.rows("perturbed")]) == 0
        return out

    before = model(pair)
    with intercept(model, NAMES, conditional_only, layout=layout):
        after = model(pair)
    assert torch.equal(before[0], after[0])
    assert torch.equal(after[1], pair[1])


def test_rows_of_a_batch_are_nobodys_until_a_layout_or_a_label_says_whose(model, x):
    """Two branches in a batch must not be taken for two batch rows of the conditional branch."""
    seen = []

    def note(call, compute):
        seen.append((call.branches, call.branch))
        if call.branches:
            assert call.rows("cond") == slice(0, 2)
        else:
            with pytest.raises(CaptureError, match="2 batch rows cannot be assigned"):
                call.rows("cond")
        return compute(call)

    with intercept(model, "blocks.0", note):
        model(x.expand(2, -1, -1))
        with model.cache_context("cond_uncond"):
            model(x.expand(2, -1, -1))
        with model.cache_context("cond"):
            model(x.expand(2, -1, -1))
    assert seen == [((), ""), ((), ""), (("cond",), "cond")]


def test_batch_rows_that_cannot_be_assigned_are_refused(model, x):
    def rows(call, compute):
        call.rows("cond")
        return compute(call)

    with (
        pytest.raises(CaptureError, match="3 batch rows cannot be assigned"),
        intercept(model, "blocks.0", rows, layout=TokenLayout(branches=("uncond", "cond"))),
    ):
        model(x.expand(3, -1, -1))
    alternating = Site(0, "blocks.0", attention="factorised", factorised=Factorised("spatial", "interleaved"))
    with (
        pytest.raises(CaptureError, match="2 batch rows cannot be assigned"),
        intercept(model, alternating, rows, layout=TokenLayout(branches=("uncond", "cond"))),
    ):
        model(x.expand(2, -1, -1))


@pytest.mark.parametrize("wrong", [None, torch.zeros(1, 2), "out"])
def test_an_interceptor_that_returns_no_output_is_named(model, x, wrong, original, hooks_of):
    with (
        pytest.raises(CaptureError, match=r"blocks.0: .* must return the attention output(.|\n)*return compute"),
        intercept(model, "blocks.0", lambda call, compute: wrong),
    ):
        model(x)
    assert F.scaled_dot_product_attention is original
    assert hooks_of(model) == []


def test_bad_sites_and_layouts_are_refused_before_anything_runs(model, hooks_of):
    with (
        pytest.raises(CaptureError, match=r"no module 'blocks.7'(.|\n)*Nearest"),
        intercept(model, "blocks.7", cut_off),
    ):
        pass
    with pytest.raises(UsageError, match="no site was named"), intercept(model, [], cut_off):
        pass
    with (
        pytest.raises(PluginError, match="branches"),
        intercept(model, NAMES, cut_off, layout=TokenLayout(branches=("uncond",))),
    ):
        pass
    assert hooks_of(model) == []


def test_an_interceptor_that_is_not_entered_or_is_dropped_stays_nowhere(model, x, original, hooks_of):
    before = model(x)
    never = intercept(model, NAMES, cut_off)
    assert torch.equal(model(x), before)
    del never
    dropped = intercept(model, NAMES, cut_off)
    dropped.__enter__()
    assert not torch.equal(model(x), before)
    del dropped
    assert torch.equal(model(x), before)
    assert F.scaled_dot_product_attention is original
    assert hooks_of(model) == []


def test_what_shows_at_once_is_a_usage_error(model):
    class Pipeline:
        transformer = model

    for given, sites, edit, message in (
        (None, NAMES, cut_off, "expected a torch module, got NoneType"),
        (Pipeline(), NAMES, cut_off, "expected a torch module, got Pipeline(.|\n)*pipe.transformer"),
        ([], NAMES, cut_off, "no module was given"),
        (model, 5, cut_off, "sites are names or vcorr.Site records, got int"),
        (model, [None], cut_off, "sites are names or vcorr.Site records, got NoneType"),
        (model, NAMES, None, "must be a function, got NoneType"),
    ):
        with pytest.raises(UsageError, match=message), intercept(given, sites, edit):
            pass


def test_calls_after_an_interrupt_are_where_they_are_made(model, x):
    """torch calls no hook at Ctrl-C; the block that it ended must not be taken for the running one."""
    seen = []

    def interrupted(call, compute):
        if not seen:
            seen.append("interrupted")
            raise KeyboardInterrupt
        seen.append(call.name)
        return compute(call)

    with intercept(model, "blocks.1", interrupted):
        with pytest.raises(KeyboardInterrupt):
            model(x)
        model(x)
    assert seen == ["interrupted", "blocks.1"]


def test_a_recorder_inside_an_edit_that_computes_nothing_or_twice_says_so(model, x):
    def recorded(edit):
        recorder = Recorder({"keep": Keep()}, np.array([[4, 4]], dtype=np.float32))
        with intercept(model, NAMES, edit), recorder.attach(model, SITES, TokenLayout(), GRID), recorder.step(0):
            model(x)

    with pytest.raises(CaptureError, match=r"attention of blocks.0, blocks.1, so no call(.|\n)*after the recorder"):
        recorded(lambda call, compute: torch.zeros_like(call.q))
    with pytest.raises(CaptureError, match=r"blocks.0 computed attention twice(.|\n)*calls compute twice"):
        recorded(lambda call, compute: (compute(call) + compute(call)) / 2)


@pytest.mark.parametrize("watched", ["intercept", "recorder"])
def test_a_compiled_wrapper_that_the_given_module_knows_nothing_of_is_seen_through(model, x, watched):
    run = torch.compile(model, backend="eager", fullgraph=True)
    plain, calls = run(x), []
    if watched == "intercept":
        with intercept(model, NAMES, lambda call, compute: calls.append(call.name) or compute(call)):
            assert torch.equal(run(x), plain)
    else:
        keep = Keep()
        recorder = Recorder({"keep": keep}, np.array([[4, 4]], dtype=np.float32))
        with recorder.attach(model, SITES, TokenLayout(), GRID), recorder.step(0):
            assert torch.equal(run(x), plain)
        calls = [NAMES[layer] for layer in keep.seen]
    assert calls == NAMES


@pytest.mark.parametrize("how", ["torch.compile", "module.compile", "block"])
def test_compiled_models_are_edited(model, x, how):
    with intercept(model, "blocks.0", cut_off):
        expected = model(x)
    if how == "block":
        model.blocks[0].compile(backend="eager")
    elif how == "module.compile":
        model.compile(backend="eager")
    run = torch.compile(model, backend="eager") if how == "torch.compile" else model
    plain = run(x)
    with intercept(run, "blocks.0", cut_off):
        assert torch.equal(run(x), expected)
    assert torch.equal(run(x), plain)


def test_offloaded_models_are_edited(model, x):
    import accelerate

    with intercept(model, "blocks.0", cut_off):
        expected = model(x)
    accelerate.cpu_offload(model, execution_device="cpu")
    with intercept(model, "blocks.0", cut_off):
        assert torch.equal(model(x), expected)


def test_training_under_gradient_checkpointing_is_refused_by_name_and_inference_is_not(model, x):
    model.blocks[1].gradient_checkpointing = True
    model.requires_grad_(True)
    with (
        pytest.raises(CaptureError, match=r"blocks.1: gradient checkpointing(.|\n)*no_grad"),
        intercept(model, "blocks.0", cut_off),
    ):
        model(x)
    with torch.no_grad(), intercept(model, "blocks.0", cut_off):
        edited = model(x)
    assert not torch.equal(edited, model(x))


def test_attention_that_is_recomputed_inside_the_block_is_refused(model, x):
    model.requires_grad_(True)
    with intercept(model, "blocks.0", cut_off):
        out = torch.utils.checkpoint.checkpoint(model, x, use_reentrant=False)
        with pytest.raises(CaptureError, match="gradient checkpointing"):
            out.sum().backward()


def test_gradients_flow_through_an_edit(model, x):
    model.requires_grad_(True)
    with intercept(model, "blocks.0", cut_off):
        model(x).sum().backward()
    assert model.blocks[0].q.weight.grad.abs().sum() > 0


def test_attention_on_the_cpu_and_grouped_queries_keep_their_arguments(x, original):
    class Grouped(nn.Module):
        def forward(self, q, k):
            return F.scaled_dot_product_attention(q, k, k, enable_gqa=True)

    q, k = torch.randn(1, 4, 5, 8), torch.randn(1, 2, 5, 8)
    model = Grouped()
    with intercept(model, "", lambda call, compute: compute(replace(call, scale=0.3))):
        assert torch.equal(model(q, k), original(q, k, k, enable_gqa=True, scale=0.3))
