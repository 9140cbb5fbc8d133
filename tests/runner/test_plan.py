"""A plan is plain data: it can be sent to other processes, and it alone determines the fingerprints."""

from __future__ import annotations

import pickle
from dataclasses import replace

import cv2
import pytest
from support import sliding

import vcorr
from vcorr.runner import identity
from vcorr.runner import plan_steps as planning
from vcorr.runner.coordinator import execute
from vcorr.runner.events import Silent
from vcorr.runner.plan import Plan, make_plan
from vcorr.runner.predict import prepare_clip
from vcorr.runner.spec import RunSpec


@pytest.fixture
def found(plugins):
    return plugins()


def spec(**changes) -> RunSpec:
    return RunSpec(**{"model": "sliding-model", "probe": "qk", "steps": "0,9", **changes})


def sent(plan: Plan) -> Plan:
    """Returns the plan as another process gets it."""
    found = pickle.loads(pickle.dumps(plan))
    assert isinstance(found, Plan)
    return found


RUNS = {
    "several variants": {"probe": "qk,attention", "variant": "both", "options": {"probe": {"heads": "each"}}},
    "a tracker": {"prompt": "a cat", "cfg": 3.0, "tracker": "lk"},
    "no layers": {"model": "token-patches", "data": "token-slide", "probe": "", "steps": None},
}


@pytest.mark.parametrize("changes", RUNS.values(), ids=RUNS)
def test_a_plan_that_was_pickled_is_the_same_plan(found, changes) -> None:
    plan = make_plan(spec(**changes), found)
    again = sent(plan)
    assert again == plan
    assert again.fingerprints() == plan.fingerprints()
    assert again.predict_identity() == plan.predict_identity()


def test_live_objects_stay_in_their_process_and_are_made_anew_once(found) -> None:
    plan = make_plan(spec(), found)
    plan.live.adapter.made.network = lambda: None  # cannot be pickled
    again = sent(plan)
    assert again.live is again.live
    assert again.live.adapter is not plan.live.adapter
    assert again.live.adapter.made.network is None
    clip_id = plan.selection.clips[1]
    assert prepare_clip(again, clip_id).facts.data_hash == prepare_clip(plan, clip_id).facts.data_hash
    assert sent(again) == plan, "a plan that was used is sent on like any other"


def test_the_planned_objects_are_those_that_work(found) -> None:
    plan = make_plan(spec(), found)
    assert plan.planned_with is not None
    assert plan.live is plan.planned_with


def test_settings_that_a_model_applies_by_itself_are_part_of_a_run(found, monkeypatch, tmp_path) -> None:
    without = make_plan(spec(limit=1), found)
    assert "applied" not in without.predict_identity(), "runs of other models keep their fingerprints"
    prints = {without.fingerprints()["predict"]}
    for shift in (3, 8):
        applied = vcorr.AppliedSettings({"flow_shift": shift}, (f"The shift is {shift}.",))
        monkeypatch.setattr(sliding.SlidingModel, "own_settings", lambda self, s, found=applied: found, raising=False)
        plan = sent(make_plan(spec(limit=1), found))
        assert plan.predict_identity()["applied"] == {"flow_shift": shift}
        prints.add(plan.fingerprints()["predict"])
    assert len(prints) == 3
    heard = []
    events = Silent()
    events.note = heard.append
    run = execute(plan, tmp_path, events=events).run
    assert "The shift is 8." in heard
    record = run.record()
    assert "The shift is 8." in record["notes"]
    assert record["resolved"]["applied"] == {"flow_shift": 8}


def test_another_seed_keeps_the_loaded_model(found) -> None:
    for plan in (make_plan(spec(), found), sent(make_plan(spec(), found))):
        other = plan.with_seed(7)
        assert (other.selection.settings.seed, plan.selection.settings.seed) == (7, 42)
        assert other.live.adapter is plan.live.adapter
        assert other.fingerprints()["predict"] != plan.fingerprints()["predict"]


def test_a_process_with_other_weights_is_refused(found, monkeypatch) -> None:
    monkeypatch.setattr(sliding.SlidingModel, "weights_id", lambda self, weights: "rev-a", raising=False)
    again = sent(make_plan(spec(), found))
    monkeypatch.setattr(sliding.SlidingModel, "weights_id", lambda self, weights: "rev-b")
    with pytest.raises(vcorr.MissingError, match="the weights rev-b here; the run was planned with rev-a"):
        _ = again.live


def test_a_process_with_other_files_or_packages_is_refused(found, tmp_path, monkeypatch) -> None:
    (tmp_path / "p.txt").write_text("a cat\n")
    again = sent(make_plan(spec(data=f"prompts:{tmp_path / 'p.txt'}"), found))
    assert sent(again).live.dataset.ids()
    (tmp_path / "p.txt").write_text("a dog\n")
    with pytest.raises(vcorr.MissingError, match=r"data\.content\S* is (.|\n)*leave the files unchanged"):
        _ = sent(again).live
    (tmp_path / "p.txt").write_text("a cat\n")
    monkeypatch.setattr("vcorr.runner.identity.numeric_versions", lambda pictures: {"torch": "0.1"})
    with pytest.raises(vcorr.MissingError, match=r"versions\.\w+ is .* here; the run was planned with "):
        _ = sent(again).live


