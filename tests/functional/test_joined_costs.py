"""Tests the correlation of several layers whose logits add up, against the sum written out token by token."""

from __future__ import annotations

import pytest
import torch

from vcorr.contract.errors import UsageError
from vcorr.contract.variants import CORRECTED, DIFFTRACK_TAPVID
from vcorr.functional.token_costs import MatchedTokens, NearestTokens, join_costs
from vcorr.kernels.kernel_choice import use_kernels
from vcorr.kernels.paths_used import forget_paths, paths_used

HEADS, FRAMES, ROWS, COLS, WIDTH = 3, 2, 2, 4, 5


def draw(seed: int, heads: int = HEADS) -> torch.Tensor:
    return torch.randn(heads, FRAMES, ROWS, COLS, WIDTH, generator=torch.Generator().manual_seed(seed))


def correlate(sites, source: int, target: int, scale: float) -> torch.Tensor:
    """Returns C of all tokens of two frames, (P, P): per head, one softmax of the sum over the sites (q, k)."""
    total = torch.zeros(ROWS * COLS, ROWS * COLS)
    for head in range(HEADS):
        forward, reverse = (
            sum(q[head, a].flatten(0, 1) @ k[head, b].flatten(0, 1).T * scale for q, k in sites)
            for a, b in ((source, target), (target, source))
        )
        total += forward.softmax(1) + reverse.softmax(1).T
    return total / HEADS / 2


@pytest.mark.parametrize("variant", [CORRECTED, DIFFTRACK_TAPVID], ids=["corrected", "difftrack"])
def test_logits_of_layers_add_up(variant):
    sites = [(draw(0), draw(1)), (draw(2), draw(3)), (draw(4), draw(5))]
    joined = join_costs([MatchedTokens.of(q, k, scale=0.4, variant=variant) for q, k in sites])
    tokens = torch.tensor([6, 1])
    expected = correlate(sites, 0, 1, 0.4)[tokens]
    if variant.second_softmax:  # the published code divides by the number of descriptors before it
        expected = expected / 3
    torch.testing.assert_close(joined.rows(tokens, source=0, target=1), expected)


@pytest.mark.parametrize(("source", "target"), [(0, 2), (2, 0), (1, 2)])
@pytest.mark.parametrize("width", [4, 5], ids=["descriptors", "pointers"])
def test_fused_rows_equal_plain_ones(source, target, width):
    generator = torch.Generator().manual_seed(7)
    q, k = (torch.randn(2, 3, 5, 7, width, generator=generator) for _ in range(2))
    tokens = torch.tensor([30, 0, 12])
    for costs in (MatchedTokens.of(q, k), MatchedTokens.of(q, k, symmetric=False, heads=(1,)), MatchedTokens.of(k, k)):
        expected = costs.rows(tokens, source=source, target=target)
        forget_paths()
        with use_kernels("fused"):
            torch.testing.assert_close(costs.rows(tokens, source=source, target=target), expected)
        assert paths_used() == {"fused"}


def test_a_second_softmax_stays_plain():
    costs, tokens = MatchedTokens.of(draw(0), draw(1), variant=DIFFTRACK_TAPVID), torch.arange(ROWS * COLS)
    expected = costs.rows(tokens, source=0, target=1)
    with use_kernels("fused"):
        assert torch.equal(costs.rows(tokens, source=0, target=1), expected)


def test_a_frame_is_compared_with_itself():
    costs, tokens = MatchedTokens.of(draw(0), draw(1)), torch.arange(ROWS * COLS)
    expected = correlate([(costs.left, costs.right)], 0, 0, costs.scale)
    for kernels in ("plain", "fused"):
        with use_kernels(kernels):
            torch.testing.assert_close(costs.rows(tokens, source=0, target=0), expected)


def test_one_layer_is_itself_and_tokens_that_match_themselves_stay_so():
    k = draw(0)
    one = MatchedTokens.of(k, k, variant=DIFFTRACK_TAPVID)
    tokens = torch.arange(ROWS * COLS)
    assert torch.equal(join_costs([one]).rows(tokens, source=0, target=1), one.rows(tokens, source=0, target=1))
    joined = join_costs([one, one])
    assert joined.right is joined.left


def test_layers_that_do_not_fit_are_refused():
    one = MatchedTokens.of(draw(0), draw(1))
    with pytest.raises(UsageError, match="compares distances"):
        join_costs([one, NearestTokens(draw(0)[0])])
    for other in (MatchedTokens.of(draw(0, heads=2), draw(1, heads=2)), MatchedTokens.of(draw(0), draw(1), scale=9.0)):
        with pytest.raises(UsageError, match="these differ"):
            join_costs([one, other])
