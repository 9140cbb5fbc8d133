"""Label propagation: against a slow reference, and by construction."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr.contract.errors import UsageError
from vcorr.functional.token_costs import MatchedTokens, NearestTokens
from vcorr.tracking.label_propagation import enlarge_labels, propagate_labels, share_labels

HEADS, CONTEXT, ROWS, COLS, WIDTH, LABELS = 2, 2, 3, 4, 5, 3


def slow(left, right, labels, scale, radius, top_k):
    """Computes the same in plain loops over tokens."""
    heads, frames, rows, cols, _ = left.shape
    places = [(r, c) for r in range(rows) for c in range(cols)]
    out = np.zeros((labels.shape[1], rows, cols))
    for y in places:
        near = [p for p in places if not radius or max(abs(p[0] - y[0]), abs(p[1] - y[1])) <= radius]
        sources = [(f, *p) for f in range(frames - 1) for p in near]
        affinity = np.zeros(len(sources))
        for one, two in ((left, right), (right, left)):
            for head in range(heads):
                dots = [scale * float(one[head, -1, *y] @ two[head, *x]) for x in sources]
                grown = np.exp(np.array(dots) - max(dots))
                affinity += grown / grown.sum()
        best = np.argsort(-affinity, kind="stable")[:top_k]
        for at in best:
            frame, row, col = sources[at]
            out[:, *y] += affinity[at] / affinity[best].sum() * labels[frame, :, row, col].numpy()
    return out


def carry(left, right, labels, *, scale, **options):
    """Carries labels from all frames but the last one to the last one."""
    costs = [MatchedTokens(left, right, scale)]
    return propagate_labels(costs, labels, range(len(labels)), len(labels), **options)


def draw(seed, same=False):
    random = torch.Generator().manual_seed(seed)
    left = torch.randn(HEADS, CONTEXT + 1, ROWS, COLS, WIDTH, generator=random)
    right = left if same else torch.randn(left.shape, generator=random)
    return left, right, torch.rand(CONTEXT, LABELS, ROWS, COLS, generator=random)


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 1000),
    same=st.booleans(),
    radius=st.integers(0, 3),
    top_k=st.integers(1, 30),
    scale=st.floats(0.1, 3),
)
def test_equals_the_slow_reference(seed, same, radius, top_k, scale):
    left, right, labels = draw(seed, same)
    found = carry(left, right, labels, scale=scale, radius=radius, top_k=top_k)
    expected = slow(left, right, labels, scale, radius, top_k)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_frame_cut_into_blocks_gives_the_same(monkeypatch):
    left, right, labels = draw(3)
    whole = carry(left, right, labels, scale=0.5, radius=1)
    monkeypatch.setattr("vcorr.functional.blocks.BLOCK", 2 * CONTEXT * ROWS * COLS)
    torch.testing.assert_close(carry(left, right, labels, scale=0.5, radius=1), whole)


def test_labels_move_with_the_tokens():
    tokens = torch.eye(9).reshape(1, 3, 3, 9)
    moved = tokens.roll(1, dims=2)
    video = torch.stack([tokens, moved], dim=1)
    labels = torch.nn.functional.one_hot(torch.arange(9)).T.reshape(1, 9, 3, 3).float()
    found = carry(video, video, labels, scale=50.0, radius=0, top_k=1)
    torch.testing.assert_close(found, labels[0].roll(1, dims=2))


def test_labels_come_from_the_neighbourhood_alone():
    """Places the equal token three columns away: with radius 2, other tokens give the labels."""
    first, second = torch.zeros(1, 1, 4, 2), torch.zeros(1, 1, 4, 2)
    first[..., 0], second[..., 0] = 0.1, 0.1
    first[0, 0, 3] = second[0, 0, 0] = torch.tensor([0.0, 1.0])
    video = torch.stack([first, second], dim=1)
    labels = torch.tensor([[[[1.0, 1, 1, 0]], [[0.0, 0, 0, 1]]]])
    near, far = (carry(video, video, labels, scale=50.0, radius=r, top_k=1)[1, 0, 0] for r in (2, 3))
    assert (near.item(), far.item()) == (0.0, 1.0)


def test_shares_of_labels_are_the_means_of_their_pixels():
    masks = torch.zeros(2, 4, 6, dtype=torch.bool)
    masks[0] = True
    masks[0, :2, :1], masks[1, :2, :1] = False, True
    shares = share_labels(masks, 2, 3)
    assert shares[1].tolist() == [[0.5, 0, 0], [0, 0, 0]]
    torch.testing.assert_close(shares.sum(0), torch.ones(2, 3))


def test_enlarged_labels_keep_a_square_and_stretching_keeps_a_weak_one():
    labels = torch.zeros(2, 4, 4)
    labels[1, 1:3, 1:3] = 0.2
    labels[0] = 1 - labels[1]
    plain = enlarge_labels(labels, 32, 32, stretch=False)
    stretched = enlarge_labels(labels, 32, 32, stretch=True)
    assert not plain.any()
    expected = torch.zeros(32, 32, dtype=torch.long)
    expected[8:24, 8:24] = 1
    assert (stretched != expected).float().mean() < 0.05


def test_a_label_that_is_nowhere_stays_nowhere():
    labels = torch.stack([torch.ones(4, 4), torch.zeros(4, 4)])
    assert not enlarge_labels(labels, 8, 8).any()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": torch.zeros(1, 3, 3, 4)}, "for 2 context frames"),
        ({"labels": torch.zeros(2, 3, 4, 4)}, "3 x 4 tokens per frame"),
        ({"labels": torch.zeros(2, 3, 3, 4, dtype=torch.int32)}, "labels: expected a floating point"),
        ({"costs": []}, "at least one site"),
        ({"top_k": 0}, "top_k"),
        ({"radius": -1}, "radius"),
    ],
)
def test_arguments_that_do_not_fit_are_named(change, said):
    left, right, labels = draw(0)
    given = {"costs": [MatchedTokens(left, right, 1.0)], "labels": labels, "context": [0, 1], "target": 2} | change
    with pytest.raises(UsageError, match=said):
        propagate_labels(**given)


def test_several_sites_share_one_affinity():
    """Gives each label by one site alone, and both by the two together."""
    left, _, labels = draw(1)
    other = torch.randn(1, *left.shape[1:], generator=torch.Generator().manual_seed(9))  # one head
    costs = [MatchedTokens(each, each, 1.0) for each in (left, other)]
    both = propagate_labels(costs, labels, [0, 1], 2, radius=0, top_k=1000)
    alone = [propagate_labels([cost], labels, [0, 1], 2, radius=0, top_k=1000) for cost in costs]
    torch.testing.assert_close(both, sum(alone) / 2)


def test_tokens_without_dot_products_give_the_labels_of_the_nearest_ones():
    values = torch.tensor([[[[0.0], [1], [2]]], [[[5.0], [6], [7]]], [[[1.1], [6.4], [0.2]]]])
    labels = torch.eye(6).reshape(6, 2, 1, 3).transpose(0, 1)
    found = propagate_labels([NearestTokens(values)], labels, [0, 1], 2, radius=0, top_k=1)
    assert found.argmax(0).tolist() == [[1, 4, 0]]
    near = propagate_labels([NearestTokens(values)], labels, [0, 1], 2, radius=1, top_k=1)
    assert near.argmax(0).tolist() == [[1, 4, 1]]


def test_half_precision_is_accumulated_in_float32():
    left, right, labels = (each.bfloat16() for each in draw(5))
    found = carry(left, right, labels, scale=1 / math.sqrt(WIDTH))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, carry(left.float(), right.float(), labels.float(), scale=WIDTH**-0.5))
