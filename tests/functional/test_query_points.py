"""QueryPoints: the points of one video frame, located once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr import TokenGrid, UsageError
from vcorr.contract.records import Queries
from vcorr.functional import QueryPoints, attention_rows, latent_to_frames, match, match_features
from vcorr.functional.query_points import locate_queries

GRID = TokenGrid(frames=3, rows=4, cols=5, stride=(8, 16), temporal_ratio=4)
POINTS = np.random.default_rng(0).uniform(0, 1, (7, 2)) * [GRID.width, GRID.height]


def qk(seed=0, heads=2):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(heads, 3, 4, 5, 8, generator=generator) for _ in range(2)]


@pytest.mark.parametrize("variant", ["corrected", "difftrack"])
def test_every_function_answers_points_as_it_answers_an_array(variant):
    (q, k), points = qk(), QueryPoints(POINTS)
    text = q[:, 0, 0]
    xy = torch.rand(7, 3, 2)
    for answer in (
        lambda queries: match(q, k, GRID, queries, variant=variant),
        lambda queries: match_features(q[0], GRID, queries, variant=variant),
        lambda queries: attention_rows(q, k, text, GRID, queries, variant=variant).peak_cross,
        lambda queries: latent_to_frames(xy, GRID, queries, variant=variant),
    ):
        assert torch.equal(answer(points), answer(POINTS))


@pytest.mark.parametrize("frame", [0, GRID.video_frames - 1])
def test_queries_of_one_frame_are_taken_as_they_are_and_those_of_several_are_not(frame):
    (q, k), queries = qk(), Queries.at(np.asarray(POINTS, dtype=np.float32), frame)
    for found, expected in (
        (match(q, k, GRID, queries), match(q, k, GRID, POINTS, query_frame=frame)),
        (match_features(q[0], GRID, queries), match_features(q[0], GRID, POINTS, query_frame=frame)),
    ):
        assert torch.equal(found, expected)
        tracks = latent_to_frames(found, GRID, queries)
        assert torch.equal(tracks, latent_to_frames(expected, GRID, POINTS, query_frame=frame))
    mixed = Queries(np.arange(len(queries)), queries.xy)
    with pytest.raises(UsageError, match=r"points in \d frames; a call takes points in one(.|\n)*by_frame"):
        match(q, k, GRID, mixed)
    with pytest.raises(UsageError, match="are in frame 1"):
        match(q, k, GRID, Queries.at(queries.xy, 1), query_frame=2)


def test_points_are_looked_up_once_for_all_sites():
    points = QueryPoints(POINTS)
    for site in range(6):
        q, k = qk(site)
        match(q, k, GRID, points)
        match_features(q[0], GRID, points)
        attention_rows(q, k, q[:, 0, 0], GRID, points)
    assert points.lookups == 1


@pytest.mark.parametrize("variant", ["corrected", "difftrack"])
def test_nothing_is_sent_to_the_device_after_the_first_site(variant, monkeypatch):
    points, radius = QueryPoints(POINTS), 1 if variant == "corrected" else 0

    def read(seed):
        q, k = qk(seed)
        return [
            match(q, k, GRID, points, variant=variant),
            match(q, k, GRID, points, variant=variant, radius=radius),
            match_features(q[0], GRID, points, variant=variant),
        ]

    read(0)
    expected = read(1)
    monkeypatch.setattr(torch, "from_numpy", lambda array: pytest.fail(f"{array.shape} is sent to the device again"))
    assert all(map(torch.equal, read(1), expected))


def test_what_is_kept_belongs_to_its_grid_and_its_look_up():
    points, equal = QueryPoints(POINTS), GRID.coarser(1)
    other = TokenGrid(frames=3, rows=2, cols=5, stride=(8, 32), temporal_ratio=4)
    assert points.locate(equal, "cpu") is points.locate(GRID, torch.device("cpu"))
    assert points.lookups == 1
    expected = locate_queries(other, POINTS, "cpu")
    assert torch.equal(points.locate(other, "cpu").tokens, expected.tokens)
    assert points.locate(GRID, "cpu", "difftrack").weights is not None
    assert points.locate(GRID, "cpu").weights is None
    assert not torch.equal(points.locate_rows(GRID, "cpu", "difftrack").tokens, points.locate(GRID, "cpu").tokens)
    assert points.lookups == 4


@settings(max_examples=40, deadline=None, derandomize=True)
@given(frame=st.integers(0, 8), causal=st.booleans())
def test_the_latent_is_the_one_that_covers_the_frame(frame, causal):
    grid = TokenGrid(frames=3, rows=2, cols=2, stride=(8, 8), temporal_ratio=4 if causal else 3, causal=causal)
    first, last = grid.time_spans[QueryPoints([[1, 1]], frame).locate(grid, "cpu").latent]
    assert first <= frame <= last


def test_later_changes_of_the_array_do_not_reach_the_points():
    array = POINTS.astype(np.float32)
    points = QueryPoints(array)
    array[:] = 0
    np.testing.assert_array_equal(points.xy.numpy(), POINTS.astype(np.float32))
    assert len(points) == 7


@pytest.mark.parametrize("frame", [-1, 1.0, "0", None, True])
def test_a_frame_is_a_whole_number(frame):
    with pytest.raises(UsageError, match="query_frame: expected the number of a video frame"):
        QueryPoints(POINTS, frame)


def test_a_frame_that_no_latent_covers_is_refused():
    with pytest.raises(UsageError, match="No latent covers frame 9 of this 9-frame grid"):
        QueryPoints(POINTS, 9).locate(GRID, "cpu")


def test_points_outside_the_frame_are_refused_and_nothing_is_kept():
    points = QueryPoints([[1.0, 1000.0]])
    with pytest.raises(UsageError, match="queries: 1 of 1 positions lie outside the frame"):
        points.locate(GRID, "cpu")
    assert points.lookups == 0
