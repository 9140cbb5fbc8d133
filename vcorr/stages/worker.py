"""One pass over the clips of a plan: predict, track, score, each shard on disk before the next clip begins."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vcorr.bases import DatasetBase, VideoModelBase, with_defaults
from vcorr.errors import MissingError, PluginError, StoreError
from vcorr.protocols import Probe, Tracker
from vcorr.stages import predict, score, track
from vcorr.stages.events import Events
from vcorr.stages.memory import device_peak, forget_peak, host_peak
from vcorr.stages.plan import Plan
from vcorr.store import shards
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import CORRESPONDENCE, Row, TableName


class Worker:
    """Works off a plan's clips in order; loads the model when the first clip needs it.

    Args:
        plan: what to do.
        run: where results lie.
        events: told what happens.
        fingerprints: of the stages.
        compute: False when nothing may be computed that needs the model.
    """

    def __init__(
        self, plan: Plan, run: RunDirectory, events: Events, fingerprints: dict[str, str], *, compute: bool
    ) -> None:
        self._plan = plan
        self._run = run
        self._compute_allowed = compute
        self._fingerprints = fingerprints
        self._judges = score.judges(plan.variants, score.made_metrics(plan.metrics))
        self._tracker: Tracker | None = plan.tracker.create() if plan.tracker else None
        self._probes: dict[str, Probe] = {}
        self._loaded = False
        self._context = score.RowContext(run=run.run_id, **shared_columns(plan))
        self._started = time.monotonic()
        self.events = events
        self.reused = 0
        self.done = 0
        self.failed: list[str] = []
        self.model_seconds = 0.0
        self.load_seconds = 0.0

    @property
    def seconds(self) -> float:
        """Since the worker was made."""
        return time.monotonic() - self._started

    def run(self) -> None:
        """Every clip, in order."""
        for clip_id in self._plan.clips:
            if self._predicted(clip_id):
                self.reused += 1
                self._refresh(clip_id)
                self.events.clip_done(clip_id, reused=True)
            elif not self._compute_allowed:
                raise StoreError(
                    f"Clip {clip_id} has no usable predictions in {self._run.path}, and --reuse only computes nothing.",
                    hint="Leave --reuse out to compute what is missing.",
                )
            else:
                self._compute(clip_id)
            self.done += 1
        self._score_others()

    def peak_memory(self) -> dict[str, float | None]:
        """The most GiB allocated on the device since the weights were loaded, and held by this process; None where
        that is not known.
        """
        device = device_peak(self._plan.device) if self._loaded else None
        return {
            name: None if gib is None else round(gib, 3) for name, gib in (("device", device), ("host", host_peak()))
        }

    def progress(self) -> dict[str, Any]:
        """What run.json says about how far it came."""
        computed = self.done - self.reused
        there = {path.name for path in (self._run.path / "predictions").glob(f"*{shards.SUFFIX}")}
        wanted = {shards.shard_name(clip_id) for clip_id in self._plan.clips}
        return {
            "clips": {
                "total": len(there | wanted),
                "done": len(there),
                "failed": len(self.failed),
                "reused": self.reused,
            },
            "seconds": {
                "total": round(self.seconds, 3),
                "per_computed_clip": round(self.model_seconds / computed, 3) if computed else None,
                "load": round(self.load_seconds, 3) if self._loaded else None,
            },
            "peak_memory_gib": self.peak_memory(),
        }

    def _predicted(self, clip_id: str) -> bool:
        """Whether a clip's predictions are there, whole, of this spec and not a failure."""
        path = self._run.shard("predictions", clip_id)
        if not path.exists():
            return False
        try:
            found = shards.read_shard(path, "predictions")
        except StoreError as error:
            if not self._compute_allowed:
                raise
            self.events.note(f"{error.message} It is computed again.")
            return False
        if shards.fingerprint_of(found) != self._fingerprints["predict"]:
            self.events.note(f"{path} is of another spec. It is computed again.")
            return False
        return found.num_rows > 0 and bool(found["status"][0].as_py() == predict.STATUS_OK)

    def _refresh(self, clip_id: str) -> None:
        """Makes tracks and scores of a kept clip anew where they are missing, damaged or of another spec."""
        if not self._fresh("tracks", clip_id, "track"):
            kept = track.stored_clip(self._plan, self._run, clip_id)
            rows = track.rows_of_tracks(self._plan, self._run, kept.clip, self._tracker, kept.data_hash)
            self._write("tracks", clip_id, rows, "track")
            self._score(clip_id)
        elif not self._fresh("scores", clip_id, "score"):
            self._score(clip_id)

    def _score_others(self) -> None:
        """Scores the clips that an earlier, longer command left in the run like those of the plan: all scores of a run
        are of the metrics and variants that its run.json names.
        """
        planned = {shards.shard_name(clip_id) for clip_id in self._plan.clips}
        for path in sorted((self._run.path / "scores").glob(f"*{shards.SUFFIX}")):
            answered = self._is_of("predictions", path.name, "predict") and self._is_of("tracks", path.name, "track")
            if path.name not in planned and answered and not self._is_of("scores", path.name, "score"):
                score_shard(self._run, path.name, self._context, self._judges, self._fingerprints["score"])

    def _fresh(self, table: TableName, clip_id: str, stage: str) -> bool:
        return self._is_of(table, shards.shard_name(clip_id), stage)

    def _is_of(self, table: TableName, name: str, stage: str) -> bool:
        """Whether a shard is there, whole and of this spec."""
        try:
            found = shards.read_shard(self._run.path / table / name, table)
        except StoreError:
            return False
        return shards.fingerprint_of(found) == self._fingerprints[stage]

    def _compute(self, clip_id: str) -> None:
        self._load()
        self.events.clip_started(clip_id)
        began = time.monotonic()
        try:
            prepared = predict.prepare_clip(self._plan, clip_id)
            self._say_notes(clip_id)  # after the clip was read, so that a dataset need not read it for them
            predicted = predict.predict_clip(self._plan, self._probes, prepared, self.events.step_done)
            self.model_seconds += time.monotonic() - began
            if self._plan.mode.makes_video:
                track.keep_video(self._run, predicted.clip)
            tracks = track.rows_of_tracks(self._plan, self._run, predicted.clip, self._tracker, predicted.data_hash)
        except (PluginError, MissingError, StoreError):
            raise
        except Exception as error:
            self._store_failure(clip_id, error)
            return
        # Predictions last but for the scores: a predictions shard that is there means that its clip is complete
        self._write("tracks", clip_id, tracks, "track")
        made = predicted.reconstruction
        if made is not None:
            self.events.note(predict.round_trip_note(clip_id, made))
        rows = predict.prediction_rows(self._run.run_id, predicted.clip, predicted.answers, reconstruction=made)
        self._write("predictions", clip_id, rows, "predict")
        self._score(clip_id)
        self.events.clip_done(clip_id, reused=False)

    def _say_notes(self, clip_id: str) -> None:
        """What a dataset has to say about reading a clip: that it was cut, say, or resized."""
        for note in with_defaults(self._plan.dataset, DatasetBase).notes(clip_id):
            self.events.note(note)

    def _load(self) -> None:
        if self._loaded:
            return
        plan = self._plan
        forget_peak(plan.device)
        began = time.monotonic()
        plan.adapter.load(plan.device, plan.dtype, plan.spec.weights)
        with_defaults(plan.adapter, VideoModelBase).check_settings(plan.settings)
        self.load_seconds = time.monotonic() - began
        self._probes = {probe.entry.name: probe.create() for probe in plan.probes}
        self._loaded = True

    def _store_failure(self, clip_id: str, error: Exception) -> None:
        row = predict.failure_row(self._run.run_id, clip_id, error)
        self._write("tracks", clip_id, [], "track")
        self._write("predictions", clip_id, [row], "predict")
        self._score(clip_id)
        self.failed.append(clip_id)
        self.events.clip_failed(clip_id, row.error)

    def _write(self, table: TableName, clip_id: str, rows: Sequence[Row], stage: str) -> None:
        shards.write_shard(self._run.shard(table, clip_id), table, rows, self._fingerprints[stage])

    def _score(self, clip_id: str) -> None:
        score_shard(self._run, shards.shard_name(clip_id), self._context, self._judges, self._fingerprints["score"])


