"""Runs suites of checks and reports their outcome."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vcorr.contract.entries import Entry
from vcorr.contract.errors import VcorrError, unknown_name
from vcorr.contract.part_calls import describe

CheckFunction = Callable[[], str | None]
"""Raises when the check fails; may return a remark."""


@dataclass(frozen=True)
class Check:
    """The outcome of one named check. reason: why it failed, or a remark."""

    name: str
    passed: bool
    reason: str = ""


@dataclass(frozen=True)
class Report:
    """The outcome of a suite on `subject`, in the order the checks ran."""

    subject: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)

    def __iter__(self) -> Iterator[Check]:
        return iter(self.checks)

    def table(self) -> str:
        """Returns all checks as text, one per line, with the reason of each failure."""
        width = max((len(check.name) for check in self.checks), default=0)
        title = f"{self.subject}: {len(self.failures)} of {len(self.checks)} checks failed"
        lines = [f"  {'ok  ' if c.passed else 'FAIL'}  {c.name:<{width}}  {c.reason}".rstrip() for c in self.checks]
        return "\n".join([title, *lines])


class CheckFailedError(VcorrError):
    """Raised by a check whose expectation did not hold; also inside a call of a part, through which it passes."""


def expect(condition: bool, reason: str) -> None:
    """Fails the running check with `reason` unless `condition` is true."""
    if not condition:
        raise CheckFailedError(reason)


def assert_passed(report: Report) -> None:
    """Raises AssertionError with the report's table unless every check passed."""
    if not report.passed:
        raise AssertionError(report.table())


def run_checks(subject: str, checks: Sequence[tuple[str, CheckFunction]], skip: Collection[str]) -> Report:
    """Runs every check that is not skipped; an exception of any class fails its check, and the next check runs.

    Raises:
        UsageError: a name in `skip` is not the name of a check.
    """
    names = [name for name, _ in checks]
    for name in skip:
        if name not in names:
            raise unknown_name("check", name, names)
    return Report(subject, tuple(_run(name, function) for name, function in checks if name not in skip))


def _run(name: str, function: CheckFunction) -> Check:
    try:
        return Check(name, True, function() or "")
    except CheckFailedError as error:
        return Check(name, False, str(error))
    except (Exception, SystemExit, GeneratorExit) as error:
        return Check(
            name, False, describe(error) if not isinstance(error, VcorrError) else f"{type(error).__name__}: {error}"
        )


def make(part: Any, config: Any = None) -> tuple[str, Any]:
    """Returns a label and the object to check, from an entry, a class or the object itself."""
    if isinstance(part, Entry):
        return part.label, part.create(config)
    if inspect.isclass(part):
        factory: Callable[..., Any] = part
        return part.__name__, factory() if config is None else factory(config)
    return type(part).__name__, part
