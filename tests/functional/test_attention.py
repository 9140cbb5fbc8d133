"""Attention rows, confidence, attention and their harmonic mean against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vcorr.functional.blocks as blocks
from vcorr import TokenGrid, UsageError
from vcorr.functional import AttentionRows, attention_rows, attention_score, confidence_score, harmonic_mean
from vcorr.functional.attention import attention_token_rows, locate_rows

fast = settings(max_examples=40, deadline=None, derandomize=True)


def random_case(seed, heads=2, frames=3, h=4, w=5, d=6, text=3, n=5, stride=(16, 16), dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(heads, frames, h, w, d, generator=generator).to(dtype) for _ in range(2))
    k_text = torch.randn(heads, text, d, generator=generator).to(dtype)
    grid = TokenGrid(frames=frames, rows=h, cols=w, stride=stride, temporal_ratio=4)
    queries = np.random.default_rng(seed).uniform(0, 1, (n, 2)) * [grid.width, grid.height]
    return q, k, k_text, grid, queries.astype(np.float32)


cases = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10_000),
        "heads": st.integers(1, 3),
        "frames": st.integers(2, 3),
        "h": st.integers(1, 4),
        "w": st.integers(1, 5),
        "d": st.integers(1, 6),
        "text": st.integers(0, 4),
        "n": st.integers(0, 5),
        "stride": st.sampled_from([(16, 16), (8, 24), (4.5, 2.0)]),
        "dtype": st.sampled_from([torch.float32, torch.bfloat16]),
    }
)


def slow_rows(q, k, k_text, grid, queries, mask, exchanged):
    """Returns (N, n + F*h*w), by float64 loops."""
    q, k, k_text = (tensor.double().numpy() for tensor in (q, k, k_text))
    H, F, h, w, d = q.shape
    out = np.zeros((len(queries), k_text.shape[1] + F * h * w))
    for i, (x, y) in enumerate(queries):
        if exchanged:  # Python rounds half to even as well
            row = min(max(round(float(np.float32(x / grid.stride[0]))), 0), h - 1)
            col = min(max(round(float(np.float32(y / grid.stride[1]))), 0), w - 1)
        else:
            row, col = min(int(y // grid.stride[1]), h - 1), min(int(x // grid.stride[0]), w - 1)
        for a in range(H):
            keys = [*k_text[a], *k[a].reshape(-1, d)]
            weight = np.array([math.exp(q[a, 0, row, col] @ key / math.sqrt(d)) for key in keys])
            weight[: len(mask)] *= mask
            out[i] += weight / weight.sum() / H
    return out


@fast
@given(case=cases, data=st.data(), variant=st.sampled_from(["corrected", "difftrack"]))
def test_rows_agree_with_the_loops(case, data, variant):
    q, k, k_text, grid, queries = random_case(**case)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=case["text"], max_size=case["text"])), dtype=bool)
    got = attention_rows(q, k, k_text, grid, queries, variant=variant, key_mask=torch.from_numpy(mask))
    used = mask if variant == "corrected" else np.ones_like(mask)
    rows = slow_rows(q, k, k_text, grid, queries, used, variant == "difftrack")
    words, video = (
        rows[:, : case["text"]],
        rows[:, case["text"] :].reshape(len(rows), case["frames"], case["h"] * case["w"]),
    )
    expected = {
        "peak_cross": video[:, 1:].max(axis=2),
        "peak_self": video[:, 0].max(axis=1),
        "peak_text": words.max(axis=1) if used.any() else np.full(len(rows), np.nan),
        "sum_cross": video[:, 1:].sum(axis=(1, 2)),
        "sum_self": video[:, 0].sum(axis=1),
        "sum_text": words.sum(axis=1) if used.any() else np.full(len(rows), np.nan),
    }
    for name, value in expected.items():
        tensor = getattr(got, name)
        assert tensor.dtype == torch.float32
        np.testing.assert_allclose(tensor.numpy(), value, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("block", [1, 70, 500])
def test_blocks_do_not_change_the_rows(monkeypatch, block):
    arguments = random_case(0, n=30)
    whole = attention_rows(*arguments)
    monkeypatch.setattr(blocks, "BLOCK", block)
    for got, expected in zip(attention_rows(*arguments), whole, strict=True):
        torch.testing.assert_close(got, expected)


def test_rows_add_up_and_padding_takes_nothing():
    q, k, k_text, grid, queries = random_case(1)
    rows = attention_rows(q, k, k_text, grid, queries)
    torch.testing.assert_close(rows.sum_cross + rows.sum_self + rows.sum_text, torch.ones(5))
    mask = torch.tensor([True, False, True])
    got = attention_rows(q, k, k_text, grid, queries, key_mask=mask)
    for a, b in zip(got, attention_rows(q, k, k_text[:, mask], grid, queries), strict=True):
        torch.testing.assert_close(a, b)


def test_located_rows_can_be_used_again():
    q, k, k_text, grid, queries = random_case(2)
    for variant in ("corrected", "difftrack"):
        points = locate_rows(grid, queries, "cpu", variant=variant)
        got = attention_token_rows(q, k, k_text, grid, points, variant=variant)
        for a, b in zip(got, attention_rows(q, k, k_text, grid, queries, variant=variant), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"q": "q"}, "q: expected"),
        ({"q": torch.zeros(2, 3, 4, 4, 6)}, "q: expected shape"),
        ({"k": torch.zeros(2, 3, 4, 5, 7)}, "k: expected q's shape"),
        ({"k_text": torch.zeros(3, 6)}, "k_text: expected"),
        ({"k_text": torch.zeros(2, 3, 5)}, "k_text: expected"),
        ({"k_text": torch.zeros(2, 3, 6).int()}, "k_text: expected"),
        ({"k_text": None}, "k_text: expected"),
        ({"key_mask": torch.ones(3)}, "key_mask: expected a bool"),
        ({"key_mask": torch.ones(2, dtype=torch.bool)}, "key_mask: expected a bool"),
        ({"key_mask": [True, True, True]}, "key_mask: expected a bool .* got list"),
        ({"queries": [[90.0, 1.0]]}, "queries: .*outside the frame"),
        ({"queries": [[90.0, 1.0]], "variant": "difftrack"}, "queries: .*outside the frame"),
        ({"variant": "diff"}, "Did you mean 'difftrack'"),
    ],
)
def test_refusals_name_the_argument(changes, message):
    names = ("q", "k", "k_text", "grid", "queries")
    with pytest.raises(UsageError, match=message):
        attention_rows(**{**dict(zip(names, random_case(3), strict=True)), **changes})


# ---------------------------------------------------------------------------------------------------------- the scores


def random_rows(seed, grid, n):
    generator = np.random.default_rng(seed)
    rows = AttentionRows(
        torch.from_numpy(generator.random((n, grid.frames - 1))),
        *(torch.from_numpy(generator.random(n)) for _ in range(5)),
    )
    return rows, generator.random((n, grid.video_frames)) < 0.8


@fast
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(0, 6),
    frames=st.integers(1, 4),
    ratio=st.integers(1, 4),
    causal=st.booleans(),
    variant=st.sampled_from(["corrected", "difftrack"]),
)
def test_scores_agree_with_the_loops(seed, n, frames, ratio, causal, variant):
    grid = TokenGrid(frames=frames, rows=2, cols=2, stride=(8, 8), temporal_ratio=ratio, causal=causal)
    rows, visible = random_rows(seed, grid, n)
    cross, own, text, sums = [], [], [], {"cross": [], "self": [], "text": []}
    for i in range(n):
        shown = []
        for j in range(1, frames):
            first, last = grid.time_spans[j]
            if all(visible[i, t] for t in range(first, last + 1)):
                shown.append(float(rows.peak_cross[i, j - 1]))
        if variant == "difftrack" or visible[i, 0]:
            own.append(float(rows.peak_self[i]))
            text.append(float(rows.peak_text[i]))
            if shown or variant == "difftrack":
                cross.append(np.mean(shown) if shown else 0.0)
        if visible[i, 0]:
            for name, values in sums.items():
                values.append(float(getattr(rows, f"sum_{name}")[i]))
    confidence = confidence_score(rows, visible, grid, variant=variant)
    attention = attention_score(rows, torch.from_numpy(visible), variant=variant)
    for name, values in (("cross", cross), ("self", own), ("text", text)):
        np.testing.assert_allclose(confidence[name], np.mean(values) if values else np.nan, err_msg=name)
        np.testing.assert_allclose(attention[name], np.mean(sums[name]) if sums[name] else np.nan, err_msg=name)
        assert type(confidence[name]) is type(attention[name]) is float


def test_a_point_never_seen_again():
    grid = TokenGrid(frames=3, rows=2, cols=2, stride=(8, 8), temporal_ratio=2)
    rows, visible = random_rows(0, grid, 2)
    visible[:] = True
    visible[1, [2, 4]] = False
    first = float(rows.peak_cross[0].mean())
    assert confidence_score(rows, visible, grid)["cross"] == pytest.approx(first)
    assert confidence_score(rows, visible, grid, variant="difftrack")["cross"] == pytest.approx(first / 2)


def test_scores_without_text_or_points():
    q, k, k_text, grid, queries = random_case(4, text=0)
    rows = attention_rows(q, k, k_text, grid, queries)
    visible = np.ones((5, grid.video_frames), dtype=bool)
    for score in (confidence_score(rows, visible, grid), attention_score(rows, visible)):
        assert math.isnan(score["text"])
        assert 0 < score["cross"] < 1
    for score in (confidence_score(rows, visible & False, grid), attention_score(rows, visible & False)):
        assert all(math.isnan(value) for value in score.values())


@pytest.mark.parametrize("visible", [np.ones((5, 9)), np.ones((4, 9), bool), np.ones((5, 8), bool), np.ones(5, bool)])
def test_visibility_that_does_not_fit(visible):
    q, k, k_text, grid, queries = random_case(5)
    rows = attention_rows(q, k, k_text, grid, queries)
    with pytest.raises(UsageError, match="visible: expected bool"):
        confidence_score(rows, visible, grid)
    if visible.shape != (5, 8):
        with pytest.raises(UsageError, match="visible: expected bool"):
            attention_score(rows, visible)


# --------------------------------------------------------------------------------------------------- the harmonic mean


def slow_harmonic(tables, nan_zeroes):
    if nan_zeroes and any(np.isnan(table).any() for table in tables):
        return np.zeros(tables[0].shape)
    out = np.empty(tables[0].shape)
    for cell in np.ndindex(out.shape):
        shares = []
        for table in tables:
            known = [value for value in table.flat if not math.isnan(value)]
            if math.isnan(table[cell]):
                shares.append(math.nan)
            elif max(known) == min(known):
                shares.append(0.0)
            else:
                shares.append((table[cell] - min(known)) / (max(known) - min(known)))
        if any(math.isnan(share) for share in shares):
            out[cell] = math.nan
        else:
            out[cell] = 0.0 if 0 in shares else 3 / sum(1 / share for share in shares)
    return out


@fast
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    missing=st.sampled_from([0, 0.2, 1]),
    flat=st.booleans(),
    variant=st.sampled_from(["corrected", "difftrack"]),
)
def test_harmonic_mean_agrees_with_the_loops(seed, shape, missing, flat, variant):
    generator = np.random.default_rng(seed)
    tables = generator.random((3, *shape))
    tables[generator.random(tables.shape) < missing] = np.nan
    if flat:
        tables[1] = 0.25
    expected = slow_harmonic(tables, variant == "difftrack")
    got = harmonic_mean(*tables, variant=variant)
    assert isinstance(got, np.ndarray)
    np.testing.assert_allclose(got, expected, atol=1e-12)
    tensor = harmonic_mean(*(torch.from_numpy(table) for table in tables), variant=variant)
    np.testing.assert_allclose(tensor.numpy(), expected, atol=1e-12)


def test_harmonic_mean_refusals():
    table = np.ones((2, 3))
    with pytest.raises(UsageError, match=r"confidence: expected \(L, S\)"):
        harmonic_mean(table, table.T, table)
    with pytest.raises(UsageError, match="attention: an infinite value"):
        harmonic_mean(table, table, table * np.inf)
