"""The base class, with a model that shares nothing with CogVideoX but the base: LTX-Video."""

import numpy as np
import pytest
import torch
from support.ltx import LTX, LTXConfig

from vcorr import Clip, MissingError, PluginError, RunSettings, UsageError
from vcorr.capture.recorder import Recorder
from vcorr.contract import cards
from vcorr.diffusion import DiffusersVideoModel, VideoConfig
from vcorr.functional import match
from vcorr.testing import assert_passed, check_model


class QueryKey:
    needs = frozenset({"q", "k"})

    def read(self, capture, queries):
        return {-1: match(capture.q, capture.k, capture.grid, queries)}


def make_clip(frames=9, height=64, width=96, clip_id="clip"):
    video = np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    queries = np.array([[10.5, 20.5], [70.25, 40.0]], dtype=np.float32)
    return Clip(id=clip_id, prompt="a red disk", queries=queries, video=video)


@pytest.fixture(scope="module")
def ltx():
    model = LTX(LTXConfig())
    model.load("cpu", "float32", "random:3")
    return model


def run(model, steps, clip=None, seed=42, num_steps=10):
    """Predictions, and the arguments of every forward pass."""
    clip = clip or make_clip()
    calls = []
    hook = model.pipe.transformer.register_forward_hook(
        lambda module, args, kwargs, output: calls.append(kwargs), with_kwargs=True
    )
    recorder = Recorder({"qk": QueryKey()}, clip.queries)
    try:
        assert model.run(clip, RunSettings("renoise", steps, num_steps, seed), recorder) is None
    finally:
        hook.remove()
    return recorder.predictions, calls


def test_sites_and_grid_are_known_without_loading():
    model = LTX(LTXConfig())
    assert [(s.layer, s.name, s.heads) for s in model.sites()] == [
        (0, "transformer_blocks.0.attn1", 2),
        (1, "transformer_blocks.1.attn1", 2),
    ]
    grid = model.grid(make_clip(frames=30), model.sites()[0])
    assert (grid.frames, grid.rows, grid.cols, grid.stride, grid.video_frames) == (3, 16, 24, (4, 4), 9)


def test_grids_and_sites_read_the_card_once(monkeypatch):
    read, whole = [], cards.resources.files
    monkeypatch.setattr(cards.resources, "files", lambda package: read.append(package) or whole(package))
    parsed, parse = [], cards.parse_card
    monkeypatch.setattr(cards, "parse_card", lambda text, label: parsed.append(label) or parse(text, label))
    cards._read_packaged.cache_clear()
    model = LTX(LTXConfig())
    for site in model.sites():
        for frames in (9, 17):
            model.grid(make_clip(frames), site)
    assert (read, parsed) == (["support"], ["model card support:ltx.yaml"])


def test_a_prediction_for_every_site_and_step(ltx):
    predictions, calls = run(ltx, (0, 4, 9))
    assert sorted((p.layer, p.step) for p in predictions) == [(la, s) for la in (0, 1) for s in (0, 4, 9)]
    assert len(calls) == 3
    noise = {p.step: p.noise for p in predictions}
    assert noise[0] == pytest.approx(1)
    assert noise[0] > noise[4] > noise[9] > 0
    assert all(p.xy.shape == (2, 3, 2) and np.isfinite(p.xy).all() for p in predictions)


def test_the_noise_of_a_step_does_not_depend_on_the_other_steps(ltx):
    alone, among = run(ltx, (4,))[1], run(ltx, (0, 4, 9))[1]
    assert torch.equal(alone[0]["hidden_states"], among[1]["hidden_states"])
    other_clip, other_seed = run(ltx, (4,), make_clip(clip_id="b"))[1], run(ltx, (4,), seed=1)[1]
    assert not torch.equal(alone[0]["hidden_states"], other_clip[0]["hidden_states"])
    assert not torch.equal(alone[0]["hidden_states"], other_seed[0]["hidden_states"])


def test_the_adapter_passes_the_contract_of_models():
    assert_passed(check_model(LTX, make_clip(), config=LTXConfig(), text_tokens=0))


def test_every_step_has_the_same_noise(ltx):
    schedule = ltx.schedule(10, ltx.grid(make_clip(), None))
    with torch.no_grad():
        latents = ltx.pipe._pack_latents(ltx.encode(make_clip().video), 1, 1)
    drawn = [
        (call["hidden_states"] - schedule.alphas[step] * latents) / schedule.sigmas[step]
        for step, call in zip((0, 4, 9), run(ltx, (0, 4, 9))[1], strict=True)
    ]
    assert torch.allclose(drawn[0], drawn[1], atol=1e-4)
    assert torch.allclose(drawn[0], drawn[2], atol=1e-3)


