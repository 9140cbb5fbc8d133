"""Writes the command that makes a run from nothing, and the one that scored it last, from what run.json says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from vcorr.contract.errors import VcorrError
from vcorr.contract.modes import Generate
from vcorr.contract.tasks import CORRESPONDENCE
from vcorr.runner.run_tasks.task_table import find_task
from vcorr.runner.spec import RunSpec, build_spec
from vcorr.store.fingerprint import plain

RESCORED = "rescored"
"""Key of run.json: the words of the `vcorr score` command that scored the run last, if one did."""
_SWITCHES = ("offload", "vae_tiling", "save_videos")
_BY_SET = (
    *("num_steps", "noise_draw", "noise_batch", "keep_latents", "metrics", "tracker", "variant"),
    *("task", "preset", "from_run", "guidance"),
)
"""Fields of the spec that have no flag of `vcorr run`."""
_FLAG_NAMES = {"from_run": "from"}
_LATER = {
    name: getattr(RunSpec(), name)
    for name in ("task", "preset", "from_run", "guidance", "workers", "parallel", "noise_batch", "keep_latents")
}
"""Fields that records of earlier versions lack, with what those versions did."""


def words_to_repeat(record: Mapping[str, Any]) -> list[str]:
    """Returns the words of the command, such as `vcorr run`, that makes the whole run in an empty folder.

    They are made from the spec, which holds what a config file said as well, and from the number of clips that the run
    holds. The last command may have computed only some of them. If the spec is not there or cannot be written as a
    command, these are the words of the last command.
    """
    spec = record.get("spec")
    if isinstance(spec, dict):
        wanted = {**_LATER, **spec, "limit": _limit(record, spec), "noise_draw": _noise_draw(record, spec)}
        try:
            words, flags, assignments = _write(wanted)
            if _as_text(plain(build_spec(flags, assignments=assignments))) == _as_text(wanted):
                return words
        except (VcorrError, TypeError, ValueError, AttributeError, KeyError):
            pass
    command = record.get("command")
    return [str(word) for word in command] if isinstance(command, list) else []


def words_of_rescoring(record: Mapping[str, Any]) -> list[str]:
    """Returns the words of the `vcorr score` command that made the scores; none if the run itself made them."""
    words = record.get(RESCORED)
    return [str(word) for word in words] if isinstance(words, list) else []


def _limit(record: Mapping[str, Any], spec: Mapping[str, Any]) -> int | None:
    """Returns the limit that gives all clips of the run; None if the last command already took all."""
    limit, clips = spec.get("limit"), record.get("clips")
    total = clips.get("total") if isinstance(clips, dict) else None
    if not isinstance(limit, int) or not isinstance(total, int):
        return limit if isinstance(limit, int) else None
    return max(limit, total)


def _noise_draw(record: Mapping[str, Any], spec: Mapping[str, Any]) -> str | None:
    """Returns how the user chose to draw noise. Runs of earlier versions had one draw for all generated clips."""
    if "noise_draw" in spec:
        return None if spec["noise_draw"] is None else str(spec["noise_draw"])
    context = record.get("row_context")
    generated = isinstance(context, dict) and context.get("mode") == Generate.name
    return "shared" if generated else None


def _write(spec: Mapping[str, Any]) -> tuple[list[str], dict[str, Any], list[str]]:
    """Returns the words of a command, and the flags and assignments in it."""
    defaults = plain(RunSpec())
    given = {name: spec[name] for name in defaults if name in spec and spec[name] != defaults[name]}
    options = given.pop("options", {})
    task = find_task(str(given.get("task", CORRESPONDENCE)))
    by_set = [name for name in _BY_SET if name not in task.own_flags]
    flags = {name: value for name, value in given.items() if name not in by_set}
    assignments = [f"{name}={_value(given[name])}" for name in by_set if name in given]
    for part, values in options.items():
        assignments += [f"{part}.{key}={_value(value)}" for key, value in values.items()]
    words = ["vcorr", task.command]
    for name, value in flags.items():
        words += _flag(_FLAG_NAMES.get(name, name), value) if name != "task" else []
    for assignment in assignments:
        words += ["--set", assignment]
    return words, flags, assignments


def _as_text(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a spec with every option as it is typed: a config file gives numbers where `--set` gives their digits."""
    options = {part: {key: _value(value) for key, value in values.items()} for part, values in spec["options"].items()}
    return {**spec, "options": options}


def _flag(name: str, value: Any) -> list[str]:
    flag = "--" + name.replace("_", "-")
    if name in _SWITCHES:
        return [flag]
    text = _value(value)
    return [f"{flag}={text}"] if text.startswith("-") else [flag, text]


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
