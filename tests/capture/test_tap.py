"""The tap changes nothing, sees everything, and leaves nothing behind."""

import threading

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from vcorr.capture.tap import Tap, observing
from vcorr.contract.errors import CaptureError


class Attend(nn.Module):
    """Self-attention of two heads, called with keywords."""

    def __init__(self, width=8):
        super().__init__()
        self.inner = nn.Linear(width, width)

    def forward(self, x):
        q = self.inner(x).unflatten(-1, (2, -1)).transpose(1, 2)
        return F.scaled_dot_product_attention(query=q, key=q, value=q).transpose(1, 2).flatten(2)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = Attend(), Attend()

    def forward(self, x):
        return self.second(self.first(x))


class BrokenError(Exception):
    pass


@pytest.fixture
def x():
    return torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(1))


def test_output_is_bit_identical_and_everything_is_restored(tiny, hooks_of, original):
    before = tiny()
    seen = []
    with Tap(tiny.module, tiny.names, observing(seen.append)):
        assert F.scaled_dot_product_attention is not original
        tapped = tiny()
    assert torch.equal(before, tapped)
    assert [call.name for call in seen] == tiny.names
    assert F.scaled_dot_product_attention is original
    assert hooks_of(tiny.module) == []
    assert torch.equal(tiny(), before)


def test_call_holds_what_the_function_was_given(tiny, original):
    calls = []
    with Tap(tiny.module, tiny.names, observing(calls.append)):
        tiny()
    for call in calls:
        again = original(call.q, call.k, call.v, attn_mask=call.mask, scale=call.scale, is_causal=call.causal)
        assert torch.equal(again, call.out)
        assert call.q.ndim == 4
        assert call.q.shape[1] == 2


def test_cogvideox_tensors_are_after_norm_and_rotation(cog):
    """q and k recomputed by hand from the block's own input."""
    from diffusers.models.embeddings import apply_rotary_emb

    attention = cog.module.get_submodule(cog.names[1])
    given, calls = {}, []
    handle = attention.register_forward_pre_hook(lambda module, args, kwargs: given.update(kwargs), with_kwargs=True)
    with Tap(cog.module, cog.names[1:], observing(calls.append)):
        cog()
    handle.remove()
    text = given["encoder_hidden_states"]
    tokens = torch.cat([text, given["hidden_states"]], dim=1)
    with torch.no_grad():
        for projection, norm, seen in (
            (attention.to_q, attention.norm_q, calls[0].q),
            (attention.to_k, attention.norm_k, calls[0].k),
        ):
            expected = norm(projection(tokens).unflatten(-1, (attention.heads, -1)).transpose(1, 2))
            rotated = apply_rotary_emb(expected[:, :, text.shape[1] :], cog.extra["rotary"])
            expected = torch.cat([expected[:, :, : text.shape[1]], rotated], dim=2)
            assert torch.equal(expected, seen)


def test_hunyuan_refiner_is_not_tapped(hunyuan_model):
    calls, all_calls = [], []
    refiner = [name for name, _ in hunyuan_model.module.named_modules() if name.endswith("refiner_blocks.0.attn")]
    assert len(refiner) == 1
    with Tap(hunyuan_model.module, hunyuan_model.names, observing(calls.append)):
        hunyuan_model()
    with Tap(hunyuan_model.module, [*hunyuan_model.names, *refiner], observing(all_calls.append)):
        hunyuan_model()
    assert [call.name for call in calls] == hunyuan_model.names
    assert len(all_calls) == 3


def test_calls_outside_tapped_modules_pass(x):
    model, calls = Small(), []
    with Tap(model, ["second"], observing(calls.append)):
        model(x)
        model.first(x)
        F.scaled_dot_product_attention(x, x, x)
    assert [call.name for call in calls] == ["second"]


def test_positional_arguments_are_named(x):
    class Positional(nn.Module):
        def forward(self, x):
            return F.scaled_dot_product_attention(x, x, x, None, 0.0, True, scale=0.5)

    calls = []
    with Tap(Positional(), [""], observing(calls.append)) as tap:
        tap._module(x[None])
    assert (calls[0].mask, calls[0].causal, calls[0].scale) == (None, True, 0.5)


