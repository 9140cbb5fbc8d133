"""Restores what a plugin changes for the whole process, and names it.

Settings such as torch's default dtype are read before a call into a part and compared afterwards. One that differs is
set back, so that the parts that follow compute as if the call had not been made.
"""

from __future__ import annotations

import contextlib
import locale
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

_MISSING = object()


@dataclass(frozen=True)
class Setting:
    """One thing that holds for the whole process.

    name: in words, for messages. read: returns a value that can be compared. restore: sets such a value again. fresh:
    the value in a new process, for settings of a package that is not imported yet. by_imports: whether packages set it
    while they are imported; a call that imports packages may then change it.
    """

    name: str
    read: Callable[[], Any]
    restore: Callable[[Any], Any]
    fresh: Any = _MISSING
    by_imports: bool = False


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # a part has deleted the folder
        return None


def _enter_folder(path: str | None) -> None:
    if path is not None:
        with contextlib.suppress(OSError):  # a part has deleted the folder that the command began in
            os.chdir(path)


def _set_environment(values: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(values)


def _set_filters(filters: list[Any]) -> None:
    warnings.filters[:] = filters  # type: ignore[index]  # a list, though typeshed says Sequence
    warnings._filters_mutated()  # type: ignore[attr-defined]  # or `warnings` goes on using what it remembers


def _handlers() -> dict[signal.Signals, Any]:
    return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


def _set_handlers(handlers: Mapping[signal.Signals, Any]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # handlers can be set in the main thread alone
    for number, handler in handlers.items():
        if handler is not None:
            signal.signal(number, handler)


def _set_paths(paths: list[str]) -> None:
    sys.path[:] = paths


_PYTHON = (
    Setting("the working folder", _folder, _enter_folder),
    Setting("environment variables", lambda: dict(os.environ), _set_environment, by_imports=True),
    Setting("sys.path", lambda: list(sys.path), _set_paths, by_imports=True),
    Setting("the filters of warnings", lambda: list(warnings.filters), _set_filters, by_imports=True),
    Setting("the locale", lambda: locale.setlocale(locale.LC_ALL), lambda name: locale.setlocale(locale.LC_ALL, name)),
    Setting("handlers of signals", _handlers, _set_handlers),
    Setting("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Setting("sys.stderr", lambda: sys.stderr, lambda stream: setattr(sys, "stderr", stream)),
)


_NUMPY_ERRORS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
"""How numpy handles errors in a new process."""


def _numpy_settings(numpy: ModuleType) -> tuple[Setting, ...]:
    def handle(values: Mapping[str, str]) -> None:
        numpy.seterr(**values)

    return (Setting("numpy's handling of errors", numpy.geterr, handle, _NUMPY_ERRORS),)


def _torch_settings(torch: ModuleType) -> tuple[Setting, ...]:
    functional, cuda = torch.nn.functional, torch.backends.cuda

    def set_attention(function: Any) -> None:
        functional.scaled_dot_product_attention = function

    def set_device(device: Any) -> None:
        torch.set_default_device(None if device.type == "cpu" else device)  # None: nothing stands between the calls

    def read_backends() -> tuple[bool, ...]:
        return cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled()

    def set_backends(values: tuple[bool, ...]) -> None:
        setters = cuda.enable_flash_sdp, cuda.enable_mem_efficient_sdp, cuda.enable_math_sdp
        for setter, value in zip(setters, values, strict=True):
            setter(value)

    def set_tf32(value: bool) -> None:
        torch.backends.cudnn.allow_tf32 = value

    return (
        Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype, torch.float32),
        Setting("torch's default device", torch.get_default_device, set_device, torch.device("cpu")),
        Setting("torch's grad mode", torch.is_grad_enabled, torch.set_grad_enabled, True),
        Setting("torch's number of threads", torch.get_num_threads, torch.set_num_threads),
        Setting(
            "torch's deterministic algorithms",
            torch.are_deterministic_algorithms_enabled,
            torch.use_deterministic_algorithms,
            False,
        ),
        Setting("torch's product precision", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        Setting("torch's TF32 of convolutions", lambda: torch.backends.cudnn.allow_tf32, set_tf32),
        Setting("torch's choice of attention kernels", read_backends, set_backends),
        Setting("torch's attention function", lambda: functional.scaled_dot_product_attention, set_attention),
    )


def _settings() -> tuple[Setting, ...]:
    # a package lacks these names while it is being imported
    numpy, torch = _find_imported("numpy", "seterr"), _find_imported("torch", "get_default_device")
    return (
        *_PYTHON,
        *(_numpy_settings(numpy) if numpy else ()),
        *(_torch_settings(torch) if torch else ()),
    )


def _find_imported(package: str, name: str) -> ModuleType | None:
    """Returns a package if this process has imported it and it has the name."""
    found = sys.modules.get(package)
    return found if hasattr(found, name) else None


@contextlib.contextmanager
def keep_settings() -> Iterator[list[str]]:
    """Yields a list; when the block ends, it has the names of all settings that the block changed.

    They are set back, also if the block raises. The states of the random generators of Python, numpy and torch are set
    back too, and not listed: drawing from them is no fault.
    """
    before = {setting.name: setting.read() for setting in _settings()}
    generators = _generators()  # which may import a part of numpy
    modules = len(sys.modules)
    changed: list[str] = []
    try:
        yield changed
    finally:
        imported = len(sys.modules) > modules
        changed += [setting.name for setting in _settings() if _restore(setting, before, imported=imported)]
        for restore in generators:
            restore()


def _restore(setting: Setting, before: Mapping[str, Any], *, imported: bool) -> bool:
    """Sets a setting back, and returns whether it was changed."""
    was = before.get(setting.name, setting.fresh)
    if was is _MISSING or (imported and setting.by_imports) or setting.read() == was:
        return False
    setting.restore(was)
    return True


def _generators() -> list[Callable[[], None]]:
    """Returns functions that set the random generators back to the states that they have now."""
    python = random.getstate()
    found: list[Callable[[], None]] = [lambda: random.setstate(python)]
    numpy, torch = _find_imported("numpy", "seterr"), _find_imported("torch", "get_rng_state")
    if numpy is not None:
        drawn = numpy.random.get_state()  # of its global generator, which plugins may use
        found.append(lambda: numpy.random.set_state(drawn))
    if torch is not None:
        state = torch.get_rng_state()
        found.append(lambda: torch.set_rng_state(state))
        if torch.cuda.is_initialized():
            states = torch.cuda.get_rng_state_all()
            found.append(lambda: torch.cuda.set_rng_state_all(states))
    return found
