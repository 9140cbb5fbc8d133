"""Loads what a board shows of each run: its record, what it measured, the series of the boards' metrics.

Score tables are read shard by shard. Only rows of the boards' metrics are kept in memory; the download gets all rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vcorr.analysis.comparable import ClipFacts, MeasuredOn, missing_facts, note_clips, read_measured_on
from vcorr.analysis.stored_scores import check_scored_alike
from vcorr.contract.errors import StoreError, UsageError
from vcorr.contract.metric_columns import lower_is_better
from vcorr.contract.records import NO_SITE, is_random
from vcorr.contract.tasks import AT_ONE_SITE, CORRESPONDENCE, MAKING_VIDEOS
from vcorr.runner.cost import COST_KEY
from vcorr.runner.repeat import words_of_rescoring, words_to_repeat
from vcorr.stats.series import Scores, Series, gather, series
from vcorr.store.atomic_files import atomic_file
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import schema
from vcorr.studies.knockout_agreements import AgreementRow

COMPLETE = "complete"
BATCH_ROWS = 1 << 16
"""Least number of rows per record batch of a download: a single clip's shard is often too small to compress well."""
FREE, NO_CEILING = "free", "none"
"""Kinds of ceilings: of predictions that can be at any position, and of metrics that have none."""


@dataclass(frozen=True)
class TokenSize:
    """Size of a token and of the frame, in pixels of the video as the model read it.

    free: whether predictions can be at any position, so that the tokens do not limit them.
    """

    width: float
    height: float
    frame_width: int
    frame_height: int
    free: bool = False

    @property
    def of_256(self) -> float:
        """The longer side of a token in pixels of a 256x256 frame, in which `pck` measures."""
        sides = (self.width / max(self.frame_width, 1), self.height / max(self.frame_height, 1))
        return 256 * max(sides)


class InputFacts(NamedTuple):
    """How the query frames of a clip were chosen, and its resolution class; "" where rows do not say."""

    query_mode: str
    input_class: str


@dataclass(frozen=True)
class RunCost:
    """What tracking cost. seconds: per clip. gib: the most memory held, on the device if it has its own.

    where: whose memory it is, "device" or "process". device: the name of the device.
    """

    seconds: float
    gib: float | None
    where: str
    device: str


