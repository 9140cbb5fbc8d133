"""Builds what `vcorr plugin check` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from vcorr.cli.views.terminal import cell, console

if TYPE_CHECKING:
    from vcorr.authoring.check.suites import Found
    from vcorr.testing import Report


def show(found: Found) -> None:
    """Prints one table with a section per checked part, and a last line with the counts."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("check", overflow="fold")
    table.add_column("remark, or reason", overflow="fold")
    for report in found.reports:
        _add(table, report)
    for what, why in found.missing.items():
        table.add_row(cell("??", style="yellow"), cell(what, style="bold"), cell(f"not checked: {why}"))
    console().print(table)
    console().print(cell(_end(found)))


def _add(table: Table, report: Report) -> None:
    table.add_row("", cell(report.subject, style="bold"), "")
    before = ""
    for check in report:
        mark = cell("ok", style="green") if check.passed else cell("FAIL", style="bold red")
        # one cause often makes many checks fail
        reason = "as above" if not check.passed and check.reason == before else check.reason
        table.add_row(mark, cell(f"  {check.name}"), cell(reason, style="dim" if check.passed else ""))
        before = before if check.passed else check.reason


def to_dict(found: Found) -> dict[str, Any]:
    """Returns the same as plain values, for `--json`."""
    return {
        "name": found.name,
        "passed": found.exit_code == 0,
        "reports": [
            {
                "subject": report.subject,
                "passed": report.passed,
                "checks": [{"name": c.name, "passed": c.passed, "reason": c.reason} for c in report],
            }
            for report in found.reports
        ],
        "not checked": dict(found.missing),
    }


def _end(found: Found) -> str:
    checks = [check for report in found.reports for check in report]
    failed = sum(not check.passed for check in checks)
    said = f"{found.name}: {len(checks) - failed} of {len(checks)} checks passed"
    return said + (f", {len(found.missing)} not checked." if found.missing else ".")
