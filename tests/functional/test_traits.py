"""The traits of attention heads: against loops, by construction, and their second eigenvalue against numpy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vcorr.functional.traits as traits
from vcorr import TokenGrid
from vcorr.contract.head_traits import TRAITS
from vcorr.functional import attention_rows, head_traits
from vcorr.functional.traits import second_eigenvalue

GRID = TokenGrid(frames=4, rows=2, cols=3, stride=(16, 8))
QUERIES = np.array([[3.0, 2.0], [20.5, 9.25], [47.0, 15.0], [5.0, 3.0], [33.0, 1.0]], dtype=np.float32)
SHARPNESS = 3.0


def make(seed=0, heads=2, text=3, grid=GRID):
    generator = torch.Generator().manual_seed(seed)
    shape = (heads, grid.frames, grid.rows, grid.cols, 5)
    q, k = (SHARPNESS * torch.randn(shape, generator=generator) for _ in range(2))
    return q, k, torch.randn(heads, text, 5, generator=generator)


def slow_traits(q, k, k_text, grid, queries, latent=0, real=None):
    """Follows the docstring of `head_traits` word by word, in float64 loops."""
    q, k, k_text = (tensor.double().numpy() for tensor in (q, k, k_text))
    heads, frames, text = q.shape[0], grid.frames, k_text.shape[1]
    P, d = grid.tokens_per_frame, q.shape[-1]
    real = [True] * text if real is None else real
    tokens = [int(token) for token in grid.tokens_at(queries)]
    states = sorted(set(tokens))
    rows = {}
    for x in states:
        total = np.zeros(text + frames * P)
        for a in range(heads):
            left = q[a, latent].reshape(P, d)[x]
            logits = [left @ k_text[a, n] / math.sqrt(d) if real[n] else -np.inf for n in range(text)]
            logits += [left @ key / math.sqrt(d) for key in k[a].reshape(frames * P, d)]
            weights = np.exp(np.array(logits) - max(logits))
            total += weights / weights.sum() / heads
        rows[x] = total
    order = np.argsort(-np.mean(list(rows.values()), axis=0))
    sinks = order[:4]
    share = np.array([[rows[x][text + latent * P + y] for y in states] for x in states])
    share /= share.sum(axis=1, keepdims=True)
    sizes = sorted(abs(np.linalg.eigvals(share)), reverse=True)
    found = []
    for x in tokens:
        row, others = rows[x], [j for j in range(frames) if j != latent]
        mass = [row[text + j * P : text + (j + 1) * P].sum() for j in range(frames)]
        same = [row[text + j * P + x] for j in range(frames)]
        cross, diagonal = sum(mass[j] for j in others), sum(same[j] for j in others)
        strength = [same[j] / mass[j] for j in others]
        steps = list(itertools.pairwise(strength))
        rough = sum(abs(b - a) for a, b in steps) / sum(a + b for a, b in steps) if steps else math.nan
        found.append(
            [
                mass[latent] / (mass[latent] + cross),
                diagonal / (mass[latent] + diagonal),
                diagonal / cross if others else math.nan,
                1 - rough,
                sum(row[y] for y in sinks),
                sizes[1] if len(states) > 1 else 0.0,
            ]
        )
    return np.array(found)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), heads=st.integers(1, 3), text=st.integers(0, 3), frame=st.integers(0, 3))
def test_agrees_with_the_loops(seed, heads, text, frame):
    q, k, k_text = make(seed, heads, text)
    found = head_traits(q, k, k_text, GRID, QUERIES, query_frame=frame)
    expected = slow_traits(q, k, k_text, GRID, QUERIES, latent=frame)
    np.testing.assert_allclose(found[:, :-1], expected[:, :-1], atol=2e-5)
    np.testing.assert_allclose(found[:, -1], expected[:, -1], atol=5e-3)


def test_padded_text_is_left_out():
    q, k, k_text = make()
    k_text[:, 1] *= 100  # padding that would take all attention
    real = [True, False, True]
    found = head_traits(q, k, k_text, GRID, QUERIES, key_mask=torch.tensor(real))
    expected = slow_traits(q, k, k_text, GRID, QUERIES, real=real)
    np.testing.assert_allclose(found, expected, atol=5e-3)
    every = head_traits(
        q, k, k_text, GRID, QUERIES, key_mask=torch.tensor(real), variant="corrected+pooling=everything"
    )
    np.testing.assert_allclose(every[:, :-1], slow_traits(q, k, k_text, GRID, QUERIES)[:, :-1], atol=2e-5)


def attend_to(targets):
    """Returns q and k of one head in which token y of latent 0 attends evenly to `targets(y)`, places of (j, y)."""
    P = GRID.tokens_per_frame
    logits = torch.full((P, GRID.tokens), -200.0)
    for y in range(P):
        for j, place in targets(y):
            logits[y, j * P + place] = 0.0
    q = torch.zeros(1, GRID.frames, P, GRID.tokens)
    q[0, 0] = logits * math.sqrt(GRID.tokens)
    k = torch.eye(GRID.tokens).view(1, GRID.frames, P, GRID.tokens)
    return tuple(tensor.unflatten(2, (GRID.rows, GRID.cols)) for tensor in (q, k))


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        # the same place in every latent: temporal, on the diagonal, nothing but itself in its own latent
        (lambda y: [(j, y) for j in range(4)], [1 / 4, 3 / 4, 1, 1, None, 1]),
        # the whole own latent: spatial, all tokens alike
        (lambda y: [(0, z) for z in range(6)], [1, 0, None, None, 4 / 6, 0]),
        # one token of the first latent for all: a sink
        (lambda y: [(0, 2)], [1, 0, None, None, 1, 0]),
        # the same place, but in every second later latent alone: fragmented
        (lambda y: [(1, y), (3, y)], [0, 1, 1, 0, 1 / 3, 0]),
        # two groups of places that keep to themselves
        (lambda y: [(0, z) for z in range(6) if z % 2 == y % 2], [1, 0, None, None, None, 1]),
    ],
)
def test_heads_by_construction(targets, expected):
    q, k = attend_to(targets)
    found = head_traits(q, k, torch.zeros(1, 0, GRID.tokens), GRID, np.array(GRID.centres, dtype=np.float32))
    for name, values, value in zip(TRAITS, found.T, expected, strict=True):
        if value is not None:
            assert values.mean().item() == pytest.approx(value, abs=1e-3), name


def test_what_does_not_exist_is_nan_and_no_error():
    one = TokenGrid(frames=1, rows=2, cols=3, stride=(16, 8))
    found = dict(zip(TRAITS, head_traits(*make(grid=one), one, QUERIES).T, strict=True))
    assert found["own_frame"].tolist() == pytest.approx([1.0] * 5)
    assert found["diagonal"].isnan().all()
    assert found["smoothness"].isnan().all()
    two = TokenGrid(frames=2, rows=2, cols=3, stride=(16, 8))
    found = dict(zip(TRAITS, head_traits(*make(grid=two), two, QUERIES).T, strict=True))
    assert found["smoothness"].isnan().all()
    assert found["diagonal"].isfinite().all()
    assert head_traits(*make(), GRID, QUERIES[:0]).shape == (0, 6)
    assert head_traits(*make(), GRID, QUERIES[:1])[0, -1] == 0  # a single place has no second eigenvalue


def test_places_that_several_rows_have_change_no_eigenvalue():
    """Checks the look-up of difftrack, which repeats tokens, against the same tokens once each."""
    q, k, k_text = make(seed=4)
    square = TokenGrid(frames=4, rows=2, cols=3, stride=(8, 8))
    repeated = np.repeat(QUERIES[:, :] * [0.4, 0.9], 2, axis=0).astype(np.float32)
    twice = head_traits(q, k, k_text, square, repeated, variant="difftrack")
    once = head_traits(q, k, k_text, square, repeated[::2], variant="difftrack")
    torch.testing.assert_close(twice[::2, -1], once[:, -1], atol=2e-3, rtol=0)


def test_the_summary_is_untouched():
    """Checks that one head's traits come from the rows that `attention_rows` summarises."""
    q, k, k_text = make()
    rows, found = attention_rows(q, k, k_text, GRID, QUERIES), head_traits(q, k, k_text, GRID, QUERIES)
    torch.testing.assert_close(found[:, 0], rows.sum_self / (rows.sum_self + rows.sum_cross))