@dataclass(frozen=True)
class BoardRun:
    """One run, as the board and the pages of plugins get it.

    Attributes:
        directory: the run on disk, for its predictions and tracks.
        record: the contents of run.json.
        model, weights, dataset: as in the rows.
        series: one per probe and metric, for the metrics that the boards show (`vcorr.stats.series.Series`).
        measured: what its scores were measured on; None if its record does not say so.
        incomparable: why it cannot be compared with any run; "" if it can.
        asked: ids of all its clips that have rows, also of clips that failed or have no tracks.
        tokens: the sizes of tokens, by probe and layer.
        rows: number of rows of the scores table, all metrics.
        failed: number of clips that could not be run.
        unscored: number of clips without tracks to score against.
        download: path of the scores table inside the board; "" when it has no rows.
        inputs: query modes and resolution classes of its clips.
        causal: how well the skill of its sites foresees the effect of cutting them; None if no study says it.
    """

    directory: RunDirectory
    record: dict[str, Any]
    model: str
    weights: str
    dataset: str
    series: tuple[Series, ...]
    measured: MeasuredOn | None
    incomparable: str
    asked: frozenset[str]
    tokens: Mapping[tuple[str, int], frozenset[TokenSize]]
    rows: int
    failed: int
    unscored: int
    download: str
    inputs: frozenset[InputFacts] = frozenset()
    causal: AgreementRow | None = None

    @property
    def run_id(self) -> str:
        """Name of the run's directory."""
        return self.directory.run_id

    @property
    def status(self) -> str:
        """Status in run.json: started, partial, complete or failed."""
        return str(self.record.get("status", "started"))

    @property
    def is_complete(self) -> bool:
        """Whether every clip was run."""
        return self.status == COMPLETE

    @property
    def is_random(self) -> bool:
        """Whether its weights are random: such a run is never ranked."""
        return is_random(self.weights)

    @property
    def task(self) -> str:
        """What it measures, as in the column `task` of its rows."""
        context = self.record.get("row_context")
        return str((context.get("task") if isinstance(context, dict) else None) or CORRESPONDENCE)

    @property
    def is_tracker(self) -> bool:
        """Whether a tracker followed the points in the place of a model."""
        spec = self.record.get("spec")
        return self.task in AT_ONE_SITE and isinstance(spec, dict) and not spec.get("model")

    @property
    def cost(self) -> RunCost | None:
        """What tracking cost; None if the record does not say."""
        found, device = self.record.get(COST_KEY), self.record.get("device")
        if not isinstance(found, dict) or not isinstance(seconds := found.get("seconds_per_clip"), int | float):
            return None
        on_device = found.get("device_gib") is not None
        gib = found.get("device_gib") if on_device else found.get("host_gib")
        name = str(device.get("name") or "") if isinstance(device, dict) else ""
        memory = float(gib) if isinstance(gib, int | float) else None
        return RunCost(float(seconds), memory, "device" if on_device else "process", name or "an unknown device")

    @property
    def is_baseline(self) -> bool:
        """Whether its predictions come from no attention site, and from no tracker."""
        if self.is_tracker or self.task in MAKING_VIDEOS:
            return False
        return bool(self.series) and all(s.sites[0]["layer"] == NO_SITE for s in self.series)

    @property
    def card(self) -> dict[str, Any]:
        """Fields of the model card; empty when the model has none."""
        card = self.record.get("card")
        return card if isinstance(card, dict) else {}

    @cached_property
    def repeat(self) -> list[str]:
        """Words of the command that makes the run from nothing."""
        return words_to_repeat(self.record)

    @cached_property
    def rescored(self) -> list[str]:
        """Words of the command that scored the run again, with `runs/RUN` as its folder; none if none did."""
        words = words_of_rescoring(self.record)
        return [*words[:2], f"runs/{self.run_id}", *words[3:]] if words else []

    @property
    def weights_unseen(self) -> bool:
        """Whether no released weights were at hand where the model's card was written."""
        extra = self.card.get("extra")
        return isinstance(extra, dict) and extra.get("weights_seen") is False

    @property
    def title(self) -> str:
        """Title of the model, or its name when it has no title."""
        return str(self.card.get("title") or self.model)

    @cached_property
    def clips(self) -> int:
        """Number of clips with scores."""
        return len({clip for s in self.series for clip in s.clips})

    @cached_property
    def total(self) -> int:
        """Number of clips that the run should have, as far as its record says so."""
        counts = self.record.get("clips")
        total = counts.get("total", 0) if isinstance(counts, dict) else 0
        return max(len(self.asked), total if isinstance(total, int) else 0)

    def series_by_probe(self) -> dict[tuple[str, str], dict[str, Series]]:
        """Returns its series by probe and variant, with flipped switches, and then by metric."""
        found: dict[tuple[str, str], dict[str, Series]] = {}
        for s in self.series:
            found.setdefault((s.key["probe"], s.variant_text), {})[s.key["metric"]] = s
        return found


class UnreadableRunError(StoreError):
    """A run that a board cannot show: its record or a shard is damaged, or its clips are scored differently."""


def load_run(run: RunDirectory, metrics: Sequence[str], download: Path) -> BoardRun:
    """Reads a run and copies its scores table, all shards in one file, to `download`.

    Raises:
        UnreadableRunError: run.json or a shard is damaged (the message names it), or some clips are scored differently
            from the rest.
        StoreError: the copy cannot be written.
    """
    with _reading():
        record = run.record()
        check_scored_alike(run, record)
    clips: dict[str, ClipFacts] = {}
    tokens: dict[tuple[str, int], set[TokenSize]] = {}
    inputs: set[InputFacts] = set()
    scores = _read_scores(run, metrics, download, _fingerprint(record), clips, tokens, inputs)
    measured, incomparable = _read_measured(run, record, clips)
    found = tuple(series(scores, lower=lower_is_better(record)))
    context = _context(record, found)
    return BoardRun(
        directory=run,
        record=record,
        model=context["model"],
        weights=context["weights"],
        dataset=context["dataset"],
        series=found,
        measured=measured,
        incomparable=incomparable,
        asked=frozenset({*clips, *scores.failed, *scores.unscored}),
        tokens={site: frozenset(sizes) for site, sizes in tokens.items()},
        rows=scores.rows,
        failed=len(scores.failed),
        unscored=len(scores.unscored),
        download=f"{download.parent.name}/{download.name}" if scores.rows else "",
        inputs=frozenset(inputs),
    )


