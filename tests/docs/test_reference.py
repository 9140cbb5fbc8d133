"""The reference pages that are made from docstrings, and the names that pages take from `vcorr.diffusion`."""

from __future__ import annotations

import importlib.util
import inspect
import re

import pytest
from support.pages import ROOT, name_of, pages, read

import vcorr.diffusion
from vcorr.diffusion import DiffusersVideoModel, VideoConfig

PAGE = ROOT / "docs" / "diffusers-model.md"
IMPORT = re.compile(r"^ *from vcorr\.diffusion import (?:\(([^)]*)\)|(.+))$", re.MULTILINE)
MENTION = re.compile(r"\bvcorr\.diffusion\.(\w+)")


def find_names(text: str) -> set[str]:
    """Returns the names that a page imports from `vcorr.diffusion` or mentions as part of it, modules left out."""
    imported = {name.strip() for match in IMPORT.findall(text) for name in (match[0] or match[1]).split(",")}
    named = imported | set(MENTION.findall(text))
    return {name for name in named if name and importlib.util.find_spec(f"vcorr.diffusion.{name}") is None}


@pytest.mark.parametrize("page", [page for page in pages() if "vcorr.diffusion" in read(page)], ids=name_of)
def test_what_pages_take_from_diffusion_is_exported(page) -> None:
    assert find_names(read(page)) - set(vcorr.diffusion.__all__) == set()


def test_names_are_found_in_both_forms() -> None:
    text = "from vcorr.diffusion import Sizes, Missing\n`vcorr.diffusion.Gone`, `vcorr.diffusion.latents.encode_video`"
    assert find_names(text) == {"Sizes", "Missing", "Gone"}


def test_every_public_member_of_the_class_is_on_its_page() -> None:
    text = read(PAGE)
    parts = [each for each in DiffusersVideoModel.__mro__ if each.__module__.startswith("vcorr.diffusion.")]
    methods = [
        name
        for part in parts
        for name, member in vars(part).items()
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
    ]
    attributes = [name for part in parts for name in inspect.get_annotations(part) if not name.startswith("_")]
    assert methods
    assert attributes
    assert [name for name in methods if not re.search(rf"^#### `{name}[( ]", text, re.MULTILINE)] == []
    assert [name for name in attributes if f"| `{name}` |" not in text] == []
    assert [name for name in inspect.get_annotations(VideoConfig) if f"{name}" not in text] == []


def test_sections_of_a_docstring_become_lists(generate) -> None:
    markdown = generate.page_parts.class_reference._markdown(
        "Does it.\n\nMore.\n\nArgs:\n    x: what it\n        is.\n    y: more.\n\nReturns:\n    Both."
    )
    assert markdown == "Does it.\n\nMore.\n\nArgs:\n\n- `x`: what it is.\n- `y`: more.\n\nReturns: Both."
