"""Baselines by construction: what moves by what they can find is found exactly."""

import cv2
import numpy as np
import pytest
import torch
from diffusers.models.embeddings import apply_rotary_emb, get_3d_rotary_pos_embed
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr import Clip, Queries, RunSettings, UsageError
from vcorr.baselines import (
    BaselineConfig,
    DenseSearch,
    NearestColour,
    PositionOnly,
    RandomToken,
    TokenPatches,
    ZeroMotion,
    ZnccSearch,
)
from vcorr.baselines.baseline_entries import ENTRIES
from vcorr.baselines.ignorant import _rotary
from vcorr.contract.cards import load_card
from vcorr.contract.geometry import TokenGrid
from vcorr.metrics.accuracy import accuracy
from vcorr.testing import assert_passed, check_model

SIDE, FRAMES = 96, 4
WINDOWS = [DenseSearch, ZnccSearch]
SEARCHES = [NearestColour, TokenPatches, *WINDOWS]
EVERY = [ZeroMotion, RandomToken, PositionOnly, *SEARCHES]


class Recorder:
    """Keeps the one prediction."""

    def answer(self, xy, grid, *, name="", readout="token"):
        self.xy, self.grid, self.readout = xy, grid, readout


def moving_clip(dx, dy, queries, seed=0):
    """Returns noise that moves by (dx, dy) pixels per frame and wraps around, so every frame has every window."""
    picture = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    video = np.stack([np.roll(picture, (dy * t, dx * t), axis=(0, 1)) for t in range(FRAMES)])
    return Clip(id="clip", prompt="", queries=np.asarray(queries, dtype=np.float32), video=video)


def answer(model, clip, seed=42):
    recorder = Recorder()
    model.run(clip, RunSettings(seed=seed), recorder)
    return recorder


def truth(clip, dx, dy):
    return clip.queries.xy[:, None] + np.arange(FRAMES)[None, :, None] * np.array([dx, dy])


INNER = [[30.3, 40.7], [48.0, 48.0], [41.9, 52.1]]


@pytest.mark.parametrize("baseline", [TokenPatches, NearestColour])
@pytest.mark.parametrize(("dx", "dy"), [(8, 0), (0, -8), (-8, 8), (0, 0)])
def test_token_searches_find_whole_tokens(dx, dy, baseline):
    clip = moving_clip(dx, dy, INNER)
    found = answer(baseline(BaselineConfig()), clip)
    assert found.readout == "token"
    assert np.abs(found.xy - truth(clip, dx, dy)).max() < 1e-5


@pytest.mark.parametrize(("dx", "dy"), [(2, 0), (0, -4), (-6, 2), (8, 8), (0, 0)])
@pytest.mark.parametrize("baseline", WINDOWS)
def test_window_searches_find_every_second_pixel(dx, dy, baseline):
    clip = moving_clip(dx, dy, INNER)
    found = answer(baseline(BaselineConfig()), clip)
    assert found.readout == "free"
    assert np.abs(found.xy - truth(clip, dx, dy)).max() < 1e-5


@pytest.mark.parametrize("baseline", WINDOWS)
def test_window_searches_are_at_most_a_pixel_off_for_odd_motion_of_smooth_video(baseline):
    noise = np.random.default_rng(0).uniform(0, 255, (SIDE, SIDE, 3))
    picture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX).round().astype(np.uint8)
    video = np.stack([np.roll(picture, 3 * t, axis=1) for t in range(FRAMES)])
    clip = Clip(id="c", prompt="", queries=np.float32([[40, 40]]), video=video)
    error = answer(baseline(BaselineConfig()), clip).xy - truth(clip, 3, 0)
    assert 0 < np.abs(error).max() <= 1


def test_zero_motion_stays():
    clip = moving_clip(5, 3, INNER)
    found = answer(ZeroMotion(BaselineConfig()), clip)
    assert np.array_equal(found.xy, np.repeat(clip.queries.xy[:, None], FRAMES, axis=1))


