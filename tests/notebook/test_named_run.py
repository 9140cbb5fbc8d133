"""Tests `vcorr.run`: what the command makes, from a script."""

import pytest
from support.odd_runs import invoke

import vcorr

ASKED = {"data": "sprites", "limit": 2, "device": "cpu"}
HARD = {"data": {"level": "hard"}}


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    return vcorr.run("zero-motion", out=tmp_path_factory.mktemp("made"), options=HARD, **ASKED)


def read_scores(run):
    return [path.read_bytes() for path in sorted((run.path / "scores").iterdir())]


def test_it_makes_the_run_that_the_command_makes(first_run, tmp_path):
    words = ["--data", "sprites", "--limit", "2", "--device", "cpu", "--set", "data.level=hard"]
    assert invoke("run", "--model", "zero-motion", *words, "--out", str(tmp_path)).code == 0
    other = vcorr.load(tmp_path)
    assert other.path.name == first_run.path.name
    assert read_scores(other) == read_scores(first_run) != []


def test_it_takes_up_what_is_there(first_run):
    again = vcorr.run("zero-motion", out=first_run.path.parent, reuse="only", options=HARD, **ASKED)
    assert again.path == first_run.path


def test_layers_steps_and_probes_may_be_lists(tmp_path):
    with pytest.raises(vcorr.UsageError, match="99"):
        vcorr.run("tiny", ["qk", "latent"], layers=[8, 99], steps=[49], out=tmp_path, **ASKED)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"reuse": "sometimes"}, "reuse: expected matching, only, never"),
        ({"limits": 2}, "limits"),
        ({"options": {"dat": {}}}, "part in options"),
        ({"options": {"data": 3}}, "must be a mapping"),
    ],
)
def test_wrong_arguments_are_named(asked, message, tmp_path):
    with pytest.raises(vcorr.UsageError, match=message):
        vcorr.run("zero-motion", out=tmp_path, **asked)
    assert not list(tmp_path.iterdir())
