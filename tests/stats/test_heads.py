"""Means over heads and single heads are chosen separately, and the output says so."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest
from support.made_up import made_up

from vcorr.cli.views import site_tables, terminal
from vcorr.stats.summary import best_site, best_sites, summarise
from vcorr.store.schema import SCORES


def table(s) -> pa.Table:
    """Returns the rows of a series."""
    empty = {field.name: "" if pa.types.is_string(field.type) else 0 for field in SCORES}
    rows = [
        {**empty, **s.key, **site, "clip": clip, "value": s.score[i, j], "floor": 0.2, "ceiling": 0.9, "status": "ok"}
        for i, clip in enumerate(s.clips)
        for j, site in enumerate(s.sites)
    ]
    return pa.Table.from_pylist(rows, schema=SCORES)


@pytest.fixture
def bests():
    s = made_up(0, layers=3, steps=1, heads=(-1, 0, 1))
    s.score[:, 0::3] = [0.3, 0.6, 0.4]  # the means of the layers
    s.score[:, 1::3] = [0.1, 0.1, 0.8]  # head 0
    s.score[:, 2::3] = [0.5, 0.2, 0.2]
    return best_sites(table(s)), best_site(s)


def test_the_best_mean_comes_first_and_the_best_head_after_it(bests) -> None:
    (mean, single), any_head = bests
    assert (mean.summary.layer, mean.summary.head, mean.heads, mean.candidates) == (1, -1, "mean", 3)
    assert (single.summary.layer, single.summary.head, single.heads, single.candidates) == (2, 0, "single", 6)
    assert mean.regret == single.regret == 0, "regret is against the best of the same kind"
    assert (any_head.summary.head, any_head.candidates) == (0, 9)
    assert single.to_dict()["heads"] == "single"
    assert mean.to_dict()["candidates"] == 3


def test_without_single_heads_there_is_one_row() -> None:
    (only,) = best_sites(table(made_up(0)))
    assert (only.heads, only.candidates) == ("mean", 6)


def test_the_table_says_what_was_chosen_among_what(bests, capsys) -> None:
    out = terminal.console()
    out.print(site_tables.best_table(bests[0]))
    said = " ".join(capsys.readouterr().out.split())
    assert "the best of 3 means over heads, and the best of 6 single heads" in said
    out.print(site_tables.best_table([replace(bests[0][0], candidates=1), bests[0][1]]))
    assert "the only mean over heads, and the best of 6 single heads" in capsys.readouterr().out
    out.print(site_tables.best_table(bests[0][:1]))
    assert "single heads" not in capsys.readouterr().out


def test_a_step_is_one_site_though_its_noise_depends_on_the_clip() -> None:
    s = made_up(0, clips=4, layers=2, steps=1)
    scores = table(s)
    noise = pa.array([0.1 if clip == s.clips[3] else 0.3 for clip in scores["clip"].to_pylist()], pa.float32())
    scores = scores.set_column(scores.schema.get_field_index("noise"), "noise", noise)
    found = summarise(scores)
    assert [(x.layer, x.clips, x.not_scored, round(x.noise, 6)) for x in found] == [(0, 4, 0, 0.25), (1, 4, 0, 0.25)]
    assert [best.candidates for best in best_sites(scores)] == [2]


@pytest.mark.parametrize(("clips", "flattered"), [(1, True), (3, True), (4, False)])
def test_few_clips_are_said_to_flatter(clips, flattered, capsys) -> None:
    terminal.console().print(site_tables.best_table(best_sites(table(made_up(0, clips=clips)))))
    said = " ".join(capsys.readouterr().out.split())
    assert ("The same clips choose the site and report it, so its score tends to be too high." in said) is flattered
