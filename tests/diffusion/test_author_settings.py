"""Settings of a model's authors: which value counts, in which mode, and what a run says about them."""

from __future__ import annotations

import itertools

import pytest

from vcorr import ModelCard, PluginError, RunSettings
from vcorr.diffusion.authors import AuthorsConfig, AuthorSettings
from vcorr.diffusion.options import VideoConfig

VALUES = {
    "flow_shift": (8, 3.0),
    "guidance_scale": (6, 2.0),
    "negative_prompt": ("grey", ""),
    "prompt_template": ("{} at noon", "{}"),
    "vae_dtype": ("float32", "model"),
}
"""By option: the authors' value, and another one that a user gives."""


def card(**values) -> ModelCard:
    settings = [{"option": name, "value": value, "source": "somewhere"} for name, value in values.items()]
    return ModelCard("some", "Some model", "A model.", "full3d", "MIT", extra={"settings": settings})


AUTHORS = card(**{name: theirs for name, (theirs, _) in VALUES.items()}, steps=40)


@pytest.mark.parametrize("given", [set(some) for n in range(6) for some in itertools.combinations(VALUES, n)])
def test_an_option_replaces_the_authors_value_and_nothing_else(given):
    settings = AuthorSettings(AuthorsConfig(**{name: VALUES[name][1] for name in given}), AUTHORS)
    for name, (theirs, other) in VALUES.items():
        assert settings.value(name) == (other if name in given else theirs)
    left = VALUES.keys() - given
    assert settings.in_run(RunSettings("generate"), {}).values.keys() == left
    for mode in ("renoise", "invert"):
        assert settings.in_run(RunSettings(mode), {}).values.keys() == left & {"flow_shift", "vae_dtype"}
    with_cfg = settings.in_run(RunSettings("generate", cfg=3.0), {}).values
    assert with_cfg.keys() == left - {"guidance_scale"}
    assert settings.steps == 40


def test_the_authors_template_is_for_made_videos_and_a_given_one_for_all():
    theirs, own = (AuthorSettings(AuthorsConfig(prompt_template=text), AUTHORS) for text in (None, "{} by night"))
    assert [theirs.in_template("a cat", mode) for mode in ("generate", "renoise")] == ["a cat at noon", "a cat"]
    assert {own.in_template("a cat", mode) for mode in ("generate", "renoise", "invert")} == {"a cat by night"}
    assert own.in_template("{} {0} {x}", "renoise") == "{} {0} {x} by night", "prompts are no templates"


@pytest.mark.parametrize(
    ("folder", "said"),
    [({"flow_shift": 3.0}, True), ({"shift": 1.0}, True), ({"flow_shift": 8.0}, False), ({}, False)],
)
def test_a_folder_with_another_shift_is_reported_unless_the_user_gave_one(folder, said):
    note = "the shift 8 of the authors of Some model"
    for options, expected in (({}, said), ({"flow_shift": 5.0}, False)):
        notes = AuthorSettings(AuthorsConfig(**options), AUTHORS).in_run(RunSettings(), folder).notes
        assert any(note in each for each in notes) == expected


def test_a_model_without_settings_applies_none():
    for known in (card(), None):
        settings = AuthorSettings(VideoConfig(), known)
        found = settings.in_run(RunSettings("generate"), {"flow_shift": 3.0})
        assert (dict(found.values), found.notes, settings.steps) == ({}, (), None)
        assert settings.in_template("a {}", "generate") == "a {}"


def test_a_setting_that_is_no_option_is_an_error_of_the_plugin():
    with pytest.raises(PluginError, match=r"lists the setting 'flow_shif', .* Did you mean 'flow_shift'"):
        AuthorSettings(AuthorsConfig(), card(flow_shif=8))
    with pytest.raises(PluginError, match=r"lists the setting 'flow_shift', and VideoConfig has no such option"):
        AuthorSettings(VideoConfig(), card(flow_shift=8))