@pytest.mark.parametrize("baseline", EVERY)
@pytest.mark.parametrize("stride", [8, 16])
def test_answers_stay_inside_the_frame_and_begin_at_the_query(baseline, stride):
    corners = [[0, 0], [SIDE, 0], [0, SIDE], [SIDE, SIDE], [0.2, 50], [95.9, 95.9]]
    clip = moving_clip(7, 5, corners)
    found = answer(baseline(BaselineConfig(stride=stride)), clip)
    assert found.xy.dtype == np.float32
    assert found.xy.shape == (len(corners), FRAMES, 2)
    assert np.array_equal(found.xy[:, 0], clip.queries.xy)
    assert ((found.xy >= 0) & (found.xy <= SIDE)).all()
    assert (found.grid.frames, found.grid.video_frames, found.grid.temporal_ratio) == (FRAMES, FRAMES, 1)
    assert found.grid.stride == (stride, stride)


@pytest.mark.parametrize("baseline", SEARCHES)
def test_a_video_without_texture_is_answered_by_standing_still(baseline):
    video = np.full((FRAMES, SIDE, SIDE, 3), 90, dtype=np.uint8)
    clip = Clip(id="c", prompt="", queries=np.float32(INNER), video=video)
    assert np.array_equal(answer(baseline(BaselineConfig()), clip).xy, truth(clip, 0, 0).astype(np.float32))


def negative_correlation(a, b):
    """Returns the correlation of two windows with its sign changed, step by step; 0 if one has no variance."""
    a, b = a.ravel() - a.mean(), b.ravel() - b.mean()
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return round(-float(a @ b) / norms, 9) if norms else 0.0


