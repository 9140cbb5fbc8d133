"""Plans the runs of a sweep before anything runs: each entry is an ordinary run, and no two are the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcorr.contract.errors import MissingError, PluginError, UsageError, VcorrError
from vcorr.contract.records import Clip
from vcorr.plugins.registry import Registry
from vcorr.runner.known_clip import outline_clip
from vcorr.runner.plan import Plan, make_plan
from vcorr.runner.plan_again import FinishedRuns, plan_again
from vcorr.runner.spec import RunSpec, make_spec
from vcorr.store.fingerprint import plain
from vcorr.sweeps.expansion import SweepRun, as_typed
from vcorr.sweeps.sweep_file import EXCLUDE


@dataclass(frozen=True)
class PlannedRun:
    """A run of a sweep with its plan."""

    run: SweepRun
    plan: Plan


def plan_sweep(
    runs: Sequence[SweepRun],
    path: Path,
    registry: Registry,
    *,
    dry: bool = False,
    out: Path | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> list[PlannedRun]:
    """Returns the plans of all runs, in their order. No weights are loaded.

    Args:
        runs: of the sweep.
        path: the file of the sweep, for messages.
        registry: the plugins in which names are looked up.
        dry: as of `make_plan`.
        out: the folder in which finished runs are looked for; None to plan all anew.
        advance: is called with 1 after each plan.

    Raises:
        UsageError, PluginError, MissingError: as `make_plan`; it names the run. A UsageError also if two runs are the
            same, or would be written to one folder.
    """
    specs = [_build(one, path) for one in runs]
    _check_different([json.dumps(plain(spec), sort_keys=True) for spec in specs], runs, path)
    planner = _Planner(path, registry, dry, out)
    planned = []
    for one, spec in zip(runs, specs, strict=True):
        planned.append(PlannedRun(one, planner.plan(one, spec)))
        advance(1)
    known = [one for one in planned if not one.plan.missing]
    _check_different([one.plan.fingerprints()["predict"] for one in known], [one.run for one in known], path)
    return planned


def _build(one: SweepRun, path: Path) -> RunSpec:
    with naming_run(one, path):
        return make_spec(one.settings)


class _Planner:
    """Plans runs one after the other. What several plans read is read once: first clips by their data, and records."""

    def __init__(self, path: Path, registry: Registry, dry: bool, out: Path | None) -> None:
        self._path, self._registry, self._dry, self._out = path, registry, dry, out
        self._first: dict[str, Clip] = {}
        self._finished = None if out is None else FinishedRuns(out)

    def plan(self, one: SweepRun, spec: RunSpec) -> Plan:
        """Returns the plan of a run; raises as `plan_sweep`."""
        key = _data_key(spec)
        with naming_run(one, self._path):
            if self._out is not None:
                again = plan_again(spec, self._registry, self._out, self._finished)
                if again is not None:
                    return again
            plan = make_plan(spec, self._registry, dry=self._dry, known=self._first.get(key))
        if key not in self._first and plan.first is not None:
            self._first[key] = outline_clip(plan.first)
        return plan


def _data_key(spec: RunSpec) -> str:
    """Returns what two specs must have in common to read the same clips. Without data, the model chooses them."""
    model = spec.model if spec.data is None and spec.prompt is None else None
    return json.dumps(plain([spec.data, spec.prompt, model, spec.options.get("data")]), sort_keys=True)


@contextmanager
def naming_run(one: SweepRun, path: Path) -> Iterator[None]:
    """Adds to an error of the block which run of the sweep it is about."""
    try:
        yield
    except (UsageError, MissingError, PluginError) as error:
        said = f"It is run {one.number} of {path}" + (f": {one.label}." if one.label else ".")
        if isinstance(error, MissingError):
            said += " --dry-run lists what the other runs lack."
        raise _with_hint(error, said) from error


def _with_hint(error: VcorrError, hint: str) -> VcorrError:
    found = type(error)(error.message, hint=f"{error.hint}\n{hint}".strip())
    found.raised_by = error.raised_by
    return found


def _check_different(keys: Iterable[str], runs: Sequence[SweepRun], path: Path) -> None:
    """Raises UsageError if two runs have the same key, so that they are the same run."""
    seen: dict[str, SweepRun] = {}
    for key, one in zip(keys, runs, strict=True):
        if key in seen:
            raise _say_same(seen[key], one, path)
        seen[key] = one


def _say_same(first: SweepRun, second: SweepRun, path: Path) -> UsageError:
    names = {key for one in (first, second) for key in one.settings}
    differing = sorted(key for key in names if _show_setting(first, key) != _show_setting(second, key))
    same = f"{path}: runs {first.number} and {second.number} are the same ({first.label}; {second.label})."
    if not differing:
        return UsageError(same, hint="Take one of them out.")
    texts = {key: as_typed(value) for key, value in second.listed.items() if key in second.varied}
    named = ", ".join(f"{key}: {json.dumps(text, ensure_ascii=False)}" for key, text in texts.items())
    return UsageError(
        f"{same} They differ only in {', '.join(differing)}, which makes no other run.",
        hint="Take one of them out" + (f", for example with {EXCLUDE}: [{{{named}}}]" if named else "."),
    )


def _show_setting(one: SweepRun, key: str) -> str | None:
    return as_typed(one.settings[key]) if key in one.settings else None


def model_key(plan: Plan) -> Any:
    """Returns what two plans must have in common to share one loaded model; None if the plan shares none.

    A tracking run wraps its model in a tracker of its own. Several processes load models of their own.
    """
    if plan.selection.tracking is not None or plan.hardware.shared:
        return None
    model = plan.parts.model
    options = json.dumps(plain(model.config), sort_keys=True)
    return model.entry, model.plugin, options, plan.spec.weights, plan.hardware
