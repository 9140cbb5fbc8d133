"""`vcorr.guidance` on pipelines of one's own: the block, and the guider of diffusers' kind."""

from __future__ import annotations

import copy
import inspect

import numpy as np
import pytest
import torch
from support.small_models import load_small

import vcorr
from vcorr import Clip, RunSettings, UsageError
from vcorr.capture.recorder import Recorder
from vcorr.guidance import CrossFrameGuidance, guide
from vcorr.interventions.guidance_options import CrossFrameOptions
from vcorr.interventions.guidances import CrossFrameGuidance as NamedGuidance

pytestmark = pytest.mark.filterwarnings("ignore")  # libraries on their own versions
STEPS, CFG = 2, 6.0
CLIP = Clip("clip", "a red disc", np.array([[9, 9]], np.float32))


@pytest.fixture(scope="module")
def cogvideox():
    return load_small("cogvideox")


@pytest.fixture(scope="module")
def hunyuan():
    return load_small("hunyuanvideo-1.5")


def call_of(model, cfg=CFG):
    grid = model.grid(CLIP, None)
    settings = RunSettings("generate", (), STEPS)
    return {**model.call(CLIP, grid, settings, "np"), **model.guidance(cfg)}


def make(model, **changes):
    return np.asarray(model.pipe(**{**call_of(model), **changes}).frames[0])


def test_a_call_in_the_block_gives_what_a_run_gives(cogvideox):
    guidance = NamedGuidance(CrossFrameOptions(layers="1"))
    settings = RunSettings("generate", (), STEPS, cfg=CFG, guidance=guidance)
    wanted = cogvideox.run(CLIP, settings, Recorder({}, CLIP.queries))
    with guide(cogvideox.pipe, "cag", layout="cogvideox", layers="1"):
        both = [make(cogvideox) for _ in range(2)]  # steps are counted anew in every call
    for found in both:
        np.testing.assert_array_equal(np.rint(found.clip(0, 1) * 255).astype(np.uint8), wanted)
    assert np.abs(make(cogvideox) - both[0]).max() > 1e-4
    assert "set_timesteps" not in vars(cogvideox.pipe.scheduler)


def test_an_interval_counts_the_steps_of_a_call(cogvideox):
    plain = make(cogvideox)
    with guide(cogvideox.pipe, "cag", layout="cogvideox", layers="1", steps="2-9"):
        found = [make(cogvideox) for _ in range(2)]
    assert all(np.array_equal(each, plain) for each in found)


def test_a_second_guidance_is_refused_and_the_first_goes_on(cogvideox):
    scheduler = cogvideox.pipe.scheduler
    with guide(cogvideox.pipe, "cag", layout="cogvideox", layers="1", steps="0"):
        before = make(cogvideox)
        second = guide(cogvideox.pipe, "pag", layout="cogvideox", layers="0")
        with pytest.raises(UsageError, match="CogVideoXPipeline is guided already"), second:
            pass
        np.testing.assert_array_equal(make(cogvideox), before)
    assert "set_timesteps" not in vars(scheduler)


def test_no_guidance_changes_nothing_and_takes_no_options(cogvideox):
    plain = make(cogvideox)
    with guide(cogvideox.pipe, "none", layout="cogvideox"):
        np.testing.assert_array_equal(make(cogvideox), plain)
    with pytest.raises(UsageError, match="scale is an option of a guidance, and 'none' has none"):
        guide(cogvideox.pipe, "none", layout="cogvideox", scale=1.0).__enter__()


def test_a_block_and_the_guider_on_one_pipeline_are_refused(hunyuan):
    """Checks both orders: the guider was there first, or is set inside the block."""
    pipe, plain = hunyuan.pipe, hunyuan.pipe.guider
    guider = CrossFrameGuidance("hunyuanvideo-1.5", [1], guidance_scale=CFG)
    said = r"guider CrossFrameGuidance and is inside a block of guide\(\)(.|\n)*ClassifierFreeGuidance"
    call = {name: value for name, value in call_of(hunyuan).items() if name not in hunyuan.guidance(CFG)}
    try:
        pipe.guider = guider
        with pytest.raises(UsageError, match=said), guide(pipe, "cag", layout="hunyuanvideo-1.5", layers="1"):
            pass
        pipe.guider = plain
        with guide(pipe, "pag", layout="hunyuanvideo-1.5", layers="1"):
            pipe.guider = guider
            with pytest.raises(UsageError, match=said):
                pipe(**call)
        assert np.isfinite(np.asarray(pipe(**call).frames[0])).all()
    finally:
        pipe.guider = plain


def test_a_copy_of_the_scheduler_sets_its_own_steps(cogvideox):
    """Checks what some pipelines do, such as for sound."""
    scheduler = cogvideox.pipe.scheduler
    with guide(cogvideox.pipe, "cag", layout="cogvideox", layers="1"):
        scheduler.set_timesteps(3)
        own = copy.deepcopy(scheduler)
        own.set_timesteps(5)
        assert (len(scheduler.timesteps), len(own.timesteps)) == (3, 5)
        assert "num_inference_steps" in inspect.signature(scheduler.set_timesteps).parameters


@pytest.mark.parametrize("cfg", [CFG, 1.0])
def test_several_videos_in_one_call_are_refused(cogvideox, cfg):
    """Checks it also without classifier-free guidance, where two videos look like two branches."""
    given = call_of(cogvideox, cfg)
    two = {name: torch.cat([given[name]] * 2) for name in ("prompt_embeds", "negative_prompt_embeds")}
    said = "CogVideoXPipeline makes several videos in one call"
    with pytest.raises(UsageError, match=said), guide(cogvideox.pipe, "cfg-zero", layout="cogvideox"):
        cogvideox.pipe(**{**given, **two})