@pytest.mark.parametrize("stride", [8, 16])
def test_answers_are_those_of_a_slow_search(stride):
    rng = np.random.default_rng(1)
    video = rng.integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)
    queries = rng.uniform([0, 0], [48, 32], (12, 2)).astype(np.float32)
    clip = Clip(id="c", prompt="", queries=queries, video=video)
    dense, zncc = (answer(baseline(BaselineConfig(stride=stride)), clip).xy[:, 1] for baseline in WINDOWS)
    tokens = answer(TokenPatches(BaselineConfig(stride=stride)), clip).xy[:, 1]
    pixels = video.astype(int)

    def squares(a, b):
        return ((a - b) ** 2).sum()

    def best(x0, y0, places, cost=squares):
        def rank(place):
            x, y = place
            a, b = pixels[0, y0 : y0 + stride, x0 : x0 + stride], pixels[1, y : y + stride, x : x + stride]
            return cost(a, b), (x - x0) ** 2 + (y - y0) ** 2

        x, y = min(places, key=rank)
        return x - x0, y - y0

    for n, (qx, qy) in enumerate(queries.astype(float)):
        x0 = int(np.clip(np.floor(qx - stride / 2 + 0.5), 0, 48 - stride))
        y0 = int(np.clip(np.floor(qy - stride / 2 + 0.5), 0, 32 - stride))
        every = [(x, y) for y in range(y0 % 2, 33 - stride, 2) for x in range(x0 % 2, 49 - stride, 2)]
        assert np.allclose(dense[n], queries[n] + best(x0, y0, every))
        assert np.allclose(zncc[n], queries[n] + best(x0, y0, every, negative_correlation))
        c0, r0 = int(qx // stride), int(qy // stride)
        grid = [(c * stride, r * stride) for r in range(32 // stride) for c in range(48 // stride)]
        assert np.allclose(tokens[n], queries[n] + best(c0 * stride, r0 * stride, grid))


@given(data=st.data())
@settings(deadline=None, max_examples=25)
def test_zncc_is_that_of_a_slow_search_with_flat_windows_ties_and_other_contrast(data):
    """Draws few grey levels, for ties and windows without variance, and another contrast for the second frame.

    The contrast does not change which window is best.
    """
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    levels = data.draw(st.sampled_from([1, 2, 3, 60]))
    side, step = 4, data.draw(st.integers(1, 3))
    video = rng.integers(0, levels, (2, 8, 12, 3)).astype(np.uint8)
    video[1] = step * video[1] + data.draw(st.integers(0, 50))
    queries = rng.uniform([0, 0], [12, 8], (6, 2)).astype(np.float32)
    clip = Clip(id="c", prompt="", queries=queries, video=video)
    found = answer(ZnccSearch(BaselineConfig(stride=side)), clip).xy[:, 1]
    pixels = video.astype(int)
    for n, (qx, qy) in enumerate(queries.astype(float)):
        x0, y0 = (int(np.clip(np.floor(q - side / 2 + 0.5), 0, most - side)) for q, most in ((qx, 12), (qy, 8)))
        wanted = pixels[0, y0 : y0 + side, x0 : x0 + side]
        every = [(x, y) for y in range(y0 % 2, 9 - side, 2) for x in range(x0 % 2, 13 - side, 2)]
        costs = [negative_correlation(wanted, pixels[1, y : y + side, x : x + side]) for x, y in every]
        moves = [(x - x0, y - y0) for x, y in every]
        ranks = [(cost, dx**2 + dy**2) for cost, (dx, dy) in zip(costs, moves, strict=True)]
        best = [move for move, rank in zip(moves, ranks, strict=True) if rank == min(ranks)]
        assert any(np.allclose(found[n], queries[n] + move) for move in best)


def test_zncc_ignores_brightness_and_contrast_and_l2_does_not():
    clip = moving_clip(8, -8, INNER)
    video = clip.video // 4
    video[1:] = video[1:] * 2 + 100  # a window of the same brightness is nearer by L2 than the same window, brighter
    brighter = Clip(id="c", prompt="", queries=clip.queries.xy, video=video)
    off = {b: np.abs(answer(b(BaselineConfig()), brighter).xy - truth(clip, 8, -8)).max() for b in WINDOWS}
    assert off[ZnccSearch] < 1e-5
    assert off[DenseSearch] > 8


@pytest.mark.parametrize("seed", range(20))
def test_of_windows_with_equal_zncc_the_one_that_moved_least_wins_whatever_its_contrast(seed):
    """Puts the window itself far away, and a copy of another contrast near; both correlate equally."""
    window = np.random.default_rng(seed).integers(0, 80, (8, 8, 3)).astype(np.uint8)
    video = np.zeros((2, SIDE, SIDE, 3), dtype=np.uint8)
    video[0, 40:48, 40:48] = video[1, 40:48, 80:88] = window
    video[1, 40:48, 20:28] = 3 * window + 5
    clip = Clip(id="c", prompt="", queries=np.float32([[44, 44]]), video=video)
    assert answer(ZnccSearch(BaselineConfig()), clip).xy[0, 1].tolist() == [24, 44]


def test_a_window_without_variance_stays_and_is_no_match_for_another():
    """Makes the left half of the frame flat. Its point stays; the point on the right finds no flat window."""
    clip = moving_clip(0, 4, [[20, 48], [70, 48]])
    video = np.where(np.arange(SIDE)[:, None] < 48, np.uint8(128), clip.video)
    found = answer(ZnccSearch(BaselineConfig()), Clip(id="c", prompt="", queries=clip.queries.xy, video=video)).xy
    expected = truth(clip, 0, 4)
    expected[0] = clip.queries.xy[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("baseline", EVERY[1:])
def test_points_do_not_depend_on_each_other(baseline):
    clip = moving_clip(3, 1, INNER)
    together = answer(baseline(BaselineConfig()), clip).xy
    alone = [answer(baseline(BaselineConfig()), clip.with_queries(clip.queries[n : n + 1])).xy[0] for n in range(3)]
    assert np.array_equal(together, np.stack(alone))


def test_nearest_colour_sees_means_alone():
    """Shuffles a token, which keeps its mean; one brighter pixel makes another token nearer."""
    rng = np.random.default_rng(3)
    tokens = rng.integers(0, 255, (2, 4, 64, 3), dtype=np.uint8)  # two frames of 2 x 2 tokens
    tokens[1] = rng.permuted(tokens[0], axis=1)[[3, 2, 1, 0]]
    queries = np.float32([[1, 1], [9, 1], [1, 9], [9, 9]])
    stay = queries[[3, 2, 1, 0]]

    def clip():
        video = tokens.reshape(2, 2, 2, 8, 8, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 16, 16, 3)
        return Clip(id="c", prompt="", queries=queries, video=np.ascontiguousarray(video))

    assert np.array_equal(answer(NearestColour(BaselineConfig()), clip()).xy[:, 1], stay)
    tokens[:] = 100
    tokens[1, :3, 0, 0] = 101  # by a 64th of a level of one channel
    assert np.array_equal(answer(NearestColour(BaselineConfig()), clip()).xy[:, 1], queries[[3, 3, 3, 3]])


@pytest.mark.parametrize("baseline", EVERY)
def test_queries_of_any_frame_are_answered_as_frame_0_of_the_video_turned_to_it(baseline):
    """Compares with each query alone, on a video whose frames were reordered so that the query frame is first."""
    clip = moving_clip(5, -3, [*INNER, [0, 0], [3, SIDE]])
    frames = np.int32([2, 0, 1, 2, FRAMES - 1])
    mixed = clip.with_queries(Queries(frames, clip.queries.xy))
    found = answer(baseline(BaselineConfig()), mixed).xy
    for n, frame in enumerate(frames):
        first = [frame, *(t for t in range(FRAMES) if t != frame)]
        alone = Clip(id="clip", prompt="", queries=clip.queries.xy[n : n + 1], video=clip.video[first])
        expected = answer(baseline(BaselineConfig()), alone).xy[0]
        if baseline is RandomToken:  # draws for a frame, not for a picture: only the query's own frame is another
            expected = answer(baseline(BaselineConfig()), clip).xy[n][first]
            expected[0] = clip.queries.xy[n]
            other = [t for t in range(1, FRAMES) if first[t] != 0]
            np.testing.assert_array_equal(found[n][first][other], expected[other])
        else:
            np.testing.assert_array_equal(found[n][first], expected)
        np.testing.assert_array_equal(found[n, frame], clip.queries.xy[n])


class TestRandomToken:
    SEVERAL = np.random.default_rng(0).uniform(0, SIDE, (300, 2)).astype(np.float32)

    def xy(self, clip, seed=42, stride=8):
        return answer(RandomToken(BaselineConfig(stride=stride)), clip, seed).xy

    def test_every_token_is_drawn_equally_often(self):
        clip = moving_clip(0, 0, self.SEVERAL)
        tokens = answer(RandomToken(BaselineConfig(stride=32)), clip).grid.tokens_at(self.xy(clip, stride=32)[:, 1:])
        counts = np.bincount(tokens.ravel(), minlength=9)
        assert len(counts) == 9
        assert ((counts - 100) ** 2 / 100).sum() < 26.1  # chi squared of 8 degrees, one in a thousand

    def test_its_accuracy_is_that_of_chance(self):
        """Compares with chance: the share of all tokens of the frame whose prediction would be right, per pair."""
        clip = moving_clip(3, -2, np.random.default_rng(0).uniform(8, SIDE - 8, (50, 2)))
        reference, visible = truth(clip, 3, -2), np.ones((50, FRAMES), dtype=np.bool_)
        side = SIDE // 8
        right = []
        for (x, y), track in zip(clip.queries.xy, reference, strict=True):
            places = [(x + 8 * (c - x // 8), y + 8 * (r - y // 8)) for r in range(side) for c in range(side)]
            for goal_x, goal_y in track[1:]:
                right.append(sum(np.hypot(px - goal_x, py - goal_y) < 4 for px, py in places) / side**2)
        found = []
        for seed in range(200):
            drawn = answer(RandomToken(BaselineConfig()), clip, seed)
            found.append(accuracy(drawn.xy, reference, visible, drawn.grid).value)
        chance = np.mean(right)
        spread = np.sqrt(np.mean(np.array(right) * (1 - np.array(right))) / len(right) / len(found))
        assert chance == pytest.approx(np.pi / 4 / side**2, rel=0.2), "a disc of half a token's radius"
        assert abs(np.mean(found) - chance) < 3 * spread

    def test_keeps_the_place_inside_the_token(self):
        moves = self.xy(moving_clip(0, 0, self.SEVERAL)) - self.SEVERAL[:, None]
        assert np.abs(moves / 8 - (moves / 8).round()).max() < 1e-5

    def test_depends_on_seed_clip_and_position_alone(self):
        clip = moving_clip(0, 0, self.SEVERAL)
        expected = self.xy(clip)
        assert np.array_equal(self.xy(moving_clip(5, 3, self.SEVERAL, seed=7)), expected)
        order = np.random.default_rng(1).permutation(300)
        assert np.array_equal(self.xy(clip.with_queries(self.SEVERAL[order])), expected[order])
        shorter = Clip(id="clip", prompt="", queries=self.SEVERAL, video=clip.video[:3])
        assert np.array_equal(self.xy(shorter), expected[:, :3])
        other = Clip(id="other", prompt="", queries=self.SEVERAL, video=clip.video)
        for changed in (self.xy(clip, seed=43), self.xy(other)):
            assert (changed[:, 1:] == expected[:, 1:]).all(axis=-1).mean() < 0.05

    def test_what_is_drawn_is_for_ever_the_same(self):
        clip = moving_clip(0, 0, [[4, 4], [50.5, 20.25]])
        assert self.xy(clip)[:, 1:].tolist() == [
            [[68.0, 76.0], [28.0, 52.0], [36.0, 12.0]],
            [[50.5, 60.25], [66.5, 36.25], [18.5, 60.25]],
        ]


class TestPositionOnly:
    def test_it_stands_still_whatever_moves(self):
        clip = moving_clip(8, -8, [*INNER, [0, 0], [SIDE, SIDE], [8, 16]])
        assert np.array_equal(answer(PositionOnly(BaselineConfig()), clip).xy, truth(clip, 0, 0).astype(np.float32))

    def test_its_embedding_is_that_of_diffusers_with_the_same_content_in_every_token(self):
        rows, cols = 5, 7
        grid = TokenGrid(frames=2, rows=rows, cols=cols, stride=(8, 8))
        cos, sin = get_3d_rotary_pos_embed(64, ((0, 0), (rows, cols)), (rows, cols), 2)
        turned = apply_rotary_emb(torch.ones(1, 1, 2 * rows * cols, 64), (cos, sin))[0, 0].double().numpy()
        theirs = turned[: rows * cols] @ turned[rows * cols :].T  # queries of latent 0, keys of latent 1
        ours = _rotary(grid) @ _rotary(grid).T
        time = theirs[0, 0] - ours[0, 0]  # what the latents' angle adds is the same for all tokens
        np.testing.assert_allclose(theirs - time, ours, atol=1e-4)


def test_the_grid_asks_for_whole_tokens():
    video = np.zeros((3, 37, 50, 3), dtype=np.uint8)
    clip = Clip(id="c", prompt="", queries=np.zeros((1, 2), np.float32), video=video)
    grid = ZeroMotion(BaselineConfig()).grid(clip, None)
    assert (grid.rows, grid.cols, grid.height, grid.width, grid.video_frames) == (4, 6, 32, 48, 3)
    with pytest.raises(UsageError, match="does not divide"):
        answer(ZeroMotion(BaselineConfig()), clip)


@pytest.mark.parametrize("baseline", EVERY)
def test_what_cannot_be_answered_is_refused(baseline):
    model = baseline(BaselineConfig())
    clip = moving_clip(0, 0, INNER)
    with pytest.raises(UsageError, match="generate"):
        model.run(clip, RunSettings(mode="generate"), Recorder())
    with pytest.raises(UsageError, match="outside the frame"):
        answer(model, clip.with_queries(np.float32([[97, 5]])))
    with pytest.raises(UsageError, match="no video"):
        answer(model, Clip(id="c", prompt="p", queries=np.zeros((1, 2), np.float32)))
    with pytest.raises(UsageError, match="stride"):
        baseline(BaselineConfig(stride=0))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_baselines_pass_the_contract_of_models(entry):
    assert_passed(check_model(entry, moving_clip(2, 0, INNER), plugin="vcorr.baselines"))


def test_entries_and_cards():
    names = ["zero-motion", "random-token", "position-only", "nearest-colour", "token-patches", "dense-search"]
    names.append("zncc-search")
    assert [entry.name for entry in ENTRIES] == names
    for entry in ENTRIES:
        model = entry.create()
        assert list(model.sites()) == []
        assert model.weights_id("hub") == "none"
        card = load_card(entry.card, entry.label)
        assert (card.name, card.attention, card.extra["kind"]) == (entry.name, "none", "baseline")
