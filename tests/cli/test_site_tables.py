"""The tables of best sites: both sites, all points next to moving points, and a word for each dash."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.made_up import made_up

from vcorr.cli.views import site_tables, terminal
from vcorr.stats.choice import LUCKY_REGRET
from vcorr.stats.summary import Findings, best_site

MOVING, ALL = "matching_accuracy_moving", "matching_accuracy"


def split(seed: int = 0, clips: int = 8):
    """Returns a series whose halves prefer different layers."""
    s = made_up(seed, clips=clips, layers=2, steps=1, metric=MOVING)
    first, second = s.halves()
    s.score[first], s.score[second] = [0.3, 0.8], [0.7, 0.4]
    s.score[:] += np.linspace(0, 0.05, clips)[:, None]
    return s


def print_table(capsys, *best, **options) -> str:
    terminal.console().print(site_tables.best_table(best, metric=MOVING, **options))
    return capsys.readouterr().out


def cells(out: str, probe: str) -> list[str]:
    return next(line for line in out.splitlines() if line.split()[:1] == [probe]).split()


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_row_fits_and_shows_both_sites_and_all_points(capsys, monkeypatch, width) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    s = split()
    everything = replace(made_up(1, layers=2, steps=1, metric=ALL), score=s.score + 0.05)
    found = best_site(s, everything)
    out = print_table(capsys, found)
    assert max(map(len, out.splitlines())) <= width
    row = cells(out, "qk")
    assert row[1:3] == ["1:0,", "0:0"]
    assert f"{found.summary.value:.3f}" in row
    assert f"{found.all_points.value:.3f}" in row
    assert f"{found.summary.skill_low:.3f}" in row
    assert "two sites if they differ" in " ".join(out.split())


def test_all_points_have_a_column_only_next_to_moving_points(capsys) -> None:
    assert "all points" not in print_table(capsys, best_site(split()))


@pytest.mark.parametrize(
    ("clips", "words"),
    [
        (1, "No interval: 1 clip, and an interval needs 6."),
        (3, "No interval: 3 clips, and an interval needs 6."),
        (5, "No interval: 5 clips, and an interval needs 6."),
        (6, ""),
    ],
)
def test_a_dash_in_place_of_an_interval_has_a_reason(capsys, clips, words) -> None:
    out = print_table(capsys, best_site(split(clips=clips)))
    assert "– … –" not in out
    assert ("No interval" in out) is bool(words)
    assert words in " ".join(out.split())


@pytest.mark.parametrize(("width", "shown"), [(80, False), (120, True)])
def test_a_note_on_regret_needs_the_column(capsys, monkeypatch, width, shown) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    s = split()
    found = replace(best_site(s, replace(s, key=s.key | {"metric": ALL})), notes=(LUCKY_REGRET,))
    out = print_table(capsys, found)
    assert (" regret " in out.splitlines()[2], LUCKY_REGRET in " ".join(out.split())) == (shown, shown)


@pytest.mark.parametrize(("layer", "step", "said"), [(-1, 49, True), (-1, -1, False), (7, -1, False), (7, 49, False)])
def test_a_site_without_a_layer_is_explained(capsys, layer, step, said) -> None:
    found = best_site(split())
    sites = tuple(replace(site, layer=layer, step=step) for site in found.sites)
    out = " ".join(print_table(capsys, replace(found, sites=sites)).split())
    assert ("Site none:STEP has no layer" in out) is said


def test_what_holds_for_one_row_names_it(capsys) -> None:
    tied = made_up(2, metric=MOVING, probe="kk")
    tied.score[:] = 0.5
    out = " ".join(print_table(capsys, best_site(split()), best_site(tied)).split())
    assert "kk: All 6 sites are equally good: the first one is shown." in out
    assert "kk: no interval: all 8 clips agree: without variance there is no interval." in out
    assert "qk:" not in out


def test_tables_after_one_another_say_each_sentence_once(capsys) -> None:
    found = tuple(
        best_site(replace(s, key=s.key | {"metric": m})) for m in (MOVING, "pck_8_moving") for s in (split(),)
    )
    site_tables.say_findings(terminal.console(), Findings((MOVING, "pck_8_moving"), found, (), ()))
    out = " ".join(capsys.readouterr().out.split())
    assert out.count("Best sites by") == 2
    assert out.count("Each half of the clips chooses a site") == 1
    assert out.count("skill = (value - floor)") == 1
