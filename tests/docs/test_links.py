"""Links lead somewhere, the code's references to pages too, and nothing unfinished or private is on a page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.pages import FENCE, ROOT, name_of, pages, read

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
PAGE_NAMES = re.compile(r"\bdocs/[\w-]+\.md")


def anchors(page: Path) -> set[str]:
    """Returns the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", read(page)), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_relative_links_resolve(page) -> None:
    broken = []
    for target in LINK.findall(FENCE.sub("", read(page))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def test_pages_that_the_code_names_exist() -> None:
    files = [
        path
        for pattern in ("vcorr/**/*.py", "plugins/*/vcorr_*/**/*.py", "**/cards/*.yaml")
        for path in ROOT.glob(pattern)
    ]
    named = {(name, path.relative_to(ROOT).as_posix()) for path in files for name in PAGE_NAMES.findall(read(path))}
    assert sorted(pair for pair in named if not (ROOT / pair[0]).is_file()) == []


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_nothing_unfinished_or_private(page) -> None:
    text = read(page)
    assert re.findall(r"\b(?:TODO|FIXME|XXX|TBD)\b|/(?:work|tmp|home|root)/", text) == []
