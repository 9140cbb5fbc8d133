"""Records refuse what is not what they say, by the name of the field."""

import dataclasses

import numpy as np
import pytest

from vcorr import Clip, Queries, Tracks, UsageError

XY, SEEN = np.zeros((2, 5, 2), np.float32), np.ones((2, 5), bool)
QUERIES, VIDEO = np.float32([[1, 2], [3, 4]]), np.zeros((5, 16, 16, 3), np.uint8)
TRACKS = Tracks(XY, SEEN, "exact")
LAYERS = np.zeros((5, 16, 16), np.uint8)
CLIP = Clip("c", "a prompt", QUERIES, VIDEO, TRACKS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"xy": XY.tolist()}, "xy must be a numpy array, got list"),
        ({"xy": XY.astype(object)}, "xy must be float32, got object"),
        ({"xy": XY[0]}, "xy must have shape"),
        ({"xy": XY + np.float32(np.nan)}, "xy is NaN or infinite at a visible point"),
        ({"xy": np.ma.masked_greater(XY, 20)}, "xy must be a plain numpy array, got MaskedArray"),
        ({"visible": SEEN.tolist()}, "visible must be a numpy array, got list"),
        ({"visible": np.ma.masked_array(SEEN)}, "visible must be a plain numpy array, got MaskedArray"),
        ({"visible": SEEN.view(np.matrix)}, "visible must be a plain numpy array, got matrix"),
        ({"visible": SEEN * 1.0}, "visible must be bool of shape .* got float64"),
        ({"visible": SEEN * 2}, "visible must be bool of shape .* got int64"),
        ({"visible": SEEN[:, :4]}, "visible must be bool of shape"),
        ({"layer": [0, 1]}, "layer must be a numpy array, got list"),
        ({"layer": np.zeros(3, np.int32)}, r"layer must be int32 of shape \(2,\), got int32 \(3,\)"),
        ({"layer": np.zeros(2)}, r"layer must be int32 of shape \(2,\), got float64"),
        ({"layer": np.array([0, -2])}, "layer is -2 for a point; layers count from 0, and -1 means"),
        ({"query_frame": np.array([0, 5])}, "query_frame names a frame that the 5 frames do not have"),
    ],
)
def test_tracks(change, message):
    with pytest.raises(UsageError, match=f"Tracks: {message}"):
        dataclasses.replace(TRACKS, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": QUERIES.tolist()}, "queries must be a numpy array, got list"),
        ({"queries": QUERIES.astype(str)}, "queries must be finite numbers, got <U"),
        (
            {"queries": QUERIES * np.float32([1, np.nan])},
            "queries must be finite numbers, got NaN or infinity for 2 of 2",
        ),
        ({"queries": QUERIES * np.float32([[np.inf], [1]])}, "queries must be finite numbers, .* for 1 of 2"),
        ({"queries": np.zeros((2, 4), np.float32)}, "queries must have shape"),
        (
            {"queries": np.float32([[0, 1, 2], [5, 3, 4]])},
            "queries must be in a frame of the video; .* in frame 5",
        ),
        ({"queries": np.float32([[0, 1, 2], [0.5, 3, 4]])}, "frames of queries must be whole numbers"),
        ({"queries": np.float32([[0, 1, 2], [-1, 3, 4]])}, "frames of queries must be whole numbers of at least 0"),
        ({"video": VIDEO.tolist()}, "video must be a numpy array, got list"),
        ({"video": np.ma.masked_array(VIDEO)}, "video must be a plain numpy array, got MaskedArray"),
        ({"video": VIDEO[..., 0]}, "video must be uint8 of shape"),
        ({"video": VIDEO / 255}, "video must be uint8 of shape"),
        ({"layers": LAYERS.tolist()}, "layers must be a numpy array, got list"),
        ({"layers": LAYERS.astype(np.int32)}, r"layers must be uint8 of shape \(T, H, W\), got int32 \(5, 16, 16\)"),
        ({"layers": VIDEO}, r"layers must be uint8 of shape \(T, H, W\), got uint8 \(5, 16, 16, 3\)"),
        (
            {"layers": LAYERS[:, :15]},
            r"layers must have the frames and size of the video, \(5, 16, 16\), got \(5, 15, 16\)",
        ),
        ({"video": VIDEO[:4]}, r"tracks have shape \(2, 5, 2\); 2 queries and 4 frames"),
    ],
)
def test_clips(change, message):
    with pytest.raises(UsageError, match=f"Clip c: {message}"):
        dataclasses.replace(CLIP, **change)


@pytest.mark.parametrize("prompt", ["a \ud83d cat", "\udcff"])
def test_a_prompt_with_half_a_character_is_refused(prompt):
    with pytest.raises(UsageError, match="Clip: prompt holds half a character"):
        dataclasses.replace(CLIP, prompt=prompt)


def test_another_video_has_neither_the_tracks_nor_the_layers_of_the_old_one():
    clip = dataclasses.replace(CLIP, layers=LAYERS)
    for video in (None, VIDEO[:2]):
        other = clip.with_video(video)
        assert (other.video is video, other.tracks, other.layers) == (True, None, None)
        assert other.queries is clip.queries


def test_arrays_become_queries():
    assert dataclasses.replace(CLIP, queries=QUERIES).queries == Queries.at(QUERIES)
    rows = np.array([[3, 1, 2], [0, 3, 4]])
    timed = dataclasses.replace(CLIP, queries=rows).queries
    assert (timed.t.dtype, timed.xy.dtype) == (np.int32, np.float32)
    assert timed == Queries(np.array([3, 0]), QUERIES)
    assert timed != Queries.at(QUERIES)
    assert Queries.of(timed) is timed


def test_queries_by_frame_are_ascending_and_complete():
    queries = Queries(np.array([4, 0, 4, 2]), np.arange(8.0).reshape(4, 2))
    groups = [(frame, indices.tolist()) for frame, indices in queries.by_frame()]
    assert groups == [(0, [1]), (2, [3]), (4, [0, 2])]
    assert queries[np.array([0, 2])] == Queries.at(np.float32([[0, 1], [4, 5]]), 4)
    assert len(queries) == 4


@pytest.mark.parametrize(
    ("t", "xy", "message"),
    [
        ([0, 1], QUERIES, "Queries: t must be a numpy array"),
        (np.array([0]), QUERIES, r"t has shape \(1,\), xy \(2, 2\)"),
        (np.array(["a", "b"]), QUERIES, "frames of queries must be whole numbers"),
        (np.array([0, -1]), QUERIES, "frames of queries must be whole numbers of at least 0"),
        (np.array([0, 1]), QUERIES[:, :1], "queries must have shape"),
    ],
)
def test_queries_that_are_none(t, xy, message):
    with pytest.raises(UsageError, match=message):
        Queries(t, xy)


@pytest.mark.parametrize(
    ("confidence", "message"),
    [
        (np.ones((2, 4), np.float32), "confidence must be float32 of shape"),
        (np.ones((2, 5), int), "confidence must be float32 of shape"),
        (np.full((2, 5), 1.5, np.float32), r"confidence must be in \[0, 1\]"),
        (np.full((2, 5), np.nan, np.float32), r"confidence must be in \[0, 1\]"),
    ],
)
def test_confidence_of_tracks(confidence, message):
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(TRACKS, confidence=confidence)
