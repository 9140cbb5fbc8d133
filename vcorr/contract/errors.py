"""Errors for the reader: what happened, which file, key or plugin, and what to type next.

Every mistake a user can make raises a subclass of `VcorrError`; the command line prints its message without a traceback
and ends with its `exit_code` (docs/cli.md). Anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

EXIT_OK = 0
EXIT_SOME_FAILED = 1
EXIT_USAGE = 2
EXIT_PLUGIN = 3
EXIT_MISSING = 4
EXIT_INTERRUPTED = 130


class VcorrError(Exception):
    """Base of all errors vcorr raises on purpose.

    `message` says what happened and where; `hint` says what to do next (may be empty).
    """

    exit_code = EXIT_USAGE

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message if not hint else f"{message}\n{hint}")
        self.message = message
        self.hint = hint


class UsageError(VcorrError, ValueError):
    """An argument, configuration key or input value that cannot be used (exit code 2)."""


class StoreError(VcorrError):
    """A run directory that cannot be read, written or continued (exit code 2)."""


class PluginError(VcorrError):
    """A plugin that breaks the contract of the hooks (exit code 3)."""

    exit_code = EXIT_PLUGIN


class CaptureError(PluginError):
    """Attention that ran but could not be seen, or did not have the layout its adapter declared (exit code 3)."""


class NumericalError(VcorrError):
    """A model or probe that answered NaN or infinity for one clip; the clip counts as failed, the run goes on."""


class MissingError(VcorrError):
    """Weights, data or an optional package that are not in reach (exit code 4)."""

    exit_code = EXIT_MISSING


def unknown_name(kind: str, name: str, known: Iterable[str], *, hint: str = "") -> UsageError:
    """The error for a name nobody registered: nearest known name first, then where to see them all."""
    choices = sorted(known)
    listing = hint or (f"Known: {', '.join(choices)}." if choices else f"No {kind} is registered.")
    return UsageError(f"Unknown {kind} {name!r}.{did_you_mean(name, choices)}", hint=listing)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question with the known names nearest to one that is not known, after a space; "" where none is near."""
    spelled = {choice.lower(): choice for choice in sorted(known)}
    near = _nearest(name, spelled, 1, 0.5)
    near += [other for other in _nearest(name, spelled, 2, 0.75) if other not in near]
    return f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""


def _nearest(name: str, spelled: Mapping[str, str], count: int, cutoff: float) -> list[str]:
    """The known names nearest to one, whatever the case of their letters; `spelled` has them by lower case."""
    return [spelled[each] for each in difflib.get_close_matches(name.lower(), spelled, n=count, cutoff=cutoff)]


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message without its full stop, or its type's name when it has no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
