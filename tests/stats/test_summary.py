"""Best sites of score tables: pooled over both halves, all columns at the same sites, and what is said in words."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.made_up import made_up

from vcorr.cli.views.render import scores_dict
from vcorr.stats.intervals import gain_interval, mean_interval, skill_interval
from vcorr.stats.series import gather, series
from vcorr.stats.summary import Findings, best_site, best_sites, site_summaries
from vcorr.store.schema import SCORES

MOVING = "matching_accuracy_moving"
ALL = "matching_accuracy"


def rows_of(s, still=None, content=None):
    empty = {field.name: "" if pa.types.is_string(field.type) else 0 for field in SCORES}
    for i, clip in enumerate(s.clips):
        facts = {"still": math.nan if still is None else still[i], "data_hash": "" if content is None else content[i]}
        for j, site in enumerate(s.sites):
            numbers = {name: getattr(s, part)[i, j] for name, part in NUMBERS}
            yield {**empty, **s.key, **site, **facts, **numbers, "clip": clip, "status": "ok"}


NUMBERS = (("value", "score"), ("floor", "floor"), ("ceiling", "ceiling"))


def table(*found, **facts) -> pa.Table:
    """Returns the rows of several series."""
    return pa.Table.from_pylist([row for s in found for row in rows_of(s, **facts)], schema=SCORES)


def disagree(clips=8, **key):
    """Returns a series whose first half prefers site 0, and whose second half prefers site 2."""
    s = made_up(0, clips=clips, layers=3, steps=1, **key)
    halves = s.halves()
    noise = np.linspace(0, 0.05, clips)[:, None]
    s.score[halves.first] = [0.7, 0.3, 0.5]
    s.score[halves.second] = [0.4, 0.3, 0.6]
    s.score[:] += noise
    return s


# ------------------------------------------------------------------------------------------------------------- pooling


def test_every_clip_is_reported_at_the_site_it_did_not_choose():
    s = disagree()
    best = best_site(s)
    halves = s.halves()
    value = np.empty(8)
    value[halves.first], value[halves.second] = s.score[halves.first, 2], s.score[halves.second, 0]
    summary = best.summary
    assert (summary.clips, summary.not_scored, best.chosen_on) == (8, 0, 4)
    expected = {
        "value": mean_interval(value),
        "skill": skill_interval(value, np.full(8, 0.2), np.full(8, 0.9)),
        "gain": gain_interval(value, np.full(8, 0.2)),
    }
    for name, interval in expected.items():
        found = [getattr(summary, f"{name}{end}") for end in ("", "_low", "_high")]
        np.testing.assert_allclose(found, [interval.estimate, interval.low, interval.high])
    assert summary.skill == pytest.approx((summary.value - 0.2) / 0.7)
    assert summary.gain == pytest.approx((summary.value - 0.2) / 0.8)


def test_both_sites_are_shown_and_the_better_one_comes_first():
    s = disagree()
    best = best_site(s)
    assert best.site == "0:0, 2:0", "over all clips both have 0.55: the first of them leads"
    assert {site.site: set(site.clips) for site in best.sites} == {
        "0:0": {s.clips[i] for i in s.halves().second},
        "2:0": {s.clips[i] for i in s.halves().first},
    }
    s.score[s.halves().second, 2] += 0.1
    assert best_site(s).site == "2:0, 0:0"
    assert best_site(s).summary.layer == 2
    plain = json.loads(json.dumps(best_site(s).to_dict(), allow_nan=False))
    assert [(site["site"], site["clips"]) for site in plain["sites"]] == [("2:0", 4), ("0:0", 4)]
    assert plain["site"] == "2:0"


def test_the_column_of_all_points_stands_at_the_same_sites():
    moving, everything = disagree(metric=MOVING), disagree(metric=ALL)
    everything.score[:] = everything.score[:, ::-1] / 2  # it would choose other sites
    found = Findings.of(table(moving, everything), [MOVING])
    (best,) = found.best
    assert best.summary.metric == MOVING
    assert best.all_points.metric == ALL
    halves = moving.halves()
    expected = np.concatenate([everything.score[halves.first, 2], everything.score[halves.second, 0]]).mean()
    assert best.all_points.value == pytest.approx(expected, abs=1e-6)
    assert (best.all_points.layer, best.all_points.clips) == (best.summary.layer, 8)
    assert best_sites(table(moving, everything), metric=MOVING)[0].all_points == best.all_points
    assert best.to_dict()["all_points"]["metric"] == ALL
    (alone,) = Findings.of(table(moving), [MOVING]).best
    assert alone.all_points is None


def test_another_series_is_reported_where_it_has_the_clips_and_sites():
    s = disagree()
    best = best_site(s)
    part = replace(made_up(1, layers=3, steps=1, metric="pck_8").select_sites([0, 1]).select_clips(s.clips[1:]))
    summary = best.report(part)
    at_first = [clip for clip in s.clips[1:] if clip in {s.clips[i] for i in s.halves().second}]
    expected = np.mean([part.score[part.clips.index(clip), 0] for clip in at_first])
    assert (summary.metric, summary.clips) == ("pck_8", len(at_first))
    assert summary.value == pytest.approx(expected)


def test_errors_have_no_gain():
    s = made_up(0, clips=8)
    (found,) = site_summaries(replace(s, floor=s.ceiling, ceiling=s.floor, lower_is_better=True), sites=[0])
    assert math.isnan(found.gain)
    assert found.no_gain_interval
    assert found.skill == pytest.approx((0.9 - found.value) / 0.7)


def test_the_page_names_every_key_of_a_best_site():
    page = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text(encoding="utf-8")
    table = page[page.index("In `--json` an entry of `best`") : page.index("## Two runs")]
    named = {
        name
        for line in table.splitlines()
        if line.startswith("|")
        for name in re.findall("`([a-z_]+)`", line.split("|")[1])
    }
    assert named == set(best_site(disagree()).to_dict())


# ------------------------------------------------------------------------------------------------------- halves of data


def test_series_know_how_still_their_clips_are():
    s = made_up(0, clips=9)
    still, content = np.linspace(0, 1, 9)[::-1].astype(np.float32), [f"hash-{i}" for i in range(9)]
    for scores in (table(s, still=still, content=content), gather([table(s, still=still, content=content)])):
        (found,) = series(scores)
        np.testing.assert_array_equal(found.still, still)
        assert found.content == tuple(content)
        assert [h.tolist() for h in found.halves()] == [
            h.tolist() for h in replace(s, still=still, content=tuple(content)).halves()
        ]
    assert [h.tolist() for h in found.halves()] != [h.tolist() for h in s.halves()]
    kept = found.select_clips(["c8", "c1", "c4", "c0"])
    assert kept.clips == ("c0", "c1", "c4", "c8")
    np.testing.assert_array_equal(kept.still, still[[0, 1, 4, 8]])
    assert kept.content == ("hash-0", "hash-1", "hash-4", "hash-8")


def test_rows_of_earlier_layouts_say_nothing_of_stillness():
    (found,) = series(table(made_up(0)).drop_columns(["still", "data_hash"]))
    assert np.isnan(found.still).all()
    assert set(found.content) == {""}
    assert [h.tolist() for h in found.halves()] == [h.tolist() for h in made_up(0).halves()]


def test_models_have_the_same_halves_whatever_they_score():
    still, content = np.linspace(0, 1, 12), [f"hash-{i}" for i in range(12)]
    facts = {"still": still, "content": content}
    one, two = (
        table(made_up(0, clips=12), **facts),
        table(made_up(7, clips=12, layers=5, model="another", nan=0.3), **facts),
    )
    halves = [found.halves() for found in series(pa.concat_tables([one, two]))]
    assert len({str([half.tolist() for half in pair]) for pair in halves}) == 1


# ------------------------------------------------------------------------------------------------------------- in words


def test_without_moving_points_all_points_are_shown_and_it_is_said():
    moving, everything = disagree(metric=MOVING), disagree(metric=ALL)
    moving.score[:] = np.nan
    found = Findings.of(table(moving, everything), [MOVING])
    assert found.metrics == (ALL,)
    assert [best.summary.metric for best in found.best] == [ALL]
    assert found.notes == (f"No clip has a point that moves, so {ALL} stands in place of {MOVING}.",)
    assert found.unranked == ()
    assert scores_dict(found)["ranking_notes"] == list(found.notes)
    moving.score[0] = 0.5
    found = Findings.of(table(moving, everything), [MOVING])
    assert (found.metrics, found.notes) == ((MOVING,), ())


def test_moving_points_of_one_half_choose_nothing_for_themselves():
    s = disagree(metric=MOVING)
    s.score[s.halves().second] = np.nan
    best = best_site(s)
    assert math.isnan(best.summary.value)
    assert math.isnan(best.regret)
    assert best.notes == (
        "Only one half of the clips can choose a site. The 4 clips of this half are reported nowhere.",
    )
    (why,) = Findings.of(table(s), [MOVING]).unranked
    assert why.reason.startswith("no site has a skill on both halves of the clips")


@pytest.mark.parametrize(
    ("clips", "held_out", "interval"),
    [
        (1, False, "1 clip, and an interval needs 6"),
        (3, False, "3 clips, and an interval needs 6"),
        (4, True, "4 clips, and an interval needs 6"),
        (5, True, "5 clips, and an interval needs 6"),
        (6, True, ""),
    ],
)
def test_few_clips_are_said(clips, held_out, interval):
    best = best_site(made_up(3, clips=clips))
    flattered = (
        f"{clips} clip{'s' if clips > 1 else ''} with scores: too few to choose on one half and report on the other."
    )
    assert any(note.startswith(flattered) for note in best.notes) is not held_out
    assert math.isnan(best.regret) is not held_out
    summary = best.summary
    assert {summary.no_interval, summary.no_skill_interval, summary.no_gain_interval} == {interval}
    assert (
        math.isnan(summary.value_low) == math.isnan(summary.skill_low) == math.isnan(summary.gain_low) == bool(interval)
    )


def test_ties_and_clips_that_all_agree_are_said():
    s = made_up(0, clips=8)
    s.score[:] = 0.5
    best = best_site(s)
    assert best.notes == ("All 6 sites are equally good: the first one is shown.",)
    assert best.summary.no_skill_interval == "all 8 clips agree: without variance there is no interval"
    assert (best.regret, math.isnan(best.summary.skill_low)) == (0, True)
    s.score[:, 3:] = 0.4
    assert best_site(s).notes == ("3 sites are equally good on the clips that choose: the first of them is taken.",)


def test_a_site_with_fewer_clips_cannot_be_chosen_and_is_counted():
    s = made_up(0, clips=8)
    s.score[:, 4] = 0.89  # the best one
    s.score[2, 4] = np.nan
    best = best_site(s)
    assert (best.candidates, best.site != "2:0") == (5, True)
    assert "1 site lacks clips that most sites have, and could not be chosen." in best.notes


def test_negative_regret_is_called_luck():
    found = [best_site(made_up(seed, clips=8)) for seed in range(12)]
    told = ["A regret below 0 is luck" in " ".join(best.notes) for best in found]
    assert told == [best.regret < 0 for best in found]
    assert any(told)
    assert not all(told)


def test_a_metric_without_bounds_has_an_interval_of_its_value_alone():
    s = made_up(0, clips=8)
    (found,) = site_summaries(replace(s, floor=s.floor * np.nan, ceiling=s.ceiling * np.nan), sites=[0])
    assert found.value_low < found.value < found.value_high
    assert found.no_skill_interval == found.no_gain_interval == "the metric has no floor and ceiling"
