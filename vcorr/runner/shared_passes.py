"""Reads `--parallel`, and checks that the processes it names can share the passes of a model."""

from __future__ import annotations

import math
from collections.abc import Iterable

from vcorr.contract.errors import UsageError, VcorrError
from vcorr.contract.modes import RunMode
from vcorr.contract.records import Clip, Site
from vcorr.contract.tasks import CORRESPONDENCE
from vcorr.plugins.registry import Registry
from vcorr.runner.called_model import CalledModel
from vcorr.runner.parts import make_part
from vcorr.runner.spec import RunSpec

ULYSSES = "ulysses"
"""The one way in which processes share a pass: diffusers' Ulysses parallelism."""


def read_ranks(text: str | None) -> int:
    """Returns the number of processes that share each pass under `--parallel ulysses:N`; 1 if it was not given.

    Raises:
        UsageError: the text has another form.
    """
    if text is None:
        return 1
    method, _, number = text.partition(":")
    if method != ULYSSES or not (number.isascii() and number.isdigit()) or int(number) < 2:
        raise UsageError(
            f"--parallel {text!r} names no way to share a pass.",
            hint="For example, with two GPUs: --parallel ulysses:2",
        )
    return int(number)


def describe_ranks(ranks: int) -> str:
    """Returns the value of `--parallel` for a number of processes."""
    return f"{ULYSSES}:{ranks}"


def check_parallel_words(spec: RunSpec) -> None:
    """Checks `--parallel` against the other words of a run, before a name is looked up.

    Raises:
        UsageError: it has another form, or is given with something that it excludes.
    """
    if read_ranks(spec.parallel) == 1:
        return
    given = f"--parallel {spec.parallel}"
    if spec.task != CORRESPONDENCE:
        raise UsageError(f"{given} is for vcorr run and vcorr sweep.", hint="Leave it out.")
    if spec.workers is not None:
        raise UsageError(
            f"{given} has all processes compute one clip together; --workers {spec.workers} has each compute its own.",
            hint="Give one of them.",
        )
    if spec.executor != RunSpec.executor:
        raise UsageError(
            f"{given} runs on this machine; --executor {spec.executor} runs elsewhere.", hint="Leave --executor out."
        )


def check_shared_passes(
    ranks: int, adapter: CalledModel, sites: Iterable[Site], mode: RunMode, first: Clip | None, registry: Registry
) -> None:
    """Checks that processes can share the passes of a model, and that its heads and tokens divide among them.

    Args:
        ranks: number of processes; 1 passes.
        adapter: the model, without loaded weights.
        sites: the sites that are read.
        mode: what the model does with a clip.
        first: the first clip; None if it could not be read, and tokens are then not checked.
        registry: the models among which others are named.

    Raises:
        UsageError: they cannot, or they do not.
    """
    if ranks == 1:
        return
    try:
        adapter.check_sharing()
    except UsageError as error:
        raise UsageError(error.message, hint=error.hint or _name_others(registry)) from error
    clip = None if first is None else mode.size_source(first)
    heads = {site.heads for site in sites if site.heads}
    tokens = set() if clip is None else {adapter.grid(clip, site).tokens for site in sites}
    common = math.gcd(*heads, *tokens)
    if common % ranks:
        said = [_count(heads, "heads")] + ([_count(tokens, "video tokens")] if tokens else [])
        fitting = [str(number) for number in range(2, common + 1) if common % number == 0]
        raise UsageError(
            f"--parallel {describe_ranks(ranks)}: {adapter.name} has {' and '.join(said)} here, and every process "
            "needs an equal share.",
            hint=f"Numbers of processes that work: {', '.join(fitting) or 'none'}.",
        )


def _count(numbers: set[int], what: str) -> str:
    return f"{' or '.join(map(str, sorted(numbers)))} {what}"


def _name_others(registry: Registry) -> str:
    """Returns which models can be shared, as a hint."""
    names = []
    for found in registry.models.all():
        if found.entry.takes:  # a name of many models
            continue
        try:
            CalledModel(make_part(found, {}, "model")).check_sharing()
        except VcorrError:
            continue
        names.append(found.entry.name)
    return f"Models that can be shared: {', '.join(names)}." if names else "No installed model can be shared."