def test_exception_in_the_model_restores(x, hooks_of, original):
    model = Small()
    model.second.inner.register_forward_hook(lambda *_: (_ for _ in ()).throw(BrokenError))
    before = hooks_of(model)
    with pytest.raises(BrokenError), Tap(model, ["first", "second"], observing(lambda call: None)):
        model(x)
    assert hooks_of(model) == before
    assert F.scaled_dot_product_attention is original


def test_exception_caught_inside_does_not_confuse_the_names(x):
    model, calls = Small(), []
    failing = [True]

    def fail(*_):
        if failing.pop():
            raise BrokenError

    model.first.inner.register_forward_pre_hook(fail)
    with Tap(model, ["first"], observing(calls.append)):
        with pytest.raises(BrokenError):
            model(x)
        F.scaled_dot_product_attention(x, x, x)
        failing.append(False)
        model(x)
    assert [call.name for call in calls] == ["first"]


def test_exception_of_the_observer_reaches_the_caller(x, original):
    def observe(call):
        raise BrokenError

    model = Small()
    with pytest.raises(BrokenError), Tap(model, ["first"], observing(observe)):
        model(x)
    assert F.scaled_dot_product_attention is original


def test_attention_inside_an_observer_is_not_seen(x):
    model, calls = Small(), []

    def observe(call):
        calls.append(call)
        F.scaled_dot_product_attention(call.q, call.k, call.v)
        model.first(x)

    with Tap(model, ["second"], observing(observe)):
        model(x)
    assert len(calls) == 1


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_nested_taps_close_in_any_order(x, order, hooks_of, original):
    model, other = Small(), Small()
    seen = [[], [], []]
    taps = [
        Tap(model, ["first"], observing(seen[0].append)),
        Tap(model, ["first", "second"], observing(seen[1].append)),
        Tap(other, ["second"], observing(seen[2].append)),
    ]
    for tap in taps:
        tap.__enter__()
    model(x)
    other(x)
    for closed in order:
        taps[closed].__exit__(None, None, None)
    assert [len(calls) for calls in seen] == [1, 2, 1]
    assert hooks_of(model) == hooks_of(other) == []
    assert F.scaled_dot_product_attention is original


def test_a_closed_tap_hears_nothing_while_another_is_open(x):
    model, first, second = Small(), [], []
    outer, inner = Tap(model, ["first"], observing(first.append)), Tap(model, ["first"], observing(second.append))
    with inner:
        with outer:
            pass
        model(x)
    assert (len(first), len(second)) == (0, 1)


def test_opening_twice_is_refused(x):
    tap = Tap(Small(), ["first"], observing(lambda call: None))
    with tap, pytest.raises(CaptureError, match="open already"):
        tap.__enter__()


def test_a_tap_can_be_used_again(x):
    model, calls = Small(), []
    tap = Tap(model, ["first"], observing(calls.append))
    for _ in range(2):
        with tap:
            model(x)
    assert len(calls) == 2


def test_patch_of_somebody_else_over_ours_survives(x, original):
    calls, model = [], Small()
    with Tap(model, ["first"], observing(calls.append)):
        ours = F.scaled_dot_product_attention

        def theirs(*args, **kwargs):
            return ours(*args, **kwargs)

        F.scaled_dot_product_attention = theirs
        model(x)
    assert F.scaled_dot_product_attention is theirs
    with Tap(model, ["first"], observing(calls.append)):
        model(x)
    assert len(calls) == 2  # our silent wrapper beneath theirs reports nothing a second time
    F.scaled_dot_product_attention = original


def test_threads_hear_only_themselves(x, original):
    model = Small()
    rounds, errors, counts = 30, [], {}
    barrier = threading.Barrier(3)

    def work(key, names):
        calls = []
        try:
            barrier.wait()
            for _ in range(rounds):
                with Tap(model, names, observing(calls.append)), torch.no_grad():
                    model(x)
            counts[key] = [call.name for call in calls]
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=work, args=(0, ["first"])),
        threading.Thread(target=work, args=(1, ["second"])),
        threading.Thread(target=work, args=(2, ["first", "second"])),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert counts == {0: ["first"] * rounds, 1: ["second"] * rounds, 2: ["first", "second"] * rounds}
    assert F.scaled_dot_product_attention is original