def test_a_layout_by_hand_takes_a_whole_pass(cogvideox):
    layout = vcorr.Layout(
        grid=cogvideox.grid(CLIP, None),
        sites="transformer_blocks.{}.attn1",
        text="before",
        branches=("uncond", "cond"),
    )
    with guide(cogvideox.pipe, "cag", layout=layout, layers="1"):
        by_hand = make(cogvideox)
    with guide(cogvideox.pipe, "cag", layout="cogvideox", layers="1"):
        by_name = make(cogvideox)
    np.testing.assert_allclose(by_hand, by_name, atol=1e-5)


def test_the_guider_of_diffusers_gives_what_the_block_gives(hunyuan):
    """Checks it on three passes of one row each; calls with the guider carry no strength, because it has its own."""
    pipe, plain = hunyuan.pipe, hunyuan.pipe.guider
    with guide(pipe, "cag", layout="hunyuanvideo-1.5", layers="1", scale=0.7):
        wanted = make(hunyuan)
    call = {name: value for name, value in call_of(hunyuan).items() if name not in hunyuan.guidance(CFG)}
    pipe.guider = CrossFrameGuidance("hunyuanvideo-1.5", [1], guidance_scale=CFG, cross_frame_scale=0.7)
    hooks = [len(each._forward_hooks) for each in pipe.transformer.modules()]
    try:
        found = np.asarray(pipe(**call).frames[0])
        again = pipe.guider.new(cross_frame_scale=0.0)
        assert (again.config.layers, again.num_conditions) == ([1], 2)
    finally:
        pipe.guider = plain
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert [len(each._forward_hooks) for each in pipe.transformer.modules()] == hooks


@pytest.mark.parametrize("original", [False, True])
def test_the_guider_rescales_the_sum(original):
    u, c, perturbed = torch.randn(3, 1, 4, 5, generator=torch.Generator().manual_seed(0))
    guider = CrossFrameGuidance(
        "hunyuanvideo-1.5", [1], cross_frame_scale=0.7, guidance_rescale=0.4, use_original_formulation=original
    )
    guider.set_state(0, 2, torch.tensor(1.0))
    total = (c if original else u) + 6 * (c - u) + 0.7 * (c - perturbed)
    torch.testing.assert_close(guider.forward(c, u, perturbed).pred, total * (0.6 + 0.4 * c.std() / total.std()))
    assert guider.new(guidance_scale=1.0, guidance_rescale=0.0).forward(c).pred is c


def test_a_failed_pass_leaves_no_guider_behind(hunyuan):
    guider = CrossFrameGuidance("hunyuanvideo-1.5", [1], guidance_scale=1.0)
    network, original = hunyuan.pipe.transformer, torch.nn.functional.scaled_dot_product_attention
    guider.set_state(0, 2, torch.tensor(1.0))
    guider.prepare_models(network)
    guider.prepare_models(network)
    assert torch.nn.functional.scaled_dot_product_attention is not original
    with pytest.raises((TypeError, UsageError)):
        network()
    assert torch.nn.functional.scaled_dot_product_attention is original


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"guidance": "cga", "layout": "cogvideox"}, "Did you mean"),
        ({"layout": "cogvideox", "layer": "1"}, r"^guide\(\): Unknown option 'layer'\. Did you mean 'layers'"),
        ({"layout": "cogvideox", "layers": "44"}, "guidance.layers 44 is out of range"),
        ({"layout": "wan2.1-1.3b"}, "^The denoiser of wan2.1-1.3b is a"),
        ({"layout": "cogvideox", "guidance": NamedGuidance(CrossFrameOptions()), "scale": 2}, "is an option of"),
        ({"layout": "cogvideox", "guidance": None}, "the name of a guidance or a vcorr.Guidance, got NoneType"),
        ({"layout": "cogvideox", "guidance": NamedGuidance}, "got the class CrossFrameGuidance"),
        ({"layout": "cogvideox", "guidance": 5}, "or a vcorr.Guidance, got int"),
        ({"layout": None}, "^layout must be a vcorr.Layout or a model's name"),
    ],
)
def test_what_does_not_fit_is_refused(cogvideox, given, said):
    with pytest.raises(UsageError, match=said), guide(cogvideox.pipe, **given):
        pass


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "predictions by branch: NoneType"),
        ({"con": torch.zeros(1)}, r"predictions for 'con': torch.Size\(\[1\]\)"),
    ],
)
def test_what_a_guidance_returns_is_checked(cogvideox, returned, said):
    class Own(vcorr.GuidanceBase):
        def combine(self, predictions, step):
            return returned

    plain = make(cogvideox)
    with (
        pytest.raises(vcorr.PluginError, match=rf"Own.combine\(\) returned something else than {said}"),
        guide(cogvideox.pipe, Own(), layout="cogvideox"),
    ):
        make(cogvideox)
    np.testing.assert_array_equal(make(cogvideox), plain)


def test_a_denoiser_in_place_of_its_pipeline_is_refused(cogvideox):
    said = "expected a diffusers pipeline, got CogVideoXTransformer3DModel"
    with pytest.raises(UsageError, match=said), guide(cogvideox.pipe.transformer, layout="cogvideox"):
        pass
