"""`noise_batch`: runs with several noise levels in a pass say so, and compare with runs of one."""

from __future__ import annotations

import pytest

import vcorr
from vcorr.analysis.comparable import differences, note_clips, read_measured_on, settings_apart
from vcorr.contract.errors import UsageError
from vcorr.runner.coordinator import execute
from vcorr.runner.plan import make_plan
from vcorr.runner.repeat import words_to_repeat
from vcorr.runner.spec import RunSpec, build_spec
from vcorr.store.fingerprint import plain

pytestmark = pytest.mark.filterwarnings("ignore")  # libraries on their own versions

BASE = {"model": "tiny", "probe": "qk", "steps": "10,30,49", "limit": 1}
SMALL = {"model": {"frames": 5}, "data": {"frames": 5}}


def plan(**changes):
    return make_plan(RunSpec(**{**BASE, "options": SMALL, **changes}), vcorr.installed())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run with one noise level in a pass, and one with up to two."""
    out = tmp_path_factory.mktemp("runs")
    return [execute(plan(noise_batch=number), out).run for number in (1, 2)]


def test_scores_and_predictions_agree(runs):
    one, two = (run.read("scores").to_pylist() for run in runs)
    assert [repr({**row, "run": "", "value": 0}) for row in one] == [
        repr({**row, "run": "", "value": 0}) for row in two
    ]
    assert [row["value"] for row in one] == pytest.approx([row["value"] for row in two], abs=1e-6, nan_ok=True)
    one, two = (run.read("predictions").to_pylist() for run in runs)
    assert len(one) == 3 * len(plan().selection.sites)
    for left, right in zip(one, two, strict=True):
        assert (left["layer"], left["step"], left["noise"]) == (right["layer"], right["step"], right["noise"])
        assert left["xy"] == pytest.approx(right["xy"], abs=1e-3)


def measured_on(run):
    facts = {}
    list(note_clips([run.read("scores")], facts))
    return read_measured_on(run, run.record(), facts)


def test_the_record_says_it_and_the_runs_compare(runs):
    one, two = runs
    assert not differences(measured_on(one), measured_on(two))
    assert settings_apart(one, two)["settings.noise_batch"][1] == 2
    assert one.path != two.path
    assert two.record()["spec"]["noise_batch"] == 2
    assert "--set noise_batch=2" in " ".join(words_to_repeat(two.record()))


def test_one_level_has_the_fingerprint_of_runs_from_before_there_was_a_choice():
    assert "noise_batch" not in plan().predict_identity()["settings"]
    assert plan(noise_batch=2).predict_identity()["settings"]["noise_batch"] == 2


def test_a_record_from_before_there_was_a_choice_is_repeated():
    spec = plain(plan().spec)
    del spec["noise_batch"]
    assert words_to_repeat({"spec": spec})[:2] == ["vcorr", "run"]


def test_more_levels_than_steps_count_as_the_steps():
    assert plan(steps="49", noise_batch=8).fingerprints() == plan(steps="49").fingerprints()
    assert plan(noise_batch=8).fingerprints() == plan(noise_batch=3).fingerprints()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise_batch": 0}, "at least one noise level"),
        ({"noise_batch": 2, "mode": "generate"}, "in mode generate, each noise level follows from the one before"),
        ({"noise_batch": 2, "mode": "invert"}, "in mode invert, each"),
        ({"keep_latents": True, "mode": "generate"}, "mode generate encodes no video"),
        (
            {
                "noise_batch": 2,
                "model": "mochi",
                "weights": "random",
                "data": "sprites",
                "options": {"model": {"size": "small"}},
            },
            "takes one noise level",
        ),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        plan(**changes)


def test_the_option_is_set_as_others():
    assert build_spec({}, assignments=["noise_batch=4"]).noise_batch == 4
