"""The board of generated videos: one row per guidance, from ordinary runs."""

from __future__ import annotations

import math

import pytest
from support import guiding

from vcorr.board.site.html import score
from vcorr.board.site.site_build import build_site
from vcorr.board.tables.board_runs import load_run
from vcorr.board.tables.definitions import builtin_boards, metric_names
from vcorr.board.tables.ranking import rank
from vcorr.plugins.registry import Registry
from vcorr.runner.coordinator import execute
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec
from vcorr.store.rundir import find_runs

BOARDS = builtin_boards()
CLIPS = 8


@pytest.fixture
def runs(plugins, tmp_path):
    """Makes runs of eight prompts: without a guidance, and with light added in two strengths."""
    registry = plugins(guiding)
    prompts = tmp_path / "p.txt"
    prompts.write_text("".join(f"picture {i}\n" for i in range(CLIPS)), encoding="utf-8")
    common = {"model": "drawer", "task": "generation", "data": f"prompts:{prompts}", "tracker": "sure"}
    arms = ({}, {"guidance": "lamp"}, {"guidance": "lamp", "options": {"guidance": {"scale": 2.0}}}, {"seed": 7})
    for arm in arms:
        spec = RunSpec(**common, metrics="track-survival", **arm)
        execute(make_plan(spec, registry), tmp_path / "runs")
    return tmp_path / "runs"


def test_one_row_per_guidance_on_the_same_prompts_and_seed(runs, tmp_path) -> None:
    found = [load_run(r, metric_names(BOARDS), tmp_path / f"{r.run_id}.arrow") for r in find_runs(runs)]
    rankings, left_out = rank(found, BOARDS)
    assert left_out == []
    assert {ranking.board.title for ranking in rankings} == {"Guidance of generated videos"}
    (guided, other) = sorted(rankings, key=lambda one: -len(one.rows))
    assert [len(guided.rows), len(other.rows)] == [3, 1]
    assert sorted(row.options for row in guided.rows) == [
        "guidance lamp (layers 0, scale 1, steps 0, more 0)",
        "guidance lamp (layers 0, scale 2, steps 0, more 0)",
        "guidance none",
    ]
    assert {row.rank for row in guided.rows} == {1}  # light moves no point
    assert not any(row.run.is_baseline for row in guided.rows)
    assert all(math.isfinite(row.cell.value) for row in guided.rows)
    assert other.group["seed"] == "7"


def test_small_scores_keep_their_digits() -> None:
    assert [score(value) for value in (0.0000644, 1.38123, 0.0, math.nan)] == ["0.000064", "1.3812", "0.0000", "–"]


def test_the_page_names_the_guidance(runs, tmp_path) -> None:
    page = build_site(runs, tmp_path / "site", registry=Registry([])).read_text(encoding="utf-8")
    assert "Guidance of generated videos" in page
    assert "guidance lamp" in page
    assert ">baseline<" not in page
