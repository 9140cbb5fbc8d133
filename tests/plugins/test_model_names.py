"""A model is found by its own name, by the hub id of its weights, and by other ids of the same repository."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace

import pytest

import vcorr
from vcorr.contract.cards import hub_ids, load_card
from vcorr.contract.errors import PluginError, UsageError
from vcorr.plugins import registry
from vcorr.plugins.model_names import find_model

CARD = """name: {name}
title: A model
summary: Looks at videos.
attention: full3d
licence: MIT
hub_id: {hub}
hub_aliases: [{alias}]
"""
MODELS = {
    "seer": ("Owner/Seer-2b", "former/Seer-2b"),
    "seer-i2v": ("Owner/Seer-I2V", "former/Seer-I2V"),
    "shared": ("Owner/Both", "former/Both"),
    "shared-i2v": ("Owner/Both", "former/Both"),
    "broken": ("Owner/Broken", "former/Broken"),
}


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> registry.Registry:
    """Makes a registry of the models above. `other-seer` is another name of `seer`; the card of `broken` is no card."""
    package = f"cards_{tmp_path.name.replace('-', '_')}"
    folder = tmp_path / package
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    for name, (hub, alias) in MODELS.items():
        (folder / f"{name}.yaml").write_text(CARD.format(name=name, hub=hub, alias=alias))
    (folder / "broken.yaml").write_text("name: [")
    monkeypatch.syspath_prepend(str(tmp_path))
    cards = {**dict(zip(MODELS, MODELS, strict=True)), "other-seer": "seer"}

    @vcorr.hookimpl
    def vcorr_models():
        return [
            vcorr.ModelEntry(name=name, summary="A model.", factory="made.up:Model", card=f"{package}:{card}.yaml")
            for name, card in cards.items()
        ]

    module = SimpleNamespace(__name__="made", vcorr_models=vcorr_models)
    return registry.Registry([registry.PluginSource("made", "made", "1", lambda: module)])


def name_of(models: registry.Registry, name: str) -> str:
    return find_model(name, models).entry.name


@pytest.mark.parametrize("model", ["seer", "seer-i2v"])
def test_any_name_of_a_model_finds_it_in_any_case(models, model) -> None:
    draw = random.Random(model)
    for name in (model, *MODELS[model]):
        for address in ("", "https://huggingface.co/", "https://hf.co/"):
            written = "".join(draw.choice((letter.lower(), letter.upper())) for letter in name)
            assert name_of(models, address + written) == model
            assert name_of(models, f"{address}{name}/" if address else f" {name} ") == model


def test_another_name_of_a_model_is_a_name_and_hides_nothing(models) -> None:
    assert name_of(models, "other-seer") == "other-seer"
    assert name_of(models, "Owner/Seer-2b") == "seer"


def test_weights_of_several_models_are_said(models) -> None:
    with pytest.raises(vcorr.UsageError, match=r"Owner/Both: shared, shared-i2v.\nFor example: --model shared$"):
        find_model("Owner/Both", models)


@pytest.mark.parametrize(
    ("name", "near"), [("stranger/Seer-2b", "'seer'"), ("Owner/Seer-I2", "'seer-i2v'"), ("owner/seer", "'seer'")]
)
def test_an_unknown_repository_gets_the_nearest_model(models, name, near) -> None:
    with pytest.raises(vcorr.UsageError) as error:
        find_model(name, models)
    assert f"No model has the weights of {name!r}. Did you mean {near}" in str(error.value)
    assert "vcorr list models" in str(error.value)


def test_a_repository_like_no_other_gets_no_suggestion(models) -> None:
    with pytest.raises(vcorr.UsageError, match=r"No model has the weights of 'a/zzzzzz'\.\n"):
        find_model("a/zzzzzz", models)


def test_an_unknown_name_of_many_is_a_short_message() -> None:
    names = [f"model-{number}" for number in range(50)]

    @vcorr.hookimpl
    def vcorr_models():
        return [vcorr.ModelEntry(name=name, summary="A model.", factory="made.up:Model") for name in names]

    module = SimpleNamespace(__name__="made", vcorr_models=vcorr_models)
    many = registry.Registry([registry.PluginSource("made", "made", "1", lambda: module)])
    with pytest.raises(vcorr.UsageError) as error:
        find_model("modell-7", many)
    message, hint = error.value.message, error.value.hint
    assert "Did you mean 'model-7'" in message
    assert hint.endswith("All 50 models: vcorr list models")
    assert len(hint) < 120


def test_every_model_that_is_installed_is_found_by_its_ids() -> None:
    """Checks the cards of this environment: an id finds its model, unless models share the weights."""
    models = registry.installed()
    owners: dict[str, list[str]] = {}
    for registered in models.models.all():
        entry = registered.entry
        card = load_card(entry.card, entry.label) if entry.card else None
        for hub_id in hub_ids(card) if card is not None and card.name == entry.name else ():
            owners.setdefault(hub_id, []).append(entry.name)
    for hub_id, (first, *others) in owners.items():
        if not others:
            assert name_of(models, hub_id) == first
            continue
        with pytest.raises(vcorr.UsageError, match="Several models have the weights") as error:
            find_model(hub_id, models)
        assert all(name in error.value.message for name in (first, *others))


def test_an_entry_may_stand_for_many_models() -> None:
    entry = vcorr.ModelEntry(name="many", summary="Models.", factory="made.up:Model", takes="path")
    other = vcorr.ModelEntry(name="one", summary="A model.", factory="made.up:Model")
    module = SimpleNamespace(__name__="made", vcorr_models=vcorr.hookimpl(lambda: [entry, other]))
    many = registry.Registry([registry.PluginSource("made", "made", "1", lambda: module)])
    found = find_model(" MANY:Some/Path:1 ", many)
    assert (found.entry.name, found.entry.options) == ("many:Some/Path:1", {"path": "Some/Path:1"})
    assert (found.entry.label, found.source.label) == ("model 'many:Some/Path:1'", "made 1")
    assert find_model("many", many).entry.options == {}
    assert find_model("one", many).entry.options == {}
    with pytest.raises(UsageError, match="names none of them"):
        find_model("many:", many)
    with pytest.raises(UsageError, match="Unknown model 'one:text'"):
        find_model("one:text", many)
    with pytest.raises(UsageError, match=r"Models\. For this one: --model many:Owner/Unheard"):
        find_model("Owner/Unheard", many)
    with pytest.raises(PluginError, match="not valid"):
        vcorr.ModelEntry(name="one:text", summary="A model.", factory="made.up:Model")
