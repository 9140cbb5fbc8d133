"""Halves of clips: they depend on the data alone, and are equally still."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr import UsageError
from vcorr.stats.halves import split_clips

fast = settings(max_examples=40, deadline=None, derandomize=True)


def names(halves, ids):
    return [{ids[i] for i in half} for half in halves]


def make_clips(seed, clips):
    generator = np.random.default_rng(seed)
    still = generator.integers(0, 4, clips) / 4  # with ties
    still[generator.random(clips) < 0.2] = np.nan
    return [f"clip-{n:02d}" for n in range(clips)], still, [f"{seed}-{n}" for n in range(clips)]


@fast
@given(seed=st.integers(0, 1000), clips=st.integers(0, 30), mode=st.sampled_from(["renoise", "generate"]))
def test_of_each_two_neighbours_one_is_in_each_half(seed, clips, mode):
    ids, still, content = make_clips(seed, clips)
    halves = split_clips(ids, still, content, mode=mode)
    assert sorted(np.concatenate(halves).tolist()) == list(range(clips))
    assert abs(len(halves.first) - len(halves.second)) == clips % 2
    unknown = mode == "generate"
    order = sorted(range(clips), key=lambda i: (9 if unknown or math.isnan(still[i]) else still[i], ids[i]))
    for one, two in zip(order[0::2], order[1::2], strict=False):
        assert (one in halves.first) != (two in halves.first)
    for half in halves:
        assert (np.diff(half) > 0).all()


@fast
@given(seed=st.integers(0, 1000), clips=st.integers(2, 30))
def test_the_order_of_the_clips_does_not_count(seed, clips):
    ids, still, content = make_clips(seed, clips)
    order = np.random.default_rng(seed).permutation(clips)
    mixed = split_clips([ids[i] for i in order], still[order], [content[i] for i in order], mode="renoise")
    assert names(mixed, [ids[i] for i in order]) == names(split_clips(ids, still, content, mode="renoise"), ids)


def test_the_content_draws_and_not_the_names_or_the_order_alone():
    ids, still = [f"clip-{n:02d}" for n in range(20)], np.linspace(0, 1, 20)
    drawn = {tuple(split_clips(ids, still, [f"{k}-{n}" for n in range(20)], mode="renoise").first) for k in range(8)}
    assert len(drawn) == 8, "other content, other halves"
    share = np.mean([0 in split_clips(ids, still, [f"{k}-{i}" for i in ids], mode="renoise").first for k in range(400)])
    assert 0.42 < share < 0.58, "either of two neighbours is as likely"
    odd = [2 in split_clips(ids[:3], still[:3], [f"{k}{i}" for i in ids[:3]], mode="renoise").first for k in range(400)]
    assert 0.42 < np.mean(odd) < 0.58


def test_halves_of_clips_in_order_of_motion_are_equally_still():
    ids, still = [f"clip-{n:02d}" for n in range(40)], np.linspace(0, 1, 40)
    means = [still[half].mean() for half in split_clips(ids, still, mode="renoise")]
    assert abs(means[0] - means[1]) <= 1 / 39, "a pair differs by 1/39 at most"


def test_generated_clips_are_halved_by_their_prompts():
    ids = [f"prompt-{n:04d}" for n in range(12)]
    plain = split_clips(ids, mode="generate")
    of_a_model = split_clips(ids, np.random.default_rng(0).random(12), [f"hash {i}" for i in ids], mode="generate")
    assert names(plain, ids) == names(of_a_model, ids)


def test_a_clip_of_unknown_content_counts_by_its_id():
    ids = [f"c{n}" for n in range(8)]
    assert names(split_clips(ids, content=[""] * 8, mode="renoise"), ids) == names(
        split_clips(ids, mode="renoise"), ids
    )


def test_the_draw_is_the_same_on_every_machine():
    halves = split_clips([f"clip-{n}" for n in range(9)], mode="renoise")
    assert [half.tolist() for half in halves] == [[0, 3, 4, 6, 8], [1, 2, 5, 7]]


@pytest.mark.parametrize(
    ("ids", "still", "content"),
    [(["a", "a"], None, None), (["a", "b"], [0.5], None), (["a", "b"], None, ["x", "y", "z"])],
)
def test_refusals(ids, still, content):
    with pytest.raises(UsageError, match="ids: expected different ids"):
        split_clips(ids, still, content, mode="renoise")
