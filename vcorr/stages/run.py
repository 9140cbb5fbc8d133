"""The runner: clip after clip through predict and score, each shard on disk before the next clip begins."""

from __future__ import annotations

import contextlib
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from vcorr.errors import MissingError, PluginError, StoreError, UsageError, VcorrError
from vcorr.protocols import Metric, Probe
from vcorr.records import Clip
from vcorr.registry import Registry
from vcorr.spec import RunSpec
from vcorr.stages import predict, score
from vcorr.stages.plan import Part, Plan, metric_parts, score_fingerprint
from vcorr.store import shards
from vcorr.store.fingerprint import plain
from vcorr.store.rundir import RunDirectory, Status


class Reuse(Enum):
    """What to do with results that are already there."""

    MATCHING = "matching"
    """Go on from them: clips already predicted are kept, the rest is computed (the default)."""
    ONLY = "only"
    """Use them and compute nothing; a clip that is missing is an error."""
    NEVER = "never"
    """Leave them alone and compute everything in a directory beside them."""


class Events(Protocol):
    """What a run reports while it goes on. All methods return at once."""

    def clip_started(self, clip_id: str) -> None:
        """A clip goes into the model."""

    def step_done(self) -> None:
        """One step of the clip is through the model."""

    def clip_done(self, clip_id: str, *, reused: bool) -> None:
        """A clip's shards are on disk."""

    def clip_failed(self, clip_id: str, error: str) -> None:
        """A clip could not be predicted; its failure is a row."""

    def note(self, message: str) -> None:
        """Something the user should know."""


