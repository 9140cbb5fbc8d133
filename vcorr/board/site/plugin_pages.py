"""Pages of plugins. One that fails shows its error; the board is made all the same."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from vcorr.board.tables.board_runs import BoardRun
from vcorr.board.tables.ranking import LeftOut, Ranking
from vcorr.contract.entries import PageEntry
from vcorr.plugins.registry import Registered, Registry


@dataclass(frozen=True)
class Board:
    """What `render(board)` of a page is given (docs/board.md).

    runs: every run, those left out of the rankings included, sorted by run id. rankings: the tables of the first page.
    left_out: what they do not show, with reasons.
    """

    runs: tuple[BoardRun, ...]
    rankings: tuple[Ranking, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class PluginPage:
    """A page of a plugin: its HTML body, or why there is none."""

    name: str
    summary: str
    source: str
    body: Markup
    error: str = ""


def plugin_pages(board: Board, registry: Registry) -> list[PluginPage]:
    """The pages of all plugins, by name."""
    return [_page(registered, board) for registered in registry.pages.all()]


def _page(registered: Registered[PageEntry], board: Board) -> PluginPage:
    entry, source = registered.entry, registered.source.label
    try:
        body = entry.create().render(board)
        if not isinstance(body, str):
            raise TypeError(f"render() returned {type(body).__name__}, not text")
    except (Exception, SystemExit) as error:
        return PluginPage(entry.name, entry.summary, source, Markup(""), f"{type(error).__name__}: {error}")
    return PluginPage(entry.name, entry.summary, source, Markup(body))  # HTML by contract
