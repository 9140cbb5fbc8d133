"""Model cards: what is read, and what is said of a card that cannot be used."""

from __future__ import annotations

import pytest

from vcorr.cards import card_schema, load_card, parse_card
from vcorr.errors import PluginError

GOOD = """
name: still
title: Still
summary: Never moves.
attention: none
licence: Apache-2.0
resolution: [480, 720]
matching_layers: [{layers: [17], source: somewhere}]
something_else: {kept: true}
"""


def test_fields_go_to_their_places_and_others_are_kept() -> None:
    card = parse_card(GOOD, "still.yaml")
    assert (card.name, card.resolution, card.frames) == ("still", (480, 720), None)
    assert card.extra == {
        "matching_layers": [{"layers": [17], "source": "somewhere"}],
        "something_else": {"kept": True},
    }


def test_a_field_left_empty_is_a_field_left_out() -> None:
    assert parse_card(GOOD + "revision:\n", "still.yaml").revision is None


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("frames: many", "frames"),
        ("frames: true", "frames"),
        ("parameters: 0", "parameters"),
        ("resolution: [480]", "resolution"),
        ("resolution: [480, wide]", "resolution"),
        ("revision: main", "revision"),
        ("hub_id: somewhere", "hub_id"),
        ("attention: sideways", "attention"),
        ("matching_layers: [{layers: [3]}]", "matching_layers"),
        ("reported: [{benchmark: b, metric: m, value: high, source: s}]", "reported"),
        ("vae: {temporal: 4, causal: perhaps}", "vae"),
        ("patch: {depth: 2}", "patch"),
    ],
)
def test_a_field_of_the_wrong_form_is_named(line: str, place: str) -> None:
    name = line.split(":", maxsplit=1)[0]
    text = "\n".join(kept for kept in GOOD.splitlines() if not kept.startswith(f"{name}:"))
    with pytest.raises(PluginError, match=rf"still\.yaml: {place}") as caught:
        parse_card(f"{text}\n{line}\n", "still.yaml")
    assert "model-cards.md" in str(caught.value.hint)


def test_what_is_required_is_asked_for_all_at_once() -> None:
    with pytest.raises(PluginError, match=r"lacks title, summary, attention, licence\.$"):
        parse_card("name: still", "still.yaml")


@pytest.mark.parametrize("text", ["- a list", "name: [unclosed", ""])
def test_what_is_no_card_is_refused(text: str) -> None:
    with pytest.raises(PluginError, match="card"):
        parse_card(text, "card")


def test_a_card_that_is_not_there_names_the_entry() -> None:
    with pytest.raises(PluginError, match=r"model 'x': its model card 'vcorr:nowhere\.yaml' cannot be read"):
        load_card("vcorr:nowhere.yaml", "model 'x'")


def test_the_schema_is_a_schema() -> None:
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(card_schema())
