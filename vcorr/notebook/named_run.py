"""Probes a model from a script or a notebook, as `vcorr run` does: `vcorr.run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vcorr.analysis.loaded_run import LoadedRun, load
from vcorr.contract.errors import UsageError
from vcorr.plugins.registry import installed
from vcorr.runner.coordinator import Reuse, execute
from vcorr.runner.events import Events
from vcorr.runner.plan import make_plan
from vcorr.runner.point_tracking import check_options, list_numbers
from vcorr.runner.spec import build_spec
from vcorr.store.remote.addresses import folder_of


def run(
    model: str,
    probe: str | Sequence[str] | None = None,
    *,
    layers: str | int | Sequence[int] | None = None,
    steps: str | int | Sequence[int] | None = None,
    out: Path | str = "runs",
    reuse: str = "matching",
    options: Mapping[str, Mapping[str, Any]] | None = None,
    events: Events | None = None,
    **fields: Any,
) -> LoadedRun:
    """Probes a model on a dataset, as the command `vcorr run`, and opens the run.

    The run has the folder and the tables that the command would make. What is there already is not computed again. A
    clip that failed is a row with its error.

    Args:
        model: name of the model or the baseline.
        probe: name of a probe, or several that are all read in one pass.
        layers: one layer, several, or text such as "1,5-9".
        steps: one step, several, or text such as "last" and "8-spread".
        out: the folder of all runs, or its URL.
        reuse: "matching", "never" or "only", as `--reuse`.
        options: options of the parts, such as {"data": {"level": "hard"}, "probe": {"heads": "each"}}.
        events: receives what happens, such as a finished clip.
        fields: flags of the command by their names, such as data, mode, limit, seed, device and weights. Other keys of
            a config may be here too, such as num_steps and variant.

    Raises:
        UsageError: an argument cannot be used.
        MissingError: weights, data or a package are not there.
        PluginError: a plugin breaks the contract.
        StoreError: the folder cannot be written, or another process writes this run.
    """
    kept = [each for each in Reuse if each.value == reuse]
    if not kept:
        raise UsageError(f"reuse: expected {', '.join(each.value for each in Reuse)}, got {reuse!r}.")
    flags = {
        **fields,
        "model": model,
        "probe": probe if probe is None or isinstance(probe, str) else ",".join(probe),
        "layers": None if layers is None else list_numbers(layers),
        "steps": None if steps is None else list_numbers(steps),
    }
    spec = replace(build_spec(flags), options=check_options(options or {}))
    outcome = execute(make_plan(spec, installed()), folder_of(out), reuse=kept[0], events=events)
    return load(outcome.run.path)
