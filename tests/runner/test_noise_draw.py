"""The noise of generated videos: every clip has its own draw, whatever other clips run, unless it is shared."""

from __future__ import annotations

import json
import sys

import pytest
from support import sliding

import vcorr
from vcorr.analysis.comparison import Question, compare_runs
from vcorr.contract.seeds import stable_seed
from vcorr.data.video.lossless import video_hash
from vcorr.runner.coordinator import execute
from vcorr.runner.plan import make_plan
from vcorr.runner.repeat import words_to_repeat
from vcorr.runner.spec import RunSpec, build_spec


class SharedData(sliding.SlidingData):
    """Belongs to videos that were generated from one draw."""

    noise_draw = "shared"


class OddData(sliding.SlidingData):
    """Names a way to draw noise that does not exist."""

    noise_draw = "each"


@vcorr.hookimpl
def vcorr_datasets():
    """Returns the datasets."""
    return sliding.entries_of(vcorr.DatasetEntry, SharedData, OddData)


@pytest.fixture
def registry(plugins):
    return plugins(sys.modules[__name__])


def plan(registry, **changes):
    base = {"model": "sliding-model", "probe": "qk", "steps": "9", "layers": "0", "data": "token-slide", "limit": 2}
    return make_plan(RunSpec(**{**base, "mode": "generate", "tracker": "lk", **changes}), registry)


def videos(registry, out, **changes) -> dict[str, str]:
    """Returns the hash of every generated video. The model draws all pixels from its seed."""
    run = execute(plan(registry, **changes), out).run
    return {row["clip"]: row["video"] for row in run.read("tracks").to_pylist()}


def drawn(seed: int) -> str:
    return video_hash(sliding.slide(seed)[0])


def test_every_clip_has_a_draw_of_its_own_whatever_other_clips_run(registry, tmp_path) -> None:
    both = videos(registry, tmp_path / "a")
    assert both == {clip: drawn(stable_seed(42, clip)) for clip in ("slide-0", "slide-1")}
    assert len(set(both.values())) == 2
    assert videos(registry, tmp_path / "b", limit=1) == {"slide-0": both["slide-0"]}
    assert set(videos(registry, tmp_path / "c", seed=7).values()).isdisjoint(both.values())


def test_a_shared_draw_is_the_seed_of_the_run_itself(registry, tmp_path) -> None:
    assert set(videos(registry, tmp_path / "a", noise_draw="shared").values()) == {drawn(42)}
    assert set(videos(registry, tmp_path / "b", data="shareddata").values()) == {drawn(42)}
    assert len(set(videos(registry, tmp_path / "c", data="shareddata", noise_draw="clip").values())) == 2


def test_the_two_ways_are_two_runs_and_a_shared_one_extends_runs_of_earlier_versions(registry) -> None:
    own, shared = plan(registry), plan(registry, noise_draw="shared")
    assert own.fingerprints()["predict"] != shared.fingerprints()["predict"]
    assert own.predict_identity()["noise_draw"] == "clip"
    assert "noise_draw" not in shared.predict_identity()  # as before there was a choice
    assert (
        plan(registry, mode="renoise").predict_identity()
        == plan(registry, mode="renoise", noise_draw="clip").predict_identity()
    )


def test_notes_say_what_was_chosen_and_what_does_not_apply(registry) -> None:
    assert "--set noise_draw=shared" in " ".join(plan(registry, data="shareddata").notes)
    assert "noise_draw" not in " ".join(plan(registry).notes)
    notes = " ".join(plan(registry, mode="renoise", noise_draw="shared").notes)
    assert "--set noise_draw=shared does not apply: mode renoise generates no videos." in notes


def test_an_unknown_way_is_refused(registry) -> None:
    with pytest.raises(vcorr.UsageError, match="noise_draw"):
        build_spec({"model": "sliding-model"}, assignments=["noise_draw=each"])
    with pytest.raises(vcorr.PluginError, match="noise_draw must be 'clip' or 'shared', got 'each'"):
        plan(registry, data="odddata")


def test_the_command_of_an_earlier_generated_run_asks_for_one_draw() -> None:
    spec = json.loads(json.dumps(vars(build_spec({"model": "sliding-model", "prompt": "a cat"}))))
    del spec["noise_draw"]
    record = {"spec": spec, "row_context": {"mode": "generate"}}
    assert words_to_repeat(record)[-2:] == ["--set", "noise_draw=shared"]
    assert "noise_draw=shared" not in words_to_repeat({**record, "row_context": {"mode": "renoise"}})


def test_runs_that_drew_noise_in_two_ways_do_not_compare(registry, tmp_path) -> None:
    sides = [execute(plan(registry, noise_draw=draw), tmp_path / draw).run for draw in ("clip", "shared")]
    with pytest.raises(vcorr.UsageError, match="noise draw of the generated videos: clip and shared") as caught:
        compare_runs(*sides, Question())
    assert "Generate both with the same --set noise_draw." in caught.value.hint
