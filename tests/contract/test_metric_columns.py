"""Which column of a metric ranks sites: in new runs, in records of earlier versions, and where none says so."""

from __future__ import annotations

import pytest

from vcorr.contract.metric_columns import (
    COLUMNS_KEY,
    MetricColumns,
    all_points_of,
    choose_main,
    primary_of,
    ranking_columns,
    read_columns,
)

PCK = ("pck_4", "pck_8", "pck_4_moving", "pck_8_moving")
OURS = ("ours", "ours_moving")


def record(*columns: MetricColumns, asked: tuple[str, ...] = ()) -> dict[str, object]:
    return {COLUMNS_KEY: [one.to_dict() for one in columns], "metrics_asked": list(asked)}


OLD = record(
    MetricColumns("matching_accuracy", ("matching_accuracy", "matching_accuracy_moving"), "matching_accuracy"),
    MetricColumns("pck", PCK, "pck_8"),
    MetricColumns("mine", OURS, "ours", False),
)
NEW = record(
    MetricColumns("matching_accuracy", ("matching_accuracy", "matching_accuracy_moving"), "matching_accuracy_moving"),
    MetricColumns("pck", PCK, "pck_8_moving"),
    MetricColumns("mine", OURS, "ours", False),
)


def test_a_record_of_an_earlier_version_is_read_by_the_rule_of_now() -> None:
    assert read_columns(OLD) == read_columns(NEW)
    primaries = {one.metric: one.primary for one in read_columns(OLD)}
    # a metric of a plugin keeps the column that its author chose
    assert primaries == {"matching_accuracy": "matching_accuracy_moving", "pck": "pck_8_moving", "mine": "ours"}


def test_a_record_without_a_moving_column_keeps_its_primary_one() -> None:
    (one,) = read_columns(record(MetricColumns("pck", ("pck_3",), "pck_3")))
    assert one.primary == "pck_3"


@pytest.mark.parametrize("stored", [OLD, NEW])
def test_a_summary_ranks_by_moving_points_unless_metrics_were_named(stored: dict[str, object]) -> None:
    assert ranking_columns(stored) == ("matching_accuracy_moving",)
    assert ranking_columns({**stored, "metrics_asked": ["mine", "pck"]}) == ("ours", "pck_8_moving")
    assert ranking_columns({}) == ()


@pytest.mark.parametrize("stored", [OLD, NEW, {}])
def test_a_named_column_is_that_column_and_a_metric_its_primary_one(stored: dict[str, object]) -> None:
    for column in ("matching_accuracy", "matching_accuracy_moving", "pck_8", "pck_8_moving"):
        assert primary_of(column, stored) == column
    assert primary_of("pck", stored) == "pck_8_moving"
    assert primary_of("unknown", stored) == "unknown"


def test_without_a_record_the_known_columns_come_first() -> None:
    assert (
        choose_main(["attention_cross", "matching_accuracy", "matching_accuracy_moving"]) == "matching_accuracy_moving"
    )
    assert choose_main(["pck_8", "pck_8_moving"]) == "pck_8_moving"
    assert choose_main(["matching_accuracy", "pck_8"]) == "matching_accuracy"
    assert choose_main(["zzz", "aaa"]) == "zzz"
    assert choose_main([]) == "matching_accuracy_moving"


def test_all_points_belong_to_moving_points_by_name() -> None:
    assert all_points_of("pck_8_moving") == "pck_8"
    assert all_points_of("pck_8") == ""
