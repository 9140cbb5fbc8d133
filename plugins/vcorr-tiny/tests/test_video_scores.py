"""The validation of scores of generated videos: its rows, its correlations, and what its tables say."""

import numpy as np
import pyarrow as pa
import pytest
from vcorr_tiny import video_scores
from vcorr_tiny.fault_doses import FREEZE, INJECTED, MELT, SPEED
from vcorr_tiny.statements import fill
from vcorr_tiny.video_score_charts import draw_all
from vcorr_tiny.video_score_tables import (
    Responses,
    correlation_table,
    page_blocks,
    read_responses,
    sees,
    threshold_table,
)

CLIPS, COLUMNS = 8, 8
PAGE_BLOCKS = ("fault-doses", "score-correlations", "score-thresholds", "score-ends", "score-second-tracker")


@pytest.fixture(scope="module")
def rows():
    """Returns the rows of one small clip."""
    return list(video_scores.score_clip(3, size=48, frames=6))


@pytest.fixture(scope="module")
def table(rows):
    """Returns a table of eight clips: values of the one clip, with noise."""
    draws = np.random.default_rng(0)
    made = [
        {**vars(row), "clip": f"c{clip}", "value": row.value * (1 + 0.01 * draws.random())}
        for clip in range(CLIPS)
        for row in rows
    ]
    return pa.Table.from_pylist(made, video_scores.SCHEMA)


def responses(values, fault=MELT, higher=False):
    return Responses(fault, "made", "", np.asarray(values, float), higher)


def test_every_score_has_a_row_at_every_dose(rows):
    pixels = {"warp_error", "flicker", "subject_drift"}
    assert len(rows) == sum(len(fault.doses) for fault in INJECTED) * (len(pixels) + 2 * (COLUMNS - len(pixels)))
    assert {row.tracker for row in rows if row.metric in pixels} == {""}
    assert {row.tracker for row in rows if row.metric not in pixels} == set(video_scores.TRACKERS)


def test_clips_without_a_fault_have_the_same_scores_under_every_fault(rows):
    def first(fault):
        dose = fault.doses[0] if fault.is_fault else fault.worst
        return [(r.tracker, r.metric, r.value) for r in rows if (r.fault, r.dose) == (fault.name, dose)]

    assert first(SPEED)
    assert all(repr(first(fault)) == repr(first(SPEED)) for fault in INJECTED)


def test_a_frozen_clip_has_no_motion(rows):
    found = [r.value for r in rows if (r.fault, r.dose, r.metric) == (FREEZE.name, 1.0, "dynamic_degree")]
    assert found == pytest.approx([0, 0], abs=1e-3)


def test_a_stored_clip_is_not_scored_again(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(video_scores, "score_clip", lambda index: rows[:3])
    first = video_scores.measure(tmp_path, 2, jobs=1)
    monkeypatch.setattr(video_scores, "score_clip", None)
    assert video_scores.measure(tmp_path, 2, jobs=1).equals(first)
    assert first.num_rows == 6
    assert not list(tmp_path.rglob("*.part"))


def test_correlation_is_positive_where_the_score_gets_worse():
    rising = [[1, 2, 3, 4, 5], [1, 2, 3, 5, 4]] * 4
    assert responses(rising).correlation().estimate == pytest.approx(0.95)
    assert responses(rising, higher=True).correlation().estimate == pytest.approx(-0.95)
    assert sees(responses(rising).correlation())
    assert sees(responses([[1, 2, 3, 4, 5]] * 8).correlation())  # all agree: no interval, but a verdict
    assert not sees(responses(rising[:4]).correlation())  # four clips have no interval


def test_a_score_that_does_not_react_counts_as_none_and_a_missing_one_is_left_out():
    one = responses([[1, 2, 3, 4, 5]] * 3 + [[7] * 5] * 3 + [[np.nan] * 5] * 2).correlation()
    assert (float(one.estimate), int(one.n), int(one.left_out)) == (0.5, 6, 2)


def test_tables_name_failures_like_successes():
    lines = correlation_table([responses([[5, 4, 3, 2, 1], [5, 4, 3, 1, 2]] * 4)]).splitlines()
    assert lines[2].startswith("| `made` | *-0.95* (-0.99 … -0.91")
    assert "never" in threshold_table([responses([[5, 4, 3, 2, 1]] * 8)])
    assert "| 0.3 |" in threshold_table([responses([[1, 1, 3, 4, 5]] * 12)])


def test_the_page_has_every_score_and_every_fault(table, tmp_path):
    blocks = page_blocks(table)
    assert set(blocks) == set(PAGE_BLOCKS)
    page = "".join(f"<!-- {name} -->\n<!-- /{name} -->\n" for name in blocks)
    for name, text in blocks.items():
        page = fill(page, name, text)
    for fault in INJECTED:
        assert f"`{fault.name}`:" in page
    assert blocks["score-correlations"].count("\n| `") == COLUMNS
    assert f"{CLIPS} clips." in page
    assert {one.values.shape for one in read_responses(table)} == {(CLIPS, 5)}
    draw_all(table, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"video-faults.png", "video-scores.png"}


def test_a_damaged_file_of_a_clip_is_made_again(tmp_path):
    path, made = tmp_path / "clip.arrow", []

    def make():
        made.append(1)
        yield video_scores.ScoreRow("melt", 0.5, "clip", "", "flicker", 0.25, 3, False)

    first = video_scores.read_or_make(path, make)
    assert video_scores.read_or_make(path, make).equals(first)
    assert len(made) == 1
    path.write_bytes(path.read_bytes()[:-20])
    assert video_scores.read_or_make(path, make).equals(first)
    assert len(made) == 2
