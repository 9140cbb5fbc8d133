"""The one way in which the core calls into a part of a plugin.

Every such call is made inside ``with name.calling("run()"):``. Whatever the part raises, and whatever the checks of
what it returned raise, then names the part, its plugin and the step::

    name = PartName("model 'tiny'", "vcorr-tiny 0.1")
    with name.calling("sites()"):
        sites = tuple(model.sites())

What a part prints goes to standard error, because standard output belongs to the command.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TextIO

from vcorr.contract.errors import PluginError, UsageError, VcorrError, missing_package

LONGEST = 300
"""Number of characters of a part's own message, or of a value, that a message of vcorr repeats."""

_DEBUG = "The plugin must be mended; add --debug for the full traceback, and report it to the plugin's authors."


class PartFailureError(PluginError):
    """An exception that the code of a part raised, or `sys.exit` in it (exit code 3).

    Inside a clip it is a failure of this clip: a row holds `cause`, and the run continues.

    Args:
        part: label and plugin of the part.
        step: the call that failed.
        cause: type and first line of the exception.
    """

    def __init__(self, part: PartName, step: str, cause: str) -> None:
        super().__init__(f"{part} failed in {step}: {cause}.", hint=_DEBUG)
        self.step = step
        self.cause = cause
        self.raised_by = str(part)

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (self.message, self.step, self.cause, self.raised_by)


def _remade(message: str, step: str, cause: str, raised_by: str) -> PartFailureError:
    """Returns a failure as another process sent it."""
    made = PartFailureError.__new__(PartFailureError)
    PluginError.__init__(made, message, hint=_DEBUG)
    made.step, made.cause, made.raised_by = step, cause, raised_by
    return made


@dataclass(frozen=True)
class PartName:
    """What messages call a part.

    label: kind and name, such as "probe 'qk'". plugin: distribution and version, such as "vcorr-tiny 0.1"; "" if it is
    not known.
    """

    label: str
    plugin: str = ""

    def __str__(self) -> str:
        return f"{self.label} of {self.plugin}" if self.plugin else self.label

    @property
    def is_own(self) -> bool:
        """Whether the part belongs to vcorr's own distribution."""
        return self.plugin.startswith("vcorr ")

    def calling(self, step: str) -> _Calling:
        """Returns the context in which a part is called. step: the call, such as "run()", for messages.

        Raises:
            PartFailureError: the part raised something that is no error of vcorr, or ended the process.
            MissingError: the part imports a package that is not installed.
            UsageError: the device has not enough memory, which is no fault of the part.
            VcorrError: as it was raised, with the name of the part in `raised_by`.
            KeyboardInterrupt: the user interrupted the command.
        """
        return _Calling(self, step)


class _Calling:
    """Turns exceptions of a part into errors that name it, and sends what it prints to standard error."""

    def __init__(self, part: PartName, step: str) -> None:
        self._part, self._step = part, step
        self._stdout: TextIO | None = None

    def __enter__(self) -> None:
        self._stdout, sys.stdout = sys.stdout, sys.stderr

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._stdout is not None:
            sys.stdout = self._stdout
        if error is None or isinstance(error, KeyboardInterrupt):
            return
        if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("vcorr"):
            raise missing_package(error, str(self._part)) from error
        if isinstance(error, VcorrError):
            error.raised_by = error.raised_by or str(self._part)
            return
        if _is_out_of_memory(error):
            raise _lacks_memory(self._part, self._step, error) from error
        raise PartFailureError(self._part, self._step, describe(error)) from error


_CPU_ALLOCATOR = "DefaultCPUAllocator: "
"""Stands in torch's RuntimeError for a CPU without enough memory."""


def _is_out_of_memory(error: BaseException) -> bool:
    # torch, which has the first of them, is not imported here
    named = type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError)
    return named or (isinstance(error, RuntimeError) and _CPU_ALLOCATOR in describe(error))


def _lacks_memory(part: PartName, step: str, error: BaseException) -> UsageError:
    """Returns the error for a device without enough memory, in one line, because a failed clip keeps only one."""
    _, at_cpu, asked = describe(error).partition(_CPU_ALLOCATOR)
    words = asked if at_cpu else describe(error).split(": ", 1)[-1]
    cause = ". ".join(words.split(". ")[:2]).rstrip(".")  # torch goes on with how much is in use
    found = UsageError(
        f"{part} needs more memory in {step} than the device has: {cause}. --offload and --vae-tiling take less, and "
        "so do fewer probes, a smaller noise_batch and a smaller size."
    )
    found.raised_by = str(part)  # a part around it did not fail
    return found


def describe(error: BaseException) -> str:
    """Returns type and first line of an exception, whatever it holds; at most `LONGEST` characters of the line."""
    try:
        lines = str(error).strip().splitlines()
    except (Exception, SystemExit):
        return f"{type(error).__name__} (its message cannot be shown)"
    return f"{type(error).__name__}: {shorten_text(lines[0]).rstrip('.')}" if lines else type(error).__name__


def show_value(value: object) -> str:
    """Returns the `repr` of a value that a part returned, shortened; its type if it has no `repr`."""
    try:
        return shorten_text(repr(value))
    except Exception:
        return f"an object of type {type(value).__name__}"


def shorten_text(text: str) -> str:
    """Returns at most `LONGEST` characters of a text, with control characters written out, such as "\\x1b"."""
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in shown)
