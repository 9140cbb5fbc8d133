"""The recorder runs the probes once per site and step, and raises an error for what it could not see."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from vcorr.capture import TokenLayout
from vcorr.capture.recorder import Recorder
from vcorr.contract.errors import CaptureError, PluginError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Queries, Site


class Spy:
    """Answers the queries themselves and keeps what it was shown."""

    def __init__(self, *needs, heads=(-1,)):
        self.needs, self.heads, self.captures = frozenset(needs or ("q",)), heads, []

    def read(self, capture, queries):
        self.captures.append(capture)
        return {head: queries.xy[:, None].expand(-1, capture.grid.frames, -1) for head in self.heads}


class Answers(Spy):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def read(self, capture, queries):
        return self.answer(capture, queries)


class ByHand:
    """A processor that computes nothing, and nothing through torch's attention."""

    def __call__(self, attn, hidden_states, encoder_hidden_states, attention_mask=None, image_rotary_emb=None):
        return hidden_states, encoder_hidden_states


def attach(recorder, tiny, grid=None):
    return recorder.attach(tiny.module, tiny.sites, tiny.layout, grid or tiny.grid)


def record(tiny, recorder, steps=(0,), grid=None, passes=1):
    with attach(recorder, tiny, grid):
        for step in steps:
            with recorder.step(step, noise=0.5):
                for _ in range(passes):
                    tiny()


def test_one_prediction_a_site_step_probe_and_head(tiny, queries, hooks_of):
    before = tiny()
    recorder = Recorder({"a": Spy("q", "k"), "b": Spy("out", heads=(-1, 0, 1))}, queries)
    outputs = []
    with recorder.attach(tiny.module, tiny.sites, tiny.layout, lambda site: tiny.grid):
        for step, noise in ((1, 0.75), (4, math.nan)):
            with recorder.step(step, noise=noise):
                outputs.append(tiny())
    assert all(torch.equal(before, output) for output in outputs)
    assert hooks_of(tiny.module) == []
    found = recorder.predictions
    keys = [(p.step, p.layer, p.probe, p.head) for p in found]
    expected = [
        (step, layer, probe, head)
        for step in (1, 4)
        for layer in (0, 1)
        for probe, head in (("a", -1), ("b", -1), ("b", 0), ("b", 1))
    ]
    assert keys == expected
    for prediction in found:
        assert prediction.xy.dtype == np.float32
        assert np.array_equal(prediction.xy, np.repeat(queries[:, None], 3, axis=1))
        assert prediction.grid == tiny.grid
        assert prediction.layer_name == tiny.names[prediction.layer]
        assert (prediction.attention, prediction.readout) == ("full3d", "token")
    assert found[0].noise == 0.75
    assert math.isnan(found[-1].noise)
    assert len(recorder.predictions) == len(found)


def test_guidance_in_one_batch_reads_the_conditional_row(cog, queries):
    spy = Spy("q", "k", "v", "out")
    record(cog, Recorder({"spy": spy}, queries))
    batched = spy.captures[:]
    spy.captures.clear()
    for name, value in cog.inputs.items():  # the conditional row by itself
        if isinstance(value, torch.Tensor):
            cog.inputs[name] = value[1:]
    record(cog, Recorder({"spy": spy}, queries))
    alone = spy.captures[:]
    cog.inputs["encoder_hidden_states"] = cog.inputs["encoder_hidden_states"] + 1
    spy.captures.clear()
    record(cog, Recorder({"spy": spy}, queries))
    for both, one, other in zip(batched, alone, spy.captures, strict=True):
        torch.testing.assert_close(both.q, one.q)
        torch.testing.assert_close(both.k_text, one.k_text)
        assert not torch.allclose(both.k_text, other.k_text)


def test_unconditional_passes_are_not_read(tiny, queries):
    spy = Spy()
    recorder = Recorder({"spy": spy}, queries)
    layout = replace(tiny.layout, passes=("uncond", "cond", "uncond"))
    with recorder.attach(tiny.module, tiny.sites, layout, tiny.grid), recorder.step(0):
        for _ in range(3):
            tiny()
    assert len(spy.captures) == len(tiny.names)


