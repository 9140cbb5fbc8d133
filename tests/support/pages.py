"""The pages of the documentation and their code blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its info string, its text and the line it begins at."""

    info: tuple[str, ...]
    text: str
    line: int


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def pages() -> list[Path]:
    """Returns every page that people read: of the project, its plugins and its folders of data."""
    folders = (".", "docs", "docs/plugins")
    found = [page for folder in folders for page in (ROOT / folder).glob("*.md")]
    found += [*ROOT.glob("plugins/*/README.md"), *ROOT.glob("*/README.md")]
    return sorted(set(found))


def blocks(page: Path) -> list[Block]:
    text = read(page)
    return [
        Block(tuple(found[1].split()), found[2], text.count("\n", 0, found.start()) + 2)
        for found in FENCE.finditer(text)
    ]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()
