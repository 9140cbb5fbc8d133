"""The runner: a plan into a run directory, and stored predictions scored again."""

from __future__ import annotations

import contextlib
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import Any

from vcorr.errors import StoreError, UsageError
from vcorr.registry import Registry
from vcorr.spec import RunSpec
from vcorr.stages import score
from vcorr.stages.events import Events, Silent
from vcorr.stages.parts import Part, metric_parts
from vcorr.stages.plan import SCORING_VERSION, Plan, score_fingerprint
from vcorr.stages.variants import check_used, kinds_at_sites, run_variants, serves
from vcorr.stages.worker import Worker, score_shard, shared_columns
from vcorr.store import shards
from vcorr.store.fingerprint import plain
from vcorr.store.rundir import RunDirectory, Status
from vcorr.variants import NamedVariant


class Reuse(Enum):
    """What to do with results that are already there."""

    MATCHING = "matching"
    """Go on from them: clips already predicted are kept, the rest is computed (the default)."""
    ONLY = "only"
    """Use them and compute nothing; a clip that is missing is an error."""
    NEVER = "never"
    """Leave them alone and compute everything in a directory beside them."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended. peak_memory_gib: the most held on the "device" and by the "host"'s process, None if unknown."""

    run: RunDirectory
    status: Status
    clips: int
    reused: int
    failed: tuple[str, ...]
    seconds: float
    peak_memory_gib: Mapping[str, float | None]


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
    with run.writing():
        return _execute(plan, run, reuse, events, command, fingerprints)


def _execute(
    plan: Plan,
    run: RunDirectory,
    reuse: Reuse,
    events: Events | None,
    command: Sequence[str],
    fingerprints: dict[str, str],
) -> Outcome:
    worker = Worker(plan, run, events or Silent(), fingerprints, compute=reuse is not Reuse.ONLY)
    record = _record(plan, fingerprints, command)
    run.write_record({**record, **worker.progress()}, "started")
    for note in (plan.unused, plan.fitted, plan.notice):
        if note:
            worker.events.note(note)
    try:
        worker.run()
    except BaseException:
        # whatever ended the run is what the user has to hear of, not that the record could not be written either
        with contextlib.suppress(StoreError):
            run.write_record({**record, **worker.progress()}, "partial")
        raise
    status = _status(len(plan.clips), len(worker.failed))
    run.write_record({**record, **worker.progress()}, status)
    return Outcome(
        run, status, len(plan.clips), worker.reused, tuple(worker.failed), worker.seconds, worker.peak_memory()
    )


def rescore(run: RunDirectory, registry: Registry, spec: RunSpec) -> int:
    """Scores a run's stored predictions again with the metrics and variants of `spec`; needs no model.

    All clips or none: until the last one is scored, every score that was there stays.

    Returns:
        The number of clips scored.

    Raises:
        StoreError: a shard is damaged, the run holds no predictions, or another process is writing it.
        UsageError: the predictions cannot serve a variant (it reads other positions or rows off the model), or a
            switch changes nothing in them.
    """
    with run.writing():
        return _rescore(run, registry, spec)


def _rescore(run: RunDirectory, registry: Registry, spec: RunSpec) -> int:
    record = run.record()
    metrics, variants = metric_parts(spec, registry), run_variants(spec.variant)
    context, track_print = _stored_context(run, record)
    fingerprint = score_fingerprint(track_print, metrics, variants)
    judges = score.judges(variants, score.made_metrics(metrics))
    paths = sorted((run.path / "predictions").glob(f"*{shards.SUFFIX}"))
    if not paths:
        raise StoreError(f"{run.path} holds no predictions yet.", hint="Finish it first: repeat its vcorr run command.")
    _check_served(run, record, paths, variants)
    with shards.replaced_together(run.path / "scores") as scores:
        for path in paths:
            score_shard(run, path.name, context, judges, fingerprint, into=scores)
    record["fingerprints"]["score"] = fingerprint
    record["metrics"] = [metric.identity() for metric in metrics]
    record["scoring"] = SCORING_VERSION
    record["variants"] = [variant.text for variant in variants]
    run.write_record(record, record["status"])
    return len(paths)


def _check_served(
    run: RunDirectory, record: dict[str, Any], paths: Sequence[Path], variants: Sequence[NamedVariant]
) -> None:
    """Refuses a variant for which the model would have to run, before any score is replaced.

    All clips of a run were asked under the same variants, so the first one that did not fail tells.
    """
    tables = (shards.read_shard(path, "predictions") for path in paths)
    answers = next((found for table in tables if (found := score.answers_of(table))), ())
    check_used(variants, kinds_at_sites((answer.kind, answer.layer) for answer in answers))
    for variant in variants:
        for probe in dict.fromkeys(answer.probe for answer in answers):
            own = [answer for answer in answers if answer.probe == probe]
            if any(serves(answer.kind, answer.layer, answer.variant, variant) for answer in own):
                continue
            held = list(dict.fromkeys(answer.variant.text for answer in own))
            wanted = ",".join(dict.fromkeys([*held, *(v.text for v in variants)]))
            command = shlex.join([*_without_variant(record.get("command", [])), "--set", f"variant={wanted}"])
            raise UsageError(
                f"Variant {variant.text!r} reads other {own[0].kind} off the model than {run.path} holds of probe "
                f"{probe!r}, which are of: {', '.join(held)}.",
                hint=f"Only the model can give them: {command}",
            )


def _without_variant(command: Sequence[str]) -> list[str]:
    """The command line of a run but for the variant it asked for."""
    words = list(command) or ["vcorr", "run"]
    asked = [i for i, word in enumerate(words) if word.startswith("variant=") and words[i - 1] == "--set"]
    return [word for i, word in enumerate(words) if i not in asked and i + 1 not in asked]


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


def _stored_context(run: RunDirectory, record: dict[str, Any]) -> tuple[score.RowContext, str]:
    """The columns that all score rows share, and the fingerprint of what is scored."""
    try:
        columns = {key: value for key, value in record["row_context"].items() if key != "variant"}  # once a column
        return score.RowContext(run=run.run_id, **columns), record["fingerprints"]["track"]
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{run.path}/run.json lacks what scoring needs: {error}.", hint="Repeat the command that made the run."
        ) from error


def _record(plan: Plan, fingerprints: dict[str, str], command: Sequence[str]) -> dict[str, Any]:
    return {
        "command": list(command),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "spec": plain(plan.spec),
        "resolved": plan.predict_identity(),
        "metrics": [metric.identity() for metric in plan.metrics],
        "scoring": SCORING_VERSION,
        "variants": [variant.text for variant in plan.variants],
        "row_context": shared_columns(plan),
        "fitted": plan.fitted,
        "card": plain(plan.card),
        "plugins": _plugins(
            [plan.model, plan.data, *plan.probes, *plan.metrics, *([plan.tracker] if plan.tracker else [])]
        ),
        "tracker": {**(plan.tracker_identity() or {}), "licence": plan.licence} if plan.tracker else None,
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


__all__ = ["Events", "Outcome", "Reuse", "Silent", "execute", "rescore"]
