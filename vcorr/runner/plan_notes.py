"""Says in words what a plan chose by itself, and what it leaves out of what the user asked for."""

from __future__ import annotations

from collections.abc import Iterator

from vcorr.contract.index_text import split_names
from vcorr.contract.modes import Renoise, has_video
from vcorr.contract.origins import VideoOrigin
from vcorr.contract.records import Clip
from vcorr.runner.index_lists import DEFAULT_STEPS, find_repeated
from vcorr.runner.parts import Parts
from vcorr.runner.run_data import PROMPTS
from vcorr.runner.run_tasks.task_table import find_task
from vcorr.runner.selection import Selection
from vcorr.runner.spec import RunSpec

NO_WEIGHTS = "none"
"""What a model without weights gives as the identity of its weights."""

_PAPER = " These are a few built-in prompts. Once imported, the paper's are the default: vcorr dataset import --help"


def plan_notes(
    spec: RunSpec,
    parts: Parts,
    selection: Selection,
    weights: str,
    first: Clip | None,
    origin: VideoOrigin | None = None,
) -> tuple[str, ...]:
    """Returns sentences on choices that were made for the user, and on flags that do not apply or say a thing twice.

    Args:
        spec: what the user asked for.
        parts: the parts of the run.
        selection: what is read.
        weights: the identity of the weights.
        first: the first clip; None if it could not be read.
        origin: the run that generated the videos, if the rows name its data.
    """
    notes = (
        _defaults(spec, parts, selection, origin),
        *_not_applied(spec, parts, selection, weights),
        *_say_repeated(spec, selection),
        _beyond_limit(spec, parts, selection),
        _unread(parts, selection, first),
        _of_run(origin),
        selection.fitted,
        *selection.applied.notes,
    )
    return tuple(note for note in notes if note)


def _of_run(origin: VideoOrigin | None) -> str:
    if origin is None:
        return ""
    return (
        f"This run reads the videos and tracks of run {origin.run}. The rows say its mode and data, {origin.mode} from "
        f"{origin.dataset}, so that vcorr compare takes both runs."
    )


def _defaults(spec: RunSpec, parts: Parts, selection: Selection, origin: VideoOrigin | None) -> str:
    """Returns the flags that were chosen for the user."""
    chosen, data, settings = [], parts.data.entry.name, selection.settings
    own = spec.data is None and spec.prompt is None
    if own:
        path = getattr(parts.data.config, "path", "")
        chosen.append(f"--data {data}:{path}" if path else f"--data {data}")
    if spec.mode is None and origin is None and find_task(spec.task).asks_probes:
        chosen.append(f"--mode {settings.mode}")
    if spec.steps is None and selection.sites and len(settings.steps) < settings.num_steps:
        chosen.append(f"--steps {DEFAULT_STEPS}")
    if spec.noise_draw is None and selection.noise_draw == "shared":
        chosen.append("--set noise_draw=shared")
    if not chosen:
        return ""
    return f"Chosen by default: {', '.join(chosen)}.{_PAPER if own and data == PROMPTS else ''}"


def _not_applied(spec: RunSpec, parts: Parts, selection: Selection, weights: str) -> Iterator[str]:
    label, mode = parts.model.entry.label, selection.mode
    if not selection.sites:
        asked = {f"--probe {spec.probe}": spec.probe, f"--layers {spec.layers}": spec.layers != "all"}
        given = [flag for flag, given in asked.items() if given]
        if given:
            verb = "does" if len(given) == 1 else "do"
            yield f"{label} has no layers and predicts directly; {' and '.join(given)} {verb} not apply."
    if weights == NO_WEIGHTS and spec.weights != "hub":
        yield f"{label} has no weights; --weights {spec.weights} does not apply."
    if spec.cfg is not None and isinstance(mode, Renoise):
        yield f"--cfg {spec.cfg:g} does not apply: mode {mode.name} runs the conditional branch alone."
    if spec.noise_draw is not None and not mode.makes_video:
        yield f"--set noise_draw={spec.noise_draw} does not apply: mode {mode.name} generates no videos."


def _say_repeated(spec: RunSpec, selection: Selection) -> Iterator[str]:
    """Yields a sentence per list that names something more than once."""
    lists = {
        "--layers": find_repeated(spec.layers) if selection.sites else [],  # else nobody checked its range
        "--steps": find_repeated(spec.steps or ""),
        "--probe": _twice(split_names(spec.probe)),
        "--set metrics": _twice(split_names(spec.metrics)),
    }
    for flag, found in lists.items():
        if found:
            yield f"{flag} names {', '.join(found)} more than once; each counts once."


def _twice(names: list[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if names.count(name) > 1]


def _beyond_limit(spec: RunSpec, parts: Parts, selection: Selection) -> str:
    limit, count = spec.limit, len(selection.clips)
    if limit is None or not 0 < count < limit:
        return ""
    return f"--limit {limit} takes all clips: split {selection.split} of {parts.data.entry.name} has {count}."


def _unread(parts: Parts, selection: Selection, first: Clip | None) -> str:
    """Returns what mode generate leaves out of clips that have a video of their own."""
    if not selection.mode.makes_video or first is None or not has_video(first):
        return ""
    return (
        f"Mode {selection.mode.name} uses the prompts of {parts.data.entry.name}. Its videos, query points and tracks "
        "are left out: a grid of query points is laid over each video that is made."
    )