def test_only_chosen_layers_are_tapped(cog, queries):
    spy = Spy()
    record(cog, Recorder({"spy": spy}, queries, layers={1}))
    assert [capture.site.layer for capture in spy.captures] == [1]


def test_runs_outside_steps_are_not_read(cog, queries):
    spy = Spy()
    recorder = Recorder({"spy": spy}, queries)
    with attach(recorder, cog):
        cog()
        with recorder.step(7, noise=0.1):
            cog()
        cog()
    assert [capture.step for capture in spy.captures] == [7, 7]


def test_probes_see_only_what_they_need(cog, queries):
    spies = {"q": Spy("q"), "out": Spy("out"), "none": Spy()}
    record(cog, Recorder(spies, queries))
    for name, other in (("q", "out"), ("out", "q")):
        with pytest.raises(PluginError, match=f"{other} of .* was read"):
            getattr(spies[name].captures[0], other)
    assert spies["out"].captures[0].out.shape == (2, 3, 4, 6, 16)


def test_probes_run_without_gradient_and_autocast(cog, queries):
    states = []

    def answer(capture, queries):
        states.append((torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        return {-1: queries.xy[:, None].expand(-1, 3, -1)}

    recorder = Recorder({"spy": Answers(answer)}, queries)
    with attach(recorder, cog), recorder.step(0), torch.enable_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        cog.module(**cog.inputs)
    assert states == [(False, False)] * 2


def test_answers_do_not_keep_what_they_are_views_of(cog, queries):
    shared = torch.zeros(100, 3, 2)
    recorder = Recorder({"spy": Answers(lambda capture, queries: {-1: shared[:3]})}, queries)
    with attach(recorder, cog), recorder.step(0):
        cog()
    shared += 5
    assert not recorder.predictions[0].xy.any()


def test_progress_is_reported_after_every_step(cog, queries):
    steps = []
    recorder = Recorder({"spy": Spy()}, queries, on_step=lambda: steps.append(len(recorder._packed)))
    record(cog, recorder, steps=[0, 1, 2])
    assert steps == [2, 4, 6]


def test_free_readout_is_carried(cog, queries):
    spy = Spy()
    spy.readout = "free"
    recorder = Recorder({"spy": spy}, queries)
    record(cog, recorder)
    assert {prediction.readout for prediction in recorder.predictions} == {"free"}


def test_without_probes_nothing_is_tapped(cog, queries, original):
    recorder = Recorder({}, queries)
    cog.module.get_submodule(cog.names[0]).set_processor(ByHand())
    with attach(recorder, cog), recorder.step(0):
        cog()
    assert recorder.predictions == []


def test_a_site_that_runs_twice_is_named(cog, queries, hooks_of):
    with pytest.raises(CaptureError, match=r"Step 0: transformer_blocks.0.attn1 computed attention twice(.|\n)*uncond"):
        record(cog, Recorder({"spy": Spy()}, queries), passes=2)
    assert hooks_of(cog.module) == []


def test_a_site_that_did_not_run_is_named(cog, queries):
    cog.module.transformer_blocks[1].forward = lambda hidden_states, encoder_hidden_states, *_, **__: (
        hidden_states,
        encoder_hidden_states,
    )
    with pytest.raises(CaptureError, match=r"1 tapped module\(s\) did not run: transformer_blocks.1.attn1"):
        record(cog, Recorder({"spy": Spy()}, queries))


def test_a_step_without_a_pass_is_refused(cog, queries):
    with pytest.raises(CaptureError, match="Step 2: none of the 2 tapped modules ran"):
        record(cog, Recorder({"spy": Spy()}, queries), steps=[2], passes=0)


def test_attach_without_a_step_is_refused(cog, queries):
    with pytest.raises(CaptureError, match="without a single"):
        record(cog, Recorder({"spy": Spy()}, queries), steps=[])


def test_attention_that_bypasses_is_found_at_the_first_step(cog, queries):
    cog.module.get_submodule(cog.names[0]).set_processor(ByHand())
    passes = []
    cog.module.register_forward_hook(lambda *_: passes.append(1))
    with pytest.raises(CaptureError, match=r"without calling scaled_dot_product_attention: transformer_blocks.0.attn1"):
        record(cog, Recorder({"spy": Spy()}, queries), steps=[0, 1, 2])
    assert passes == [1]


def test_misuse_of_the_blocks_is_refused(cog, queries):
    recorder = Recorder({"spy": Spy()}, queries)
    with pytest.raises(CaptureError, match=r"needs a recorder.attach"), recorder.step(0):
        pass
    with attach(recorder, cog):
        with pytest.raises(CaptureError, match="one denoiser after the other"), attach(recorder, cog):
            pass
        with recorder.step(0):
            cog()
            with pytest.raises(CaptureError, match=r"inside recorder.step\(0\)"), recorder.step(1):
                pass
        with pytest.raises(CaptureError, match="recorded before"), recorder.step(0):
            pass


@pytest.mark.parametrize(("step", "noise"), [(-1, 0.5), (1.5, 0.5), (True, 0.5), (0, 1.5), (0, -0.1), (0, math.inf)])
def test_steps_and_noise_out_of_range_are_refused(cog, queries, step, noise):
    recorder = Recorder({}, queries)
    with attach(recorder, cog), pytest.raises(PluginError, match=r"recorder\.step"), recorder.step(step, noise=noise):
        pass


def test_a_failed_step_leaves_no_answers(cog, queries):
    def fail(output):
        raise KeyError

    recorder = Recorder({"spy": Spy()}, queries)
    with attach(recorder, cog):
        with pytest.raises(KeyError), recorder.step(0):
            fail(cog())
        with recorder.step(0):
            cog()
    assert len(recorder.predictions) == 2


def test_sites_and_layers_are_checked(cog, queries, original):
    def enter(sites, layers=None):
        recorder = Recorder({"spy": Spy()}, queries, layers=layers)
        recorder.attach(cog.module, sites, cog.layout, cog.grid).__enter__()

    with pytest.raises(UsageError, match=r"no layer 9(.|\n)*2 layers, 0 to 1"):
        enter(cog.sites, layers={0, 9})
    with pytest.raises(PluginError, match="ascending"):
        enter(cog.sites[::-1])
    with pytest.raises(CaptureError, match="no module 'nothing'"):
        enter([Site(0, "nothing")])


def test_queries_outside_the_grid_are_refused_before_anything_runs(cog):
    recorder = Recorder({"spy": Spy()}, np.array([[96.5, 3.0]], dtype=np.float32))
    with pytest.raises(UsageError, match="outside the frame"):
        record(cog, recorder)


def test_a_grid_that_does_not_fit_is_refused_with_numbers(cog, queries):
    wrong = TokenGrid(frames=4, rows=4, cols=6, stride=(16, 16))
    with pytest.raises(CaptureError, match=r"called with 3 x 8 x 12 latents(.|\n)*declares 4 x 4 x 6 tokens"):
        record(cog, Recorder({"spy": Spy()}, queries), grid=wrong)


def test_a_grid_of_as_many_tokens_that_lie_differently_is_refused(cog, hunyuan_model, queries):
    """6 x 4 x 3 tokens are as many as 3 x 4 x 6; every sum over them would be nonsense without an error."""
    for model in (cog, hunyuan_model):
        wrong = TokenGrid(frames=6, rows=4, cols=3, stride=(32, 16))
        with pytest.raises(CaptureError, match=r"3 x 8 x 12 latents(.|\n)*6 x 4 x 3 tokens"):
            record(model, Recorder({"spy": Spy()}, queries), grid=wrong)


@pytest.mark.parametrize("shape", [(3,), (3, 3), (2, 3, 2)])
def test_queries_of_another_shape_are_refused(shape):
    with pytest.raises(UsageError, match=r"shape \(N, 2\)"):
        Recorder({}, np.zeros(shape, dtype=np.float32))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda capture, queries: {-1: torch.zeros(3, 2, 2)}, r"shape \(3, 3, 2\), got \(3, 2, 2\)"),
        (lambda capture, queries: {-1: np.zeros((3, 3, 2))}, "got ndarray"),
        (lambda capture, queries: {"mean": torch.zeros(3, 3, 2)}, "got 'mean'"),
        (lambda capture, queries: {-2: torch.zeros(3, 3, 2)}, "got -2"),
        (lambda capture, queries: {}, "mapping of heads"),
        (lambda capture, queries: torch.zeros(3, 3, 2), "mapping of heads"),
    ],
)
def test_answers_that_break_the_contract_name_the_probe(cog, queries, answer, message):
    recorder = Recorder({"mine": Answers(answer)}, queries)
    with pytest.raises(PluginError, match=rf"Probe 'mine'(.|\n)*{message}"):
        asked(cog, recorder)


