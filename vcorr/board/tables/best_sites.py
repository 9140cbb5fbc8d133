"""Lists the chosen sites of a run for the download: one row per probe and metric, with unrounded numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

from vcorr.board.tables.board_runs import BoardRun
from vcorr.board.tables.definitions import BoardConfig, boards_of
from vcorr.board.tables.row_candidates import own_rows
from vcorr.board.tables.site_rows import SiteRow
from vcorr.stats.summary import SiteSummary

_KEYS = ("run", "model", "weights", "probe", "dataset", "split", "mode", "tracker", "variant", "switches", "seed")


def best_site_rows(run: BoardRun, boards: Sequence[BoardConfig]) -> Iterator[dict[str, Any]]:
    """Yields a row for every probe and metric of a run, at the sites that were chosen on all of its clips."""
    chosen = boards_of(run.dataset, boards, run.task)
    for _, at in own_rows(run, chosen[0]) if chosen else ():
        for cell in at.cells.values():
            yield {**{k: at.best.key.get(k) for k in _KEYS}, "run": run.run_id, **_site(at), **_numbers(cell)}


def _site(at: SiteRow) -> dict[str, Any]:
    sites = {"first": at.sites[0], "second": at.sites[-1]}
    names = ("layer", "layer_name", "step", "head", "noise")
    return {
        **{f"{name}_{which}": _plain(getattr(site, name)) for which, site in sites.items() for name in names},
        "heads": at.best.heads,
        "chosen_by": at.chosen_by,
        "candidates": at.best.candidates,
        "chosen_on": at.best.chosen_on,
        "regret": _plain(at.best.regret),
    }


def _numbers(cell: SiteSummary) -> dict[str, Any]:
    """Returns the metric and its numbers, without the site, which is the first of the row's."""
    names = [f.name for f in fields(cell) if f.name not in (*_KEYS, "layer", "layer_name", "step", "head", "noise")]
    return {name: _plain(getattr(cell, name)) for name in names}


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
