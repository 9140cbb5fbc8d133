"""Tracking at an attention site: what is stored, and where the site comes from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vcorr.contract.cards import parse_card
from vcorr.runner.stored_tracks import read_thresholds
from vcorr.store.rundir import RunDirectory

CARD = """
{name: sliding-model, title: Sliding, summary: Slides., attention: full3d, licence: Apache-2.0,
 tracking: {probe: qk, layers: [1], step: 3, source: somewhere}}
"""
MODEL = ("track", "--model", "sliding-model", "--data", "token-slide")
SITE = ("--probe", "qk", "--layers", "0", "--steps", "4")


def finished(ended) -> RunDirectory:
    assert ended.code == 0, ended.err
    return RunDirectory(Path(ended.out.splitlines()[-1].removeprefix("Results: ")))


def resolved(ended) -> dict:
    return json.loads((finished(ended).path / "run.json").read_text())["resolved"]


def test_rows_say_the_site_and_carry_tracks_of_every_query(vcorr) -> None:
    run = finished(vcorr(*MODEL, *SITE, "--limit", "1"))
    (row,) = run.read("predictions").to_pylist()
    said = [row[name] for name in ("task", "probe", "layer", "layer_name", "step", "head", "attention", "readout")]
    assert said == ["tracking", "qk", 0, "see.attend", 4, -1, "full3d", "free"]
    assert row["noise"] == pytest.approx(0.5)
    xy = np.reshape(row["xy"], (-1, 5, 2))
    np.testing.assert_allclose(xy[:, :, 0] - xy[:, :1, 0], [[0, 8, 16, 24, 32]] * row["points"])
    assert len(row["visible"]) == len(row["confidence"]) == 5 * row["points"]
    scores = run.read("scores").to_pylist()
    assert {(one["probe"], one["layer"], one["step"]) for one in scores} == {("qk", 0, 4)}
    (accuracy,) = [one for one in scores if one["metric"] == "average_pts_within_thresh"]
    assert (accuracy["value"], accuracy["ceiling"], accuracy["ceiling_kind"]) == (1.0, 1.0, "free")
    assert accuracy["floor"] < 0.5


def test_another_site_gives_other_tracks_and_another_run(vcorr) -> None:
    moved, still = (finished(vcorr(*MODEL, *SITE, "--layers", layer, "--limit", "1")) for layer in "01")
    assert moved.path != still.path
    (row,) = still.read("predictions").to_pylist()
    xy = np.reshape(row["xy"], (-1, 5, 2))
    np.testing.assert_array_equal(xy, np.repeat(xy[:, :1], 5, axis=1))


def test_every_choice_is_in_the_fingerprint(vcorr) -> None:
    changes = [
        (),
        ("--set", "track.chunk=3"),
        ("--set", "track.order=sliding"),
        ("--set", "track.visibility=peak"),
        ("--set", "track.threshold=0.9"),
        ("--set", "probe.radius=1"),
        ("--layers", "0,1"),
        ("--steps", "5"),
        ("--seed", "1"),
    ]
    paths = {
        json.loads(vcorr(*MODEL, *SITE, "--limit", "1", "--dry-run", "--json", *more).out)["path"] for more in changes
    }
    assert len(paths) == len(changes)


def test_a_dry_run_counts_the_passes(vcorr) -> None:
    plain = json.loads(vcorr(*MODEL, *SITE, "--limit", "2", "--dry-run", "--json").out)
    assert (plain["per_clip"]["passes"], plain["forward_passes"]) == (1, 2)
    chunked = json.loads(vcorr(*MODEL, *SITE, "--dry-run", "--json", "--set", "track.chunk=3").out)
    assert chunked["per_clip"]["passes"] == 2, "four frames, two of them in each chunk behind the query's"


def test_the_published_variant_stands_next_to_the_corrected_one(vcorr) -> None:
    run = finished(vcorr(*MODEL, *SITE, "--limit", "1", "--set", "variant=both"))
    rows = run.read("predictions").to_pylist()
    assert [row["variant"] for row in rows] == ["corrected", "difftrack"]
    assert all(rows[1]["visible"]), "the published code says nothing about visibility"
    assert set(run.read("scores")["variant"].to_pylist()) == {"corrected", "difftrack"}


def test_probe_and_step_have_a_default_and_the_layer_has_none(vcorr) -> None:
    ended = vcorr(*MODEL, "--limit", "1")
    assert ended.code == 2
    assert "No layer of model 'sliding-model' was named, and its card names none." in ended.err
    assert "vcorr run --model sliding-model --probe qk --data sprites, then --from RUN" in ended.err
    ended = vcorr(*MODEL, "--limit", "1", "--layers", "0")
    assert "From the default: probe qk, step last." in ended.err
    assert resolved(ended)["settings"]["steps"] == [9]


def test_a_run_of_correspondence_gives_its_best_site(vcorr) -> None:
    chose = finished(
        vcorr("run", "--model", "sliding-model", "--probe", "qk,kk", "--steps", "2,7", "--data", "token-slide")
    )
    ended = vcorr(*MODEL, "--limit", "1", "--probe", "qk", "--from", str(chose.path))
    found = resolved(ended)
    assert (found["sites"], found["settings"]["steps"]) == ([[0, "see.attend"]], [2])
    said = " ".join(ended.err.split())
    assert f"From run {chose.run_id}: layer 0, step 2, " in said
    assert f"Run {chose.run_id} has its best site at 0:2 by matching_accuracy_moving" in said
    assert "Warning: 1 of the 1 clips that are measured also chose the site" in said
    typed = resolved(vcorr(*MODEL, "--limit", "1", "--probe", "qk", "--from", str(chose.path), "--layers", "1"))
    assert (typed["sites"], typed["settings"]["steps"]) == ([[1, "stay.attend"]], [2])


def test_a_tracking_run_gives_site_options_and_threshold(vcorr) -> None:
    words = ("--set", "track.order=sliding", "--set", "track.chunk=3", "--set", "probe.radius=1")
    first = finished(vcorr(*MODEL, *SITE, "--limit", "3", *words))
    ended = vcorr(*MODEL, "--from", str(first.path), "--limit", "2")
    found = resolved(ended)
    assert (found["sites"], found["settings"]["steps"]) == ([[0, "see.attend"]], [4])
    assert (found["track"]["order"], found["track"]["chunk"]) == ("sliding", 3)
    assert found["probes"][0]["config"]["radius"] == 1
    assert found["track"]["threshold"] == read_thresholds(first).chosen.threshold
    said = " ".join(ended.err.split())
    assert "this threshold maximises the mean of average_jaccard over 3 clips." in said
    assert "Warning: 2 of the 2 clips that are measured also chose the site" in said
    typed = resolved(vcorr(*MODEL, "--from", str(first.path), "--limit", "1", "--set", "track.threshold=0.25"))
    assert typed["track"]["threshold"] == 0.25


def test_a_preset_of_one_head_takes_the_best_single_head_of_a_run(vcorr) -> None:
    run = ("run", "--model", "sliding-model", "--probe", "qk", "--steps", "2", "--data", "token-slide")
    each, mean = (finished(vcorr(*run, *more)) for more in (("--set", "probe.heads=each"), ()))
    words = (*MODEL, "--limit", "1", "--preset", "ditracker", "--from")
    assert resolved(vcorr(*words, str(each.path)))["probes"][0]["config"]["heads"] == "0"
    ended = vcorr(*words, str(mean.path))
    assert (ended.code, "ranks no single head, and this preset reads one" in ended.err) == (2, True)
    assert "--set probe.heads=each" in ended.err


def test_the_preset_difftrack_adds_the_logits_of_several_layers(vcorr) -> None:
    words = (*MODEL, "--limit", "1", "--preset", "difftrack", "--layers")
    one, both = (resolved(vcorr(*words, layers))["track"] for layers in ("0", "0,1"))
    assert ("combine" in one, both["combine"]) == (False, "logits")


def test_a_preset_gives_all_but_what_is_typed(vcorr) -> None:
    ended = vcorr(*MODEL, "--limit", "1", "--preset", "difftrack", "--layers", "0", "--set", "track.order=sliding")
    found = resolved(ended)
    assert found["track"]["preset"] == "difftrack"
    assert (found["track"]["order"], found["track"]["add_noise"], found["track"]["visibility"]) == (
        "sliding",
        False,
        "always",
    )
    (row,) = finished(ended).read("predictions").to_pylist()
    assert (row["variant"], row["switches"]) == ("difftrack", "scale=heads")
    assert "From preset difftrack: " in ended.err
    assert "did you mean 'heft'" in vcorr(*MODEL, "--preset", "hefty").err.lower()
    assert "--set probe.heads=3" in vcorr(*MODEL, "--layers", "0", "--preset", "heft").err


def test_a_card_gives_its_site(vcorr, monkeypatch) -> None:
    card = parse_card(CARD, "card")
    monkeypatch.setattr("vcorr.runner.plan_steps.card_of", lambda model: card)
    ended = vcorr(*MODEL, "--limit", "1")
    assert "From the model's card (somewhere): probe qk, layer 1, step 3." in ended.err
    found = resolved(ended)
    assert ([layer for layer, _ in found["sites"]], found["settings"]["steps"]) == ([1], [3])


def test_no_warning_if_the_clips_are_held_out(vcorr) -> None:
    chose = finished(vcorr("run", "--model", "sliding-model", "--probe", "qk", "--steps", "2", "--data", "token-slide"))
    ended = vcorr(*MODEL, "--limit", "1", "--from", str(chose.path), "--set", "data.moved=3")
    assert ended.code == 0
    assert "Warning" not in ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--probe", "kk"), "did not read probe 'kk'; it read: qk"),
        (("--model", "token-patches"), "--from does not apply: model 'token-patches' has no attention site"),
        (("--weights", "random"), "has the weights hub, and this run has random"),
    ],
)
def test_a_run_that_cannot_choose_is_refused(vcorr, words, said) -> None:
    chose = finished(
        vcorr(
            "run", "--model", "sliding-model", "--probe", "qk", "--steps", "2", "--data", "token-slide", "--limit", "1"
        )
    )
    ended = vcorr(*MODEL, "--limit", "1", "--from", str(chose.path), *words)
    assert (ended.code, said in ended.err) == (2, True), ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--probe", "qk,kk", "--layers", "0"), "a tracking run reads one probe"),
        (("--probe", "qk", "--layers", "0", "--steps", "2,7"), "names 2 steps; a tracking run reads one"),
        (("--probe", "qk", "--layers", "0", "--set", "probe.heads=each"), "one prediction per head"),
        (("--probe", "attention", "--layers", "0"), "does not say what it matches"),
        (("--probe", "qk", "--layers", "0", "--set", "track.order=random"), "track.order"),
        (("--probe", "qk", "--layers", "0", "--set", "metrics=pck"), "is for runs of the task correspondence"),
        (("--probe", "qk", "--layers", "0", "--from", "nowhere"), "nowhere is not a run"),
    ],
)
def test_what_cannot_track_is_one_error(vcorr, words, said) -> None:
    ended = vcorr(*MODEL, "--limit", "1", *words)
    assert (ended.code, said in ended.err) == (2, True), ended.err
