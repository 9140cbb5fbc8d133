"""Builds the tables of `vcorr bench kernels`. Only the views round values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from vcorr.cli.views.terminal import cell, number

if TYPE_CHECKING:
    from vcorr.bench.kernel_agreement import Agreement
    from vcorr.bench.kernel_times import KernelTime, TilingTime


def agreement_table(found: Sequence[Agreement]) -> Table:
    """Builds one row per kernel and dtype, with the share of results that equal float64."""
    table = _begin("agreement with float64", "kernel", "dtype")
    _add_numbers(table, "cases", "results", "equal", "up to rounding", "wrong", "largest error")
    for one in found:
        share = f"{100 * one.equal / max(one.results, 1):.3f} %"
        counts = (str(one.cases), str(one.results), share, str(one.rounding), str(one.wrong))
        table.add_row(cell(one.kernel), one.dtype, *counts, f"{one.largest_error:.1e}")
    return table


def time_table(found: Sequence[KernelTime], title: str) -> Table:
    """Builds one row per function and number of points."""
    table = _begin(title, "function")
    _add_numbers(table, "points", "fused ms", "plain ms", "ratio", "fused MiB", "plain MiB")
    for one in found:
        times = (number(one.fused_ms, 3), number(one.plain_ms, 3), number(one.ratio, 3))
        memory = (number(one.fused_mib, 1), number(one.plain_mib, 1))
        table.add_row(cell(one.function), str(one.points), *times, *memory)
    return table


def tiling_table(found: Sequence[TilingTime]) -> Table:
    """Builds one row per pass and tiling, the fastest first."""
    table = _begin("tilings, every token", "pass")
    _add_numbers(table, "rows", "columns", "step", "warps", "stages", "ms")
    for one in found:
        tiling = one.tiling
        sizes = (tiling.rows, tiling.columns, tiling.step, tiling.warps, tiling.stages)
        table.add_row(cell(one.kernel), *map(str, sizes), one.error or number(one.ms, 3))
    return table


def _begin(title: str, *names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _add_numbers(table: Table, *names: str) -> None:
    for name in names:
        table.add_column(name, justify="right")
