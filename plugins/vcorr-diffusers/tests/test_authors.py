"""Tests that models sample as their authors do, and that each of these settings can be switched off."""

import dataclasses

import numpy as np
import pytest
import torch
from vcorr_diffusers import plugin

from vcorr import Clip, RunSettings, UsageError
from vcorr.capture.recorder import Recorder

ENTRIES = {entry.name: entry for entry in plugin.vcorr_models()}
pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast")  # Mochi's rotary embedding asks for float32
NOTHING = Clip("p", "p", np.zeros((0, 2), np.float32))
QUERIES = np.array([[10.5, 20.5]], np.float32)


def create(name, **options):
    return ENTRIES[name].create(ENTRIES[name].config_type()(**{**ENTRIES[name].check, **options}))


def texts_of_passes(model, mode):
    """Returns the embedded texts of the first pass, one per branch."""
    config, seen = model.config, []
    hook = model.pipe.transformer.register_forward_hook(lambda m, a, kwargs, _: seen.append(kwargs), with_kwargs=True)
    clip = Clip("c", "a red disk", QUERIES, np.zeros((config.frames, config.height, config.width, 3), np.uint8))
    try:
        model.run(clip, RunSettings(mode, (0,), 2), Recorder({}, clip.queries))
    finally:
        hook.remove()
    texts = seen[0]["encoder_hidden_states"]
    return texts.flatten(0, -3)  # Allegro's texts have a further axis


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ltx-video", "a red disk"),
        ("sana-video", "a red disk motion score: 30."),
        ("allegro", None),
        ("easyanimate", "a red disk"),
    ],
)
def test_the_authors_texts_count_in_generate_mode_only(name, text):
    model = create(name)
    model.load("cpu", "float32", "random")
    text = text or model.setting("prompt_template").replace("{}", "a red disk")
    negative, prompt = (model.embed(each)["prompt_embeds"][0] for each in (model.setting("negative_prompt"), text))
    generated, read = (texts_of_passes(model, mode) for mode in ("generate", "renoise"))
    assert torch.equal(generated, torch.stack([negative, prompt]))
    assert torch.equal(read[-1], model.embed("a red disk")["prompt_embeds"][0])
    applied = {mode: model.own_settings(RunSettings(mode)) for mode in ("generate", "renoise")}
    assert applied["generate"].values.keys() >= {"negative_prompt"}
    strength = applied["generate"].values.get("guidance_scale")
    assert model.call_inputs(NOTHING, None).get("guidance_scale") == strength
    assert not applied["renoise"].values.keys() & {"negative_prompt", "prompt_template", "guidance_scale"}


@pytest.mark.parametrize("name", ["sana-video", "allegro"])
def test_the_authors_texts_can_be_left_out_and_others_given(name):
    model = create(name, negative_prompt="", prompt_template="{}")
    model.load("cpu", "float32", "random")
    plain = torch.stack([model.embed(text)["prompt_embeds"][0] for text in ("", "a red disk")])
    assert torch.equal(texts_of_passes(model, "generate"), plain)
    model = create(name, prompt_template="{} at night")
    model.load("cpu", "float32", "random")
    assert torch.equal(texts_of_passes(model, "renoise")[-1], model.embed("a red disk at night")["prompt_embeds"][0])
    assert "prompt_template" not in create(name, prompt="empty").own_settings(RunSettings("generate")).values


@pytest.mark.parametrize("template", ["at night", "{} and {}"])
def test_a_template_has_one_place_for_the_prompt(template):
    with pytest.raises(UsageError, match=r"must have \{\} exactly once"):
        create("allegro", prompt_template=template)


@pytest.mark.parametrize("name", ["allegro", "mochi", "sana-video"])
def test_autoencoders_compute_in_float32_as_in_the_authors_code(name):
    model = create(name)
    model.load("cpu", "bfloat16", "random")
    assert (model.pipe.vae.dtype, model.pipe.transformer.dtype) == (torch.float32, torch.bfloat16)
    texts_of_passes(model, "generate")  # it also decodes
    assert texts_of_passes(model, "renoise").dtype == torch.bfloat16
    same = create(name, vae_dtype="model")
    same.load("cpu", "bfloat16", "random")
    assert same.pipe.vae.dtype == torch.bfloat16


@pytest.mark.parametrize(
    "name", [name for name in ENTRIES if name in ("allegro", "easyanimate", "mochi", "sana-video")]
)
def test_every_setting_of_a_card_is_an_option(name):
    entry = ENTRIES[name]
    options = {field.name for field in dataclasses.fields(entry.config_type())}
    settings = {one["option"]: one["value"] for one in entry.create().model_card().extra["settings"]}
    assert settings.keys() - options <= {"steps"}
    assert entry.create().steps == settings["steps"]


def test_a_shift_replaces_the_dynamic_one_of_the_release():
    even = np.linspace(1, 1e-3, 10)
    for shift, effective in ((None, np.e), (4.0, 4.0)):  # the release shifts by exp(1), whatever its `shift` says
        model = create("easyanimate", flow_shift=shift)
        model.load("cpu", "float32", "random")
        noise = model.schedule(10, model.grid(NOTHING, None)).noise
        assert np.allclose(noise, effective * even / (1 + (effective - 1) * even), atol=0.015)


def test_a_shift_that_the_scheduler_does_not_have_is_refused_before_loading():
    with pytest.raises(UsageError, match="EulerAncestralDiscreteScheduler has no shift"):
        create("allegro", flow_shift=3.0).check_settings(RunSettings("renoise"))