def test_tap_may_be_closed_by_another_thread(x, hooks_of, original):
    model = Small()
    tap = Tap(model, ["first"], observing(lambda call: None))
    tap.__enter__()
    thread = threading.Thread(target=tap.__exit__, args=(None, None, None))
    thread.start()
    thread.join()
    assert hooks_of(model) == []
    assert F.scaled_dot_product_attention is original


def test_unknown_module_is_refused_with_suggestions(cog, hooks_of, original):
    with pytest.raises(CaptureError, match=r"no module 'transformer_blocks.1.attn'(.|\n)*transformer_blocks.1.attn1"):
        Tap(cog.module, [cog.names[0], "transformer_blocks.1.attn"], observing(lambda call: None)).__enter__()
    assert hooks_of(cog.module) == []
    assert F.scaled_dot_product_attention is original


class ByHand:
    """A processor that never calls torch's attention."""

    def __call__(self, attn, hidden_states, encoder_hidden_states, attention_mask=None, image_rotary_emb=None):
        tokens = torch.cat([encoder_hidden_states, hidden_states], dim=1)
        weights = (attn.to_q(tokens) @ attn.to_k(tokens).mT).softmax(-1)
        out = attn.to_out[0](weights @ attn.to_v(tokens))
        return out[:, encoder_hidden_states.shape[1] :], out[:, : encoder_hidden_states.shape[1]]


def test_attention_that_bypasses_the_function_is_named(cog, hooks_of, original):
    cog.module.get_submodule(cog.names[1]).set_processor(ByHand())
    with pytest.raises(CaptureError) as caught, Tap(cog.module, cog.names, observing(lambda call: None)):
        cog()
    message = str(caught.value)
    assert cog.names[1] in message
    assert cog.names[0] not in message
    assert "ByHand" in message
    assert "set_attention_backend('native')" in message
    assert hooks_of(cog.module) == []
    assert F.scaled_dot_product_attention is original


def test_the_self_check_does_not_hide_another_error(cog):
    def fail(output):
        raise BrokenError

    cog.module.get_submodule(cog.names[1]).set_processor(ByHand())
    with pytest.raises(BrokenError), Tap(cog.module, cog.names, observing(lambda call: None)):
        fail(cog())


def test_multihead_attention_is_seen(x):
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    calls = []
    with Tap(attention, [""], observing(calls.append)):
        attention(x, x, x, need_weights=False)
    assert calls[0].q.shape == (1, 2, 5, 4)


def test_fast_path_of_multihead_attention_is_caught(x):
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    with (
        pytest.raises(CaptureError, match="set_fastpath_enabled"),
        Tap(attention, [""], observing(lambda call: None)),
        torch.no_grad(),
    ):
        attention(x, x, x, need_weights=False)


def test_transformers_backbone_is_seen():
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
        attn_implementation="sdpa",
    )
    model, calls = Dinov2Model(config).eval(), []
    name = next(name for name, _ in model.named_modules() if name.endswith("layer.0.attention"))
    with torch.no_grad():
        before = model(torch.ones(1, 3, 8, 8)).last_hidden_state
        with Tap(model, [name], observing(calls.append)):
            after = model(torch.ones(1, 3, 8, 8)).last_hidden_state
    assert calls[0].q.shape == (1, 2, 5, 4)
    assert torch.equal(before, after)


@pytest.mark.parametrize("how", ["wrapped", "in place", "block wrapped", "block in place"])
@pytest.mark.parametrize("warm", [True, False])
def test_compiled_modules_run_eagerly_while_tapped(x, how, warm):
    torch._dynamo.reset()
    model = Small()
    compilations, calls = [], []

    def backend(graph, inputs):
        compilations.append(graph)
        return graph.forward

    if how == "wrapped":
        run = torch.compile(model, backend=backend)
    elif how == "in place":
        model.compile(backend=backend)
        run = model
    elif how == "block wrapped":
        model.first = torch.compile(model.first, backend=backend)
        run = model
    else:
        model.first.compile(backend=backend)
        run = model
    with torch.no_grad():
        expected = run(x) if warm else None
        with Tap(run, ["first", "second"], observing(calls.append)):
            tapped = run(x)
        after = run(x)
    assert [call.name for call in calls] == ["first", "second"]
    assert len(compilations) == 1
    assert torch.equal(tapped, after)
    assert expected is None or torch.equal(expected, tapped)