@pytest.mark.parametrize("name", ["a\udcff", "ok\ud800"])
def test_a_clip_whose_name_cannot_be_stored_is_refused(found, monkeypatch, name) -> None:
    monkeypatch.setattr(sliding.SlidingData, "ids", lambda self: ["fine", name])
    with pytest.raises(vcorr.UsageError, match=r"the name of the clip '\w+\\u\w+' is not UTF-8 text"):
        make_plan(spec(), found)


def test_which_clips_run_and_where_is_no_part_of_the_fingerprints(found) -> None:
    plan = make_plan(spec(), found)
    fewer = replace(plan, selection=replace(plan.selection, clips=plan.selection.clips[:1], fitted="in words"))
    elsewhere = replace(plan, hardware=replace(plan.hardware, device="cuda:3"), spec=spec(executor="other"))
    for other in (fewer, elsewhere):
        assert other != plan
        assert other.fingerprints() == plan.fingerprints()


def test_an_image_alone_is_no_video(found, monkeypatch) -> None:
    whole = sliding.SlidingData.clip

    def image(self, clip_id):
        clip = whole(self, clip_id)
        return replace(clip, video=clip.video[:1], tracks=None)

    monkeypatch.setattr(sliding.SlidingData, "clip", image)
    assert make_plan(spec(), found).selection.settings.mode == "generate"
    with pytest.raises(vcorr.UsageError, match="--mode renoise needs videos"):
        make_plan(spec(mode="renoise"), found)


def change_version(monkeypatch, package: str) -> None:
    """Makes plans find another version of a package."""
    real = identity._find_version
    monkeypatch.setattr(identity, "_find_version", lambda name: "0.0.1" if name == package else real(name))


@pytest.mark.parametrize("package", ["av", "opencv", "pillow", "torch"])
def test_another_version_of_what_reads_videos_is_another_run(found, monkeypatch, package) -> None:
    before = make_plan(spec(), found).fingerprints()
    change_version(monkeypatch, package)
    after = make_plan(spec(), found).fingerprints()
    assert all(before[stage] != after[stage] for stage in before)


def test_what_reads_videos_does_not_count_where_prompts_are_all(found, monkeypatch) -> None:
    of_prompts = {"prompt": "a cat", "cfg": 3.0, "tracker": "lk"}
    before = make_plan(spec(**of_prompts), found).fingerprints()
    change_version(monkeypatch, "av")
    assert make_plan(spec(**of_prompts), found).fingerprints() == before
    change_version(monkeypatch, "opencv")
    after = make_plan(spec(**of_prompts), found).fingerprints()
    assert (after["predict"] == before["predict"], after["track"] == before["track"]) == (True, False)


def test_the_distribution_of_a_tracker_counts_and_the_core_itself_does_not(found) -> None:
    part = make_plan(spec(**RUNS["a tracker"]), found).parts.tracker
    assert list(identity.tracker_versions(part)) == ["opencv"]
    foreign = replace(part, plugin="some-tracker 1.2")
    assert identity.tracker_versions(foreign) == {**identity.tracker_versions(part), "some-tracker": "1.2"}
    assert identity.tracker_versions(None) == {}


def test_opencv_is_found_by_any_of_its_distributions(monkeypatch) -> None:
    def version(name: str) -> str:
        if name != "opencv-contrib-python":
            raise identity.metadata.PackageNotFoundError(name)
        return "4.12.0"

    monkeypatch.setattr(identity.metadata, "version", version)
    assert identity._find_version("opencv") == "4.12.0"
    monkeypatch.setattr(identity, "_OPENCV", ())
    assert identity._find_version("opencv") == cv2.__version__


GOLDEN = [
    ({}, "f59207ca3132", "26a14ebe412b", "548a635a4bbb"),
    ({**RUNS["several variants"], "limit": 2}, "69a3ec46bc76", "cc1e9d28118d", "0da767f09cd6"),
    ({**RUNS["a tracker"], "noise_draw": "shared"}, "02993a28664f", "67d038faba1e", "e942bea5cbe2"),
    (RUNS["a tracker"], "d6774b81e0f8", "9f0b56225029", "60627cb5de8a"),
    ({**RUNS["no layers"], "metrics": "pck"}, "72cbb3774524", "7240f55b4bb6", "8eafebb4b3ce"),
]


@pytest.mark.parametrize(("changes", "predict", "track", "score"), GOLDEN)
def test_fingerprints_stay_as_they_are(found, monkeypatch, changes, predict, track, score) -> None:
    """A changed fingerprint makes every earlier run start anew: it needs a raised version and a line in CHANGELOG."""
    versions = {"torch": "2.9.0", "diffusers": "0.42.0", "transformers": "5.0.0", "numpy": "2.0.0"}
    monkeypatch.setattr("vcorr.runner.identity.numeric_versions", lambda **_: versions)
    monkeypatch.setattr(planning, "tracker_versions", lambda tracker: {"opencv": "5.0.0"} if tracker else {})
    prints = make_plan(spec(**changes), found).fingerprints()
    assert {stage: text[:12] for stage, text in prints.items()} == {"predict": predict, "track": track, "score": score}