def _read_measured(
    run: RunDirectory, record: Mapping[str, Any], clips: Mapping[str, ClipFacts]
) -> tuple[MeasuredOn | None, str]:
    """Returns what a run measured, or why it cannot be compared.

    Raises:
        UnreadableRunError: a shard of tracks is damaged.
    """
    if lacking := missing_facts(record):
        return None, f"its run.json lacks {', '.join(lacking)}, without which it compares with no run"
    with _reading():
        return read_measured_on(run, record, clips), ""


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Marks errors of the block as errors of the run, which leave it out of the board and do not end the build."""
    try:
        yield
    except (StoreError, UsageError) as error:
        raise UnreadableRunError(error.message, hint=error.hint) from error


def _read_shards(run: RunDirectory) -> Iterator[pa.Table]:
    with _reading():
        yield from run.iter_shards("scores")


def _read_scores(
    run: RunDirectory,
    metrics: Sequence[str],
    download: Path,
    fingerprint: str,
    clips: dict[str, ClipFacts],
    tokens: dict[tuple[str, int], set[TokenSize]],
    inputs: set[InputFacts],
) -> Scores:
    """Returns the scores of the boards' metrics. On the way it copies the rows of all metrics, and notes their facts.

    clips, tokens, inputs: what is noted of each clip, the sizes of tokens by probe and layer, and what the clips are.
    """
    layout = schema("scores", fingerprint)
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with atomic_file(download) as temporary, pa.ipc.new_file(temporary, layout, options=options) as copy:
        copied = _note_inputs(_copy_each(_in_batches(_read_shards(run)), copy), inputs)
        tables = note_clips(_note_tokens(copied, tokens), clips)
        scores = gather(tables, set(metrics).__contains__)
    if not scores.rows:
        download.unlink()
    return scores


def _copy_each(tables: Iterable[pa.Table], copy: pa.RecordBatchWriter) -> Iterator[pa.Table]:
    for table in tables:
        copy.write_table(table)
        yield table


def _note_inputs(tables: Iterable[pa.Table], inputs: set[InputFacts]) -> Iterator[pa.Table]:
    """Yields the tables, and adds the query modes and resolution classes of scored rows to `inputs`."""
    for table in tables:
        scored = table.select(InputFacts._fields).filter(pc.not_equal(table["metric"], ""))
        found = scored.group_by(list(InputFacts._fields)).aggregate([])
        inputs |= {InputFacts(**row) for row in found.to_pylist()}
        yield table


def _note_tokens(tables: Iterable[pa.Table], tokens: dict[tuple[str, int], set[TokenSize]]) -> Iterator[pa.Table]:
    """Yields the tables, and adds the sizes of tokens to `tokens`, by probe and layer."""
    for table in tables:
        rows = _read_first_of_each_site(table)
        # rows of metrics without a ceiling do not say whether predictions are free
        for row in [row for row in rows if row["ceiling_kind"] != NO_CEILING] or rows:
            width, height = row["token_width"], row["token_height"]
            size = TokenSize(width, height, row["width"], row["height"], _is_free(row))
            tokens.setdefault((row["probe"], row["layer"]), set()).add(size)
        yield table


def _is_free(row: Mapping[str, Any]) -> bool:
    """Returns whether predictions can be at any position. All tracks have a ceiling of 1, also those from tokens."""
    from_tokens = row["task"] in AT_ONE_SITE and max(row["token_width"], row["token_height"]) > 1
    return bool(row["ceiling_kind"] == FREE) and not from_tokens


def _read_first_of_each_site(table: pa.Table) -> list[dict[str, Any]]:
    """Returns the first row with a size of tokens of each clip, probe, layer and kind of ceiling."""
    keys = ["clip", "probe", "layer", "task", "ceiling_kind"]
    columns = [*keys, "token_width", "token_height", "width", "height"]
    rows = table.select(columns).filter(pc.is_finite(table["token_width"]))
    codes = np.zeros(rows.num_rows, dtype=np.int64)
    for name in keys:
        encoded = rows[name].combine_chunks().dictionary_encode()
        codes = codes * (len(encoded.dictionary) + 1) + encoded.indices.to_numpy()
    _, first = np.unique(codes, return_index=True)
    found: list[dict[str, Any]] = rows.take(first).to_pylist()
    return found


def _in_batches(shards: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Joins shards to tables of at least BATCH_ROWS rows (the last may be smaller), each in one piece."""
    waiting: list[pa.Table] = []
    for shard in shards:
        waiting.append(shard)
        if sum(table.num_rows for table in waiting) >= BATCH_ROWS:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def _context(record: dict[str, Any], found: tuple[Series, ...]) -> dict[str, str]:
    """Returns model, weights and dataset from the rows, or from the record when the run has no scores yet."""
    context = found[0].key if found else record.get("row_context")
    context = context if isinstance(context, dict) else {}
    return {key: str(context.get(key) or "unknown") for key in ("model", "weights", "dataset")}


def _fingerprint(record: dict[str, Any]) -> str:
    prints = record.get("fingerprints")
    return str(prints.get("score", "")) if isinstance(prints, dict) else ""
