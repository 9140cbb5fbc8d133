"""Reads the site that a stored run chose, for a tracking run that takes it over (`--from RUN`)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from vcorr.contract.errors import StoreError, UsageError, VcorrError
from vcorr.contract.metric_columns import lower_is_better, ranking_columns
from vcorr.contract.records import HEAD_MEAN, NO_SITE
from vcorr.contract.tasks import CORRESPONDENCE, TRACKING
from vcorr.runner.held_out import MeasuredClips
from vcorr.runner.spec import RunSpec
from vcorr.runner.stored_tracks import read_thresholds
from vcorr.stats.series import gather
from vcorr.stats.summary import BestSite, Findings
from vcorr.store.remote.addresses import folder_of
from vcorr.store.run_search import open_run
from vcorr.store.rundir import RunDirectory


@dataclass(frozen=True)
class ChosenSite:
    """What a run chose.

    run: its id. probe: the probe. layers: of the site; none for a probe that reads no site. step: None for a model
    without noise. num_steps: of the scheduler. probe_options: options of the probe that differ from their defaults.
    track_options: options of tracking, with the threshold. measured: the clips that it chose on. notes: sentences on
    the choice.
    """

    run: str
    probe: str
    layers: tuple[int, ...]
    step: int | None
    num_steps: int
    measured: MeasuredClips
    probe_options: Mapping[str, Any] = field(default_factory=dict)
    track_options: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_chosen_site(spec: RunSpec, weights: str, *, one_head: bool = False) -> ChosenSite:
    """Returns what the run `spec.from_run` chose for the model and the probe of a spec.

    A run of correspondence gives its best site, as `vcorr show run` has it. A tracking run gives its own site and
    options, and the threshold of visibility with the largest Jaccard on its clips.

    one_head: only sites that read one head may be chosen from a run of correspondence.

    Raises:
        UsageError: the run is of another model or probe, or ranks no such site.
        StoreError: there is no such run, or it is damaged.
    """
    run = open_run(folder_of(str(spec.from_run)))
    record = run.record()
    resolved = record.get("resolved")
    if not isinstance(resolved, dict):
        raise StoreError(
            f"{run.place}/run.json does not say what was run.", hint="Repeat the command that made the run."
        )
    try:
        _check_model(spec, weights, run, resolved)
        probe = _find_probe(spec, run, resolved)
        is_tracking = (record.get("row_context") or {}).get("task", CORRESPONDENCE) == TRACKING
        if is_tracking:
            return _of_tracking(run, resolved, probe)
        return _of_correspondence(run, record, probe, one_head=one_head)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        if isinstance(error, VcorrError):
            raise
        raise StoreError(
            f"{run.place}/run.json lacks what says which site was read: {error}.",
            hint="Repeat the command that made the run.",
        ) from error


def _check_model(spec: RunSpec, weights: str, run: RunDirectory, resolved: Mapping[str, Any]) -> None:
    model = resolved["model"]["name"]
    if model != spec.model:
        raise UsageError(
            f"Run {run.run_id} is of model {model!r}, and this run tracks with {spec.model!r}.",
            hint="Name a run of the same model: vcorr list runs",
        )
    if weights and resolved["weights"] != weights:  # a dry run may know no weights
        raise UsageError(
            f"Run {run.run_id} has the weights {resolved['weights']}, and this run has {weights}.",
            hint="Name a run with the same --weights.",
        )


def _find_probe(spec: RunSpec, run: RunDirectory, resolved: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns name and options of the probe that both runs read."""
    probes = {probe["name"]: probe for probe in resolved.get("probes") or ()}
    if spec.probe:
        if spec.probe not in probes:
            listing = ", ".join(probes) or "none"
            raise UsageError(f"Run {run.run_id} did not read probe {spec.probe!r}; it read: {listing}.")
        return dict(probes[spec.probe])
    if len(probes) != 1:
        raise UsageError(
            f"Run {run.run_id} read {len(probes)} probes: {', '.join(probes) or 'none'}.", hint="Name one with --probe."
        )
    return dict(next(iter(probes.values())))


def _of_correspondence(
    run: RunDirectory, record: Mapping[str, Any], probe: Mapping[str, Any], *, one_head: bool
) -> ChosenSite:
    scores = gather(run.iter_shards("scores"))
    found = Findings.of(scores, ranking_columns(record)[:1], lower_is_better(record), [probe["name"]])
    best = _best_of(found.best, probe["name"], run, one_head=one_head)
    site, settings = best.summary, record["resolved"]["settings"]
    options = {name: value for name, value in (probe.get("config") or {}).items() if name != "heads"}
    asked = str((probe.get("config") or {}).get("heads", "mean"))
    heads = str(site.head) if site.head != HEAD_MEAN else ("mean" if asked == "each" else asked)
    how = f"{site.metric}, skill {site.skill:.3f} on {site.clips} clips"
    return ChosenSite(
        run=run.run_id,
        probe=probe["name"],
        layers=() if site.layer == NO_SITE else (site.layer,),
        step=None if site.step == NO_SITE else site.step,
        num_steps=settings["num_steps"],
        measured=MeasuredClips(record["resolved"]["data"], frozenset(scores.clips)),
        probe_options={**options, "heads": heads} if "heads" in (probe.get("config") or {}) else options,
        notes=(f"Run {run.run_id} has its best site at {best.site or 'the latents'} by {how}.", *best.notes),
    )


def _best_of(found: Collection[BestSite], probe: str, run: RunDirectory, *, one_head: bool) -> BestSite:
    """Returns the best site of a probe, read from all heads together or from one; of the first variant that has one."""
    own = [best for best in found if best.summary.probe == probe]
    if not own:
        raise UsageError(
            f"Run {run.run_id} ranks no site of probe {probe!r}.", hint="Score it by skill: vcorr score RUN"
        )
    if one_head:
        own = _keep_single_heads(own, run)
    first = [best for best in own if best.summary.variant_text == own[0].summary.variant_text]
    return max(first, key=lambda best: -math.inf if math.isnan(best.summary.skill) else best.summary.skill)


def _keep_single_heads(found: Collection[BestSite], run: RunDirectory) -> list[BestSite]:
    single = [best for best in found if best.summary.head != HEAD_MEAN]
    if not single:
        raise UsageError(
            f"Run {run.run_id} ranks no single head, and this preset reads one.",
            hint="Choose it with a run that reads every head: --set probe.heads=each",
        )
    return single


def _of_tracking(run: RunDirectory, resolved: Mapping[str, Any], probe: Mapping[str, Any]) -> ChosenSite:
    settings, layers = resolved["settings"], tuple(int(layer) for layer, _ in resolved["sites"])
    found, step = read_thresholds(run), settings["steps"][0]
    options = {name: value for name, value in resolved["track"].items() if name not in ("preset", "threshold")}
    return ChosenSite(
        run=run.run_id,
        probe=probe["name"],
        layers=layers,
        step=None if step == NO_SITE else step,
        num_steps=settings["num_steps"],
        measured=MeasuredClips(resolved["data"], frozenset(found.clips)),
        probe_options=probe.get("config") or {},
        track_options={**options, "threshold": found.chosen.threshold},
        notes=(f"In run {run.run_id}, this threshold maximises {found.chosen.maximised}.",),
    )
