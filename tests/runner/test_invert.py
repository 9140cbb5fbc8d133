"""Mode invert through all stages: the round trip is stored with every row, and decides whether a clip is scored."""

from __future__ import annotations

import numpy as np
import pytest
from support import sliding

import vcorr
from vcorr.analysis.estimate import estimate
from vcorr.contract.errors import UsageError
from vcorr.contract.records import Reconstruction
from vcorr.runner.coordinator import execute
from vcorr.runner.events import Silent
from vcorr.runner.plan import make_plan
from vcorr.runner.rescore import rescore
from vcorr.runner.spec import RunSpec

DB = {"slide-0": 31.5, "slide-1": 12.25}


class Inverting(sliding.SlidingModel):
    """Says how well each clip came back. Refuses guidance at once, and seed 7 once it is loaded."""

    modes = ("renoise", "invert")

    def check_settings(self, settings):
        if settings.cfg is not None:
            raise UsageError("No guidance here.")
        if self.network is not None and settings.seed == 7:
            raise UsageError("Not with these weights.")

    def run(self, clip, settings, recorder):
        super().run(clip, settings, recorder)
        recorder.reconstruction = Reconstruction(DB[clip.id], 10.0, 40.0)


class plugin:  # takes the part of a module
    __name__ = __file__

    @vcorr.hookimpl
    def vcorr_models():
        return [
            vcorr.ModelEntry(
                name="inverting",
                summary="",
                factory=f"{__name__}:Inverting",
                config=sliding.ModelConfig,
                data="token-slide",
            )
        ]


class Heard(Silent):
    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


def spec(**changes) -> RunSpec:
    return RunSpec(
        **{
            "model": "inverting",
            "data": "token-slide",
            "probe": "qk",
            "steps": "0,9",
            "mode": "invert",
            "limit": 2,
            **changes,
        }
    )


def check_scores(run):
    rows = run.read("scores").to_pylist()
    good, bad = ([r for r in rows if r["clip"] == clip] for clip in DB)
    assert {(r["mode"], r["status"]) for r in good} == {("invert", "ok")}
    assert {r["round_trip"] for r in good} == {31.5}
    assert {r["step"] for r in good} == {0, 9}
    (bad,) = bad
    assert (bad["status"], bad["metric"], bad["round_trip"]) == ("not_scored", "", 12.25)
    assert np.isnan(bad["value"])
    assert bad["error"] == "the round trip of mode invert is 12.2 dB, under 20"


def test_a_clip_that_does_not_come_back_is_not_scored(plugins, tmp_path) -> None:
    found, heard = plugins(plugin), Heard()
    outcome = execute(make_plan(spec(), found), tmp_path, events=heard)
    assert outcome.status == "complete"
    assert {(r["clip"], r["round_trip"]) for r in outcome.run.read("predictions").to_pylist()} == set(DB.items())
    check_scores(outcome.run)
    good, bad = (note for note in heard.notes if "round trip" in note)
    assert "Clip slide-0: the round trip reaches 31.5 dB" in good
    assert "Compared with the video itself, it reaches 10.0 dB; the autoencoder alone reaches 40.0 dB." in good
    assert "Under 20 dB it is not scored" in bad
    assert "Under 20 dB" not in good
    rescore(outcome.run, found, RunSpec(metrics="pck"))
    assert {r["metric"] for r in outcome.run.read("scores").to_pylist()} > {"pck_4", ""}
    rescore(outcome.run, found, RunSpec())
    check_scores(outcome.run)
    assert execute(make_plan(spec(), found), tmp_path).reused == 2


def test_other_modes_have_no_round_trip(plugins, tmp_path) -> None:
    found = plugins(plugin)
    outcome = execute(make_plan(spec(model="sliding-model", mode="renoise"), found), tmp_path)
    assert np.isnan(outcome.run.read("scores")["round_trip"].to_numpy()).all()


def test_a_model_that_does_not_know_the_mode_is_refused_before_anything_runs(plugins) -> None:
    with pytest.raises(UsageError, match="'sliding-model' cannot run in invert mode") as refused:
        make_plan(spec(model="sliding-model"), plugins(plugin))
    assert refused.value.hint == "It runs with --mode renoise or --mode generate."
    with pytest.raises(UsageError, match="'inverting' cannot run in generate mode"):
        make_plan(spec(mode="generate"), plugins(plugin))


def test_what_no_clip_can_be_run_with_is_refused_before_anything_is_loaded(plugins) -> None:
    with pytest.raises(UsageError, match=r"No guidance here\."):
        make_plan(spec(cfg=6.0), plugins(plugin))


def test_what_only_the_loaded_model_knows_ends_the_run(plugins, tmp_path) -> None:
    plan = make_plan(spec(seed=7), plugins(plugin))
    with pytest.raises(UsageError, match=r"Not with these weights\."):
        execute(plan, tmp_path)


def test_a_dry_run_counts_the_way_up_and_down(plugins, tmp_path) -> None:
    assert estimate(make_plan(spec(), plugins(plugin)), tmp_path).forward_passes == 2 * 31