class Silent:
    """Events nobody listens to."""

    def clip_started(self, clip_id: str) -> None:
        """Ignored."""

    def step_done(self) -> None:
        """Ignored."""

    def clip_done(self, clip_id: str, *, reused: bool) -> None:
        """Ignored."""

    def clip_failed(self, clip_id: str, error: str) -> None:
        """Ignored."""

    def note(self, message: str) -> None:
        """Ignored."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    run: RunDirectory
    status: Status
    clips: int
    reused: int
    failed: tuple[str, ...]
    seconds: float


def execute(
    plan: Plan, out: Path, *, reuse: Reuse = Reuse.MATCHING, events: Events | None = None, command: Sequence[str] = ()
) -> Outcome:
    """Runs a plan below `out`.

    Every clip's predictions, tracks and scores are on disk before the next clip begins, so that nothing but the clip in
    flight is lost however the process ends. A clip that fails is a row; plugin errors, missing weights and a full disk
    end the run, which a repeated command then continues.

    Raises:
        StoreError, PluginError, MissingError: as said; `run.json` then has status "partial".
        KeyboardInterrupt: likewise.
    """
    fingerprints = plan.fingerprints()
    run = _directory(plan, out, reuse, fingerprints["predict"])
    worker = _Worker(plan, run, reuse, events or Silent(), fingerprints)
    record = _record(plan, fingerprints, command)
    run.write_record({**record, **worker.progress()}, "started")
    if plan.fitted:
        worker.events.note(f"Clips are {plan.fitted}.")
    try:
        worker.run()
    except BaseException:
        # whatever ended the run is what the user has to hear of, not that the record could not be written either
        with contextlib.suppress(StoreError):
            run.write_record({**record, **worker.progress()}, "partial")
        raise
    status = _status(len(plan.clips), len(worker.failed))
    run.write_record({**record, **worker.progress()}, status)
    return Outcome(run, status, len(plan.clips), worker.reused, tuple(worker.failed), worker.seconds)


def rescore(run: RunDirectory, registry: Registry, spec: RunSpec) -> int:
    """Scores a run's stored predictions again with the metrics of `spec`; needs no model.

    Returns:
        The number of clips scored.

    Raises:
        StoreError: a shard is damaged or the run holds no predictions.
    """
    record = run.record()
    metrics = metric_parts(spec, registry)
    fingerprint = score_fingerprint(record["fingerprints"]["track"], metrics, spec.variant)
    context = replace(_stored_context(run, record), variant=spec.variant)
    objects: list[Metric] = [metric.create() for metric in metrics]
    paths = sorted((run.path / "predictions").glob(f"*{shards.SUFFIX}"))
    if not paths:
        raise StoreError(f"{run.path} holds no predictions yet.", hint="Finish it first: repeat its vcorr run command.")
    for path in paths:
        _score_shard(run, path.name, context, objects, fingerprint)
    record["fingerprints"]["score"] = fingerprint
    record["metrics"] = [metric.identity() for metric in metrics]
    run.write_record(record, record["status"])
    return len(paths)


class _Worker:
    """One pass over the clips of a plan; loads the model when the first clip needs it."""

    def __init__(
        self, plan: Plan, run: RunDirectory, reuse: Reuse, events: Events, fingerprints: dict[str, str]
    ) -> None:
        self._plan = plan
        self._run = run
        self._reuse = reuse
        self.events = events
        self._fingerprints = fingerprints
        self._metrics: list[Metric] = [metric.create() for metric in plan.metrics]
        self._probes: dict[str, Probe] = {}
        self._loaded = False
        self._context = _context(plan, run)
        self._started = time.monotonic()
        self.reused = 0
        self.done = 0
        self.failed: list[str] = []
        self.model_seconds = 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def run(self) -> None:
        for clip_id in self._plan.clips:
            if self._usable(clip_id):
                self.reused += 1
                self._rescore_if_stale(clip_id)
                self.events.clip_done(clip_id, reused=True)
            elif self._reuse is Reuse.ONLY:
                raise StoreError(
                    f"Clip {clip_id} has no usable predictions in {self._run.path}, and --reuse only computes nothing.",
                    hint="Leave --reuse out to compute what is missing.",
                )
            else:
                self._compute(clip_id)
            self.done += 1

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
            },
        }

    def _usable(self, clip_id: str) -> bool:
        """Whether a clip's predictions are there, whole, of this spec and not a failure."""
        path = self._run.shard("predictions", clip_id)
        if not path.exists():
            return False
        try:
            found = shards.read_shard(path, "predictions")
            tracks = self._run.shard("tracks", clip_id)
            if tracks.exists():
                shards.read_shard(tracks, "tracks")
        except StoreError as error:
            if self._reuse is Reuse.ONLY:
                raise
            self.events.note(f"{error.message} It is computed again.")
            return False
        if shards.fingerprint_of(found) != self._fingerprints["predict"]:
            self.events.note(f"{path} is of another spec. It is computed again.")
            return False
        return tracks.exists() and found.num_rows > 0 and found["status"][0].as_py() == predict.STATUS_OK

    def _rescore_if_stale(self, clip_id: str) -> None:
        path = self._run.shard("scores", clip_id)
        try:
            fresh = shards.fingerprint_of(shards.read_shard(path, "scores")) == self._fingerprints["score"]
        except StoreError:
            fresh = False
        if not fresh:
            self._score(clip_id)

    def _compute(self, clip_id: str) -> None:
        self._load()
        self.events.clip_started(clip_id)
        began = time.monotonic()
        try:
            clip, predictions = predict.predict_clip(self._plan, self._probes, clip_id, self.events.step_done)
        except (PluginError, MissingError, StoreError):
            raise
        except Exception as error:
            self._store_failure(clip_id, error)
            return
        finally:
            self.model_seconds += time.monotonic() - began
        self._store(clip, predict.prediction_rows(self._run.run_id, clip_id, predictions))
        self.events.clip_done(clip_id, reused=False)

    def _load(self) -> None:
        if self._loaded:
            return
        plan = self._plan
        plan.adapter.load(plan.device, plan.dtype, plan.spec.weights)
        self._probes = {probe.entry.name: probe.create() for probe in plan.probes}
        self._loaded = True

    def _store(self, clip: Clip, rows: list[predict.Row]) -> None:
        # Tracks first: a predictions shard that is there means that the clip is complete
        run, prints = self._run, self._fingerprints
        tracks = predict.track_rows(run.run_id, self._plan, clip)
        shards.write_shard(run.shard("tracks", clip.id), "tracks", tracks, prints["track"])
        shards.write_shard(run.shard("predictions", clip.id), "predictions", rows, prints["predict"])
        self._score(clip.id)

    def _store_failure(self, clip_id: str, error: Exception) -> None:
        row = predict.failure_row(self._run.run_id, clip_id, error)
        prints = self._fingerprints
        shards.write_shard(self._run.shard("tracks", clip_id), "tracks", [], prints["track"])
        shards.write_shard(self._run.shard("predictions", clip_id), "predictions", [row], prints["predict"])
        self._score(clip_id)
        self.failed.append(clip_id)
        self.events.clip_failed(clip_id, row["error"])

    def _score(self, clip_id: str) -> None:
        name = shards.shard_name(clip_id)
        _score_shard(self._run, name, self._context, self._metrics, self._fingerprints["score"])


