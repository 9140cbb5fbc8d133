"""The modes: what each asks of a clip, and that a word is looked up in one place."""

import re
from pathlib import Path

import numpy as np
import pytest

import vcorr
from vcorr import Clip, RunSettings, Tracks, UsageError
from vcorr.contract.modes import MODES, Generate, Invert, Renoise, choose_mode, mode_of

QUERIES = np.float32([[1, 1]])
TRACKS = Tracks(np.ones((1, 4, 2), np.float32), np.ones((1, 4), bool), "exact")
VIDEO = Clip("a", "a dog", QUERIES, np.zeros((4, 8, 8, 3), np.uint8), TRACKS)
IMAGE = Clip("a", "a dog", QUERIES, np.zeros((1, 8, 8, 3), np.uint8))
PROMPT = Clip("a", "a dog", QUERIES[:0], query_side=3)


def test_every_word_has_one_mode():
    assert [mode_of(mode.name) for mode in MODES] == list(MODES)
    assert len({mode.name for mode in MODES}) == len(MODES) == 3
    with pytest.raises(UsageError, match=r"Unknown mode 'renoize'\. Did you mean 'renoise'"):
        mode_of("renoize")


@pytest.mark.parametrize(
    ("word", "first", "expected"),
    [
        (None, VIDEO, Renoise),
        (None, IMAGE, Generate),
        (None, PROMPT, Generate),
        (None, None, Renoise),
        ("generate", VIDEO, Generate),
        ("invert", VIDEO, Invert),
        ("invert", None, Invert),
    ],
)
def test_data_choose_the_mode_that_nobody_named(word, first, expected):
    assert isinstance(choose_mode(word, first), expected)


@pytest.mark.parametrize("word", ["renoise", "invert"])
@pytest.mark.parametrize("first", [IMAGE, PROMPT])
def test_modes_that_read_a_video_refuse_data_without(word, first):
    with pytest.raises(UsageError, match=f"--mode {word} needs videos"):
        choose_mode(word, first)


def test_a_mode_that_makes_its_video_takes_the_prompt_and_perhaps_the_image():
    made = Generate()
    assert made.input_of(VIDEO, needs_image=False).video is None
    assert made.input_of(VIDEO, needs_image=True).video is VIDEO.video
    assert made.input_of(VIDEO, needs_image=True).tracks is None
    assert made.size_source(VIDEO).video is None
    assert not made.has_tracks(VIDEO)
    for read in (Renoise(), Invert()):
        assert read.input_of(VIDEO, needs_image=False) is read.size_source(VIDEO) is VIDEO
        assert read.has_tracks(VIDEO)
        assert not read.has_tracks(IMAGE)
    assert [mode.makes_video for mode in MODES] == [False, True, False]


def test_passes_of_a_dry_run():
    settings = RunSettings(steps=(0, 3), num_steps=10)
    assert [mode.passes(settings) for mode in (Renoise(), Generate())] == [2, 10]
    assert Invert().passes(settings) >= 20


def test_no_part_compares_the_word_itself():
    """Checks that the code asks the mode object, so that a new mode cannot be forgotten anywhere."""
    found = {
        str(path)
        for path in Path(vcorr.__file__).parent.rglob("*.py")
        if re.search(r'mode"?\]? *[!=]= *"(renoise|generate|invert)"', path.read_text())
    }
    assert {Path(path).parts[-2:] for path in found} == {("testing", "model_checks.py")}  # checks renoise alone
