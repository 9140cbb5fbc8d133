"""Tests the findings commands on made-up scores with known results."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from vcorr_tiny import findings, generated
from vcorr_tiny.reported_rows import METRICS, MOVING, QK, Results, read_results
from vcorr_tiny.statements import Difference, Statement, correct, count_text, fill, statement_table

from vcorr import StoreError, VcorrError
from vcorr.stats.intervals import mean_interval
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import ScoreRow
from vcorr.store.shards import write_shard

CLIPS = [f"test-{i:04d}" for i in range(12)]
GRID = {(0, 0): 0.1, (0, 28): 0.1, (0, 49): 0.2, (1, 0): 0.3, (1, 28): 0.5, (1, 49): 0.8, (2, 28): 0.2, (2, 49): 0.4}
"""Scores by layer and step: layer 1 matches, layer 2 is in the middle."""


def row(clip: str, **columns) -> ScoreRow:
    """Returns a score row; floor 0 and ceiling 1 unless given."""
    numbers = {"n": 100, "seed": 42, "noise": 0.5, "floor": 0.0, "ceiling": 1.0, "mode": "renoise"}
    return ScoreRow(**{**numbers, "clip": clip, **columns})


def make_run(folder: Path, name: str, rows, clips=CLIPS) -> RunDirectory:
    """Creates a complete run with the rows that `rows(clip)` returns."""
    run = RunDirectory.create(folder, name * 64)
    for clip in clips:
        write_shard(run.shard("scores", clip), "scores", rows(clip), "f")
    record = {"fingerprints": {"predict": name * 64}, "clips": {"total": len(clips)}, "spec": {"model": "tiny"}}
    run.write_record(record, "complete")
    return run


def vary(clip: str, *seed: int) -> float:
    """Returns what a clip adds to a score: the same to all, and a little of luck."""
    return 0.004 * CLIPS.index(clip) + 0.002 * np.random.default_rng([*seed, CLIPS.index(clip)]).uniform(-1, 1)


def grid_of(model: str, probe: str, values: dict[tuple[int, int], float], metric: str, luck: int = 0):
    """Returns a function from a clip to its rows, one per (layer, step) of `values`. luck: makes differences vary."""
    return lambda clip: [
        row(
            clip,
            model=model,
            probe=probe,
            metric=metric,
            layer=layer,
            step=step,
            value=value + vary(clip, luck, layer + 1, step + 1),
        )
        for (layer, step), value in values.items()
    ]


def scale(factor: float) -> dict[tuple[int, int], float]:
    """Returns the grid with all scores multiplied."""
    return {site: factor * value for site, value in GRID.items()}


def all_columns(model: str, probe: str, values, luck: int):
    """Returns a function from a clip to its rows in all columns of the page."""
    parts = [grid_of(model, probe, values, metric, luck) for metric in METRICS]
    return lambda clip: [r for part in parts for r in part(clip)]


SOURCES = {
    ("tiny", "qk"): GRID,
    **{("tiny", probe): scale(0.1 * (i + 1)) for i, probe in enumerate(findings.FEATURES)},
    ("tiny", "latent"): {(-1, 28): 0.1, (-1, 49): 0.3},
    ("tiny", "qk-position"): scale(0.2),
    **{("tiny-untrained", probe): scale(0.05) for probe in findings.TWIN_PROBES},
    ("zncc-search", "direct"): {(-1, -1): 0.9},
    ("dense-search", "direct"): {(-1, -1): 0.8},
    ("token-patches", "direct"): {(-1, -1): 0.5},
    ("zero-motion", "direct"): {(-1, -1): 0.05},
}


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Results:
    folder = tmp_path_factory.mktemp("runs")
    for luck, (source, values) in enumerate(SOURCES.items()):
        make_run(folder, "0123456789abcdef"[luck], all_columns(*source, values, luck))
    return read_results(folder, len(CLIPS))


@pytest.fixture(scope="module")
def by_text(results) -> dict[str, Statement]:
    return {s.text.split(";")[0]: s for s in findings.statements(results)}


def test_statements_are_the_differences_of_what_was_measured(by_text) -> None:
    measured = {text.rsplit(":", 1)[-1].strip(): round(s.value, 2) for text, s in by_text.items()}
    assert measured == {
        "Skill of the best site of `qk`": 0.82,
        "best minus median layer at step 49": 0.4,
        "best layer at step 49 minus step 28": 0.3,
        "Queries and keys match better than the best of five probes of features": 0.4,
        "`qk` minus `qk-position`": 0.64,
        "`qk` minus `latent`": 0.5,
        "`qk` minus the best probe of the untrained twin": 0.76,
        "`qk` minus `zncc-search`": -0.1,
        "`qk` minus `dense-search`": -0.0,
        "`qk` minus `token-patches`": 0.3,
        "`qk` minus `zero-motion`": 0.75,
    }
    assert all(s.holds for s in by_text.values() if s.limit is not None)


def test_controls_without_a_claim_are_higher_lower_or_undecided(by_text, results) -> None:
    assert by_text["`qk` minus `zncc-search`"].verdict == "lower"
    assert by_text["`qk` minus `dense-search`"].verdict == "undecided"
    text = findings.conclusions(results, findings.statements(results))
    assert "**`zncc-search` beats the best layer**" in text
    assert "`dense-search` do not differ significantly" in text


def test_a_statement_holds_by_the_end_of_its_interval() -> None:
    values = np.array([0.4, 0.5, 0.6, 0.7, 0.5, 0.6])
    interval = mean_interval(values)
    assert interval.low < 0.5 < interval.estimate
    assert not Statement("x", interval, 0.5).holds
    assert Statement("x", interval, 0.4).holds


def test_a_comparison_holds_only_if_the_test_says_so_after_the_correction() -> None:
    one = Difference.of_means(np.array([0.4, 0.5, 0.6, 0.7, 0.5, 0.6]), np.zeros(6))
    assert one.interval.low > 0
    assert one.p == 2 / 2**6
    alone = correct([Statement.comparing("x", one)])
    pair = correct([Statement.comparing("x", one), Statement.comparing("y", one)])
    assert [s.holds for s in alone] == [True]
    assert [(s.holds, s.corrected) for s in pair] == [(False, 2 * one.p)] * 2
    assert count_text(pair) == (
        '0 of 2 statements hold. These do not: "x"; "y". With 6 clips no comparison can hold: the smallest p is 0.031, '
        "and 0.062 after the correction for 2 comparisons."
    )


@pytest.mark.parametrize(("clips", "said"), [(4, "4 clips, and an interval needs 6"), (8, "all 8 clips agree")])
def test_why_there_is_no_interval_is_said_in_words(clips, said) -> None:
    (statement,) = correct([Statement.comparing("x", Difference.of_means(np.full(clips, 0.5), np.zeros(clips)))])
    line = statement_table([statement]).splitlines()[-1]
    assert said in line
    assert "nan" not in line
    assert line.endswith("| no |")


def test_the_best_table_ranks_by_gain_and_shows_both_sites(results) -> None:
    lines = [line.strip("| ").split(" | ") for line in findings.best_table(results).splitlines()[2:]]
    assert lines[0][:3] == ["zncc-search", "`direct`", "–"]
    assert sorted(line[:3] for line in lines[1:3]) == [["dense-search", "`direct`", "–"], ["tiny", "`qk`", "1:49"]]
    assert ["tiny", "`latent`", "none:49"] in [line[:3] for line in lines]
    assert len({len(line) for line in lines}) == 1
    assert "No interval" not in findings.best_table(results)
    lucky = results.choose([QK])
    other = replace(lucky, on_second=lucky.on_second._replace(step=28))
    assert findings.places(other) == "1:49 and 1:28"


def test_ties_and_choices_that_are_not_held_out_are_said(results) -> None:
    row = results.choose([QK])
    assert findings.places(replace(row, tied=3)) == "1:49 (one of 3 that tie)"
    assert findings.places(replace(row, held_out=False)) == "1:49 (too few clips for halves)"
    assert "nan" not in findings._best_line(replace(row, held_out=False, regret=math.nan))
    equal = {key: replace(s, score=np.full_like(s.score, 0.5)) for key, s in results.series.items()}
    assert Results(equal).choose([QK]).tied == len(GRID)


def test_rows_without_an_interval_are_named_with_the_reason(results) -> None:
    zero = {key: replace(s, score=0 * s.score) for key, s in results.series.items() if key[0] == "zero-motion"}
    table = findings.best_table(Results({**results.series, **zero}))
    reason = "all 12 clips agree: without variance there is no interval"
    assert table.endswith(f"\n\nNo interval of the gain: `direct` of zero-motion ({reason}).")


def test_clips_without_moving_points_are_counted(results) -> None:
    s = results.get(*QK)
    score = np.where(np.arange(len(CLIPS))[:, None] < 2, np.nan, s.score)
    still = Results({**results.series, (*QK, MOVING): replace(s, score=score)})
    assert findings.say_clips(results) == "Over 12 clips."
    assert findings.say_clips(still).endswith("count for all points alone: 2.")
    assert f"{still.choose([QK]).scores().score}".count("nan") == 2


def test_a_row_reads_each_clip_at_the_site_that_the_other_half_chose(results) -> None:
    chosen = results.choose([QK])
    row = replace(chosen, on_first=chosen.on_first._replace(layer=0))
    s = results.get(*QK)
    first, second = results.halves
    columns = [next(i for i, x in enumerate(s.sites) if (x["layer"], x["step"]) == (layer, 49)) for layer in (0, 1)]
    scores = np.asarray(row.scores().score)
    assert np.array_equal(scores[first], s.score[first, columns[0]])
    assert np.array_equal(scores[second], s.score[second, columns[1]])


@pytest.mark.parametrize("how", ["by skill", "by a rule"])
def test_no_clip_is_reported_at_a_site_that_it_helped_to_choose(results, how) -> None:
    s = results.get(*QK)
    first, second = results.halves
    score = np.full_like(s.score, 0.5)
    score[first, 1], score[second, 2] = 0.75, 0.625  # each half likes one site, and the other half does not
    own = Results({(*QK, MOVING): replace(s, score=score)})

    def best(series, half) -> tuple[int, int]:
        site = series.sites[int(series.score[half].mean(axis=0).argmax())]
        return site["layer"], site["step"]

    row = own.choose([QK]) if how == "by skill" else own.choose_by(QK, best)
    np.testing.assert_array_equal(row.scores().score, 0.5)


def test_runs_over_other_clips_are_not_compared(tmp_path) -> None:
    make_run(tmp_path, "a", all_columns("tiny", "qk", GRID, 0))
    renamed = all_columns("zncc-search", "direct", {(-1, -1): 0.5}, 1)
    clips = [*CLIPS[:-1], "test-0099"]
    make_run(tmp_path, "b", lambda clip: [replace(r, clip=clip) for r in renamed(CLIPS[clips.index(clip)])], clips)
    with pytest.raises(StoreError, match=r"different clips.*Not all have test-0011, test-0099\."):
        read_results(tmp_path, len(CLIPS))


def test_two_runs_of_one_probe_are_not_mixed(tmp_path) -> None:
    for name in "ab":
        make_run(tmp_path, name, all_columns("tiny", "qk", GRID, 0))
    with pytest.raises(StoreError, match="both have qk of tiny"):
        read_results(tmp_path, len(CLIPS))


def test_what_was_not_run_is_an_error(results) -> None:
    with pytest.raises(StoreError, match="No run has pck_1 of probe 'qk' of model 'tiny'"):
        results.get("tiny", "qk", "pck_1")


def test_layers_and_heads_are_tables(results) -> None:
    lines = findings.layer_table(results).splitlines()
    assert lines[0].startswith("| layer | 0 (0.50) | 28 (0.50) | 49 (0.50) |")
    assert lines[-1].startswith("| 2 | – |")  # layer 2 was not read at step 0
    heads = [replace_site(results.get(*QK), head) for head in (-1, 0)]
    joined = replace(heads[0], sites=heads[0].sites + heads[1].sites, score=np.hstack([s.score for s in heads]))
    joined = replace(joined, **{name: np.hstack([getattr(s, name) for s in heads]) for name in ("floor", "ceiling")})
    assert findings.head_table(joined).splitlines()[0] == "| layer | head 0 | mean |"


def replace_site(s, head: int):
    """Returns the sites of step 49 under another head."""
    last = s.select_sites([i for i, site in enumerate(s.sites) if site["step"] == 49])
    return replace(last, sites=tuple({**site, "head": head} for site in last.sites))


def test_blocks_of_a_page_are_replaced_between_their_markers() -> None:
    page = "a <!-- x --> old <!-- /x --> b"
    assert fill(page, "x", "new") == "a <!-- x -->\n\nnew\n\n<!-- /x --> b"
    with pytest.raises(VcorrError, match="no block"):
        fill(page, "y", "new")


# ----------------------------------------------------------------------------------------------------------- generation

QK_VALUES = {
    (layer, step): 0.1 * (1 + 4 * (layer == 1) + layer) + 0.05 * step for layer in range(3) for step in range(4)
}


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[Results, Results]:
    """Returns results of a run whose layer 1 matches, and of the same run under a tracker with half the accuracy."""
    folder, values = tmp_path_factory.mktemp("generated"), QK_VALUES
    falling = {site: 0.8 - value for site, value in values.items()}
    half = {site: value / 2 for site, value in values.items()}
    parts = [grid_of("tiny", "attention", values, name) for name in (generated.CONFIDENCE, generated.ATTENTION)]
    parts += [grid_of("tiny", "attention", falling, generated.TEXT, 1), all_columns("tiny", "qk", values, 2)]
    parts += [all_columns("tiny", probe, half, i) for i, probe in enumerate(findings.FEATURES)]
    parts += [all_columns("tiny", "latent", {(-1, 3): 0.1}, 3)]
    parts += [all_columns("zncc-search", "direct", {(-1, -1): 0.5}, 4)]
    make_run(folder / "a", "e", lambda clip: [r for part in parts for r in part(clip)])
    make_run(folder / "b", "f", all_columns("tiny", "qk", half, 1))
    metrics = (*METRICS, generated.CONFIDENCE, generated.ATTENTION, generated.TEXT)
    return tuple(read_results(folder / name, len(CLIPS), metrics) for name in "ab")


def test_statements_of_sampling_are_the_differences_of_what_was_measured(both) -> None:
    found = generated.statements(*both)
    # features, median layer (2), middle step (2), median under lk, latent, others twice, growth twice, text, zncc
    expected = [0.38, 0.3, 0.05, 0.15, 0.65, 0.4, 0.4, 0.1, 0.1, 0.1, 0.25]
    assert [round(s.value, 2) for s in found] == pytest.approx(expected, abs=0.011)
    assert [s.holds for s in found] == [True] * 10 + [False]
    assert found[-1].verdict == "higher"


def test_the_harmonic_mean_ranks_the_layers_of_a_generated_run(both) -> None:
    blocks = generated.tables(*both)
    assert blocks["generated-last"].splitlines()[3].endswith("| 1.0000 |")
    assert blocks["generated-ranking"] == "The harmonic mean ranks layers 1, 2 and 0 first."


def test_trackers_that_rank_alike_agree_wholly(both) -> None:
    first, second = both
    assert generated.tracker_agreement(first, second) == pytest.approx(1)
    upside_down = {key: replace(s, score=1 - s.score) for key, s in second.series.items()}
    assert generated.tracker_agreement(first, Results(upside_down)) == pytest.approx(-1)


def test_a_number_without_a_comparison_has_no_p(results) -> None:
    skill = findings.statements(results)[0]
    assert math.isnan(skill.p)
    assert not skill.compares
    assert results.get(*QK).key["metric"] == MOVING