def _score_shard(
    run: RunDirectory, name: str, context: score.RowContext, metrics: Sequence[Metric], fingerprint: str
) -> None:
    predictions = shards.read_shard(run.path / "predictions" / name, "predictions")
    tracks = shards.read_shard(run.path / "tracks" / name, "tracks")
    rows = score.score_clip(context, metrics, predictions, tracks)
    shards.write_shard(run.path / "scores" / name, "scores", rows, fingerprint)


def _directory(plan: Plan, out: Path, reuse: Reuse, fingerprint: str) -> RunDirectory:
    if reuse is Reuse.ONLY and not (out / fingerprint[:12]).exists():
        raise UsageError(
            f"There is no such run in {out}, and --reuse only computes nothing.",
            hint="Leave --reuse out to compute it.",
        )
    return RunDirectory.create(out, fingerprint, beside=reuse is Reuse.NEVER)


def _status(total: int, failed: int) -> Status:
    if failed == total:
        return "failed"
    return "partial" if failed else "complete"


def _context(plan: Plan, run: RunDirectory) -> score.RowContext:
    return score.RowContext(run=run.run_id, **_shared_columns(plan))


def _shared_columns(plan: Plan) -> dict[str, Any]:
    return {
        "model": plan.model.entry.name,
        "weights": plan.weights_id,
        "dataset": plan.data.entry.name,
        "split": plan.dataset.split,
        "mode": plan.settings.mode,
        "variant": plan.spec.variant,
        "seed": plan.settings.seed,
    }


def _stored_context(run: RunDirectory, record: dict[str, Any]) -> score.RowContext:
    try:
        return score.RowContext(run=run.run_id, **record["row_context"])
    except (KeyError, TypeError) as error:
        raise StoreError(f"{run.path}/run.json lacks what scoring needs: {error}.") from error


def _record(plan: Plan, fingerprints: dict[str, str], command: Sequence[str]) -> dict[str, Any]:
    return {
        "command": list(command),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "spec": plain(plan.spec),
        "resolved": plan.predict_identity(),
        "metrics": [metric.identity() for metric in plan.metrics],
        "row_context": _shared_columns(plan),
        "fitted": plan.fitted,
        "card": plain(plan.card),
        "plugins": _plugins([plan.model, plan.data, *plan.probes, *plan.metrics]),
        "fingerprints": fingerprints,
        "versions": {"vcorr": metadata.version("vcorr"), "python": platform.python_version(), **plan.versions},
        "git": _git_revision(),
        "device": {"name": plan.device_name, "dtype": plan.dtype, "machine": platform.machine(), "os": sys.platform},
    }


def _plugins(parts: Sequence[Part]) -> dict[str, str]:
    return {part.entry.label: part.registered.source.label for part in parts}


def _git_revision() -> str | None:
    """The commit of the checkout vcorr is run from; None for an installed package."""
    home = Path(__file__).resolve().parents[2]
    if not (home / ".git").exists():
        return None
    command = ["git", "-C", str(home), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


__all__ = ["Events", "Outcome", "Reuse", "Silent", "VcorrError", "execute", "rescore"]
