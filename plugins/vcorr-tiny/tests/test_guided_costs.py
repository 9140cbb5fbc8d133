"""Quality against cost of guidance on the embedded model: what is asked, how costs are counted, and the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from vcorr_tiny import guided_costs
from vcorr_tiny.command_runs import Work
from vcorr_tiny.guided_costs import COSTS, list_arms, list_layers, list_tasks, read_choices, write_tables

from vcorr import installed
from vcorr.studies.guidance_arms import parse_arms
from vcorr.studies.guidance_rows import TABLE, GuidanceRow
from vcorr.studies.guidance_study import ROWS
from vcorr.studies.study_runs import RECORD

FIRST, SECOND, LAST = list_layers()


def describe(label: str, layers: str, **options: str) -> dict[str, object]:
    return {
        "label": label,
        "guidance": label.split("+", maxsplit=1)[0],
        "layers": layers,
        "options": options,
        "runs": {},
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Returns the files of a study of three arms. The layers of the last one act in a quarter of the steps."""
    arms = [
        describe("none", ""),
        describe(f"cag+layers={FIRST}", FIRST),
        describe(f"cag+layers={SECOND}+steps=0-4", SECOND, steps="0-4"),
    ]
    facts = {"clips": 6, "dataset": "sprites", "seeds": [42], "num_steps": 20, "cfg": 2.0, "arms": arms}
    rows = [
        GuidanceRow(
            metric=metric,
            guidance=arm["label"],
            control=control,
            control_value=2.5,
            difference=d,
            low=d - 1,
            high=d + 1,
        )
        for metric in ("rigid_departure", "dynamic_degree", "flicker")
        for arm, d in zip(arms[1:], (0.5, -0.25), strict=True)
        for control in ("none", "more-steps")
    ]
    TABLE.write(tmp_path / ROWS, rows)
    (tmp_path / RECORD).write_text(json.dumps(facts))
    (tmp_path / COSTS).write_text(json.dumps(dict.fromkeys(list_layers(), 1.4)))
    return tmp_path


def test_costs_are_counted_in_rows_of_blocks_and_only_in_guided_steps(folder: Path) -> None:
    whole, part = read_choices(folder)
    first, second = (min(map(int, layers.split(","))) for layers in (FIRST, SECOND))
    assert whole.counted == pytest.approx(1 + (10 - first) / 20)
    assert part.counted == pytest.approx(1 + (10 - second) / 20 / 4)
    assert (whole.timed, part.timed) == pytest.approx((1.4, 1.1))
    assert part.rows["rigid_departure"].difference == -0.25


def test_steps_that_were_not_timed_have_no_time(folder: Path) -> None:
    (folder / COSTS).unlink()
    assert "| 0-4 | 1.04 | – |" in write_tables(Work(folder, 6), None)["guidance-costs"]


def test_the_table_has_a_row_per_choice_and_is_written_with_a_picture(folder: Path, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    (docs / "images").mkdir(parents=True)
    (docs / "guidance.md").write_text("<!-- guidance-costs -->\n<!-- /guidance-costs -->\n")
    block = write_tables(Work(folder, 6), docs)["guidance-costs"]
    assert block in (docs / "guidance.md").read_text()
    assert "6 captions of `sprites`, seed 42, 20 steps" in block
    assert "| layers (of 10) | steps | counted | timed | departure, px | dynamic degree |" in block
    assert "| `none` | – | 1 | 1 | 2.5 | 2.5 |" in block
    assert f"| {SECOND} | 0-4 | 1.04 | 1.10 | -0.25 (-1.25 … +0.75) | -0.25 (-1.25 … +0.75) |" in block
    assert (docs / "images" / guided_costs.PICTURE).stat().st_size > 1000


def test_all_choices_are_arms_of_a_study_and_a_task_each() -> None:
    arms = parse_arms(list_arms(50), installed())
    assert [arm.options.get("layers") for arm in arms[1:]] == [FIRST, SECOND, LAST, SECOND, SECOND]
    assert [arm.options.get("steps") for arm in arms[4:]] == ["0-24", "25-49"]
    tasks = {task.name: task for task in list_tasks(Work(Path("out"), 6), 50)}
    assert set(tasks["study"].after) == {arm.label for arm in arms}
    assert tasks.keys() == {*tasks["study"].after, "study", "step-times"}
