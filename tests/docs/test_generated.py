"""What is generated is fresh: tables, help texts, examples, and the outputs of cheap commands."""

from __future__ import annotations

from dataclasses import fields

import pytest
from support.pages import name_of, pages, read

from vcorr.contract.entries import Entry
from vcorr.contract.records import ModelCard
from vcorr.plugins.registry import HOOKS

WITH_PARTS = [page for page in pages() if "<!-- end -->" in read(page)]


@pytest.mark.parametrize("page", WITH_PARTS, ids=name_of)
def test_generated_parts_are_fresh(page, generate, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    assert read(page) == generate.render(page), "stale; write it anew: python docs/generate.py"
    assert list(tmp_path.iterdir()) == []


def test_every_part_is_on_a_page(generate) -> None:
    text = "".join(read(page) for page in WITH_PARTS)
    assert [name for name in generate.page_parts.PARTS if f"<!-- generated: {name} -->" not in text] == []


def test_every_output_is_filled_in(generate) -> None:
    found = [match for page in WITH_PARTS for match in generate.BLOCK.finditer(read(page))]
    empty = [match[3] for match in found if "```" not in match[0] and match[2] != "generated"]
    assert empty == [], "fill them in: python docs/generate.py --run"


def test_the_generator_explains_every_field_and_nothing_else(generate) -> None:
    assert set(generate.page_parts.CARD_FIELDS) == {f.name for f in fields(ModelCard)} - {"extra"}
    assert set(generate.page_parts.CARD_EXTRAS) >= {
        key for card in generate.page_parts.list_cards() for key in card.extra
    }
    assert set(generate.page_parts.ENTRY_FIELDS) == {f.name for kind in (Entry, *HOOKS.values()) for f in fields(kind)}


def test_every_card_has_a_fresh_page_and_every_page_a_card(generate) -> None:
    folder = generate.FOLDER / generate.model_pages.FOLDER
    found = {page.name: read(page) for page in folder.glob("*.md")}
    assert found == generate.model_pages.model_pages(), "stale; write them anew: python docs/generate.py"
