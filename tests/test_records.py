"""Records refuse what is not what they say, by the name of the field."""

import dataclasses

import numpy as np
import pytest

from vcorr import Clip, Tracks, UsageError

XY, SEEN = np.zeros((2, 5, 2), np.float32), np.ones((2, 5), bool)
QUERIES, VIDEO = np.float32([[1, 2], [3, 4]]), np.zeros((5, 16, 16, 3), np.uint8)
TRACKS = Tracks(XY, SEEN, "exact")
CLIP = Clip("c", "a prompt", QUERIES, VIDEO, TRACKS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"xy": XY.tolist()}, "xy must be a numpy array, got list"),
        ({"xy": XY.astype(object)}, "xy must be float32, got object"),
        ({"xy": XY[0]}, "xy must have shape"),
        ({"xy": XY + np.float32(np.nan)}, "xy is NaN or infinite at a visible point"),
        ({"visible": SEEN.tolist()}, "visible must be a numpy array, got list"),
        ({"visible": SEEN * 1.0}, "visible must be bool of shape .* got float64"),
        ({"visible": SEEN * 2}, "visible must be bool of shape .* got int64"),
        ({"visible": SEEN[:, :4]}, "visible must be bool of shape"),
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
        ({"queries": np.zeros((2, 3), np.float32)}, "queries must have shape"),
        ({"video": VIDEO.tolist()}, "video must be a numpy array, got list"),
        ({"video": VIDEO[..., 0]}, "video must be uint8 of shape"),
        ({"video": VIDEO / 255}, "video must be uint8 of shape"),
        ({"video": VIDEO[:4]}, r"tracks have shape \(2, 5, 2\); 2 queries and 4 frames"),
    ],
)
def test_clips(change, message):
    with pytest.raises(UsageError, match=f"Clip c: {message}"):
        dataclasses.replace(CLIP, **change)
