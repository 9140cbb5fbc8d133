"""Scores the stored predictions of a run again, with other metrics or variants (`vcorr score`), without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcorr.contract.errors import PluginError, StoreError, UsageError
from vcorr.contract.variants import NamedVariant
from vcorr.contract.visible_text import join_words
from vcorr.plugins.registry import Registry
from vcorr.runner import score
from vcorr.runner.identity import score_fingerprint
from vcorr.runner.metric_trial import check_columns
from vcorr.runner.parts import metric_parts
from vcorr.runner.repeat import RESCORED
from vcorr.runner.score_shards import ShardScorer
from vcorr.runner.scored_variants import check_used, kinds_at_sites, run_variants, serves
from vcorr.runner.spec import RunSpec
from vcorr.runner.stage_facts import score_facts
from vcorr.runner.unpacking import prediction_keys
from vcorr.store import shards
from vcorr.store.atomic_files import replace_together
from vcorr.store.record_form import Status
from vcorr.store.rundir import RunDirectory


@dataclass(frozen=True)
class Rescored:
    """What `rescore` did.

    clips: number of clips in the run. failed: why a metric failed, by the file name of the clip's shards. notes:
    sentences for the user.
    """

    clips: int
    failed: Mapping[str, str]
    notes: Sequence[str]


def rescore(run: RunDirectory, registry: Registry, spec: RunSpec, command: Sequence[str] = ()) -> Rescored:
    """Scores a run's stored predictions again with the metrics and variants of `spec`; needs no model.

    The new scores replace the old ones only when all clips are scored. A clip for which a metric raises has one failed
    row; if that is so for every clip, the old scores stay. command: the command line, for `run.json`.

    Raises:
        StoreError: a shard is damaged, the run holds no predictions, or another process is writing it.
        UsageError: a variant needs predictions that only the model can make, or a switch changes nothing.
        PluginError: a metric breaks its contract, or fails for every clip.
    """
    with run.write_lock():
        return _rescore(run, registry, spec, command)


def _rescore(run: RunDirectory, registry: Registry, spec: RunSpec, command: Sequence[str]) -> Rescored:
    record = run.record()
    context, track_print, status = _read_context(run, record)
    metrics, variants = metric_parts(spec, registry, context.task), run_variants(spec.variant)
    check_columns(metrics)
    fingerprint = score_fingerprint(track_print, metrics, variants)
    facts = score_facts(metrics, variants, spec.metric_names)
    scorer = ShardScorer.make(run, context, metrics, variants, fingerprint, facts)
    paths = run.shard_paths("predictions")
    if not paths:
        if run.is_copy:
            raise StoreError(
                f"{run.place} is a small copy of scores, without predictions.",
                hint="Score the run that it was copied from, then copy it again: vcorr board collect",
            )
        raise StoreError(
            f"{run.place} holds no predictions yet.", hint="Finish it first: repeat the command that made it."
        )
    _check_served(run, record, paths, variants)
    with replace_together(run.path / "scores") as scores:
        failed = {path.name: error for path in paths if (error := scorer.score(path.name, into=scores))}
        if len(failed) == len(paths):
            raise PluginError(
                f"No clip of {run.place} could be scored: {next(iter(failed.values()))}.",
                hint="Its scores stay as they were.",
            )
    record["fingerprints"]["score"] = fingerprint
    run.write_record({**record, **facts, RESCORED: list(command)}, status)
    return Rescored(len(paths), failed, scorer.take_notes())


def _check_served(
    run: RunDirectory, record: dict[str, Any], paths: Sequence[Path], variants: Sequence[NamedVariant]
) -> None:
    """Refuses a variant for which the model would have to run, before any score is replaced.

    Only the first clip that did not fail is read, because all clips of a run were asked under the same variants.
    """
    tables = (shards.read_shard(path, "predictions") for path in paths)
    keys = next((found for table in tables if (found := prediction_keys(table))), ())
    check_used(variants, kinds_at_sites((key.kind, key.layer) for key in keys))
    for variant in variants:
        for probe in dict.fromkeys(key.probe for key in keys):
            own = [key for key in keys if key.probe == probe]
            if any(serves(key.kind, key.layer, key.variant, variant) for key in own):
                continue
            stored = list(dict.fromkeys(key.variant.text for key in own))
            wanted = ",".join(dict.fromkeys([*stored, *(v.text for v in variants)]))
            command = join_words([*_drop_variant(record.get("command", [])), "--set", f"variant={wanted}"])
            raise UsageError(
                f"{run.place} has no predictions of probe {probe!r} for variant {variant.text!r}. They were read "
                f"under: {', '.join(stored)}.",
                hint=f"Run the model again: {command}",
            )


def _drop_variant(command: Sequence[str]) -> list[str]:
    """Returns the command line of a run without its `--set variant=`."""
    words = list(command) or ["vcorr", "run"]
    asked = [i for i, word in enumerate(words) if word.startswith("variant=") and words[i - 1] == "--set"]
    return [word for i, word in enumerate(words) if i not in asked and i + 1 not in asked]


def _read_context(run: RunDirectory, record: dict[str, Any]) -> tuple[score.RowContext, str, Status]:
    """Returns the columns that all score rows of the run share, the fingerprint of its tracks, and its status."""
    try:
        # run.json of older versions has a variant there
        columns = {key: value for key, value in record["row_context"].items() if key != "variant"}
        return score.RowContext(run=run.run_id, **columns), record["fingerprints"]["track"], record["status"]
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{run.place}/run.json lacks what scoring needs: {error}.", hint="Repeat the command that made the run."
        ) from error
