"""Ceilings equal the best of all sequences of tokens on small grids, and no prediction passes them on larger ones."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr import HitRule, MetricBase, PluginError, Score, TokenGrid, Tracks, UsageError
from vcorr.contract.variants import switches_of
from vcorr.functional import match
from vcorr.metrics import MatchingAccuracy, Pck, PckConfig, ceilings, find_ceilings, reachable, to_frames, zero_motion
from vcorr.metrics.published_field import field_samples
from vcorr.metrics.score_checks import check_rules, share_of_hits
from vcorr.metrics.strata import Strata
from vcorr.testing import check_metric

fast = settings(max_examples=25, deadline=None, derandomize=True)
VARIANTS = (
    "corrected",
    "corrected+time_map=stretched",
    "corrected+readout=field",
    "corrected+pooling=everything",
    "difftrack",
)
SPANS = {2: ((0, 2), (3, 4)), 3: ((0, 0), (2, 5), (6, 6)), 4: ((0, 1), (2, 4), (5, 8), (9, 9))}


@st.composite
def grids(draw, tokens=3, latents=4):
    frames = draw(st.integers(1, latents))
    kind = draw(st.sampled_from(["causal", "not causal", "spans"] if frames in SPANS else ["causal", "not causal"]))
    stride = draw(st.sampled_from([(16, 16), (8, 24), (5.5, 2.0), (480 / 22, 7.3)]))
    size = (draw(st.integers(1, tokens)), draw(st.integers(1, tokens)))
    if kind == "spans":
        return TokenGrid(frames, *size, stride, spans=SPANS[frames])
    return TokenGrid(frames, *size, stride, temporal_ratio=draw(st.integers(1, 4)), causal=kind == "causal")


def draw_clip(seed, grid, points, speed=0.5):
    """Returns queries in frames of their own, and a reference that walks from them both ways."""
    generator = np.random.default_rng(seed)
    covered = np.concatenate([np.arange(a, b + 1) for a, b in grid.time_spans])
    asked = generator.choice(covered, points).astype(np.int32)
    queries = (generator.uniform(0, 1, (points, 2)) * [grid.width, grid.height]).astype(np.float32)
    walk = (generator.normal(0, speed, (points, grid.video_frames, 2)) * grid.stride).cumsum(axis=1)
    xy = (queries[:, None] + walk - walk[np.arange(points), asked][:, None]).astype(np.float32)
    xy[np.arange(points), asked] = queries
    visible = generator.random(xy.shape[:2]) < 0.8
    visible[np.arange(points), asked] |= generator.random(points) < 0.8
    boundary = generator.uniform(0, 40, points).astype(np.float32)
    return queries, Tracks(xy, visible, "exact", boundary=boundary, query_frame=asked)


def metrics_of(variant):
    thresholds = PckConfig((2.0, 8.0, 16.0, 40.0))
    return (MatchingAccuracy(variant=variant), Pck(thresholds, variant=variant), Strata(variant=variant))


def rules_of(variant, reference, grid):
    found = {}
    for metric in metrics_of(variant):
        found.update(metric.hit_rules(reference, grid))
    return found


def scores_of(variant, tracks, reference, grid):
    found = {}
    for metric in metrics_of(variant):
        found.update({name: score.value for name, score in metric.score(tracks, reference, grid).items()})
    return found


def ceilings_of(variant, reference, queries, grid, **options):
    rules = rules_of(variant, reference, grid)
    asked = {"query_frame": reference.asked_in, "variant": variant}
    return find_ceilings(rules, reference.xy, queries, grid, **asked, **options)


def positions_at_one_latent(query, grid, variant):
    """Returns every position that one point can be answered with at a latent, by trying tokens one after the other."""
    if switches_of(variant).readout == "token":
        start = grid.centres[grid.tokens_at(query)]
        return np.stack([query + (centre - start) for centre in grid.centres])
    samples = field_samples(grid, query[None])
    weights = [np.float32(down * across) for down in samples.weights[0, 1] for across in samples.weights[0, 0]]
    axes = []
    for count, stride in zip((grid.cols, grid.rows), grid.stride, strict=True):
        chosen = itertools.product(*(range(count) if weight else [0] for weight in weights))
        axes.append(
            {np.float32(sum(w * np.float32(i * stride) for w, i in zip(weights, one, strict=True))) for one in chosen}
        )
    return np.array(list(itertools.product(*axes)), dtype=np.float32)


def most_hits(rule, point, reference, chains):
    """Returns the most hits of one point among tracks (S, T, 2), by the definition of a hit."""
    kind = np.float32 if rule.single else np.float64
    offsets = (chains.astype(kind) - reference.xy[point].astype(kind)) / np.array(rule.unit, dtype=kind)
    near = np.sqrt((offsets**2).sum(axis=-1)) < rule.limit
    return (near & rule.counted[point]).sum(axis=1).max()


def brute_force(variant, reference, queries, grid):
    rules = rules_of(variant, reference, grid)
    hits = dict.fromkeys(rules, 0)
    for point, query in enumerate(queries):
        answers, own = positions_at_one_latent(query, grid, variant), grid.latent_at(reference.asked_in[point])
        options = [query[None] if j == own else answers for j in range(grid.frames)]
        picks = np.stack(np.meshgrid(*(np.arange(len(one)) for one in options), indexing="ij"), -1)
        picks = picks.reshape(-1, grid.frames)
        xy = np.stack([one[picks[:, j]] for j, one in enumerate(options)], axis=1)
        repeated = np.repeat(query[None], len(xy), axis=0)
        chains = to_frames(xy, grid, repeated, query_frame=int(reference.asked_in[point]), variant=variant)
        for column, rule in rules.items():
            hits[column] += most_hits(rule, point, reference, chains)
    return {column: hits[column] / n if (n := rule.counted.sum()) else math.nan for column, rule in rules.items()}


@fast
@given(
    grid=grids(),
    seed=st.integers(0, 10_000),
    variant=st.sampled_from(["corrected", "corrected+time_map=stretched", "corrected+pooling=everything"]),
    sides=st.sampled_from([(1,), (1, 3), (1, 3, 5)]),
)
def test_ceilings_are_the_best_of_all_sequences_of_tokens(grid, seed, variant, sides):
    queries, reference = draw_clip(seed, grid, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ceilings, "SIDES", sides)
        found = ceilings_of(variant, reference, queries, grid)
    assert found.kind == "token_maximum"
    expected = brute_force(variant, reference, queries, grid)
    np.testing.assert_array_equal([found.values[c] for c in expected], list(expected.values()))


@settings(fast, max_examples=20)
@given(
    grid=st.one_of(grids(tokens=3, latents=2), grids(tokens=2, latents=3)),
    seed=st.integers(0, 10_000),
    variant=st.sampled_from(["difftrack", "corrected+readout=field"]),
    sides=st.sampled_from([(1,), (1, 3), (1, 3, 5)]),
)
def test_ceilings_of_the_field_are_the_best_of_all_choices_of_four_tokens(grid, seed, variant, sides):
    queries, reference = draw_clip(seed, grid, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ceilings, "SIDES", sides)
        found = ceilings_of(variant, reference, queries, grid)
        patch.setattr(reachable, "MOST_VALUES", 0)  # as on grids with too many sums to list
        bound = ceilings_of(variant, reference, queries, grid)
    assert (found.kind, bound.kind) == ("field_maximum", "field_bound")
    expected = brute_force(variant, reference, queries, grid)
    np.testing.assert_array_equal([found.values[c] for c in expected], list(expected.values()))
    assert all(bound.values[c] >= value for c, value in expected.items() if not math.isnan(value))


def slow_dynamic_programme(rule, point, answers, own, query, reference, grid, variant):
    """Returns the most hits of one point over all sequences, with every pair of tokens and nothing left out."""
    xy = np.where(np.arange(grid.frames)[:, None, None] == own, query, answers[None])  # (F, P, 2)
    asked = int(reference.asked_in[point])

    def hits(frames, pairs):
        """Returns the hits in these frames, (S,), of positions (S, F, 2)."""
        repeated = np.repeat(query[None], len(pairs), axis=0)
        tracks = to_frames(pairs, grid, repeated, query_frame=asked, variant=variant)
        kind = np.float32 if rule.single else np.float64
        offsets = (tracks.astype(kind) - reference.xy[point].astype(kind)) / np.array(rule.unit, dtype=kind)
        near = np.sqrt((offsets**2).sum(axis=-1)) < rule.limit
        return (near & rule.counted[point] & frames).sum(axis=1)

    steps = ceilings.frame_map(grid, variant=variant)
    place = steps.before + steps.fraction
    best = hits(place <= 0, np.repeat(xy[:1], grid.frames, axis=0).swapaxes(0, 1))
    for j in range(1, grid.frames):
        one, other = (part.ravel() for part in np.indices((len(answers), len(answers))))
        pairs = np.repeat(xy[j, other][:, None], grid.frames, axis=1)
        pairs[:, j - 1] = xy[j - 1, one]
        gained = hits((place > j - 1) & (place <= j), pairs)
        best = (best[one] + gained).reshape(len(answers), -1).max(axis=0)
    return best.max()


@settings(fast, max_examples=20)
@given(
    grid=grids(tokens=9),
    seed=st.integers(0, 10_000),
    variant=st.sampled_from(["corrected", "corrected+time_map=stretched", "corrected+pooling=everything"]),
    sides=st.sampled_from([(1,), (1, 3), (1, 3, 5)]),
    speed=st.sampled_from([0.1, 0.5]),
)
def test_leaving_out_far_tokens_changes_no_ceiling(grid, seed, variant, sides, speed):
    queries, reference = draw_clip(seed, grid, 1, speed)
    rules = {c: r for c, r in rules_of(variant, reference, grid).items() if "@" not in c}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ceilings, "SIDES", sides)
        asked = {"query_frame": reference.asked_in, "variant": variant}
        found = find_ceilings(rules, reference.xy, queries, grid, **asked)
    answers, own = positions_at_one_latent(queries[0], grid, variant), grid.latent_at(reference.asked_in[0])
    for column, rule in rules.items():
        most = slow_dynamic_programme(rule, 0, answers, own, queries[0], reference, grid, variant)
        expected = most / rule.counted.sum() if rule.counted.any() else math.nan
        np.testing.assert_array_equal(found.values[column], expected, err_msg=column)


@pytest.mark.parametrize("variant", ["corrected", "corrected+time_map=stretched"])
@pytest.mark.parametrize("speed", [0.03, 0.15, 0.4])
def test_windows_of_any_size_give_the_same_ceilings(variant, speed):
    grid = TokenGrid(frames=4, rows=8, cols=9, stride=(8, 12), temporal_ratio=4)
    queries, reference = draw_clip(7, grid, 60, speed)
    asked = {"query_frame": reference.asked_in, "variant": variant}
    rules = {str(limit): HitRule(reference.visible, limit, grid.stride) for limit in (0.1, 0.2, 0.3, 0.5, 0.8)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ceilings, "SIDES", (9,))  # all tokens: nothing is outside
        expected = find_ceilings(rules, reference.xy, queries, grid, **asked)
        for sides in ((1,), (3,), (1, 3, 5)):
            patch.setattr(ceilings, "SIDES", sides)
            assert find_ceilings(rules, reference.xy, queries, grid, **asked) == expected


def near_tokens(generator, queries, reference, grid, variant):
    """Returns good positions (N, F, 2): of each point, a token near the reference, drawn anew at every latent."""
    xy = np.empty((len(queries), grid.frames, 2), np.float32)
    for point, query in enumerate(queries):
        answers = positions_at_one_latent(query, grid, variant)
        times = np.rint(grid.latent_times).astype(int)
        away = np.linalg.norm((answers - reference.xy[point, times][:, None]) / grid.stride, axis=-1)
        xy[point] = answers[(away + generator.exponential(0.3, away.shape)).argmin(axis=1)]
        xy[point, grid.latent_at(reference.asked_in[point])] = query
    return xy


@fast
@given(grid=grids(tokens=8), seed=st.integers(0, 10_000), variant=st.sampled_from(VARIANTS), speed=st.floats(0.05, 0.6))
def test_no_prediction_passes_its_ceiling(grid, seed, variant, speed):
    if switches_of(variant).readout == "field":
        grid = replace(grid, rows=min(grid.rows, 2), cols=min(grid.cols, 2))  # positions are listed one by one
    queries, reference = draw_clip(seed, grid, 4, speed)
    found = ceilings_of(variant, reference, queries, grid)
    generator = np.random.default_rng(seed)
    for _ in range(3):
        xy = near_tokens(generator, queries, reference, grid, variant)
        tracks = to_frames(xy, grid, queries, query_frame=reference.asked_in, variant=variant)
        for column, value in scores_of(variant, tracks, reference, grid).items():
            assert math.isnan(value) or value <= found.values[column], column


@settings(fast, max_examples=10)
@given(grid=grids(tokens=9), seed=st.integers(0, 10_000), variant=st.sampled_from(VARIANTS), speed=st.floats(0.0, 0.3))
def test_no_match_of_a_model_passes_its_ceiling(grid, seed, variant, speed):
    queries, reference = draw_clip(seed, grid, 5, speed)
    reference = replace(reference, query_frame=np.zeros(5, np.int32), visible=np.ones_like(reference.visible))
    if grid.time_spans[0, 0] or grid.cols / 64 >= grid.rows:
        return
    queries = np.clip(reference.xy[:, 0], 0, [grid.width, grid.height]).astype(np.float32)
    generator = torch.Generator().manual_seed(seed)
    f = torch.randn(1, grid.frames, grid.rows, grid.cols, 4, generator=generator)
    tracks = to_frames(match(f, f, grid, queries, variant=variant).numpy(), grid, queries, variant=variant)
    found = ceilings_of(variant, reference, queries, grid)
    for column, value in scores_of(variant, tracks, reference, grid).items():
        assert math.isnan(value) or value <= found.values[column], column


@fast
@given(grid=grids(tokens=8), seed=st.integers(0, 10_000), variant=st.sampled_from(VARIANTS))
def test_a_larger_threshold_has_no_lower_ceiling(grid, seed, variant):
    queries, reference = draw_clip(seed, grid, 4)
    found = ceilings_of(variant, reference, queries, grid).values
    for suffix in ("", "_moving"):
        rising = [found[f"pck_{threshold}{suffix}"] for threshold in (2, 8, 16, 40)]
        assert np.isnan(rising).all() or rising == sorted(rising)


@fast
@given(grid=grids(tokens=8), seed=st.integers(0, 10_000), variant=st.sampled_from(VARIANTS))
def test_points_have_ceilings_of_their_own(grid, seed, variant):
    queries, reference = draw_clip(seed, grid, 4)
    whole = ceilings_of(variant, reference, queries, grid).values
    rules = rules_of(variant, reference, grid)
    hits = dict.fromkeys(rules, 0.0)
    for point in range(4):
        one = slice(point, point + 1)
        parts = {column: replace(rule, counted=rule.counted[one]) for column, rule in rules.items()}
        asked = {"query_frame": reference.asked_in[one], "variant": variant}
        found = find_ceilings(parts, reference.xy[one], queries[one], grid, **asked).values
        hits = {c: hits[c] + (found[c] * n if (n := parts[c].counted.sum()) else 0) for c in rules}
    for column, rule in rules.items():
        assert not rule.counted.any() or hits[column] / rule.counted.sum() == pytest.approx(whole[column])


@fast
@given(grid=grids(tokens=8), seed=st.integers(0, 10_000))
def test_reversing_time_changes_no_ceiling(grid, seed):
    if grid.spans is not None or grid.causal:
        grid = TokenGrid(grid.frames, grid.rows, grid.cols, grid.stride, temporal_ratio=2, causal=False)
    queries, reference = draw_clip(seed, grid, 4)
    back = replace(
        reference,
        xy=reference.xy[:, ::-1].copy(),
        visible=reference.visible[:, ::-1].copy(),
        query_frame=grid.video_frames - 1 - reference.asked_in,
    )
    forward = ceilings_of("corrected", reference, queries, grid).values
    assert ceilings_of("corrected", back, queries, grid).values == pytest.approx(forward, nan_ok=True)


def test_the_bound_of_the_field_knows_that_frames_between_latents_lie_on_a_line():
    grid = TokenGrid(frames=3, rows=30, cols=45, stride=(8, 8), spans=((0, 0), (4, 4), (8, 8)))
    query = np.float32([[100.3, 101.7]])
    line = np.float32([2, 3]) * np.arange(9, dtype=np.float32)[:, None]
    counted = np.arange(9)[None] > 0
    bent = {"before the latent": [0, 1, 0, 0, 0, 0, 0, 0, 0], "after it": [0, 0, 0, 0, 0, 0, 1, 0, 0]}
    for name, where in {"nowhere": [0] * 9, **bent}.items():
        track = query + line + 20 * np.float32(where)[:, None]
        rules = {"hits": HitRule(counted, 2.0)}
        found = find_ceilings(rules, track[None], query, grid, variant="corrected+readout=field")
        assert found.kind == "field_bound"
        assert found.values["hits"] * 8 == (8 if name == "nowhere" else 7), name


@pytest.mark.parametrize("first", [1, -1])
@pytest.mark.parametrize("asked", [0, 4, 8])
def test_the_bound_of_many_values_allows_misses_up_to_the_radius_on_both_sides(first, asked):
    """Checks a reference that swings around the query by just under the radius, so that standing still always hits."""
    grid = TokenGrid(frames=3, rows=30, cols=45, stride=(16, 16), temporal_ratio=4)
    query = np.float32([[200.3, 170.7]])
    swings = np.where(np.arange(9) % 2, first, -first)
    track = query + 1.96 * swings[:, None] * np.float32([0.6, 0.8])
    rules = {"hits": HitRule(np.arange(9)[None] != asked, 2.0)}
    assert share_of_hits(rules["hits"], zero_motion(query, 9), track[None]) == 1
    found = find_ceilings(rules, track[None], query, grid, query_frame=asked, variant="corrected+readout=field")
    assert (found.kind, found.values["hits"]) == ("field_bound", 1)


def test_free_read_outs_have_a_ceiling_of_one_where_there_are_pairs():
    grid = TokenGrid(frames=3, rows=4, cols=4, stride=(16, 16), temporal_ratio=4)
    queries, reference = draw_clip(0, grid, 3)
    found = ceilings_of("corrected", reference, queries, grid, readout="free")
    assert found.kind == "free"
    rules = rules_of("corrected", reference, grid)
    assert {c: v for c, v in found.values.items() if rules[c].counted.any()} == {
        c: 1.0 for c, rule in rules.items() if rule.counted.any()
    }
    assert any(math.isnan(value) for value in found.values.values())


def test_a_position_between_latents_can_be_better_than_the_nearest_token_of_each():
    grid = TokenGrid(frames=2, rows=1, cols=4, stride=(8, 8), temporal_ratio=5)
    query = np.float32([[4, 4]])
    x = np.float32([4, 9.4, 12, 14, 15, 12])  # at the second latent, in frame 3, the nearest token is the one at 12
    xy = np.stack([x, np.full(6, 4, np.float32)], axis=-1)[None]
    rule = HitRule(np.arange(6)[None] == 1, 0.2, (8.0, 8.0))
    nearest = to_frames(np.float32([[[4, 4], [12, 4]]]), grid, query)
    assert share_of_hits(rule, nearest, xy) == 0.0
    assert find_ceilings({"hits": rule}, xy, query, grid).values == {"hits": 1.0}


def test_whole_token_motion_has_a_ceiling_of_one():
    grid = TokenGrid(frames=4, rows=6, cols=10, stride=(8, 16), temporal_ratio=4)
    queries = np.float32([[3.3, 20.1], [17.9, 40.0], [30.5, 95.9]])
    motion = np.interp(np.arange(13), grid.latent_times, [0, 1, 3, 4])[:, None] * [8, -16]
    reference = (queries[:, None] + motion).astype(np.float32)
    rule = HitRule(np.ones((3, 13), dtype=bool), 0.5, grid.stride)
    inside = (reference >= 0).all((1, 2))
    assert inside.tolist() == [False, False, True]
    alone = replace(rule, counted=rule.counted & inside[:, None])
    found = find_ceilings({"inside": alone, "all": rule}, reference, queries, grid).values
    assert found["inside"] == 1.0
    assert found["all"] < 1.0  # the grid ends above the others


def test_a_reference_is_read_only_where_pairs_count():
    grid = TokenGrid(frames=3, rows=8, cols=8, stride=(8, 8), temporal_ratio=4)
    queries, reference = draw_clip(1, grid, 4, speed=0.2)
    rules = rules_of("corrected", reference, grid)
    known = find_ceilings(rules, reference.xy, queries, grid, query_frame=reference.asked_in).values
    unknown = np.where(reference.visible[..., None], reference.xy, np.float32("nan"))
    found = find_ceilings(rules, unknown, queries, grid, query_frame=reference.asked_in).values
    assert found == pytest.approx(known, nan_ok=True)


@pytest.mark.parametrize("variant", ["corrected", "difftrack"])
@pytest.mark.parametrize("metric", [MatchingAccuracy, Pck, Strata])
def test_rules_say_what_metrics_count(metric, variant):
    grid = TokenGrid(frames=4, rows=8, cols=8, stride=(8, 12), temporal_ratio=4)
    _, reference = draw_clip(3, grid, 20, speed=0.3)
    generator = np.random.default_rng(0)
    tracks = (reference.xy + generator.normal(0, 5, reference.xy.shape)).astype(np.float32)
    made = metric(variant=variant)
    scores = made.score(tracks, reference, grid)
    rules = made.hit_rules(reference, grid)
    assert set(rules) == set(made.columns)
    for column, rule in rules.items():
        assert rule.counted.sum() == scores[column].n
        np.testing.assert_array_equal(share_of_hits(rule, tracks, reference.xy), scores[column].value)


def test_standing_still_passes_no_ceiling():
    grid = TokenGrid(frames=3, rows=8, cols=8, stride=(8, 8), temporal_ratio=4)
    queries, reference = draw_clip(5, grid, 30, speed=0.1)
    still = scores_of("corrected", zero_motion(queries, grid.video_frames), reference, grid)
    found = ceilings_of("corrected", reference, queries, grid).values
    assert all(value <= found[column] for column, value in still.items() if not math.isnan(value))


def test_refusals():
    grid = TokenGrid(frames=3, rows=4, cols=4, stride=(8, 8), temporal_ratio=4)
    rules = {"hits": HitRule(np.ones((1, 9), dtype=bool), 4.0)}
    track = np.zeros((1, 9, 2), np.float32)
    with pytest.raises(UsageError, match="reference: expected shape"):
        find_ceilings(rules, np.zeros((2, 3, 2)), [[1, 1]], grid)
    with pytest.raises(UsageError, match="outside the frame"):
        find_ceilings(rules, track, [[40, 1]], grid)
    with pytest.raises(UsageError, match="readout"):
        find_ceilings(rules, track, [[1, 1]], grid, readout="tokens")
    with pytest.raises(UsageError, match="hits: expected counted of shape"):
        find_ceilings({"hits": HitRule(np.ones((2, 9), dtype=bool), 4.0)}, track, [[1, 1]], grid)
    with pytest.raises(UsageError, match="hits: the reference is NaN"):
        find_ceilings(rules, np.full_like(track, np.nan), [[1, 1]], grid)
    with pytest.raises(UsageError, match="limit must be a positive number"):
        HitRule(np.ones((1, 9), dtype=bool), -1.0)
    with pytest.raises(UsageError, match="counted must be bool"):
        HitRule(np.ones((1, 9)), 1.0)
    with pytest.raises(UsageError, match="unit must be two"):
        HitRule(np.ones((1, 9), dtype=bool), 1.0, (1.0, 0.0))


class Near(MetricBase):
    """The share of pairs within three pixels, with the rules that a test gives it."""

    higher_is_better = True

    def __init__(self, rules):
        self._rules = rules

    def score(self, tracks, reference, grid):
        counted = reference.visible
        near = np.linalg.norm(tracks - reference.xy, axis=-1)[counted] < 3
        return {"near": Score(float(near.mean()) if near.size else math.nan, near.size)}

    def hit_rules(self, reference, grid):
        return self._rules(reference)


def right(reference):
    return {"near": HitRule(reference.visible, 3.0)}


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (
            lambda reference: {"near": HitRule(reference.visible, 9.0)},
            "by the rule of near, these tracks have the value",
        ),
        (lambda reference: {"far": HitRule(reference.visible, 3.0)}, "'far', a column that score"),
        (lambda reference: {"near": HitRule(reference.visible[:1], 3.0)}, "counted has the shape"),
        (lambda reference: {"near": 3.0}, "expected a vcorr.HitRule"),
        (lambda reference: [("near", 3.0)], "must return a mapping"),
    ],
)
def test_rules_that_do_not_fit_the_scores_are_refused(rules, words):
    grid = TokenGrid(frames=3, rows=8, cols=8, stride=(8, 8), temporal_ratio=4)
    queries, reference = draw_clip(5, grid, 30, speed=0.1)
    still = zero_motion(queries, grid.video_frames)
    scores = Near(rules).score(still, reference, grid)
    assert set(check_rules(Near(right), reference, grid, still, scores)) == {"near"}
    with pytest.raises(PluginError, match=words):
        check_rules(Near(rules), reference, grid, still, scores)
    (failed,) = [check for check in check_metric(Near(rules)) if not check.passed]
    assert failed.name == "rules of hits give the values"
    assert all(check.passed for check in check_metric(Near(right)))
