"""Chooses the devices that share the clips of a run: what `--device` lists, or as many as `--workers` says."""

from __future__ import annotations

from collections.abc import Sequence

from vcorr.contract.errors import UsageError

MOST_WORKERS = 10_000
"""The largest number of processes that share a run; more is a slip of the keyboard."""


def read_device_list(text: str) -> tuple[str, ...]:
    """Returns the devices of `--device cuda:0,cuda:1`; one word without a comma is one device.

    Raises:
        UsageError: a device is named twice, or one of several is no CUDA device with a number.
    """
    if "," not in text:
        return (text,)
    devices = tuple(word.strip() for word in text.split(","))
    numbered = all(device.startswith("cuda:") and device[5:].isdigit() for device in devices)
    if not numbered or len(set(devices)) < len(devices):
        raise UsageError(
            f"--device {text!r} is not a device, and not a list of different CUDA devices.",
            hint="For example: --device cuda:0,cuda:1. Several processes on the CPU: --device cpu --workers 2",
        )
    return devices


def share_devices(listed: Sequence[str], workers: int | None, *, automatic: bool) -> tuple[str, ...]:
    """Returns one device per process that computes clips.

    Args:
        listed: the devices that `--device` names.
        workers: the value of `--workers`; None if it was not given.
        automatic: whether the device was chosen by default: then every GPU of one kind is taken.

    Raises:
        UsageError: `workers` does not fit the devices.
    """
    check_workers(workers)
    first = listed[0]
    if len(listed) > 1:
        return _as_many(listed, workers, " ".join(("--device", ",".join(listed))))
    if first.startswith("cuda"):
        alike = _find_alike() if first == "cuda" and (automatic or workers) else list(listed)
        return _as_many(alike, workers, f"--device {first}")
    if not first.startswith("cpu") and (workers or 1) > 1:
        raise UsageError(f"--workers {workers}: --device {first} takes one process.", hint="Leave --workers out.")
    return (first,) * (workers or 1)


def share_passes_on(listed: Sequence[str], ranks: int, *, automatic: bool) -> tuple[str, ...]:
    """Returns one device per process that shares each pass of the model.

    listed, automatic: as of `share_devices`. ranks: number of processes.

    Raises:
        UsageError: there are fewer devices than processes.
    """
    first = listed[0]
    if first.startswith("cpu"):
        return (first,) * ranks
    alike = _find_alike() if first == "cuda" else list(listed)
    if len(alike) < ranks:
        found = "is one GPU" if len(alike) == 1 else f"are {len(alike)} GPUs of one product"
        where = "there" if automatic else f"--device {','.join(listed)}"
        raise UsageError(
            f"--parallel ulysses:{ranks} needs {ranks} GPUs of one product, and {where} {found}.",
            hint="Take fewer processes, or name more GPUs: --device cuda:0,cuda:1",
        )
    return tuple(alike[:ranks])


def check_workers(workers: int | None) -> None:
    """Raises UsageError if `--workers` is not a number of processes."""
    if workers is None or 1 <= workers <= MOST_WORKERS:
        return
    why = "at least one process is needed" if workers < 1 else f"at most {MOST_WORKERS} processes share a run"
    raise UsageError(f"--workers {workers}: {why}.", hint="For example: --workers 2")


def _as_many(devices: Sequence[str], workers: int | None, what: str) -> tuple[str, ...]:
    """Returns the first devices, as many as there are workers."""
    if workers is not None and workers > len(devices):
        one = len(devices) == 1
        raise UsageError(
            f"--workers {workers}: {what} {'is one GPU' if one else f'are {len(devices)} GPUs'}, and a GPU takes one "
            "process.",
            hint="Leave --workers out to use them all.",
        )
    return tuple(devices if workers is None else devices[:workers])


def _find_alike() -> list[str]:
    """Returns the CUDA devices of the same product as the first one: other products may give other last digits."""
    import torch

    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    if len(names) < 2:
        return ["cuda"]
    return [f"cuda:{number}" for number, name in enumerate(names) if name == names[0]]
