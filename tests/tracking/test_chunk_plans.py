"""Tests of how frames are shared out among passes, by property and against the published code's plans."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr import UsageError
from vcorr.tracking.chunk_plans import plan_chunks
from vcorr.tracking.track_options import TrackOptions

ORDERS = ("interval", "sliding", "consecutive")


@given(st.integers(1, 120), st.data(), st.integers(2, 20), st.sampled_from(ORDERS), st.booleans())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_every_frame_is_in_a_chunk_that_the_query_leads(frames, data, size, order, apart):
    query = data.draw(st.integers(0, frames - 1))
    chunks = plan_chunks(frames, query, size, order, directions_apart=apart)
    assert all(chunk[0] == query and 2 <= len(chunk) <= size for chunk in chunks)
    assert all(query not in chunk[1:] and len(set(chunk)) == len(chunk) for chunk in chunks)
    assert {frame for chunk in chunks for frame in chunk[1:]} == set(range(frames)) - {query}
    assert len(set(chunks)) == len(chunks)
    for chunk in chunks if apart else ():
        away = [abs(frame - query) for frame in chunk]
        assert away == sorted(away)
        assert len({frame > query for frame in chunk[1:]}) == 1
    if order == "consecutive":
        assert sum(len(chunk) - 1 for chunk in chunks) == frames - 1


PUBLISHED = {  # first frames of each chunk, and the last chunk: from the reference set of the published code
    13: ([1], (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)),
    14: ([1, 2], (0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13)),
    23: ([*range(1, 12)], (0, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22)),
    24: ([1, 2], (0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22)),
    26: ([1, 2, 3], (0, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25)),
    50: ([1, 2, 3, 4, 5], (0, 5, 9, 13, 17, 21, 25, 29, 33, 37, 41, 45, 49)),
    104: ([*range(1, 16)], (0, 15, 23, 31, 39, 47, 55, 63, 71, 79, 87, 95, 103)),
}


@pytest.mark.parametrize("frames", PUBLISHED)
def test_interval_chunks_are_those_of_the_published_code(frames):
    chunks = plan_chunks(frames, 0, 13, "interval")
    assert ([chunk[1] for chunk in chunks], chunks[-1]) == PUBLISHED[frames]


def test_sliding_chunks_overlap_by_half_and_reach_the_end():
    assert plan_chunks(9, 4, 5, "sliding") == [(4, 0, 1, 2, 3), (4, 2, 3, 5, 6), (4, 5, 6, 7, 8)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"chunk": 1}, "track.chunk=1"),
        ({"order": "zigzag"}, "track.order: expected one of interval, sliding, consecutive"),
        ({"latents": "audio"}, "track.latents"),
        ({"visibility": "guess"}, "track.visibility"),
        ({"threshold": 2}, "track.threshold"),
    ],
)
def test_wrong_options_are_named(wrong, message):
    with pytest.raises(UsageError, match=message):
        TrackOptions(**wrong)
