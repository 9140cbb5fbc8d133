"""Lists the executors by the names that `--executor` takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from vcorr.contract.entries import resolve
from vcorr.contract.errors import MissingError, UsageError, VcorrError, unknown_name
from vcorr.plugins.option_values import options_from

PART = "executor"
"""The part whose options `--set executor.KEY=VALUE` reaches."""


@dataclass(frozen=True)
class ExecutorEntry:
    """What is known about an executor without importing it.

    summary: one line for lists. function: import string of the function. options: import string of the dataclass of its
    options; None for an executor without options. extra: what `pip install vcorr[EXTRA]` installs for it; "" for none.
    package: the module that comes with the extra. lack: import string of a function that takes the options and returns
    the error for what this machine lacks, or None; it imports neither the package nor torch.
    """

    summary: str
    function: str
    options: str | None = None
    extra: str = ""
    package: str = ""
    lack: str | None = None


EXECUTORS: Mapping[str, ExecutorEntry] = {
    "local": ExecutorEntry(
        "On this machine: one process per GPU, or --workers processes on the CPU.",
        f"{__package__}.local:work_locally",
    ),
    "submitit": ExecutorEntry(
        "As jobs of a Slurm cluster; every job loads the model once and computes a part of the clips.",
        f"{__package__}.jobs:work_in_jobs",
        f"{__package__}.job_options:JobOptions",
        extra="slurm",
        package="submitit",
        lack=f"{__package__}.job_options:find_job_lack",
    ),
    "ray": ExecutorEntry(
        "On a Ray cluster: actors that hold a GPU and keep the model take clips as they finish.",
        f"{__package__}.ray_actors:work_in_actors",
        f"{__package__}.ray_options:RayOptions",
        extra="ray",
        package="ray",
        lack=f"{__package__}.ray_options:find_ray_lack",
    ),
}
"""Executors by name; the code of one is imported only if it is used."""


def check_executor(name: str) -> None:
    """Checks that there is an executor with this name.

    Raises:
        UsageError: there is no such executor; the message suggests the nearest name.
    """
    if name not in EXECUTORS:
        if name == "slurm":
            raise UsageError("Jobs of Slurm are started through submitit.", hint="--executor submitit")
        known = ", ".join(sorted(EXECUTORS))
        raise unknown_name("executor", name, EXECUTORS, hint=f"Available in this version: --executor {known}")


def find_lack(name: str, options: Mapping[str, Any]) -> VcorrError | None:
    """Returns the error for what an executor needs and this machine lacks, as far as it can be known; None for nothing.

    Args:
        name: of the executor.
        options: as of `read_options`.

    Raises:
        UsageError: an option is wrong.
    """
    entry = EXECUTORS[name]
    if entry.package and not _is_installed(entry.package):
        return MissingError(
            f"executor {name!r} needs the package {entry.package}, which is not installed.",
            hint=f"pip install 'vcorr[{entry.extra}]'",
        )
    if entry.lack is None:
        return None
    found: VcorrError | None = resolve(entry.lack, f"executor {name!r}")(read_options(name, options))
    return found


def _is_installed(package: str) -> bool:
    """Returns whether a package can be imported. A mere folder of this name in the path is none."""
    found = find_spec(package)
    return found is not None and found.origin is not None


def read_options(name: str, options: Mapping[str, Any]) -> Any:
    """Returns the options of an executor as its dataclass; None for an executor without options.

    Raises:
        UsageError: the executor has no such option, or a value is wrong.
    """
    found = options_type(name)
    if found is None:
        if options:
            raise UsageError(
                f"--executor {name} has no options, and --set gives {', '.join(f'{PART}.{key}' for key in options)}.",
                hint="Leave them out, or name another executor.",
            )
        return None
    return options_from(found, options, f"{PART}.")


def options_type(name: str) -> type | None:
    """Returns the dataclass of the options of an executor; None for an executor without options."""
    options = EXECUTORS[name].options
    return None if options is None else resolve(options, f"executor {name!r}")