# --------------------------------------------------------------------------------------------------- second eigenvalue


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), states=st.integers(2, 40), sharpness=st.sampled_from([0.01, 0.3, 1, 3, 10]))
def test_the_second_eigenvalue_is_numpys(seed, states, sharpness):
    logits = torch.randn(states, states, generator=torch.Generator().manual_seed(seed)) * sharpness
    matrix = logits.softmax(-1)
    sizes = sorted(abs(np.linalg.eigvals(matrix.double().numpy())), reverse=True)
    assert second_eigenvalue(matrix).item() == pytest.approx(sizes[1], abs=8e-3)


def test_matrices_with_known_eigenvalues():
    slow = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    assert second_eigenvalue(slow).item() == pytest.approx(0.7, abs=1e-5)
    turn = torch.eye(5).roll(1, dims=1)  # all eigenvalues on the unit circle, all but one complex
    assert second_eigenvalue(turn).item() == pytest.approx(1.0, abs=1e-4)
    same = torch.full((5, 5), 0.2)
    one_way = torch.tensor(
        [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    )  # its other eigenvalues are 0, defective
    assert second_eigenvalue(torch.stack([torch.eye(5), same])).tolist() == pytest.approx([1.0, 0.0], abs=1e-4)
    assert second_eigenvalue(one_way).item() == pytest.approx(0.0, abs=1e-4)
    assert second_eigenvalue(torch.ones(1, 1)).item() == 0


def test_many_tokens_are_thinned_out(monkeypatch):
    q, k, k_text = make(seed=2)
    centres = np.array(GRID.centres, dtype=np.float32)
    monkeypatch.setattr(traits, "STATES", 3)
    thinned = head_traits(q, k, k_text, GRID, centres)[0, -1]
    expected = slow_traits(q, k, k_text, GRID, centres[::2])[0, -1]
    assert thinned.item() == pytest.approx(expected, abs=5e-3)
