"""Commands that read a run hold one shard at a time, however many clips it has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from support import large_run

from vcorr.analysis.comparison import compare_runs
from vcorr.analysis.overview import overview
from vcorr.board.tables.board_runs import load_run
from vcorr.stats.series import gather, series
from vcorr.stats.summary import Findings
from vcorr.store import shards
from vcorr.store.rundir import RunDirectory

CLIPS, SITES = 24, 60


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[RunDirectory]:
    out = tmp_path_factory.mktemp("runs")
    return [large_run.make_run(out, clips=CLIPS, sites=SITES, seed=i, name=name * 64) for i, name in enumerate("ab")]


READERS: dict[str, Callable[[list[RunDirectory], Path], object]] = {
    "the end of a run": lambda runs, _: Findings.of(gather(runs[0].iter_shards("scores"))),
    "show": lambda runs, _: overview(runs[0]),
    "compare": lambda runs, _: compare_runs(*runs),
    "board": lambda runs, folder: load_run(runs[0], large_run.METRICS, folder / "copy.arrow"),
}


@pytest.mark.parametrize("reader", READERS)
def test_one_shard_is_in_memory_at_a_time(reader, runs, tmp_path, monkeypatch) -> None:
    read, before, held, sizes = shards.read_shard, pa.total_allocated_bytes(), [], []

    def count(path: Path, table: str) -> pa.Table:
        held.append(pa.total_allocated_bytes() - before)
        found = read(path, table)
        sizes.append(found.nbytes)
        return found

    monkeypatch.setattr(shards, "read_shard", count)
    assert READERS[reader](runs, tmp_path)
    assert len(sizes) >= CLIPS
    # the board joins shards for its download, up to so many rows
    allowed = 65_536 / (len(large_run.METRICS) * SITES) if reader == "board" else 2
    assert max(held) < (allowed + 1) * max(sizes)
    if reader != "board":
        assert max(held) < 0.2 * sum(sizes)


def test_gathered_scores_are_those_of_the_whole_table(runs) -> None:
    whole = series(runs[0].read("scores"))
    gathered = series(gather(runs[0].iter_shards("scores")))
    assert len(gathered) == len(large_run.METRICS)
    for one, other in zip(whole, gathered, strict=True):
        assert (one.key, one.sites, one.clips, one.failed) == (other.key, other.sites, other.clips, other.failed)
        for name in ("score", "floor", "ceiling"):
            assert getattr(one, name).tobytes() == getattr(other, name).tobytes()


def test_sites_and_clips_may_come_in_any_order(runs) -> None:
    table = runs[0].read("scores")
    parts = [table.filter([clip in chosen for clip in table["clip"].to_pylist()]) for chosen in _halves(table)]
    backwards = [part.take(list(range(part.num_rows))[::-1]) for part in reversed(parts)]
    for one, other in zip(series(table), series(gather(backwards)), strict=True):
        assert (one.key, one.sites, one.clips) == (other.key, other.sites, other.clips)
        assert one.score.tobytes() == other.score.tobytes()


def _halves(table: pa.Table) -> list[set[str]]:
    clips = sorted(set(table["clip"].to_pylist()))
    return [set(clips[::2]), set(clips[1::2])]


def test_only_clips_of_the_plan_are_read(runs) -> None:
    found = gather(runs[0].iter_shards("scores", ["clip-0003", "clip-0001", "no such clip"]))
    assert found.clips == ("clip-0001", "clip-0003")