def score_shard(
    run: RunDirectory,
    name: str,
    context: score.RowContext,
    judges: Sequence[score.Judge],
    fingerprint: str,
    *,
    into: Path | None = None,
) -> None:
    """Scores one clip's stored predictions against its stored tracks.

    Args:
        run: where they are.
        name: of the clip's shards.
        context: the columns all rows share.
        judges: variants and metrics.
        fingerprint: of the scores.
        into: folder of the scores; None for the run's own.

    Raises:
        StoreError: one of the shards is damaged.
    """
    predictions = shards.read_shard(run.path / "predictions" / name, "predictions")
    tracks = shards.read_shard(run.path / "tracks" / name, "tracks")
    rows = score.score_clip(context, judges, predictions, tracks)
    shards.write_shard((into or run.path / "scores") / name, "scores", rows, fingerprint)


def shared_columns(plan: Plan) -> dict[str, Any]:
    """The columns every score row of a run shares, but for the run itself."""
    return {
        "model": plan.model.entry.name,
        "weights": plan.weights_id,
        "dataset": plan.data.entry.name,
        "split": plan.dataset.split,
        "mode": plan.settings.mode,
        "seed": plan.settings.seed,
        "task": CORRESPONDENCE,
        "cfg": plan.settings.cfg if plan.mode.makes_video else None,
    }
