"""Loads runs for notebooks and scripts: tidy frames of their scores, sites, tracks and predictions."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import pyarrow as pa

from vcorr.analysis.data_frames import FrameKind, check_kind, to_frame
from vcorr.analysis.harmonic_sites import HarmonicSite, rank_harmonic_sites
from vcorr.analysis.overview import overview
from vcorr.analysis.run_list import list_runs
from vcorr.analysis.stored_scores import check_scored_alike, load_scores
from vcorr.analysis.tidy_tables import SCORE_COLUMNS, tidy_predictions, tidy_scores, tidy_tracks
from vcorr.contract.errors import UsageError, unknown_name
from vcorr.contract.metric_columns import lower_is_better, primary_of, ranking_columns
from vcorr.stats.series import main_metric
from vcorr.stats.summary import SiteSummary, summarise_each
from vcorr.store import shards
from vcorr.store.remote.addresses import folder_of, url_of
from vcorr.store.run_search import open_run
from vcorr.store.rundir import TABLES, RunDirectory
from vcorr.store.schema import TableName

_PLAIN = {str: pa.string(), int: pa.int64(), float: pa.float64()}
_RUNS = pa.schema(
    [
        *((name, pa.string()) for name in ("run", "status", "model", "weights")),
        ("probes", pa.list_(pa.string())),
        *((name, pa.string()) for name in ("data", "mode", "task")),
        *((name, pa.int64()) for name in ("clips", "failed")),
        *((name, pa.string()) for name in ("settings", "started", "path", "reason")),
    ]
)


def load(run: str | os.PathLike[str]) -> LoadedRun:
    """Opens a run, given as its folder, a folder that holds no other run, or its id. Only run.json is read yet.

    An id, or the beginning of one, is looked for in the folder `runs` and below it; "FOLDER/ID" in another folder.

    run: a path, or a URL such as `s3://bucket/runs/3f2a81c09d17`. Of a URL, each table is downloaded when it is first
    read.

    Raises:
        StoreError: there is no run, there are several, or run.json is damaged; the message says what to do.
    """
    return LoadedRun(open_run(folder_of(run)))


def runs(folder: str | os.PathLike[str] = "runs", to: FrameKind = "arrow") -> Any:
    """Returns the runs in a folder or behind a URL, and in folders below, one row each, from their run.json alone.

    Columns: run (the id), status, model, weights, probes, data, mode, task, clips and failed (numbers of clips, null if
    unknown), settings (a text: those in which it differs from the other runs of its model), started, path, and reason:
    why a damaged run cannot be read.

    Raises:
        UsageError: there is no such folder, or no such kind of frame.
        MissingError: the package of the frame is not installed.
    """
    check_kind(to)
    path = folder_of(folder)
    if url_of(path) is None and not path.is_dir():
        raise UsageError(f"There is no folder {path}.", hint="Give the folder that --out of vcorr run named.")
    rows = [{**row, "settings": _join(row["settings"])} for row in list_runs(path)]
    return to_frame(pa.Table.from_pylist(rows, schema=_RUNS), to)


def _join(settings: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items())


class LoadedRun:
    """A run on disk. Each method reads the tables that it needs, clip by clip, and returns one frame.

    The frames are Arrow tables, or frames of pandas or polars: `scores("polars")`. Every method raises StoreError if a
    file is damaged, and MissingError if the package of the frame is not installed.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self.record: Mapping[str, Any] = directory.record()
        """The content of run.json (docs/results-format.md)."""

    def __repr__(self) -> str:
        return f"vcorr.load({self._directory.place!r})"

    @property
    def path(self) -> Path:
        """The folder of the run."""
        return self._directory.path

    @property
    def run_id(self) -> str:
        """The id of the run, the name of its folder."""
        return self._directory.run_id

    @property
    def status(self) -> str:
        """One of started, partial, complete and failed."""
        return str(self.record.get("status", ""))

    @property
    def clips(self) -> tuple[str, ...]:
        """The ids of the clips that the run has files of, in the order of the files."""
        table = next((table for table in TABLES if self._directory.shard_paths(table)), None)
        if table is None:
            return tuple(dict.fromkeys(_clips_of(self._directory.iter_shards("scores"))))
        stamps = [shards.read_stamp(path) for path in self._directory.shard_paths(table)]
        if all(stamp and stamp.clip for stamp in stamps):
            return tuple(stamp.clip for stamp in stamps if stamp)
        return tuple(_clips_of(self._directory.iter_shards(table)))

    def scores(
        self,
        to: FrameKind = "arrow",
        *,
        metrics: Collection[str] = (),
        clips: Collection[str] | None = None,
        columns: Sequence[str] = SCORE_COLUMNS,
    ) -> Any:
        """Returns the scores, one value per row, with skill and gain.

        skill = (value - floor) / (ceiling - floor) and gain = (value - floor) / (1 - floor), of this clip; NaN where
        the denominator is under 0.02. To compare sites, take `sites` or `best_sites`: these divide means over the
        clips. A clip that failed is one row without a metric; its status and error say so.

        Args:
            to: the kind of frame.
            metrics: columns of metrics to keep, such as ["pck_8"]; all if empty.
            clips: ids of the clips to read; all if None.
            columns: names of the columns of the frame: any of the table `scores`, skill and gain.

        Raises:
            StoreError: also if some clips were scored differently from the rest.
            UsageError: there is no such metric, column or clip.
        """
        check_kind(to)
        check_scored_alike(self._directory, self.record)
        tables = self._read("scores", clips)
        found = tidy_scores(tables, metrics=_words(metrics), columns=columns, lower=lower_is_better(self.record))
        return to_frame(found, to)

    def sites(self, to: FrameKind = "arrow", *, metrics: Collection[str] = ()) -> Any:
        """Returns every site with its means over the clips, skill and gain, each with its 95 % interval.

        metrics: columns or names of metrics; by default the one that ranks sites.

        Raises:
            StoreError: also if the run has no scores.
        """
        check_kind(to)
        ranked = tuple(primary_of(name, self.record) for name in _words(metrics)) or ranking_columns(self.record)
        stored = load_scores(self._directory, (lambda name: name in ranked) if ranked else (lambda name: True))
        names = ranked or (main_metric(stored.scores),)
        summaries = summarise_each(stored.scores, names, lower_is_better(self.record))
        return to_frame(_summary_table(summaries, [summary.site for summary in summaries]), to)

    def best_sites(self, to: FrameKind = "arrow", *, metrics: Collection[str] = ()) -> Any:
        """Returns the best site of each probe: chosen on each half of the clips, and reported on the other.

        Columns: as in `sites`, and regret, chosen_on, candidates and heads, as `vcorr show run` prints them. `site`
        names both sites if the halves chose different ones.

        metrics: columns or names of metrics; by default the one that ranks sites.

        Raises:
            UsageError: the run was not scored by one of `metrics`.
        """
        check_kind(to)
        best = overview(self._directory, _words(metrics)).findings.best
        table = _summary_table([one.summary for one in best], [one.site for one in best])
        for name, kind in {"regret": float, "chosen_on": int, "candidates": int, "heads": str}.items():
            table = table.append_column(name, pa.array([getattr(one, name) for one in best], _PLAIN[kind]))
        return to_frame(table, to)

    def harmonic_sites(self, to: FrameKind = "arrow") -> Any:
        """Returns every site with the harmonic mean of accuracy, confidence and attention, per probe the best first.

        Columns: probe, variant, layer, step, noise, value, and the means over clips that it is made of: accuracy,
        confidence and attention. It ranks the sites of one model, and cannot be compared between models
        (docs/protocol.md). Empty for a run that was not scored by matching_accuracy, confidence_cross and
        attention_cross.

        Raises:
            StoreError: also if the run has no scores.
        """
        check_kind(to)
        found = rank_harmonic_sites(self._directory)
        schema = pa.schema([(name, _PLAIN[kind]) for name, kind in get_type_hints(HarmonicSite).items()])
        return to_frame(pa.Table.from_pylist([dataclasses.asdict(site) for site in found], schema=schema), to)

    def tracks(self, to: FrameKind = "arrow", *, clips: Collection[str] | None = None) -> Any:
        """Returns the reference tracks, one row per clip, point and video frame.

        Columns: run, clip, tracker, query_mode, point, query_frame, frame, x, y, visible, confidence. x and y are
        pixels of the video as the model read it. confidence is NaN where the tracker does not say.

        clips: ids of the clips to read; all if None.

        Raises:
            UsageError: there is no such clip.
        """
        check_kind(to)
        return to_frame(tidy_tracks(self._read("tracks", clips)), to)

    def predictions(
        self,
        to: FrameKind = "arrow",
        *,
        clips: Collection[str] | None = None,
        probe: str | None = None,
        layer: int | None = None,
        step: int | None = None,
        head: int | None = None,
    ) -> Any:
        """Returns the predicted positions, one row per clip, site, point and latent frame.

        Columns: run, clip, probe, variant, switches, layer, layer_name, step, noise, head, point, query_frame, latent,
        frame, x, y, visible, confidence. frame is the middle of the video frames that a latent frame covers. visible is
        null, and confidence NaN, where the probe does not say. Attention summaries are left out.

        A run with many sites has many rows. Read it clip by clip, or choose a site.

        Args:
            to: the kind of frame.
            clips: ids of the clips to read; all if None.
            probe: the probe to keep; all if None.
            layer: the layer to keep; all if None.
            step: the step to keep; all if None.
            head: the head to keep, -1 for the mean over heads; all if None.

        Raises:
            UsageError: there is no such clip, or no prediction of this probe, layer, step and head.
        """
        check_kind(to)
        asked = {"probe": probe, "layer": layer, "step": step, "head": head}
        only = {name: value for name, value in asked.items() if value is not None}
        found = tidy_predictions(self._read("predictions", clips), only)
        if only and not found.num_rows:
            asked_for = ", ".join(f"{name} {value}" for name, value in only.items())
            raise UsageError(
                f"No predicted position of {self.path} has {asked_for}.",
                hint="Sites of the run: its method sites()",
            )
        return to_frame(found, to)

    def _read(self, table: TableName, clips: Collection[str] | None) -> Iterator[pa.Table]:
        """Yields the shards of some clips, or of all; raises UsageError for a clip that the run does not have."""
        wanted = None if clips is None else _words(clips)
        known = self.clips if wanted else ()
        for clip in wanted or ():
            if clip not in known:
                raise unknown_name("clip of this run", clip, known)
        return self._directory.iter_shards(table, wanted)


def _words(names: Collection[str]) -> tuple[str, ...]:
    """Returns names; a text is one name."""
    return (names,) if isinstance(names, str) else tuple(names)


def _clips_of(tables: Iterable[pa.Table]) -> Iterable[str]:
    return (str(table["clip"][0].as_py()) for table in tables if table.num_rows)


def _summary_table(summaries: Sequence[SiteSummary], sites: Sequence[str]) -> pa.Table:
    """Returns a table of summaries with the text of the site in front."""
    kinds = get_type_hints(SiteSummary)
    columns = {
        field.name: pa.array([getattr(one, field.name) for one in summaries], _PLAIN[kinds[field.name]])
        for field in dataclasses.fields(SiteSummary)
    }
    return pa.table({"site": pa.array(sites, pa.string()), **columns})
