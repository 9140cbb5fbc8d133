"""Refuses options that a study would not read."""

from __future__ import annotations

from collections.abc import Sequence

from vcorr.contract.errors import UsageError


def check_assignments(assignments: Sequence[str], parts: Sequence[str], keys: Sequence[str] = ()) -> None:
    """Checks that a study reads everything that is set.

    Args:
        assignments: as `--set` has them, KEY=VALUE.
        parts: whose options the study reads, such as "model" for model.lora.
        keys: other keys that it reads.

    Raises:
        UsageError: it does not read one of them.
    """
    for text in assignments:
        name = text.partition("=")[0].strip()
        part, dot, _ = name.partition(".")
        if name not in keys and not (dot and part in parts):
            known = ", ".join([*(f"{each}.KEY" for each in parts), *keys])
            raise UsageError(
                f"--set {text}: this study does not read {name}.", hint=f"It reads {known}, and its flags."
            )
