"""Guided sampling against loops by hand, and what it leaves as it was: probes, watches, and the model."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from support.small_models import load_small

import vcorr
from vcorr import Clip, GuidanceBase, Perturbation, RunSettings, UsageError
from vcorr.capture import PassWatch, Recorder, TokenLayout
from vcorr.contract.records import Site
from vcorr.interventions.guidance_options import CrossFrameOptions, LayerOptions
from vcorr.interventions.guidances import CrossFrameGuidance, SkipLayerGuidance
from vcorr.interventions.guided_model import GuidedModel
from vcorr.interventions.guided_sampling import guide_passes
from vcorr.interventions.perturbed_attention import attend_own_frame
from vcorr.probes.matching_probes import Hidden, QueryKey

pytestmark = pytest.mark.filterwarnings("ignore")  # libraries on their own versions, once per model
STEPS, CFG = 3, 6.0
QUERIES = np.array([[9, 9], [40, 30]], np.float32)


@pytest.fixture(scope="module")
def small():
    return load_small("cogvideox")


def clip_for(model) -> Clip:
    config = model.config
    video = np.zeros((config.frames, config.height, config.width, 3), np.uint8)
    return Clip("clip", "a red disc moves", QUERIES, video)


def cag(**options) -> CrossFrameGuidance:
    return CrossFrameGuidance(CrossFrameOptions(**{"layers": "1", **options}))


def sample(model, guidance=None, *, steps=(), probes=None, cfg=CFG, num_steps=STEPS):
    """Returns the recorder after sampling, and what the scheduler got in each step."""
    recorder, given, scheduler = Recorder(probes or {}, QUERIES), [], type(model.pipe.scheduler)
    own = scheduler.step

    def step(self, model_output, *args, **kwargs):
        given.append(model_output.detach().clone())
        return own(self, model_output, *args, **kwargs)

    scheduler.step = step
    try:
        model.run(clip_for(model), RunSettings("generate", steps, num_steps, cfg=cfg, guidance=guidance), recorder)
    finally:
        scheduler.step = own
    return recorder, given


# ------------------------------------------------------------------------------------------------ against loops by hand


@contextmanager
def mask_pairs(model, layers):
    """Masks all pairs of tokens of different frames in some layers, with a mask over all pairs."""
    grid = model.grid(clip_for(model), None)
    frame = torch.arange(grid.tokens) // grid.tokens_per_frame
    owner = torch.cat([torch.full((model.text_tokens,), -1), frame])
    seen = (owner[:, None] == owner) | (owner[:, None] < 0) | (owner < 0)
    original, inside = F.scaled_dot_product_attention, []

    def attend(q, k, v, **kwargs):
        return original(q, k, v, **{**kwargs, "attn_mask": seen} if inside else kwargs)

    handles = []
    for layer in layers:
        module = model.pipe.transformer.transformer_blocks[layer].attn1
        handles.append(module.register_forward_pre_hook(lambda *_: inside.append(1)))
        handles.append(module.register_forward_hook(lambda *_: inside.clear()))
    F.scaled_dot_product_attention = attend
    yield
    F.scaled_dot_product_attention = original
    for handle in handles:
        handle.remove()


def sample_by_hand(model, scale):
    """Samples with three passes of one row per step and the formula, through the pipeline without its guidance."""
    network = model.pipe.transformer
    call = model.call(clip_for(model), model.grid(clip_for(model), None), RunSettings("generate", (), STEPS), "np")
    negative, forward = call["negative_prompt_embeds"], network.forward

    def three_passes(hidden_states, encoder_hidden_states, **kwargs):
        u = forward(hidden_states, negative, **kwargs)[0]
        c = forward(hidden_states, encoder_hidden_states, **kwargs)[0]
        with mask_pairs(model, [1]):
            perturbed = forward(hidden_states, encoder_hidden_states, **kwargs)[0]
        return (u + CFG * (c - u) + scale * (c - perturbed),)

    network.forward = three_passes
    try:
        return sample(model, cfg=1.0)[1]
    finally:
        del network.forward


@pytest.mark.parametrize("scale", [1.0, -0.5])
def test_the_pipeline_gets_the_formula_of_three_passes(small, scale):
    guided, by_hand = sample(small, cag(scale=scale))[1], sample_by_hand(small, scale)
    assert len(guided) == len(by_hand) == STEPS
    for one, other in zip(guided, by_hand, strict=True):
        torch.testing.assert_close(one.float(), other.float(), atol=2e-5, rtol=1e-4)
    assert (guided[0] - sample(small)[1][0]).abs().max() > 1e-3


class Kept(CrossFrameGuidance):
    """Keeps the predictions of each step."""

    def combine(self, predictions, step):
        KEPT.append({branch: each.clone() for branch, each in predictions.items()})
        return super().combine(predictions, step)


KEPT: list[dict[str, torch.Tensor]] = []


def predictions_of(model, guidance=None, **options):
    KEPT.clear()
    sample(model, guidance or Kept(CrossFrameOptions(**{"layers": "1", **options})), num_steps=1)
    return KEPT[-1]


def test_the_further_row_equals_one_more_row_of_the_batch_bit_for_bit(small):
    """Checks it against one batch (uncond, cond, cond) whose third row has perturbed attention in layer 1."""
    found, passes = predictions_of(small), []
    handle = small.pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: passes.append(kwargs), with_kwargs=True
    )
    sample(small, num_steps=1)
    handle.remove()
    (arguments,) = passes
    rows = {
        name: value[[0, 1, 1]] if isinstance(value, torch.Tensor) and len(value) == 2 else value
        for name, value in arguments.items()
    }
    grid, original, inside = small.grid(clip_for(small), None), F.scaled_dot_product_attention, []

    def attend(q, k, v, **kwargs):
        out = original(q, k, v, **kwargs)
        if inside:
            call = vcorr.GuidedCall(Site(1, ""), grid, q[2:], k[2:], v[2:], n_text=small.text_tokens)
            out = torch.cat([out[:2], attend_own_frame(call)])
        return out

    block = small.pipe.transformer.transformer_blocks[1]
    handles = [block.register_forward_pre_hook(lambda *_: inside.append(1))]
    F.scaled_dot_product_attention = attend
    try:
        with torch.no_grad():
            three = small.pipe.transformer(**rows)[0]
    finally:
        F.scaled_dot_product_attention = original
        handles[0].remove()
    assert torch.equal(found["uncond"], three[:1])
    assert torch.equal(found["cond"], three[1:2])
    assert torch.equal(found["perturbed"], three[2:])
    assert not torch.equal(three[1], three[2])


STYLES = {
    "cogvideox": 1,  # one batch
    "wan2.1-1.3b": 2,  # labelled passes
    "wan2.2-a14b": 2,  # two denoisers that take turns
    "cosmos-7b": 2,  # passes without labels
    "hunyuanvideo": 1,  # distilled; padded text after the video; two lists of blocks
    "hunyuanvideo-1.5": 2,  # passes labelled by a guider
    "mochi": 1,  # one attention call per batch row
    "open-sora-2.0": 1,  # a further branch in the batch
    "latte": 1,  # lists of spatial and of temporal blocks in turns
    "modelscope": 1,  # a UNet, whose perturbed prediction is a whole pass
}


class Steady(GuidanceBase):
    """Adds a constant to every prediction."""

    def combine(self, predictions, step):
        return {branch: each + 0.25 for branch, each in predictions.items()}


@pytest.mark.parametrize("name", STYLES)
def test_every_style_of_guidance_moves_by_what_all_predictions_share(name):
    """Checks that what the scheduler gets moves alike everywhere, so the strength of the pipeline does not count."""
    model = load_small(name)
    cfg = None if model.embedded_guidance else CFG
    plain, moved = (sample(model, guidance, cfg=cfg, num_steps=2)[1][0].float() for guidance in (None, Steady()))
    change = moved - plain
    assert change.mean().abs() > 0.01
    torch.testing.assert_close(change, change.mean().expand_as(change), atol=2e-4, rtol=2e-3)
    if name not in ("cosmos-7b",):  # its pipeline scales predictions before the scheduler gets them
        assert change.mean().item() == pytest.approx(0.25, abs=1e-3)


class LastLayer(Kept):
    """Perturbs the last layer that has attention between frames."""

    def perturb(self, sites):
        layers = [each.layer for each in sites if each.joins_frames]
        return Perturbation((layers[-1],), edit=attend_own_frame)


@pytest.mark.parametrize("name", ["mochi", "open-sora-2.0", "latte"])
def test_shared_blocks_give_what_a_whole_pass_gives(name, monkeypatch):
    model, guidance = load_small(name), LastLayer(CrossFrameOptions())
    found = []
    for joins in (True, False):
        monkeypatch.setattr(type(model), "joins_rows", joins)
        KEPT.clear()
        sample(model, guidance, cfg=None if model.embedded_guidance else CFG, num_steps=2)
        found.append([each["perturbed"] for each in KEPT])
    assert len(found[0]) == 2 * STYLES[name]
    for joined, whole in zip(*found, strict=True):
        torch.testing.assert_close(joined, whole, atol=1e-6, rtol=1e-5)
    assert (KEPT[0]["perturbed"] - KEPT[0]["cond"]).abs().max() > 1e-4


class Slope(GuidanceBase):
    """Adds something else to each branch, so that only the make-up for an earlier pass can be right."""

    def combine(self, predictions, step):
        moved = {"cond": predictions["cond"] + 1}
        return {**moved, "uncond": predictions["uncond"] * 2} if "uncond" in predictions else moved


@pytest.mark.parametrize("strength", [6.0, 1.5, None])
def test_an_unconditional_pass_that_comes_first_is_made_up_for(strength):
    """Checks it on a loop of two passes, unconditional first, against the formula, in a second call of the loop."""
    network = torch.nn.ModuleDict({"blocks": torch.nn.ModuleList([torch.nn.Linear(3, 3)])})
    network.forward = lambda x: (network["blocks"][0](x),)
    layout = TokenLayout(passes=("uncond", "cond"))
    grid = vcorr.TokenGrid(frames=1, rows=1, cols=1, stride=(8, 8))
    model = GuidedModel([network], [], layout, lambda site: grid, lambda now: {"x": now.args[0]})
    x, y = torch.randn(2, 1, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), PassWatch([network], layout) as watch:
        watch.start(counted=True)
        facts = lambda step: vcorr.GuidedStep(step, 1)  # noqa: E731
        u, c = network(x)[0], network(y)[0]
        with guide_passes(Slope(), model, watch, facts, lambda: strength):
            for factor in (9, 1):  # two calls of one step each
                watch.start(counted=True)
                sent = network(factor * x)[0]
                if strength is None:
                    with pytest.raises(UsageError, match="the strength of"):
                        network(y)
                    return
                found = sent + strength * (network(factor * y)[0] - sent)
    torch.testing.assert_close(found, 2 * u + strength * (c + 1 - 2 * u))


# ------------------------------------------------------------------------------------------- what stays as it was


def test_probes_see_the_same_with_and_without_a_guidance(small):
    """Checks the first step, after which guided latents differ."""
    probes = {"qk": QueryKey(), "hidden": Hidden()}
    plain, guided = (sample(small, g, steps=(0,), probes=probes)[0].predictions for g in (None, cag(layers="0")))
    assert len(plain) == len(guided) == 4
    for one, other in zip(plain, guided, strict=True):
        assert (one.probe, one.layer, one.step) == (other.probe, other.layer, other.step)
        np.testing.assert_array_equal(one.xy, other.xy)


def test_a_watch_sees_the_pipelines_own_passes_alone(small):
    with PassWatch([small.pipe.transformer], small.layout()) as watch:
        sample(small, cag())
    assert watch.seen == {"uncond": STEPS, "cond": STEPS}


def count_passes(model, guidance) -> int:
    calls = []
    handle = model.pipe.transformer.register_forward_hook(lambda *_: calls.append(1))
    sample(model, guidance)
    handle.remove()
    return len(calls)


def test_an_interval_costs_its_steps_alone(small):
    assert count_passes(small, cag(steps="1")) == STEPS + 1
    assert count_passes(small, cag(scale=0.0)) == STEPS
    first = sample(small, cag(steps="1-2"))[1][0]
    assert torch.equal(first, sample(small)[1][0])


def test_shared_blocks_are_not_computed_again(small):
    runs = []
    handle = small.pipe.transformer.transformer_blocks[0].norm1.register_forward_hook(lambda *_: runs.append(1))
    sample(small, cag(layers="1"))
    handle.remove()
    assert len(runs) == STEPS


def test_a_model_whose_layers_are_loaded_in_groups_makes_a_whole_pass():
    """Checks it by the runs of a layer, because diffusers may load groups in the order of the first pass."""
    from diffusers.hooks import apply_group_offloading

    model = load_small("cogvideox")
    wanted, runs = predictions_of(model)["perturbed"], []
    cpu = torch.device("cpu")
    apply_group_offloading(
        model.pipe.transformer, onload_device=cpu, offload_type="block_level", num_blocks_per_group=1
    )
    model.pipe.transformer.transformer_blocks[0].norm1.register_forward_hook(lambda *_: runs.append(1))
    found = predictions_of(model)["perturbed"]
    assert len(runs) == 2
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)


def describe(module):
    return [
        (name, sorted(vars(each)), len(each._forward_hooks), len(each._forward_pre_hooks))
        for name, each in module.named_modules()
    ]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("kind", ["attention", "block"])
def test_the_model_is_as_it_was_after_an_exception(small, error, kind):
    def fail(*args):
        raise error("in the middle")

    before, original, plain = describe(small.pipe.transformer), F.scaled_dot_product_attention, sample(small)[1]
    guidance = cag(layers="0") if kind == "attention" else SkipLayerGuidance(LayerOptions(layers="1"))
    norm = small.pipe.transformer.norm_final
    handle = norm.register_forward_hook(lambda *_: fail() if len(seen) == 1 else seen.append(1))
    seen: list[int] = []
    with pytest.raises(error):
        sample(small, guidance)
    handle.remove()
    assert describe(small.pipe.transformer) == before
    assert F.scaled_dot_product_attention is original
    assert all(torch.equal(one, other) for one, other in zip(plain, sample(small)[1], strict=True))


# ---------------------------------------------------------------------------------------------- heads, blocks, refusals


def test_chosen_heads_alone_are_perturbed(small):
    whole, one, other = (predictions_of(small, heads=heads)["perturbed"] for heads in ("all", "0", "0-1"))
    assert torch.equal(whole, other)
    assert not torch.equal(whole, one)


def test_a_skipped_block_is_left_out(small):
    blocks = small.pipe.transformer.transformer_blocks
    KEPT.clear()

    class Skip(Kept):
        def perturb(self, sites):
            return Perturbation((1,), kind="block")

    found = predictions_of(small, Skip(CrossFrameOptions()))["perturbed"]
    last = blocks[1]
    last.forward = lambda hidden_states, encoder_hidden_states, **_: (hidden_states, encoder_hidden_states)
    without = sample(small, Kept(CrossFrameOptions(layers="0")), num_steps=1) and KEPT[-1]["cond"]
    del last.forward
    torch.testing.assert_close(found, without, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "guidance", "said"),
    [
        ("cogvideox", cag(layers="99"), "guidance.layers 99 is out of range"),
        ("cogvideox", cag(heads="7"), "guidance.heads 7 is out of range"),
        ("cogvideox", cag(layers="auto"), "guidance.layers=auto needs a run"),
        ("sana-video", cag(), "no attention between frames that could be perturbed: its layers have linear"),
        ("latte", cag(layers="0"), r"Layer 0 .* no attention between frames to perturb: its spatial attention stays"),
        ("allegro", cag(layers="card"), "card names no layers for guidance"),
    ],
)
def test_what_does_not_fit_is_refused_before_loading(name, guidance, said):
    entry = vcorr.installed().models.get(name).entry
    model = entry.create(entry.config_type()(**entry.check))
    with pytest.raises(UsageError, match=said):
        model.check_settings(RunSettings("generate", (), 4, guidance=guidance))


def test_modes_that_do_not_sample_are_refused(small):
    with pytest.raises(UsageError, match="Mode renoise does not sample"):
        small.check_settings(RunSettings("renoise", (0,), 4, guidance=cag()))


def test_a_prediction_of_another_shape_is_refused(small):
    class Half(GuidanceBase):
        def combine(self, predictions, step):
            return {"cond": predictions["cond"][..., :1]}

    with pytest.raises(vcorr.PluginError, match=r"Half.combine\(\) returned something else"):
        sample(small, Half())


def test_the_prediction_is_found_in_every_form_of_output():
    from diffusers.models.modeling_outputs import Transformer2DModelOutput

    from vcorr.interventions.guided_sampling import sample_of, with_sample

    x, y = torch.zeros(1), torch.ones(1)
    assert sample_of((x, 3)) is x
    record = with_sample(Transformer2DModelOutput(sample=x), y)
    assert (record.sample, record[0], sample_of(record)) == (y, y, y)
    assert with_sample((x, 3), y) == (y, 3)
    assert with_sample(x, y) is y
    with pytest.raises(vcorr.PluginError, match="no prediction was found"):
        sample_of(SimpleNamespace(sample="text"))
