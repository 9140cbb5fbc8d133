"""Lists the executors by the names that `--executor` takes."""

from __future__ import annotations

from collections.abc import Mapping

from vcorr.contract.errors import unknown_name

EXECUTORS: Mapping[str, str] = {"local": f"{__package__}.local:work_locally"}
"""Import strings by name; an executor is imported only if it is used."""


def check_executor(name: str) -> None:
    """Checks that there is an executor with this name.

    Raises:
        UsageError: there is no such executor; the message suggests the nearest name.
    """
    if name not in EXECUTORS:
        known = ", ".join(sorted(EXECUTORS))
        raise unknown_name("executor", name, EXECUTORS, hint=f"Available in this version: --executor {known}")
