"""Prints what a knock-out study found: its page, with tables that fit the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.text import Text

from vcorr.cli.views.table_width import Column, fit_table
from vcorr.cli.views.terminal import cell, console

_GIVES_WAY = {"its dose here": 0, "sites": 0, "of means": 1, "controls": 1, "whole cut": 2}
"""Order in which columns are dropped on a narrow terminal; the page in the folder of the study has all."""


def say_page(page: str) -> None:
    """Prints the page of a study, which is Markdown. Each heading is the title of the table that follows it."""
    title = ""
    for kind, lines in groupby(filter(None, page.splitlines()), _kind_of):
        if kind == "table":
            _say_table(title, list(lines))
            continue
        for line in lines:
            title = line.removeprefix("## ") if line.startswith("## ") else ""
            if not title:
                console().print(cell(_plain(line.removeprefix("# "))))


def _kind_of(line: str) -> str:
    return "table" if line.startswith("|") else "heading" if line.startswith("#") else "text"


def _say_table(title: str, lines: Sequence[str]) -> None:
    heads, rules, *rows = (_split(line) for line in lines)
    columns = [
        Column(name, is_name=not rule.endswith(":"), gives_way=_GIVES_WAY.get(name))
        for name, rule in zip(heads, rules, strict=True)
    ]
    console().print("", fit_table(console(), title, columns, [[_cell(text) for text in row] for row in rows]))


def _split(line: str) -> list[str]:
    return [part.strip() for part in line.strip("| ").split(" | ")]


def _cell(text: str) -> Text:
    return cell(_plain(text.strip("*")), style="bold" if text.startswith("**") else "")


def _plain(text: str) -> str:
    return text.replace("`", "")