def asked(cog, recorder):
    record(cog, recorder)
    return recorder.predictions


@pytest.mark.parametrize("needs", ["q", {"q", "logits"}, None])
def test_needs_that_do_not_exist_are_refused(queries, needs):
    probe = Spy()
    probe.needs = needs
    with pytest.raises(PluginError, match="Probe 'mine': needs"):
        Recorder({"mine": probe}, queries)


def test_answer_of_a_baseline(queries):
    grid = TokenGrid(frames=3, rows=4, cols=6, stride=(16, 16))
    recorder = Recorder({}, queries)
    recorder.answer(np.repeat(queries[:, None], 3, axis=1), grid, name="still", readout="free")
    (prediction,) = recorder.predictions
    assert (prediction.probe, prediction.layer, prediction.step, prediction.head) == ("direct", -1, -1, -1)
    assert (prediction.layer_name, prediction.readout, prediction.attention) == ("still", "free", "none")
    assert prediction.xy.dtype == np.float32
    with pytest.raises(PluginError, match=r"need shape \(3, 3, 2\), got \(3, 2, 2\)"):
        recorder.answer(np.zeros((3, 2, 2)), grid)
    with pytest.raises(PluginError, match="NaN"):
        recorder.answer(np.full((3, 3, 2), np.nan), grid)


