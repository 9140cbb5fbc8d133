"""Errors that say what happened, in which file, key or plugin, and what to type next.

Every mistake of a user raises a subclass of `VcorrError`. The command line prints its message without a traceback and
ends with its `exit_code` (docs/cli.md). Any other exception is a bug and keeps its traceback.
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
    """Base of all errors that vcorr raises on purpose.

    `message` says what happened and where. `hint` says what to do next; it may be empty. `raised_by` names the part and
    the plugin whose call raised the error; "" outside such a call.
    """

    exit_code = EXIT_USAGE
    raised_by = ""

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
    """Attention that ran but was not captured, or had another layout than its adapter declared (exit code 3)."""


class NumericalError(VcorrError):
    """A model or probe returned NaN or infinity for one clip. The clip counts as failed and the run continues."""


class MissingError(VcorrError):
    """Weights, data or an optional package that are not in reach (exit code 4)."""

    exit_code = EXIT_MISSING


class InterruptedRunError(KeyboardInterrupt):
    """The user ended a run (exit code 130). `message` says what is kept, and how to go on."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


for _error in (VcorrError, UsageError, StoreError, PluginError, CaptureError, NumericalError, MissingError):
    # a traceback then names the path that users import it from; a pickle finds it there as well
    _error.__module__ = "vcorr"


_DISTRIBUTIONS = {"cv2": "opencv-python-headless", "PIL": "pillow", "yaml": "pyyaml"}
"""What pip installs for a package of another name."""


def missing_package(error: ModuleNotFoundError, label: str = "This command") -> MissingError:
    """Returns the error for a package that could not be imported. label: what needs it, for the message."""
    package = (error.name or "").partition(".")[0]
    return MissingError(
        f"{label} needs the package {package}, which is not installed.",
        hint=f"pip install {_DISTRIBUTIONS.get(package, package)}",
    )


def not_loaded(model: object) -> PluginError:
    """Returns the error for a model that is used before its weights were loaded."""
    return PluginError(f"{type(model).__name__} was used before its weights were loaded: call load(...) first.")


def unknown_name(kind: str, name: str, known: Iterable[str], *, hint: str = "") -> UsageError:
    """Returns the error for an unknown name. It suggests the nearest known names, then lists all, or gives `hint`."""
    choices = sorted(known)
    listing = hint or (f"Known: {', '.join(choices)}." if choices else f"No {kind} is registered.")
    return UsageError(f"Unknown {kind} {name!r}.{did_you_mean(name, choices)}", hint=listing)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns " Did you mean ...?" with the known names nearest to an unknown one; "" if none is near."""
    spelled = {choice.lower(): choice for choice in sorted(known)}
    near = _nearest(name, spelled, 1, 0.5)
    near += [other for other in _nearest(name, spelled, 2, 0.75) if other not in near]
    return f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""


def _nearest(name: str, spelled: Mapping[str, str], count: int, cutoff: float) -> list[str]:
    """Returns the known names nearest to `name`, ignoring case; `spelled` maps their lower case to their spelling."""
    return [spelled[each] for each in difflib.get_close_matches(name.lower(), spelled, n=count, cutoff=cutoff)]


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message without its full stop, or its type's name when it has no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
