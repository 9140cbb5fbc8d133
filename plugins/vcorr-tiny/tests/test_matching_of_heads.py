"""Tests the matches that training measures in attention, against a slow loop."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vcorr_tiny.networks import TinyConfig
from vcorr_tiny.training.matching import Tap

CONFIG = TinyConfig(size=16, frames=9, vae_channels=(8, 8, 8), heads=2, head_dim=4)  # 2 x 2 tokens, 3 latent frames
TOKENS = CONFIG.grid**2


def weight(queries, keys, here, there):
    """Returns the softmax of one token over the tokens of a frame, at one of them."""
    products = [float(queries[here] @ key) / CONFIG.head_dim**0.5 for key in keys]
    return torch.softmax(torch.tensor(products), 0)[there]


def both_ways(query, key, frame, token, other):
    first, later = (slice(number * TOKENS, (number + 1) * TOKENS) for number in (0, frame))
    return weight(query[first], key[later], token, other) + weight(query[later], key[first], other, token)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_heads_alone_and_together_match_by_weights_of_both_directions(seed):
    shape = (1, CONFIG.heads, CONFIG.latent_frames * TOKENS, CONFIG.head_dim)
    generator = torch.Generator().manual_seed(seed)
    query, key = (torch.randn(shape, generator=generator) * 2 for _ in range(2))
    together, alone = Tap(CONFIG)._matches(query, key)
    assert alone.shape == (CONFIG.heads, 1, CONFIG.latent_frames - 1, TOKENS)
    for frame in range(1, CONFIG.latent_frames):
        for token in range(TOKENS):
            weights = torch.tensor(
                [
                    [both_ways(query[0, head], key[0, head], frame, token, other) for other in range(TOKENS)]
                    for head in range(CONFIG.heads)
                ]
            )
            assert alone[:, 0, frame - 1, token].tolist() == weights.argmax(1).tolist()
            assert together[0, frame - 1, token] == weights.mean(0).argmax()