def test_passes_are_what_the_pipeline_makes(ltx):
    call = run(ltx, (0,))[1][0]

    class Stop(Exception):  # noqa: N818
        pass

    seen = {}

    def stop(module, args, kwargs):
        seen.update(kwargs)
        raise Stop

    hook = ltx.pipe.transformer.register_forward_pre_hook(stop, with_kwargs=True)
    text = call["encoder_hidden_states"]
    with pytest.raises(Stop):
        ltx.pipe(
            prompt_embeds=text,
            prompt_attention_mask=call["encoder_attention_mask"],
            height=64,
            width=96,
            num_frames=9,
            num_inference_steps=10,
            guidance_scale=1.0,
            latents=call["hidden_states"],
        )
    hook.remove()
    assert seen.keys() == call.keys()
    for name, value in call.items():
        same = torch.equal(seen[name], value) if isinstance(value, torch.Tensor) else seen[name] == value
        assert same, name


def test_weights_follow_the_seed_and_leave_the_global_generator_alone():
    first, same, other = (LTX(LTXConfig()) for _ in range(3))
    state = torch.get_rng_state()
    for model, seed in ((first, 1), (same, 1), (other, 2)):
        model.load("cpu", "float32", f"random:{seed}")
    assert torch.equal(torch.get_rng_state(), state)
    parameters = [torch.cat([p.flatten() for p in m.pipe.transformer.parameters()]) for m in (first, same, other)]
    assert torch.equal(parameters[0], parameters[1])
    assert not torch.equal(parameters[0], parameters[2])


def test_dtypes():
    model = LTX(LTXConfig())
    model.load("cpu", "bfloat16", "random")
    assert {p.dtype for p in model.pipe.transformer.parameters()} == {torch.bfloat16}
    assert model.encode(make_clip().video).dtype == torch.bfloat16
    with pytest.raises(UsageError, match="Did you mean 'float16'"):
        model.load("cpu", "float61", "random")


def test_a_model_that_is_not_loaded_says_so():
    model = LTX(LTXConfig())
    with pytest.raises(PluginError, match="call load"):
        run(model, (0,))


def test_missing_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for call in (lambda m: m.weights_id("hub"), lambda m: m.load("cpu", "float32", "hub")):
        with pytest.raises(MissingError, match=r"example/ltx.*1\.5 GB"):
            call(LTX(LTXConfig()))


@pytest.mark.parametrize(
    ("clip", "settings", "reason"),
    [
        (make_clip(), RunSettings("dream", (0,), 10), "Unknown mode 'dream'"),
        (make_clip(), RunSettings("generate", (10,), 10), "10 steps, 0 to 9"),
        (make_clip(), RunSettings("renoise", (10,), 10), "10 steps, 0 to 9"),
        (make_clip(height=32), RunSettings("renoise", (0,), 10), "the model reads 9 frames of 64x96"),
        (make_clip(frames=10), RunSettings("renoise", (0,), 10), "is 10 frames of"),
        (make_clip(frames=4), RunSettings("renoise", (0,), 10), "at least 5"),
        (Clip(id="p", prompt="p", queries=np.zeros((0, 2), np.float32)), RunSettings("renoise", (0,), 10), "no video"),
    ],
)
def test_what_cannot_be_run_is_refused(ltx, clip, settings, reason):
    with pytest.raises(UsageError, match=reason):
        ltx.run(clip, settings, Recorder({"qk": QueryKey()}, clip.queries))


@pytest.mark.parametrize(("frames", "read"), [(9, 9), (100, 9), (8, 5), (5, 5)])
def test_clips_are_read_as_far_as_they_fill_latents(frames, read):
    assert LTX(LTXConfig()).grid(make_clip(frames=frames), None).video_frames == read


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("height", 62, "60 and 64"),
        ("width", 0, "nearest: 4"),
        ("frames", 10, "9 and 13"),
        ("frames", 1, "5 and more, in steps of 4"),
    ],
)
def test_sizes_the_model_does_not_take_are_refused_with_those_it_takes(option, value, reason):
    model = LTX(LTXConfig(**{option: value}))
    for clip in (make_clip(frames=20), Clip(id="p", prompt="p", queries=np.zeros((0, 2), np.float32))):
        with pytest.raises(UsageError, match=reason):
            model.grid(clip, None)


def test_a_clip_without_video_has_the_configured_size():
    grid = LTX(LTXConfig()).grid(Clip(id="p", prompt="p", queries=np.zeros((0, 2), np.float32)), None)
    assert (grid.video_frames, grid.height, grid.width) == (9, 64, 96)


def test_an_unfinished_subclass_hears_what_it_lacks():
    class Half(DiffusersVideoModel[VideoConfig]):
        card = "support:ltx.yaml"

    model = Half(VideoConfig(height=64, width=64, frames=9))
    with pytest.raises(PluginError, match="Half does not declare sites"):
        model.sites()
    with pytest.raises(PluginError, match="compression"):
        model.grid(make_clip(), None)