def test_two_recorders_at_once(cog, queries):
    outer, inner = Recorder({"a": Spy()}, queries), Recorder({"b": Spy()}, queries, layers={0})
    with attach(outer, cog), outer.step(0), attach(inner, cog), inner.step(0):
        cog()
    assert (len(outer.predictions), len(inner.predictions)) == (2, 1)


def test_two_denoisers_one_after_the_other(cog, tiny, queries):
    recorder = Recorder({"spy": Spy()}, queries)
    for step, model in enumerate((cog, tiny)):
        with (
            recorder.attach(
                model.module, model.sites, TokenLayout(model.layout.text, model.layout.branches), model.grid
            ),
            recorder.step(step),
        ):
            model()
    assert [prediction.step for prediction in recorder.predictions] == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("frame", "mean"),
    # the targets are all latents but the one that holds the queries; all, if queries are in several latents
    [([0, 0], 0.6), ([4, 4], 0.35), ([0, 4], 0.4)],
)
def test_latent_frames_may_have_noise_of_their_own(tiny, queries, frame, mean):
    asked = Queries(np.resize(frame, len(queries)), queries)
    recorder = Recorder({"spy": Spy()}, asked, layers={0})
    with attach(recorder, tiny):
        for step, noise in ((0, [0.0, 0.5, 0.7]), (1, 0.25)):
            with recorder.step(step, noise=noise):
                tiny()
    first, second = recorder.predictions
    assert first.noise == pytest.approx(mean)
    assert first.noise_frames.tolist() == np.float32([0, 0.5, 0.7]).tolist()
    assert (second.noise, second.noise_frames) == (0.25, None)


@pytest.mark.parametrize("noise", [[0.5, 0.5], [[0.5, 0.5, 0.5]], [0, 0, 1.5], [0, 0, math.nan]])
def test_noise_of_other_latent_frames_is_refused(tiny, queries, noise):
    recorder = Recorder({"spy": Spy()}, queries)
    with (
        pytest.raises(PluginError, match="noise of each latent frame must be 3 values"),
        attach(recorder, tiny),
        recorder.step(0, noise=noise),
    ):
        pass
