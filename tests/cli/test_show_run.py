"""`vcorr show run` as a user types it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from support import sliding

from vcorr.store import shards
from vcorr.store.schema import ScoreRow

RUN = ("run", "--model", "sliding-model", "--probe", "qk", "--steps", "0,9", "--json")


def made(vcorr, *arguments) -> str:
    return json.loads(vcorr(*RUN, *arguments).out)["path"]


def test_a_run_is_shown_with_its_rankings(vcorr) -> None:
    path = made(vcorr, "--set", "data.clips=6")
    ended = vcorr("show", "run", path)
    assert (ended.code, ended.err) == (0, "")
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert "model sliding-model" in lines
    assert "clips 6" in lines
    assert not any(line.startswith("failed") for line in lines)
    assert "qk 2 layers at step 0 0 100 % – 1.00 1.00 … 1.00 1.00" in lines
    # both steps are alike here: the first is taken, and the second shares every resample with it
    assert "qk 4 layers and steps 0:0 50 % 0:9 50 % 1.00 1.00 … 1.00 1.00" in lines


def test_few_clips_say_nothing_about_how_stable_rankings_are(vcorr) -> None:
    text = vcorr("show", "run", made(vcorr)).out
    assert "How stable the rankings are is not known: 4 clips, and resamples need 6." in text
    assert "tau" not in text


def test_the_suggested_metrics_are_those_that_scored_something(vcorr) -> None:
    for words in (("--model", "zero-motion"), ("--model", "sliding-model", "--probe", "qk", "--steps", "0")):
        path = json.loads(vcorr("run", *words, "--data", "token-slide", "--json").out)["path"]
        last = vcorr("show", "run", path).out.splitlines()[-1]
        assert last.endswith(f"vcorr score {path} --set metrics=matching_accuracy,pck,strata")
        assert vcorr("score", path, "--set", "metrics=matching_accuracy,pck,strata").code == 0


def test_a_folder_of_one_run_stands_for_it(vcorr) -> None:
    path = made(vcorr)
    assert vcorr("show", "run", str(Path(path).parent)).out == vcorr("show", "run", path).out


def test_json_is_all_that_is_on_standard_output(vcorr) -> None:
    found = json.loads(vcorr("show", "run", made(vcorr, "--set", "probe.heads=each"), "--json").out)
    assert found["clips"] == 4
    assert "matching_accuracy" in found["metrics"]
    assert [(best["heads"], best["candidates"]) for best in found["best"]] == [("mean", 4), ("single", 8)]
    layers, sites = found["rankings"]
    assert (layers["ranked"], layers["count"], sites["ranked"], sites["count"]) == ("layers", 2, "sites", 4)
    assert layers["best"] == {"layer": 0, "step": 0}
    assert (layers["tau"], layers["tau_halves"], layers["stays_best"]) == (1, 1, 1)
    assert layers["winners"] == [{"layer": 0, "step": 0, "share": 1.0}]


def test_a_ranking_that_depends_on_the_clips(vcorr) -> None:
    path = Path(made(vcorr))
    for i, name in enumerate(sorted((path / "scores").glob("*.arrow"))):
        found = shards.read_shard(name, "scores")
        rows = found.to_pylist()
        for row in rows:  # layer 0 is the better one on three clips of four, and much worse on the last
            row["value"] = {0: 0.6 if i < 3 else 0.0, 1: 0.5}[row["layer"]]
        shards.write_shard(name, "scores", [ScoreRow(**row) for row in rows], shards.fingerprint_of(found))
    layers = json.loads(vcorr("show", "run", str(path), "--json").out)["rankings"][0]
    assert layers["best"]["layer"] == 1
    shares = {winner["layer"]: winner["share"] for winner in layers["winners"]}
    # layer 0 wins where the last clip is not drawn: (3/4)^4 of the resamples
    assert abs(shares[0] - 0.75**4) < 0.05
    assert layers["stays_best"] == shares[1]
    assert abs(layers["tau"] - (shares[1] - shares[0])) < 1e-9


def test_a_baseline_and_a_run_that_failed(vcorr) -> None:
    path = json.loads(vcorr("run", "--model", "zero-motion", "--data", "token-slide", "--json").out)["path"]
    found = json.loads(vcorr("show", "run", path, "--json").out)
    assert found["rankings"] == []
    assert found["best"][0]["skill"] == 0
    path = made(vcorr, "--set", "data.clips=1", "--set", "data.fail=slide-0")
    ended = vcorr("show", "run", path)
    assert ended.code == 0
    assert ["failed", "slide-0"] in [line.split() for line in ended.out.splitlines()]


def test_the_command_of_a_run_can_be_typed_again(vcorr, monkeypatch, tmp_path) -> None:
    import shlex
    import sys

    command = [*RUN, "--out", "my runs"]
    monkeypatch.setattr(sys, "argv", ["vcorr", *command])
    path = json.loads(vcorr(*command).out)["path"]
    shown = json.loads(vcorr("show", "run", path, "--json").out)
    assert shlex.split(shown["last command"]) == ["vcorr", *command]


def test_what_skill_is_at_ceilings_of_one_is_said_in_the_same_words(vcorr) -> None:
    path = json.loads(vcorr("run", "--model", "zero-motion", "--data", "token-slide", "--json").out)["path"]
    text = " ".join(vcorr("score", path, "--set", "metrics=matching_accuracy,pck").out.split())
    assert " gain clips" not in text
    assert "skill = (value - floor) / (ceiling - floor)" in text
    assert "ceiling: 1 in every row, so skill is gain." in text


def test_what_is_no_run(vcorr) -> None:
    ended = vcorr("show", "run", "nowhere")
    assert ended.code == 2
    assert "nowhere is not a run" in ended.err


def test_strata_are_shown_at_the_best_site(vcorr) -> None:
    path = made(vcorr, "--set", "metrics=matching_accuracy,attention")
    # attention gives no score without the probe that predicts it
    assert f"vcorr score {path} --set metrics=matching_accuracy,strata" in vcorr("show", "run", path).out
    vcorr("score", path, "--set", "metrics=matching_accuracy,strata")
    ended = vcorr("show", "run", path)
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    # one token a frame, four frames: nothing moves less than a stride
    assert "displacement 2-4 1.000 0.000 1.000 1.000 – 4" in lines
    assert "No interval: 4 clips, and an interval needs 6." in ended.out
    places = [lines.index(next(x for x in lines if x.startswith(f"displacement {name}"))) for name in ("0-1", "2-4")]
    assert places == sorted(places)
    assert "Strata without any pair to score: boundary 0-0.5, boundary 0.5-1," in ended.out
    assert "Best sites by matching_accuracy@" not in ended.out
    (strata,) = json.loads(vcorr("show", "run", path, "--json").out)["strata"]
    assert (strata["best"]["layer"], strata["strata"]["reappeared:no"]["clips"]) == (0, 4)
    assert strata["strata"]["reappeared:yes"]["value"] is None


class LayeredData(sliding.SlidingData):
    """Every other point is in front of the background."""

    def clip(self, clip_id):
        clip = super().clip(clip_id)
        layer = np.arange(len(clip.queries), dtype=np.int32) % 2
        return replace(clip, tracks=replace(clip.tracks, layer=layer))


def test_foreground_and_background_are_shown_and_compared_over_all_and_over_moving_pairs(vcorr, monkeypatch) -> None:
    monkeypatch.setattr(sliding, "SlidingData", LayeredData)
    path = made(vcorr)
    asked = ("--set", "metrics=matching_accuracy,strata", "--set", "metric.pairs=[all,moving]")
    assert vcorr("score", path, *asked).code == 0
    found = {each["metric"]: each["strata"] for each in json.loads(vcorr("show", "run", path, "--json").out)["strata"]}
    assert list(found) == ["matching_accuracy", "matching_accuracy_moving"]
    for strata in found.values():
        for layer in ("background", "foreground"):
            assert (strata[f"layer:{layer}"]["clips"], strata[f"layer:{layer}"]["value"]) == (4, 1)
            assert (strata[f"layer:{layer}"]["floor"], strata[f"layer:{layer}"]["ceiling"]) == (0, 1)
    lines = [" ".join(line.split()) for line in vcorr("show", "run", path).out.splitlines()]
    assert "matching_accuracy by stratum: qk, site 0:0" in lines
    assert "matching_accuracy_moving by stratum: qk, site 0:0" in lines
    assert lines.count("layer foreground 1.000 0.000 1.000 1.000 – 4") == 2
    assert [line.split()[0] for line in lines if " pairs 1.000" in line] == ["all", "moving"]
    for asked, columns in (
        ("matching_accuracy@layer:foreground", {"matching_accuracy": ["layer:foreground"]}),
        ("matching_accuracy_moving@layer:*", {"matching_accuracy_moving": ["layer:background", "layer:foreground"]}),
        (
            "*@layer:foreground,matching_accuracy@occlusion:far",
            {
                "matching_accuracy": ["layer:foreground", "occlusion:far"],
                "matching_accuracy_moving": ["layer:foreground"],
            },
        ),
    ):
        shown = json.loads(vcorr("show", "run", path, "--metric", asked, "--json").out)
        assert {each["metric"]: list(each["strata"]) for each in shown["strata"]} == columns
        assert [row["metric"] for row in shown["best"]] == ["matching_accuracy_moving"]
    for asked in ("matching_accuracy@layer:middle", "nothing@layer:foreground", "matching_*"):
        ended = vcorr("show", "run", path, "--metric", asked)
        assert ended.code == 2
        assert f"Unknown metric of this run '{asked}'" in ended.err
    compared = json.loads(vcorr("compare", path, path, "--metric", "*@layer:*", "--json").out)
    assert {row["metric"] for row in compared["rows"]} == {
        f"matching_accuracy{suffix}@layer:{layer}"
        for suffix in ("", "_moving")
        for layer in ("background", "foreground")
    }


def test_an_unknown_stratum_is_answered_with_one_pattern_per_dimension(vcorr) -> None:
    path = made(vcorr)
    vcorr("score", path, "--set", "metrics=matching_accuracy,strata")
    ended = vcorr("show", "run", path, "--metric", "matching_accuracy@layers:*")
    assert (ended.code, ended.err.count("matching_accuracy@frames:")) == (2, 1)
    pattern = next(word.rstrip(",.") for word in ended.err.split() if word.startswith("matching_accuracy@reappeared:"))
    assert vcorr("show", "run", path, "--metric", pattern).code == 0


def test_strata_of_two_runs_are_compared_at_the_sites_of_their_metric(vcorr) -> None:
    path = made(vcorr)
    vcorr("score", path, "--set", "metrics=matching_accuracy,strata")
    found = json.loads(vcorr("compare", path, path, "--metric", "*@displacement:*", "--json").out)
    rows = {row["metric"]: row for row in found["rows"]}
    left = {one["metric"]: one["reason"] for one in found["left_out"]}
    assert {*rows, *left} == {f"matching_accuracy@displacement:{s}" for s in ("0-1", "1-2", "2-4", "4-8", "8+")}
    assert [site["site"] for site in rows["matching_accuracy@displacement:2-4"]["a"]["sites"]] == ["0:0"]
    assert left["matching_accuracy@displacement:8+"] == "none of the 4 clips has a score on both sides"
    shown = vcorr("compare", path, path, "--metric", "*@displacement:*").out
    assert "1.000 1.000 0.000 – 1.000 4" in " ".join(shown.split())
    assert "0.…" not in shown, "long names give way, not numbers"
    plain = json.loads(vcorr("compare", path, path, "--json").out)
    assert not any("@" in row["metric"] for row in plain["rows"])
