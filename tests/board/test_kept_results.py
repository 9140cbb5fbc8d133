"""The scores in leaderboards/results: small copies of complete runs, without paths of the machine that made them."""

from __future__ import annotations

from support.pages import ROOT

from vcorr.store.rundir import PACKED, RECORD, find_runs

RUNS = find_runs(ROOT / "leaderboards" / "results")
MOST_BYTES = 12e6


def test_kept_results_are_small_copies_of_complete_runs() -> None:
    assert RUNS
    for run in RUNS:
        assert sorted(path.name for path in run.path.iterdir()) == [RECORD, PACKED], run.path
        assert run.record()["status"] == "complete", run.path
    assert sum(path.stat().st_size for run in RUNS for path in run.path.iterdir()) < MOST_BYTES


SOME = [run for run in RUNS if int(run.run_id[0], 16) % 4 == 0]


def test_every_clip_of_a_kept_result_has_scores() -> None:
    assert len(SOME) > 10
    for run in SOME:  # all of them take half a minute
        clips = {table["clip"][0].as_py() for table in run.iter_shards("scores")}
        assert len(clips) == run.record()["clips"]["total"], run.path


def test_kept_records_have_no_absolute_path() -> None:
    assert [run.run_id for run in RUNS if '"/' in (run.path / RECORD).read_text(encoding="utf-8")] == []
