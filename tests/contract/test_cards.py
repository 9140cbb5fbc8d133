"""Model cards: what is read, and what is said of a card that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from vcorr.contract.cards import card_schema, form_in_words, load_card, parse_card
from vcorr.contract.errors import PluginError

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
    ("line", "near"), [("resolutoin: [480, 720]", "resolution"), ("licenses: x", "licence"), ("hub-id: a/b", "hub_id")]
)
def test_a_field_that_is_nearly_one_of_a_card_is_a_mistake(line: str, near: str) -> None:
    name = line.split(":", maxsplit=1)[0]
    with pytest.raises(PluginError, match=rf"still\.yaml: {name}: is no field of a card, and {near} is"):
        parse_card(f"{GOOD}{line}\n", "still.yaml")


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
    with pytest.raises(PluginError, match=r"lacks title, summary, attention, licence\.\n"):
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


def test_every_problem_is_in_one_message() -> None:
    text = (
        GOOD.replace("licence: Apache-2.0", "licence:").replace("[480, 720]", "[480]")
        + "frames: many\nvae: {causal: 3}"
    )
    with pytest.raises(PluginError) as caught:
        parse_card(text, "still.yaml")
    assert caught.value.message.splitlines() == [
        "still.yaml has 4 problems:",
        "  lacks licence",
        "  frames: expected a whole number of at least 1, got 'many'",
        "  resolution: expected a list of 2, each a whole number of at least 1, got [480]",
        "  vae.causal: expected true or false, got 3",
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("heads: 0", "heads: expected a whole number of at least 1, or a list, each"),
        ("revision: main", "revision: expected 40 lowercase hexadecimal digits, got 'main'"),
        ("reported: [{benchmark: b, value: 1}]", r"reported\[0\]: lacks metric, source"),
        ("patch: {depth: 2}", "patch: has no depth; its fields are temporal, height, width"),
        ("fps: 0", "fps: expected a number above 0, got 0"),
    ],
)
def test_the_form_that_was_expected_is_said(line: str, said: str) -> None:
    with pytest.raises(PluginError, match=said):
        parse_card(f"{GOOD}\n{line}\n", "still.yaml")


def test_the_form_of_every_field_is_where_the_error_says_it_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "model-cards.md").read_text(encoding="utf-8")
    for name, schema in card_schema()["properties"].items():
        if f"`{name}`" in page:
            assert f"| `{name}` | {form_in_words(schema)} |" in page
    assert {name for name in card_schema()["properties"] if f"`{name}`" not in page} == set()


def test_a_card_is_read_once() -> None:
    assert load_card("vcorr.baselines:cards/zero-motion.yaml", "one") is load_card(
        "vcorr.baselines:cards/zero-motion.yaml", "another"
    )
