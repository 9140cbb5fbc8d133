"""Loads what a board shows of each run: its record, the series of the boards' metrics, the best site of every probe.

Score tables are read shard by shard. Only rows of the boards' metrics are kept in memory; the download gets all rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from vcorr.analysis.stored_scores import check_scored_alike
from vcorr.contract.errors import StoreError, UsageError
from vcorr.contract.metric_columns import lower_is_better
from vcorr.contract.records import NO_SITE, is_random
from vcorr.runner.repeat import words_of_rescoring, words_to_repeat
from vcorr.stats.series import Scores, Series, gather, series
from vcorr.stats.summary import BestSite, best_site
from vcorr.store.atomic_files import atomic_file
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import schema

COMPLETE = "complete"
BATCH_ROWS = 1 << 16
"""Least number of rows per record batch of a download: a single clip's shard is often too small to compress well."""
GROUP_KEYS = ("dataset", "split", "mode", "tracker", "variant")


@dataclass(frozen=True)
class BoardRun:
    """One run, as the board and the pages of plugins get it.

    Attributes:
        directory: the run on disk, for its predictions and tracks.
        record: the contents of run.json.
        model, weights, dataset: as in the rows.
        series: one per probe and metric, for the metrics that the boards show (`vcorr.stats.series.Series`).
        best: the best site of each series that has one.
        rows: number of rows of the scores table, all metrics.
        failed: number of clips that could not be run.
        unscored: number of clips without tracks to score against.
        content: hash of each clip's content by clip id, if the run holds one.
        download: path of the scores table inside the board; "" when it has no rows.
    """

    directory: RunDirectory
    record: dict[str, Any]
    model: str
    weights: str
    dataset: str
    series: tuple[Series, ...]
    best: tuple[BestSite, ...]
    rows: int
    failed: int
    unscored: int
    content: Mapping[str, str]
    download: str

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
    def is_baseline(self) -> bool:
        """Whether its predictions come from no attention site."""
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

    def best_of(self, s: Series) -> BestSite | None:
        """Returns the best site of one of its series."""
        return next((best for best in self.best if best.key == s.key), None)


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
    scores = _read_scores(run, metrics, download, _fingerprint(record))
    with _reading():
        found = tuple(series(scores, lower=lower_is_better(record)))
        best = tuple(best for best in map(best_site, found) if best is not None)
    context = _context(record, found)
    return BoardRun(
        directory=run,
        record=record,
        model=context["model"],
        weights=context["weights"],
        dataset=context["dataset"],
        series=found,
        best=best,
        rows=scores.rows,
        failed=len(scores.failed),
        unscored=len(scores.unscored),
        content=scores.content,
        download=f"{download.parent.name}/{download.name}" if scores.rows else "",
    )


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


def _read_scores(run: RunDirectory, metrics: Sequence[str], download: Path, fingerprint: str) -> Scores:
    """Returns the scores of the boards' metrics, and copies the rows of all metrics on the way."""
    layout = schema("scores", fingerprint)
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with atomic_file(download) as temporary, pa.ipc.new_file(temporary, layout, options=options) as copy:
        scores = gather(_copy_each(_in_batches(_read_shards(run)), copy), set(metrics).__contains__)
    if not scores.rows:
        download.unlink()
    return scores


def _copy_each(tables: Iterable[pa.Table], copy: pa.RecordBatchWriter) -> Iterator[pa.Table]:
    for table in tables:
        copy.write_table(table)
        yield table


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
