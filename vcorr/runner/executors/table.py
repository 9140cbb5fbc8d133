"""The known executors, by the name that `--executor` takes."""

from __future__ import annotations

from collections.abc import Mapping

from vcorr.contract.errors import unknown_name

EXECUTORS: Mapping[str, str] = {"local": f"{__package__}.local:work_here"}
"""Name to import string; an executor is imported when it is used."""


def check_executor(name: str) -> None:
    """Checks that there is an executor of that name.

    Raises:
        UsageError: there is none; the nearest is suggested.
    """
    if name not in EXECUTORS:
        known = ", ".join(sorted(EXECUTORS))
        raise unknown_name("executor", name, EXECUTORS, hint=f"Available in this version: --executor {known}")
