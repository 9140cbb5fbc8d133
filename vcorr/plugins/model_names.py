"""Finds a model by any of its names: its own, the hub id of its weights, or another id of the same repository."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from vcorr.contract.cards import hub_ids, load_card
from vcorr.contract.entries import ModelEntry
from vcorr.contract.errors import PluginError, UsageError
from vcorr.contract.records import ModelCard
from vcorr.plugins.registry import Registered, Registry

_ADDRESSES = ("https://huggingface.co/", "https://hf.co/")
_SUGGESTED = 3
_NEAR = 0.6


def find_model(name: str, registry: Registry) -> Registered[ModelEntry]:
    """Returns the model with this name, or with weights from the hub repository of this name, in any case.

    Raises:
        UsageError: there is no such model; the nearest names are suggested. Or several models have these weights.
        PluginError: more than one plugin registered the name.
    """
    family = _family(name, registry)
    if family is not None:
        return family
    asked = name.strip().lower()
    for address in _ADDRESSES:
        asked = asked.removeprefix(address)
    asked = asked.rstrip("/")
    if asked in registry.models.names():
        return registry.models.get(asked)
    if "/" not in asked:
        return registry.models.get(name)
    by_id = _models_by_id(registry)
    if asked not in by_id:
        families = [found.entry for found in registry.models.all() if found.entry.takes]
        raise _unknown_id(name, asked, by_id, families)
    models = by_id[asked]
    if len(models) > 1:
        raise UsageError(
            f"Several models have the weights of {name}: {', '.join(models)}.", hint=f"For example: --model {models[0]}"
        )
    return registry.models.get(models[0])


def _family(name: str, registry: Registry) -> Registered[ModelEntry] | None:
    """Returns the model NAME:TEXT of an entry that stands for many models; None if the name is no such one.

    Raises:
        UsageError: there is nothing after the colon.
    """
    first, colon, text = name.strip().partition(":")
    if not colon or first.lower() not in registry.models.names():
        return None
    found = registry.models.get(first.lower())
    if not found.entry.takes:
        return None
    if not text:
        raise lacks_text(found.entry)
    return Registered(found.entry.with_text(text), found.source)


def lacks_text(entry: ModelEntry) -> UsageError:
    """Returns the error for an entry that stands for many models, named without the text that says which."""
    return UsageError(
        f"--model {entry.name} stands for many models and names none of them.",
        hint=f"Name one by its {entry.takes}: --model {entry.name}:{entry.takes.upper()}\n"
        f"What it takes: vcorr show model {entry.name}",
    )


def is_named(name: str, model: str, registry: Registry) -> bool:
    """Returns whether `find_model` gives the entry `model` for a name; False for a name of no model."""
    if name == model:
        return True
    try:
        return find_model(name, registry).entry.name == model
    except (UsageError, PluginError):
        return False


def _models_by_id(registry: Registry) -> Mapping[str, Sequence[str]]:
    """Returns the names of the models by hub id in lower case. An entry that is another name of a model is left out."""
    found: dict[str, list[str]] = defaultdict(list)
    for registered in registry.models.all():
        card = _card_of(registered.entry)
        if card is not None and card.name == registered.entry.name:
            for hub_id in hub_ids(card):
                found[hub_id.lower()].append(card.name)
    return found


def _card_of(entry: ModelEntry) -> ModelCard | None:
    """Returns the card of a model; None without one, or with one that cannot be read, which hides no other model."""
    try:
        return load_card(entry.card, entry.label) if entry.card else None
    except PluginError:
        return None


def _unknown_id(
    name: str, asked: str, by_id: Mapping[str, Sequence[str]], families: Sequence[ModelEntry]
) -> UsageError:
    """Returns the error for a repository of no model. Its owner counts less than its name: forks have other owners."""
    repositories: dict[str, list[str]] = defaultdict(list)
    for hub_id, models in by_id.items():
        repositories[hub_id.partition("/")[2]] += models
    nearest = difflib.get_close_matches(asked.partition("/")[2], repositories, n=_SUGGESTED, cutoff=_NEAR)
    near = list(dict.fromkeys(model for each in nearest for model in repositories[each]))
    meant = f" Did you mean {' or '.join(repr(model) for model in near[:_SUGGESTED])}?" if near else ""
    return UsageError(
        f"No model has the weights of {name!r}.{meant}",
        hint="A fork with the same networks runs with its folder: --model NAME --weights PATH\n"
        + "".join(f"{each.summary} For this one: --model {each.name}:{name.strip()}\n" for each in families)
        + "All models: vcorr list models. To add one: vcorr plugin new NAME --from-pipeline CLASS",
    )
