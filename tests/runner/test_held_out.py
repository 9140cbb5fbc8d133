"""Clips that chose a site are recognised, also where one side leaves out options that came later."""

from vcorr.runner.held_out import MeasuredClips, describe_overlap, shares_videos

RECORD = {"name": "sprites", "split": "test", "config": {"size": 32, "limit": 4, "level": "easy"}}
IDENTITY = {"name": "sprites", "split": "test", "config": {"size": 32, "limit": 9}}


def test_an_option_at_its_default_may_be_left_out():
    assert shares_videos(RECORD, IDENTITY, {"level": "easy"})
    assert not shares_videos({**RECORD, "config": {"size": 32, "level": "hard"}}, IDENTITY, {"level": "easy"})
    assert not shares_videos({**RECORD, "config": {"size": 64, "level": "easy"}}, IDENTITY, {"level": "easy"})


def test_the_warning_counts_the_shared_clips():
    chosen = MeasuredClips(RECORD, frozenset({"a", "b"}))
    assert "2 of the 3 clips" in describe_overlap(chosen, IDENTITY, ["a", "b", "c"], "run", {"level": "easy"})
    assert not describe_overlap(chosen, IDENTITY, ["c"], "run", {"level": "easy"})
