from __future__ import annotations

from pathlib import Path

import pytest

from vcorr import UsageError
from vcorr.board.tables.definitions import boards_of, builtin_boards, load_board, metric_names, parse_board

ROOT = Path(__file__).parents[2]

GOOD = """
title: A board
datasets: [sprites, davis]
metrics:
  - {name: matching_accuracy, title: All points}
  - {name: pck_4, title: Four pixels, summary: Within four pixels.}
primary: matching_accuracy
admission: {min_clips: 8}
"""

REPORTED = (
    "title: A board\nreported: [{dataset: D, source: S, input: I, queries: Q, occlusion: O, "
    "rows: [{name: M, pck_4: 3}]}]"
)


def test_reads_a_board():
    board = parse_board(GOOD, "Board x")
    assert board.datasets == ("sprites", "davis")
    assert board.primary_column.title == "All points"
    assert board.admission.min_clips == 8
    assert (board.by, board.chosen_by) == ("gain", "matching_accuracy")
    assert set(metric_names([board, *builtin_boards()])) == {
        *("matching_accuracy", "pck_4", "matching_accuracy_moving", "pck_8", "pck_8_moving"),
        *("average_pts_within_thresh", "average_jaccard", "occlusion_accuracy"),
        *("track_survival", "dynamic_degree", "cycle_error", "track_jerk", "warp_error", "flicker", "subject_drift"),
        *("region_and_contour", "region_similarity", "contour_accuracy"),
    }
    photos, sprites, rest = (board for board in builtin_boards() if board.task == "correspondence")
    (guidance,) = (board for board in builtin_boards() if board.task == "generation")
    assert (guidance.by, guidance.primary) == ("value", "track_survival")
    (tracking,) = (board for board in builtin_boards() if board.task == "tracking")
    (masks,) = (board for board in builtin_boards() if board.task == "propagation")
    assert (masks.by, masks.primary, masks.cost) == ("value", "region_and_contour", True)
    reported = {row.name: row.values for table in masks.reported for row in table.rows}
    assert reported["DINOv2"] == {"region_and_contour": pytest.approx(0.631)}
    assert set(masks.reported[0].protocol) == {"input", "propagation"}
    assert (tracking.task, tracking.by, tracking.primary) == ("tracking", "value", "average_pts_within_thresh")
    assert (board.task, board.cost, board.ceilings, board.reported) == ("correspondence", False, (), ())
    assert (photos.primary, sprites.primary, rest.primary) == ("pck_8_moving", "pck_8_moving", "pck_8")
    assert {(b.by, b.chosen_by) for b in (photos, sprites, rest)} == {("gain", "matching_accuracy_moving")}


def test_boards_of_the_package_are_linked_and_valid():
    linked = sorted(path.name for path in (ROOT / "leaderboards").glob("*.yaml"))
    inside = sorted(path.name for path in (ROOT / "vcorr" / "board" / "boards").glob("*.yaml"))
    assert linked == inside
    for name in linked:
        path = ROOT / "leaderboards" / name
        assert path.is_symlink()
        assert not path.readlink().is_absolute()
        load_board(path)
    of_correspondence = [board.datasets for board in builtin_boards() if board.task == "correspondence"]
    assert of_correspondence == [("photos", "stereo"), ("sprites",), ()]


def test_a_dataset_goes_to_the_board_that_names_it_else_to_any():
    _, sprites, rest, *others = builtin_boards()
    assert boards_of("sprites", others, "generation") == [board for board in others if board.task == "generation"]
    (tracking,) = (board for board in others if board.task == "tracking")
    assert boards_of("sprites", [rest, tracking, sprites]) == [sprites]
    assert boards_of("sprites", [rest, tracking, sprites], "tracking") == [tracking]
    assert boards_of("sprites", [rest, sprites], "tracking") == []
    assert boards_of("davis", [rest, sprites]) == [rest]
    assert boards_of("davis", [sprites]) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title: A board", "titel: A board", "Unknown key in Board x: 'titel'. Did you mean 'title'?"),
        ("title: A board", "", "Board x lacks title"),
        ("title: A board", "title: 3", "title must be text, got 3"),
        ("[sprites, davis]", "sprites", "datasets must be a list of dataset names, or the word any"),
        ("primary: matching_accuracy", "primary: pck_5", "Unknown primary metric in Board x: 'pck_5'"),
        ("primary: matching_accuracy", "primary: pck_4\nby: luck", "by must be gain or skill or value, got 'luck'"),
        (
            "primary: matching_accuracy",
            "primary: pck_4\nchosen_by: pck_8",
            "Unknown metric chosen_by in Board x: 'pck_8'",
        ),
        ("name: pck_4", "name: matching_accuracy", "lists a metric twice"),
        ("name: pck_4, ", "", "metrics[1] lacks name"),
        ("min_clips: 8", "min_clips: 0", "min_clips must be a whole number of at least 1, got 0"),
        ("min_clips: 8", "min_clips: yes", "min_clips must be a whole number"),
        ("min_clips: 8", "max_clips: 8", "Unknown key in Board x: admission: 'max_clips'"),
        ("title: A board", "title: [", "is not valid YAML"),
        (
            "title: A board",
            "title: A board\ntask: traking",
            "Unknown task in Board x: 'traking'. Did you mean 'tracking'?",
        ),
        ("title: A board", "title: A board\ncost: 1", "cost must be true or false, got 1"),
        ("title: A board", "title: A board\nfloors: still", "floors must be a list of names, got 'still'"),
        ("title: A board", "title: A board\nreported: 3", "reported must be a list, got 3"),
        ("title: A board", REPORTED.replace("source: S, ", ""), "reported[0] lacks source"),
        ("title: A board", REPORTED.replace("pck_4: 3", "pck_5: 3"), "rows[0]: 'pck_5'. Did you mean 'pck_4'"),
        ("title: A board", REPORTED.replace("pck_4: 3", "pck_4: 300"), "rows[0]: pck_4 must be a number of percent"),
        (
            "title: A board",
            REPORTED.replace(", pck_4: 3", ""),
            "Unknown metric in Board x: reported[0]: rows[0]: 'none'",
        ),
        ("title: A board", REPORTED.replace("pck_4: 3", "pck_4: 3, thresholds: [1]"), "must be a list of 5 percents"),
    ],
)
def test_says_what_is_wrong(old, new, message):
    assert old in GOOD
    with pytest.raises(UsageError) as caught:
        parse_board(GOOD.replace(old, new), "Board x")
    assert message in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.yaml cannot be read"):
        load_board(tmp_path / "nowhere.yaml")
    with pytest.raises(UsageError, match="must be a mapping"):
        parse_board("- a list", "Board x")
