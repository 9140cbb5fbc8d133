"""Renders the pages of plugins. A page that fails shows its error; the rest of the board is not affected."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from vcorr.board.tables.board_runs import BoardRun
from vcorr.board.tables.row_candidates import LeftOut
from vcorr.board.tables.ranking import Ranking, Unreadable
from vcorr.contract.entries import PageEntry
from vcorr.contract.errors import PluginError, VcorrError
from vcorr.contract.part_calls import PartFailureError
from vcorr.plugins.registry import Registered, Registry


@dataclass(frozen=True)
class Board:
    """What `render(board)` of a page gets (docs/board.md).

    runs: every run, sorted by run id, including runs that no ranking shows. rankings: the tables of the first page.
    left_out: what these tables do not show, with reasons. unreadable: runs that are damaged, with reasons.
    """

    runs: tuple[BoardRun, ...]
    rankings: tuple[Ranking, ...]
    left_out: tuple[LeftOut, ...]
    unreadable: tuple[Unreadable, ...] = ()


@dataclass(frozen=True)
class PluginPage:
    """A page of a plugin: its HTML body, or why there is none."""

    name: str
    summary: str
    source: str
    body: Markup
    error: str = ""


def frame(page: PluginPage, root: str) -> str:
    """Returns the document of the frame that holds the page of a plugin. The frame runs no scripts.

    root: path from the page to the folder of the board.
    """
    return (
        '<!doctype html><html><head><meta charset="utf-8"><base target="_blank">'
        f'<link rel="stylesheet" href="{root}assets/style.css"></head><body class="framed">{page.body}</body></html>'
    )


def plugin_pages(board: Board, registry: Registry) -> list[PluginPage]:
    """Renders the pages of all plugins, sorted by name."""
    return [_page(registered, board) for registered in registry.pages.all()]


def _page(registered: Registered[PageEntry], board: Board) -> PluginPage:
    entry, source = registered.entry, registered.source.label
    try:
        with registered.part_name.calling("render()"):
            body = entry.create().render(board)
            if not isinstance(body, str):
                raise PluginError(f"render() returned {type(body).__name__}, not text")
    except VcorrError as error:
        cause = error.cause if isinstance(error, PartFailureError) else error.message
        return PluginPage(entry.name, entry.summary, source, Markup(""), cause)
    return PluginPage(entry.name, entry.summary, source, Markup(body))  # HTML by contract
