"""Tests the findings command on made-up scores with known results."""

from pathlib import Path

import pytest
from vcorr_tiny import findings, generated

from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import ScoreRow
from vcorr.store.shards import write_shard

CLIPS = [f"test-{i:04d}" for i in range(8)]
RECORD = {"fingerprints": {"predict": "a" * 64}, "clips": {"total": len(CLIPS)}}


def row(clip: str, **columns) -> ScoreRow:
    """Returns a score row; floor 0 and ceiling 1 unless given."""
    numbers = {"n": 100, "seed": 42, "noise": 0.5, "floor": 0.0, "ceiling": 1.0}
    return ScoreRow(**{**numbers, "clip": clip, **columns})


def make_run(folder: Path, name: str, rows) -> RunDirectory:
    """Creates a complete run with the rows that `rows(clip)` returns."""
    run = RunDirectory.create(folder, name * 64)
    for clip in CLIPS:
        write_shard(run.shard("scores", clip), "scores", rows(clip), "f")
    run.write_record({**RECORD, "fingerprints": {"predict": name * 64}}, "complete")
    return run


def grid_of(model: str, probe: str, values: dict[tuple[int, int], float], metric: str):
    """Returns a function from a clip to its rows, one per (layer, step) of `values`."""
    return lambda clip: [
        row(clip, model=model, probe=probe, metric=metric, layer=layer, step=step, value=value)
        for (layer, step), value in values.items()
    ]


@pytest.fixture
def results(tmp_path) -> findings.Results:
    good = {(0, 0): 0.1, (0, 49): 0.2, (1, 0): 0.3, (1, 49): 0.9}
    poor = {site: value / 2 for site, value in good.items()}
    series = {"a": ("tiny", "qk", good), "b": ("tiny", "feature-fair", poor), "c": ("tiny", "feature", poor)}
    series["d"] = ("tiny-untrained", "qk", poor)
    alone = {"zero-motion": 0.0, "token-patches": 0.5, "dense-search": 0.95}
    for name, (model, value) in zip("123", alone.items(), strict=True):
        series[name] = (model, "direct", {(-1, -1): value})
    for name, (model, probe, values) in series.items():
        both = [grid_of(model, probe, values, metric) for metric in (findings.METRIC, findings.MOVING)]
        make_run(tmp_path, name, lambda clip, both=both: [r for one in both for r in one(clip)])
    return findings.read_results(tmp_path, len(CLIPS))


def test_statements_are_the_differences_of_what_was_measured(results) -> None:
    found = {s.text: s for s in findings.statements(results)}
    values = [round(s.value, 6) for s in found.values()]
    assert values[:5] == [0.9, 0.7, 0.6, 0.45, 0.45]
    dense = found["Best query-key site minus dense-search, accuracy over all visible points"]
    assert (round(dense.value, 6), dense.bar) == (-0.05, None)
    assert all(s.holds for s in found.values() if s.bar is not None)


def test_a_statement_that_fails_says_so(results) -> None:
    (best, *_) = findings.statements(results)
    assert not findings.Statement(best.text, best.interval, 0.95, 4).holds
    assert "| no |" in findings.statement_table([findings.Statement(best.text, best.interval, 0.95, 4)])


def test_tables_name_random_weights_and_rank_by_skill(results) -> None:
    lines = findings.best_table(results, findings.METRIC).splitlines()[2:]
    assert [line.split(" | ")[0].strip("| ") for line in lines][:3] == ["dense-search", "tiny", "token-patches"]
    assert findings.layer_table(results).splitlines()[3].startswith("| 1 | 0.300 | 0.900 |")


def test_blocks_of_a_page_are_replaced_between_their_markers() -> None:
    page = "a <!-- x --> old <!-- /x --> b"
    assert findings.fill(page, "x", "new") == "a <!-- x -->\n\nnew\n\n<!-- /x --> b"
    with pytest.raises(Exception, match="no block"):
        findings.fill(page, "y", "new")


QK = {(0, 0): 0.1, (0, 1): 0.2, (1, 0): 0.3, (1, 1): 0.9, (2, 0): 0.2, (2, 1): 0.4}


@pytest.fixture
def score_tables(tmp_path):
    """Returns scores of a run whose layer 1 matches, and of the same run under a tracker with half the accuracy."""
    parts = [("attention", "confidence_cross"), ("attention", "attention_cross"), ("qk", findings.METRIC)]
    falling = {site: 1 - value for site, value in QK.items()}
    half = {site: value / 2 for site, value in QK.items()}
    rows = [grid_of("tiny", probe, QK, metric) for probe, metric in parts]
    rows += [grid_of("tiny", "attention", falling, "attention_text")]
    rows += [grid_of("tiny", "feature-fair", half, findings.METRIC)]
    first = make_run(tmp_path, "e", lambda clip: [r for one in rows for r in one(clip)])
    second = make_run(tmp_path, "f", grid_of("tiny", "qk", half, findings.METRIC))
    return first.read("scores"), second.read("scores")


def test_the_harmonic_mean_ranks_the_layers_of_a_generated_run(score_tables) -> None:
    last = generated.tables(*score_tables)["generated-last"].splitlines()
    assert last[-2] == "| 1 | 0.9000 | 0.9000 | 0.9000 | 1.0000 |"
    assert last[-3] == "| 0 | 0.2000 | 0.2000 | 0.2000 | 0.1250 |"


def test_statements_of_sampling_are_the_differences_of_what_was_measured(score_tables) -> None:
    found = generated.statements(*map(generated.measures_of, score_tables))
    # features, median layer (2), first step, middle step (the last of two), others, others, growth, growth, text, lk
    expected = [0.45, 0.5, 0.6, 0.0, 0.6, 0.6, 0.6, 0.6, 0.6, 0.25]
    assert [round(s.value, 6) for s in found] == expected
    assert [s.holds for s in found] == [value > 0 for value in expected]


def test_trackers_that_rank_alike_agree_wholly(score_tables) -> None:
    first, second = map(generated.measures_of, score_tables)
    assert generated.tracker_agreement(first, second) == pytest.approx(1)
    upside_down = {key: s.__class__(**{**vars(s), "score": 1 - s.score}) for key, s in second.items()}
    assert generated.tracker_agreement(first, upside_down) == pytest.approx(-1)
