"""TAP-Vid's two ways to ask for tracks, against a reference that goes point by point."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vcorr.contract.errors import UsageError
from vcorr.contract.records import Tracks
from vcorr.data.tap_queries import choose_tap_queries

VISIBLE = arrays.arrays(bool, st.tuples(st.integers(0, 5), st.integers(1, 13)))


def tracks_of(visible: np.ndarray) -> Tracks:
    points, frames = visible.shape
    xy = np.random.default_rng(0).uniform(0, 9, (points, frames, 2)).astype(np.float32)
    return Tracks(xy, visible, "exact", layer=np.arange(points, dtype=np.int32))


def list_wanted(visible: np.ndarray, mode: str) -> list[tuple[int, int]]:
    """Returns (frame, track) of every query."""
    points, frames = visible.shape
    if mode == "first":
        return [(int(np.flatnonzero(visible[n])[0]), n) for n in range(points) if visible[n].any()]
    return [(t, n) for t in range(0, frames, 5) for n in range(points) if visible[n, t]]


@settings(max_examples=60, deadline=None)
@given(VISIBLE, st.sampled_from(["first", "strided"]))
def test_each_track_is_asked_for_where_the_protocol_says(visible, mode):
    tracks = tracks_of(visible)
    asked = choose_tap_queries(tracks, mode)
    expected = list_wanted(visible, mode)
    assert list(zip(asked.queries.t.tolist(), asked.track.tolist(), strict=True)) == expected
    for number, (t, n) in enumerate(expected):
        assert (asked.queries.xy[number] == tracks.xy[n, t]).all()
        assert (asked.tracks.xy[number] == tracks.xy[n]).all()
        assert (asked.tracks.visible[number] == visible[n]).all()
        assert (asked.tracks.layer[number], asked.tracks.query_frame[number]) == (n, t)


def test_another_way_is_refused():
    with pytest.raises(UsageError, match="first or strided"):
        choose_tap_queries(tracks_of(np.ones((1, 2), bool)), "all")
