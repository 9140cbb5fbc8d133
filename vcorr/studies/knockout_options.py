"""What a user asks a knock-out study for, and the specs of its passes and videos."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vcorr.contract.errors import UsageError
from vcorr.contract.metric_columns import MAIN_METRIC
from vcorr.contract.modes import Generate, Renoise
from vcorr.interventions.knockout_cuts import CutKind, check_kind
from vcorr.plugins.option_values import Written
from vcorr.plugins.registry import Registry
from vcorr.runner.called_model import CalledModel
from vcorr.runner.parts import model_part
from vcorr.runner.spec import RunSpec, build_spec
from vcorr.studies.knockout_observed import PROBE, Observed
from vcorr.studies.knockout_sites import AUTO
from vcorr.studies.study_options import check_assignments

_OF_RUN = ("model", "data", "weights", "num_steps", "seed")
"""What a study takes from the spec of the run, unless the user names another."""
_OF_VIDEOS = ("cfg", "tracker", "metrics")
"""What only videos have."""
LEAST_CONTROLS = 20
"""Fewer random sets cannot show that a cut is unusual: of 20, p is at best 1/21."""
DEFAULT_CLIPS = 8
MODES = (Renoise.name, Generate.name)
"""What the model does while its attention is cut."""


@dataclass(frozen=True)
class KnockoutOptions:
    """What the user asks a study for.

    kind: what is cut. sites: as `--sites` has them. doses: shares of the cut, in (0, 1]. controls: number of random
    sets. limit: number of clips. steps: as `--steps` has them; None for the best step of the run, or in mode generate
    for all. own: whether controls have the norm of each cut. If not, cuts and controls are all scaled to the smallest
    norm among the cuts. mode: one of `MODES`.
    """

    kind: str = "cross-frame"
    sites: str = AUTO
    doses: tuple[float, ...] = (1.0,)
    controls: int = LEAST_CONTROLS
    limit: int = DEFAULT_CLIPS
    steps: str | None = None
    own: bool = False
    mode: str = Renoise.name

    @property
    def norm(self) -> str:
        """The word for how norms are matched: "own" or "common"."""
        return "own" if self.own else "common"

    @property
    def generates(self) -> bool:
        """Whether attention is cut while videos are sampled."""
        return self.mode == Generate.name

    def check(self) -> CutKind:
        """Returns the kind; raises UsageError for a value out of range."""
        kind = check_kind(self.kind)
        if self.mode not in MODES:
            raise UsageError(
                f"--mode {self.mode}: knock-outs are studied in the modes {' and '.join(MODES)}.",
                hint="Leave --mode out to add noise to clips with known tracks.",
            )
        wrong = [dose for dose in self.doses if not (math.isfinite(dose) and 0 < dose <= 1)]
        if wrong or not self.doses:
            raise UsageError(
                f"--dose {wrong[0] if wrong else ''}: a dose is a number above 0 and up to 1.",
                hint="1 is the whole cut; 0 is the model as it is, which every study measures.",
            )
        if self.controls < LEAST_CONTROLS:
            raise UsageError(
                f"--controls {self.controls} are too few random sets to compare with.",
                hint=f"At least {LEAST_CONTROLS}.",
            )
        if self.limit < 1:
            raise UsageError(f"--limit {self.limit}: a study needs clips.", hint="Intervals need 6 or more.")
        return kind


def read_doses(text: str) -> tuple[float, ...]:
    """Reads `--dose`: numbers with commas between them, each once, in ascending order."""
    try:
        return tuple(sorted({float(part) for part in text.split(",") if part.strip()}))
    except ValueError as error:
        raise UsageError(f"--dose {text!r} is no list of numbers.", hint="For example: --dose 0.5,1") from error


def make_specs(
    observed: Observed,
    options: KnockoutOptions,
    registry: Registry,
    flags: Mapping[str, Any],
    assignments: Sequence[str],
) -> tuple[RunSpec, RunSpec | None]:
    """Returns the spec of the passes, and in mode generate the spec of how videos are scored.

    Both are the run's own, with what the user asks for now.

    Raises:
        UsageError: a flag or an assignment that the study would not read.
    """
    own = {name: observed.spec[name] for name in _OF_RUN if observed.spec.get(name) is not None}
    given = {name: value for name, value in flags.items() if value is not None}
    if wrong := [name for name in _OF_VIDEOS if name in given and not options.generates]:
        raise UsageError(
            f"--{wrong[0]} is set, and mode {options.mode} makes no videos.", hint=f"Add --mode {Generate.name}"
        )
    spec = build_spec({**own, **given}, assignments=assignments)
    more = (("metric", "tracker"), _OF_VIDEOS) if options.generates else ((), ())
    check_assignments(assignments, ("model", "data", *more[0]), (*_OF_RUN, "device", "dtype", "noise_draw", *more[1]))
    parts = _merge_options(observed, spec, keep_data="data" not in given)
    reading = {name: values for name, values in parts.items() if name != "metric"}
    spec = replace(spec, limit=None, options=parts)
    steps = _say_read_step(observed, spec, registry) if options.generates else options.steps or observed.best_step()
    read = replace(spec, probe=PROBE, mode=options.mode, metrics=MAIN_METRIC, steps=str(steps), options=reading)
    return read, replace(spec, task="generation", steps=None) if options.generates else None


def _merge_options(observed: Observed, spec: RunSpec, *, keep_data: bool) -> dict[str, dict[str, Any]]:
    """Returns the options of all parts. Options of the spec come before the run's options of model and data."""
    stored = observed.spec.get("options") or {}
    kept = ("model", *(("data",) if keep_data else ()))
    # what the run was given as text is still to be read as the type of its option
    written = {part: {k: Written(v) if isinstance(v, str) else v for k, v in stored[part].items()} for part in stored}
    return {
        **spec.options,
        **{part: {**written[part], **spec.options.get(part, {})} for part in kept if part in written},
    }


def _say_read_step(observed: Observed, spec: RunSpec, registry: Registry) -> int:
    """Returns the step of the sampler at the same share of its steps as the best step of the run."""
    usual = CalledModel(model_part(spec, registry)).steps
    of_run, total = observed.spec.get("num_steps") or usual, spec.num_steps or usual
    return round(observed.best_step() / max(of_run - 1, 1) * (total - 1))
