"""Refuses what a command that follows points would not read, so that no flag is silently without effect."""

from __future__ import annotations

from collections.abc import Sequence

from vcorr.contract.errors import UsageError
from vcorr.runner.spec import COMPONENTS, RunSpec

_OF_SITES = {"probe": "--probe", "layers": "--layers", "steps": "--steps", "from_run": "--from", "preset": "--preset"}
_OF_MODELS = ("mode", "variant")
_OF_RUNS = (
    *(
        "data",
        "limit",
        "prompt",
        "metrics",
        "noise_draw",
        "save_videos",
        "executor",
        "workers",
        "parallel",
        "noise_batch",
        "keep_latents",
    ),
    *_OF_MODELS,
)


def refuse_unread(spec: RunSpec, *, parts: Sequence[str] = (), fields: Sequence[str] = ()) -> None:
    """Checks that the command reads everything that the spec says.

    Args:
        spec: names a model or a tracker.
        parts: parts besides the model or the tracker whose options the command reads, such as "data".
        fields: fields of the spec that the command reads besides those which say what is loaded and at which site.

    Raises:
        UsageError: a field or an option has a value that nothing reads.
    """
    if spec.tracker:
        refuse_sites(spec)
    refuse_options(spec, [part for part in COMPONENTS if part not in (*parts, *_parts_read(spec))])
    for name in _OF_RUNS:
        reads = name in fields and not (spec.tracker and name in _OF_MODELS)
        if not reads and getattr(spec, name) != getattr(RunSpec, name):
            raise _refuse(name, spec)


def refuse_options(spec: RunSpec, parts: Sequence[str]) -> None:
    """Checks that no option of these parts is given; raises UsageError if one is."""
    for part in parts:
        for key in spec.options.get(part, {}):
            raise _refuse(f"{part}.{key}", spec)


def _parts_read(spec: RunSpec) -> tuple[str, ...]:
    """Returns the parts behind what follows points."""
    return ("tracker",) if spec.tracker else ("model", "probe", "track")


def refuse_sites(spec: RunSpec) -> None:
    """Checks that nothing chooses a site of a tracker or of a model without sites, or how it is read.

    Raises:
        UsageError: a flag or an option does.
    """
    for name, flag in _OF_SITES.items():
        if getattr(spec, name) != getattr(RunSpec, name):
            raise UsageError(
                f"{flag} does not apply: {_show_named(spec)} has no attention site.", hint=f"Leave {flag} out."
            )
    refuse_options(spec, ("probe", "track"))
    if spec.variant != RunSpec.variant:
        raise _refuse("variant", spec)


def _refuse(key: str, spec: RunSpec) -> UsageError:
    return UsageError(
        f"--set {key} does not apply: with {_show_named(spec)}, this command does not read it.", hint="Leave it out."
    )


def _show_named(spec: RunSpec) -> str:
    return f"tracker {spec.tracker!r}" if spec.tracker else f"model {spec.model!r}"
