"""Which runs share a table: what `vcorr compare` accepts, and nothing else. By construction, and as properties."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr.analysis import comparison
from vcorr.analysis.comparable import ClipFacts, MeasuredOn
from vcorr.analysis.stored_scores import load_scores
from vcorr.board.tables.board_runs import load_run
from vcorr.board.tables.clip_tables import make_tables, name_clips
from vcorr.board.tables.definitions import builtin_boards, metric_names
from vcorr.board.tables.ranking import rank
from vcorr.board.tables.row_candidates import ENOUGH, Entry
from vcorr.contract.errors import UsageError
from vcorr.stats.series import Series
from vcorr.store.rundir import find_runs

BOARDS = builtin_boards()
METRICS = ("pck_8", "pck_8_moving", "matching_accuracy_moving")
LARGE, SMALL = 8, 6
"""Numbers of clips of the runs: `--limit 8`, and fewer."""
NEVER_SHOWN = {"random", "switched", "old-scoring", "lower-limit"}
"""Runs of the matrix that no table shows, whatever they compare with."""


@pytest.fixture(scope="module")
def matrix(tmp_path_factory, make_run, make_baseline, record_of):
    """Writes runs that differ from the first one in one fact each, some of which keep them apart."""
    folder = tmp_path_factory.mktemp("matrix") / "runs"
    usual = {"probes": ("qk",), "layers": 2, "steps": 1, "metrics": METRICS, "clips": LARGE, "data_hash": "1" * 16}
    generated = {**usual, "mode": "generate", "clips": SMALL}

    def record(name, change, clips=LARGE, **of):
        found = record_of(name, clips, of=of)
        change(found)
        return {"record": found}

    def with_data(name, **options):
        return record(name, lambda r: r["resolved"]["data"]["config"].update(options))

    changes = {
        "network": {},
        "other-seed": {"seed": 7},
        "fewer-clips": {"clips": SMALL},
        "nine-frames": {"frames": 9},
        "coarse": {"token_width": 32.0, "token_height": 32.0},
        "smaller": {"height": 64, "width": 64},
        "content": {"data_hash": "2" * 16},
        "data-size": with_data("data-size", size=64),
        "data-clips": with_data("data-clips", clips=99),
        "unknown": {"data_hash": ""},
        "tracker-2": {"tracker_version": 2},
        "tracker-1": {"tracker_version": 1},
        "old-scoring": record("old-scoring", lambda r: r.update(scoring=0)),
        "other-pck": record("other-pck", lambda r: r["metrics"][1].update(config={"thresholds": [8.0]})),
        "switched": {"switches": "time_map=stretched"},
        "difftrack": {"variant": "difftrack"},
        "random": {"weights": "random:0"},
        "heads": {"heads": 2},
        "failed": {"clips": LARGE - 1, "failed": 1, "status": "partial"},
        "train": {"split": "train"},
        "inverted": {"mode": "invert"},
        "generated": generated,
        "gen-too": generated,
        "gen-seed": {**generated, "seed": 7},
        "gen-smaller": {**generated, "height": 64},
        "video-a": {"dataset": "video", "split": "own", "clips": 6, "data_hash": "3" * 16},
        "video-b": {"dataset": "video", "split": "own", "clips": 6, "data_hash": "4" * 16},
        "video-a-too": {"dataset": "video", "split": "own", "clips": 6, "data_hash": "3" * 16},
    }
    for name, values in changes.items():
        make_run(folder, name, name, **{**usual, **values})
    # a run of the first model with fewer clips is a repetition
    make_run(folder, "lower-limit", "network", **{**usual, "clips": SMALL})
    make_baseline(folder, "baseline", "baseline", clips=LARGE, data_hash="1" * 16)
    make_baseline(folder, "baseline-8", "baseline-8", clips=SMALL, data_hash="1" * 16)
    return folder


@pytest.fixture(scope="module")
def ranked(matrix, tmp_path_factory):
    copies = tmp_path_factory.mktemp("copies")
    runs = [load_run(run, metric_names(BOARDS), copies / f"{run.run_id}.arrow") for run in find_runs(matrix)]
    return rank(runs, BOARDS)


@pytest.fixture(scope="module")
def accepted(matrix):
    """Returns the pairs of different runs that `vcorr compare` accepts."""
    loaded = {run.run_id: load_scores(run) for run in find_runs(matrix)}
    found = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "load_scores", lambda run, _: loaded[run.run_id])  # each run is read once
        for a, b in itertools.combinations(find_runs(matrix), 2):
            try:
                comparison.compare_runs(a, b, comparison.Question(("pck_8_moving",)))
            except UsageError:
                continue
            found.add(frozenset((a.run_id, b.run_id)))
    return found


def pairs(rankings):
    rows = [sorted({row.run.run_id for row in ranking.rows}) for ranking in rankings]
    return {frozenset(pair) for ids in rows for pair in itertools.combinations(ids, 2)}


def test_compare_accepts_every_two_rows_of_one_table(ranked, accepted):
    rankings, _ = ranked
    assert pairs(rankings) - accepted == set()


def test_runs_that_compare_share_a_table(ranked, accepted):
    rankings, left_out = ranked
    assert {left.run.run_id for left in left_out} == NEVER_SHOWN
    shown = {pair for pair in accepted if not pair & NEVER_SHOWN}
    assert shown - pairs(rankings) == set()


def test_what_each_table_of_the_matrix_holds(ranked):
    rankings, _ = ranked
    alone = {"nine-frames", "content", "data-size", "tracker-2", "difftrack", "train", "inverted", "other-pck"}
    for ranking in rankings:
        ids = {row.run.run_id for row in ranking.rows}
        assert len(ids & alone) <= 1, ids
        floors = {round(row.cell.floor, 6) for row in ranking.rows}
        assert len(floors) == 1  # what stands still scores the same for every row of a table
        assert {row.cell.clips for row in ranking.rows} == {len(ranking.clips)}
    first = next(r for r in rankings if "network" in {row.run.run_id for row in r.rows} and len(r.clips) == LARGE)
    together = {"network", "other-seed", "coarse", "smaller", "data-clips", "heads", "baseline"}
    assert together <= {row.run.run_id for row in first.rows}
    assert {x.entry.run.run_id for x in first.incomplete} >= {"fewer-clips", "failed", "baseline-8"}
    assert {row.token.of_256 for row in first.rows if row.token} == {16, 32, 64}
    assert tables_of(rankings, dataset="video") == {("video-a", "video-a-too"), ("video-b",)}
    assert tables_of(rankings, mode="generate") == {("gen-too", "generated"), ("gen-seed",), ("gen-smaller",)}


def tables_of(rankings, **facts):
    found = [r for r in rankings if all(r.group[name] == value for name, value in facts.items())]
    return {tuple(sorted(row.run.run_id for row in ranking.rows)) for ranking in found}


def test_no_two_tables_read_alike(ranked):
    rankings, _ = ranked
    described = [tuple(ranking.group.items()) for ranking in rankings]
    assert len(set(described)) == len(described)


def test_all_rows_of_a_table_have_the_same_halves(ranked):
    rankings, _ = ranked
    for ranking in rankings:
        halves = {
            tuple(row.at.best.fit.clips[i] for i in row.at.best.fit.halves.first)
            for row in ranking.rows
            if row.at.has_choice
        }
        assert len(halves) <= 1


# ------------------------------------------------------------------------------------------------------ as properties

facts = st.fixed_dictionaries(
    {"clips": st.integers(1, 40), "lost": st.integers(0, 3), "content": st.sampled_from("ab"), "lone": st.booleans()}
)


def make_entry(number: int, values: dict) -> Entry:
    asked = [f"c{i:02d}" for i in range(values["clips"])]
    generator = np.random.default_rng(number)
    lost = set(generator.choice(asked, size=min(values["lost"], len(asked) - 1), replace=False))
    clips = [clip for clip in asked if clip not in lost]
    measured = MeasuredOn(
        dataset="d",
        version=1,
        split="test",
        options={},
        content={},
        mode="renoise",
        task="",
        seed=None,
        noise_draw=None,
        tracker={},
        scoring=1,
        metrics={},
        clips={clip: ClipFacts(values["content"], 9) for clip in clips},
    )
    run = SimpleNamespace(
        run_id=str(number),
        measured=measured,
        asked=frozenset(asked),
        total=len(asked),
        clips=len(clips),
        failed=len(lost),
        unscored=0,
        record={},
    )
    sites = tuple({"layer": i, "step": 0, "head": -1} for i in range(1 if values["lone"] else 2))
    key = {"probe": "qk", "metric": "m", "variant": "corrected", "switches": "", "tracker": "exact"}
    ones = np.ones((len(clips), len(sites)))
    s = Series(key, sites, tuple(clips), ones, 0 * ones, ones, 0)
    return Entry(run, "mean", s, {"m": s}, "m")


@settings(max_examples=60, deadline=None)
@given(st.lists(facts, max_size=7))
def test_tables_of_any_runs(many):
    entries = sorted((make_entry(i, values) for i, values in enumerate(many)), key=lambda e: e.weight, reverse=True)
    tables, left_out = make_tables(entries)
    for table in tables:
        for a, b in itertools.combinations(table.entries, 2):
            assert a.is_comparable(b)
        for entry in table.entries:
            assert len(entry.clips & table.entries[0].run.asked) >= ENOUGH * table.size
            assert set(table.clips) <= entry.clips
        assert (
            set(table.clips) == frozenset.intersection(*(e.clips for e in table.entries)) & table.entries[0].run.asked
        )
    shown = {id(entry) for table in tables for entry in table.entries}
    complete = {id(e) for e in entries if len(e.clips) >= ENOUGH * e.run.total}
    assert complete <= shown
    assert len(left_out) == len(entries) - len(shown)
    # two complete runs of the same content are compared somewhere, however many clips each of them has
    for a, b in itertools.combinations([e for e in entries if not len(e.run.asked - e.clips)], 2):
        if a.is_comparable(b):
            assert any(a in table.entries and b in table.entries for table in tables)


@pytest.mark.parametrize(
    ("spec", "ids", "total", "name"),
    [
        ({"limit": 16}, 16, 16, "first 16 clips"),
        ({"limit": None}, 64, 64, "all 64 clips"),
        ({"limit": 8}, 16, 16, "16 clips"),
        ({}, 16, 16, "16 clips"),
        ({"limit": None}, 1, 1, "clip a"),
        ({"limit": None}, 2, 2, "clips a, b"),
    ],
)
def test_a_set_of_clips_has_a_name(spec, ids, total, name):
    assert name_clips({"spec": spec}, frozenset("abcdefghijklmnopqrstuvwxyz"[:ids]), total) == name
