"""Works off clips of a plan: predicts, tracks and scores each one, and writes its shards before the next one begins.

Executors call this module, in any process. It writes shards and never `run.json`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

from vcorr.contract.errors import MissingError, NumericalError, PluginError, StoreError, UsageError
from vcorr.contract.part_calls import PartFailureError
from vcorr.contract.protocols import Probe
from vcorr.kernels.paths_used import Path, forget_paths, paths_used
from vcorr.runner import predict, track
from vcorr.runner.called_tracker import CalledTracker
from vcorr.runner.events import Events, Silent
from vcorr.runner.gpu_use import describe_use
from vcorr.runner.kept_files import DamagedFileError
from vcorr.runner.peak_memory import device_peak, forget_peak, host_peak
from vcorr.runner.plan import Plan
from vcorr.runner.row_words import STATUS_OK
from vcorr.runner.run_tasks.clip_stages import find_stages
from vcorr.runner.score_shards import ShardScorer
from vcorr.runner.spec import RunSpec
from vcorr.runner.stage_facts import predict_facts, storable, track_facts
from vcorr.store import shards
from vcorr.store.fingerprint import plain
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import Row, TableName


@dataclass(frozen=True)
class Report:
    """Results of working off some clips, in numbers. Reports of different clips add up.

    Args:
        computed: number of clips that the model was run on, with the failed ones.
        reused: number of clips whose predictions were stored already.
        failed: ids of the clips that could not be predicted.
        model_seconds: seconds for reading the clips and running the model, without tracking and scoring.
        load_seconds: seconds for loading the weights, in the slowest worker; None if no worker loaded them.
        device_peak: the most GiB that a worker allocated on a device since it began to load; None if unknown.
        host_peak: the most GiB that the process of a worker held; None if unknown.
        notes: sentences that the user should read about the clips.
        kernels: the paths that matched tokens (docs/performance.md); empty if nothing was matched.
    """

    computed: int = 0
    reused: int = 0
    failed: tuple[str, ...] = ()
    model_seconds: float = 0.0
    load_seconds: float | None = None
    device_peak: float | None = None
    host_peak: float | None = None
    notes: tuple[str, ...] = ()
    kernels: frozenset[Path] = frozenset()

    def __add__(self, other: Report) -> Report:
        return Report(
            self.computed + other.computed,
            self.reused + other.reused,
            self.failed + other.failed,
            self.model_seconds + other.model_seconds,
            _largest(self.load_seconds, other.load_seconds),
            _largest(self.device_peak, other.device_peak),
            _largest(self.host_peak, other.host_peak),
            self.notes + other.notes,
            self.kernels | other.kernels,
        )


def _largest(*values: float | None) -> float | None:
    return max((value for value in values if value is not None), default=None)


def work_off(
    plan: Plan, run: RunDirectory, clips: Sequence[str], *, compute: bool = True, events: Events | None = None
) -> Report:
    """Works off clips one after the other. Loads the model once, for the first clip that needs it.

    The caller makes sure that nobody else writes the shards of these clips: the coordinator holds the lock of the run.

    Args:
        plan: what to do with a clip.
        run: where the shards go.
        clips: ids of some clips of the plan.
        compute: False if the model must not be run.
        events: receives what happens.

    Returns:
        One report for all the clips.

    Raises:
        StoreError: a shard cannot be written, or a clip has no predictions and `compute` is False.
        PluginError: a part breaks its contract.
        MissingError: weights or data are not available.
    """
    return sum(work_off_each(plan, run, clips, compute=compute, events=events), start=Report())


Agree = Callable[[Callable[[], predict.Predicted]], predict.Predicted]
"""Makes a prediction that other processes make at the same time, and waits for them; returns and raises as it does."""


def _compute_alone(compute: Callable[[], predict.Predicted]) -> predict.Predicted:
    return compute()


def work_off_each(
    plan: Plan,
    run: RunDirectory,
    clips: Iterable[str],
    *,
    compute: bool = True,
    events: Events | None = None,
    agree: Agree = _compute_alone,
) -> Iterator[Report]:
    """Yields one report per clip when its shards are on disk; in all else like `work_off`.

    The next clip is asked for when the report of the one before was taken. agree: runs the model on a clip, if other
    processes share its passes.
    """
    worker = _Worker(plan, run, events or Silent(), compute=compute, agree=agree)
    for clip_id in clips:
        yield worker.work(clip_id)


def follow_each(plan: Plan, run: RunDirectory, clips: Iterable[str], agree: Agree) -> None:
    """Runs the model on clips together with the process that stores them, and stores nothing."""
    worker = _Worker(plan, run, Silent(), compute=True, agree=agree)
    for clip_id in clips:
        worker.follow(clip_id)


def find_predicted(plan: Plan, run: RunDirectory, clips: Sequence[str]) -> set[str]:
    """Returns the clips whose predictions are stored and belong to the plan: no model is needed for them."""
    worker = _Worker(plan, run, Silent(), compute=True)
    return {clip_id for clip_id in clips if worker.is_predicted(clip_id)}


def ends_run(error: BaseException) -> bool:
    """Returns whether an error inside a clip ends the run; if not, the clip fails."""
    return isinstance(error, (PluginError, MissingError, StoreError)) and not isinstance(error, PartFailureError)


def give_up(plan: Plan, run: RunDirectory, clip_id: str, error: Exception, events: Events) -> Report:
    """Stores a failed row for a clip that no process could compute, and returns its report.

    Raises:
        StoreError: a shard cannot be written.
    """
    return _Worker(plan, run, events, compute=True).fail(clip_id, error)


def _facts_of_predictions(plan: Plan) -> dict[str, Any]:
    """Returns what a predictions shard says. Options that say only how the command works have their defaults."""
    options = {part: values for part, values in plan.spec.options.items() if part != "executor"}
    spec = replace(
        plan.spec,
        executor=RunSpec.executor,
        workers=RunSpec.workers,
        save_videos=RunSpec.save_videos,
        keep_latents=RunSpec.keep_latents,
        options=options,
    )
    return {**predict_facts(plan), **storable({"spec": plain(spec)})}


class _Worker:
    """Works off one clip after the other. The model stays loaded from the first clip that needs it."""

    def __init__(
        self, plan: Plan, run: RunDirectory, events: Events, *, compute: bool, agree: Agree = _compute_alone
    ) -> None:
        self._plan, self._run, self._events, self._may_compute = plan, run, events, compute
        self._agree = agree
        self._stages = find_stages(plan.task.name)
        self._fingerprints = plan.fingerprints()
        self._facts = {"predict": _facts_of_predictions(plan), "track": track_facts(plan)}
        self._scorer = ShardScorer.of(plan, run)
        self._tracker = CalledTracker(plan.parts.tracker) if plan.parts.tracker else None
        self._probes: dict[str, Probe] | None = None
        self._load_seconds: float | None = None
        self._fits: set[str] = set()
        self._notes: list[str] = []

    def work(self, clip_id: str) -> Report:
        """Makes the shards of a clip that are missing or out of date."""
        self._notes.clear()
        if self.is_predicted(clip_id):
            report = self._reuse(clip_id)
        elif self._may_compute:
            report = self._compute(clip_id)
        else:
            raise StoreError(
                f"Clip {clip_id} has no usable predictions in {self._run.place}, and --reuse only computes nothing.",
                hint="Leave --reuse out to compute what is missing.",
            )
        self._say_changes()
        device = None if self._probes is None else device_peak(self._plan.hardware.device)
        return replace(
            report,
            load_seconds=self._load_seconds,
            device_peak=device,
            host_peak=host_peak(),
            notes=tuple(self._notes),
            kernels=frozenset() if self._probes is None else paths_used(),
        )

    def is_predicted(self, clip_id: str) -> bool:
        """Returns whether the clip has predictions that can be read, belong to this plan, and are no failure."""
        path = self._run.shard("predictions", clip_id)
        if not path.exists():
            return False
        try:
            found = shards.read_shard(path, "predictions")
        except shards.DamagedShardError as error:
            if not self._may_compute:
                raise
            self._events.note(f"{error.message} It is computed again.")
            return False
        if shards.fingerprint_of(found) != self._fingerprints["predict"]:
            self._events.note(f"{path} belongs to another spec. It is computed again.")
            return False
        is_ok = found.num_rows > 0 and bool(found["status"][0].as_py() == STATUS_OK)
        return is_ok and (not self._may_compute or self._has_files(clip_id))

    def _has_files(self, clip_id: str) -> bool:
        """Returns whether the generated video or the masks of a predicted clip are there, if the run makes some."""
        try:
            self._stages.check_files(self._plan, self._run, clip_id)
        except DamagedFileError as error:
            self._events.note(f"{error.message} Clip {clip_id} is made again.")
            return False
        return True

    def _reuse(self, clip_id: str) -> Report:
        """Refreshes a predicted clip. Its predictions stay on disk if a tracker or a metric fails again."""
        try:
            error = self._refresh(clip_id)
        except (PartFailureError, NumericalError, UsageError) as failed:
            error = predict.error_code(failed)
        if error:
            self._events.clip_failed(clip_id, error)
            return Report(reused=1, failed=(clip_id,))
        self._events.clip_done(clip_id, reused=True)
        return Report(reused=1)

    def _refresh(self, clip_id: str) -> str:
        """Makes tracks and scores of a predicted clip again if they are missing, damaged, failed or of another spec.

        Returns:
            Why a metric failed; "" if none did.
        """
        name = shards.shard_name(clip_id)
        if not self._run.holds("tracks", name, self._fingerprints["track"]):
            kept = track.restore_clip(self._plan, self._run, clip_id)
            rows = self._stages.rows_of_tracks(self._plan, self._run, kept.clip, self._tracker, kept.facts)
            self._write("tracks", clip_id, rows, "track")
            return self._scorer.score(name)
        return "" if self._scorer.has_scored(name) else self._scorer.score(name)

    def _compute(self, clip_id: str) -> Report:
        probes = self._load_probes()
        self._events.clip_started(clip_id)
        began = time.monotonic()
        try:
            predicted = self._agree(partial(self._predict, clip_id, probes))
            seconds = time.monotonic() - began
            facts = self._stages.keep_files(self._plan, self._run, predicted)
            tracks = self._stages.rows_of_tracks(self._plan, self._run, predicted.clip, self._tracker, predicted.facts)
        except Exception as error:
            if ends_run(error):
                raise
            return self.fail(clip_id, error)
        failed = self._store(clip_id, predicted, tracks, facts)
        if failed:
            self._events.clip_failed(clip_id, failed)
            return Report(computed=1, failed=(clip_id,), model_seconds=seconds)
        self._events.clip_done(clip_id, reused=False)
        return Report(computed=1, model_seconds=seconds)

    def follow(self, clip_id: str) -> None:
        """Runs the model on a clip with the processes that share its passes."""
        probes = self._load_probes()
        with contextlib.suppress(Exception):  # it was said to the process of the run
            self._agree(partial(self._predict, clip_id, probes))
        self._notes.clear()

    def fail(self, clip_id: str, error: Exception) -> Report:
        """Stores a failed row for the clip, and returns its report."""
        self._store_failure(clip_id, error)
        return Report(computed=1, failed=(clip_id,))

    def _say_changes(self) -> None:
        """Says which settings of the process the parts have changed."""
        live, parts = self._plan.live, self._plan.parts
        changers = (part for part in (live.adapter, live.dataset, self._tracker, self._scorer) if part is not None)
        in_run = live.adapter.probe_changes.take_notes([parts.model.name, *(probe.name for probe in parts.probes)])
        for note in (*in_run, *(note for part in changers for note in part.take_notes())):
            self._say(note)

    def _predict(self, clip_id: str, probes: dict[str, Probe]) -> predict.Predicted:
        prepared = predict.prepare_clip(self._plan, clip_id)
        # after the clip was read, so that a dataset need not read it a second time for its notes
        for note in (*self._plan.live.dataset.notes(clip_id), *self._new_fits(prepared)):
            self._say(note)
        return self._stages.predict(self._plan, probes, prepared, partial(self._events.step_done, clip_id))

    def _new_fits(self, prepared: predict.Prepared) -> Iterator[str]:
        """Yields how a clip was brought to the model's size, unless the plan or an earlier clip had the same words."""
        for note in prepared.fitted:
            how = note.removeprefix(f"{prepared.clip.id}: ")
            if how not in self._fits and not self._plan.selection.fitted.endswith(how):
                self._fits.add(how)
                yield note

    def _say(self, note: str) -> None:
        self._notes.append(note)
        self._events.note(note)

    def _load_probes(self) -> dict[str, Probe]:
        """Returns the probes. The first call loads the model."""
        if self._probes is None:
            plan, adapter = self._plan, self._plan.live.adapter
            for note in describe_use(plan.hardware.device, plan.hardware.label):
                self._events.note(note)
            forget_peak(plan.hardware.device)
            forget_paths()
            began = time.monotonic()
            adapter.load(plan.hardware.device, plan.hardware.dtype, plan.spec.weights)
            if plan.hardware.ranks > 1:
                adapter.share_passes(plan.hardware.ranks)
            adapter.check_settings(replace(plan.selection.settings, guidance=plan.live.guidance))
            self._load_seconds = time.monotonic() - began
            with adapter.probe_changes.watch():
                self._probes = {probe.entry.name: probe.create() for probe in plan.parts.probes}
        return self._probes

    def _store(
        self, clip_id: str, predicted: predict.Predicted, tracks: Sequence[Row], facts: Mapping[str, Any]
    ) -> str:
        """Writes tracks, predictions and scores, in this order. facts: about the generated video, and about the cost.

        Tracks come before predictions, because a predictions shard means that its clip need not be computed again.

        Returns:
            Why a metric failed; "" if none did.
        """
        self._write("tracks", clip_id, tracks, "track")
        made = predicted.reconstruction
        if made is not None:
            self._say(predict.round_trip_note(clip_id, made))
        rows = self._stages.rows_of_predictions(self._plan, self._run.run_id, predicted)
        self._write("predictions", clip_id, rows, "predict", facts)
        return self._scorer.score(shards.shard_name(clip_id))

    def _store_failure(self, clip_id: str, error: Exception) -> None:
        row = predict.failure_row(self._run.run_id, clip_id, error, task=self._plan.task.name)
        self._write("tracks", clip_id, [], "track")
        self._write("predictions", clip_id, [row], "predict")
        self._scorer.score(shards.shard_name(clip_id))
        self._events.clip_failed(clip_id, row.error)

    def _write(
        self,
        table: TableName,
        clip_id: str,
        rows: Sequence[Row],
        stage: str,
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        path, facts = self._run.shard(table, clip_id), {**self._facts[stage], **more}
        shards.write_shard(path, table, rows, self._fingerprints[stage], clip=clip_id, facts=facts)
