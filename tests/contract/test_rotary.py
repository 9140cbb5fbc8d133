"""The declared layout of a rotary embedding turns vectors as the networks' own code does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vcorr import Rotary, UsageError

SIZE = (3, 4, 5)


def turn(x, rotary, size=SIZE):
    """Turns x (H, F*h*w, d) as the record says."""
    angles = torch.from_numpy(rotary.angles(*size)).flatten(1, 3).float()  # (H or 1, n, P)
    first, second = (torch.from_numpy(channels) for channels in rotary.channels())
    a, b = x[..., first], x[..., second]
    out = torch.empty_like(x)
    out[..., first] = a * angles.cos() - b * angles.sin()
    out[..., second] = a * angles.sin() + b * angles.cos()
    return out


def random_heads(heads, width):
    return torch.randn(heads, int(np.prod(SIZE)), width, generator=torch.Generator().manual_seed(0))


def test_blocks_are_the_tables_of_cogvideox() -> None:
    from diffusers.models.embeddings import apply_rotary_emb, get_3d_rotary_pos_embed

    frames, rows, cols = SIZE
    table = get_3d_rotary_pos_embed(64, ((0, 0), (rows, cols)), (rows, cols), frames)
    x = random_heads(2, 64)
    assert torch.allclose(turn(x, Rotary.blocks((16, 24, 24))), apply_rotary_emb(x[None], table)[0], atol=1e-5)


def test_blocks_are_the_tables_of_wan() -> None:
    from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed

    embed = WanRotaryPosEmbed(32, (1, 2, 2), 64)
    cos, sin = embed(torch.empty(1, 4, SIZE[0], 2 * SIZE[1], 2 * SIZE[2]))
    angles = torch.from_numpy(Rotary.blocks((12, 10, 10)).angles(*SIZE)).reshape(-1, 16)
    assert torch.allclose(angles.cos(), cos[0, :, 0, ::2].double(), atol=1e-6)
    assert torch.allclose(angles.sin(), sin[0, :, 0, 1::2].double(), atol=1e-6)


def test_blocks_are_the_tables_of_hunyuanvideo() -> None:
    from diffusers.models.embeddings import apply_rotary_emb
    from diffusers.models.transformers.transformer_hunyuan_video import HunyuanVideoRotaryPosEmbed

    table = HunyuanVideoRotaryPosEmbed(2, 1, [4, 6, 6], 256.0)(torch.empty(1, 4, SIZE[0], 2 * SIZE[1], 2 * SIZE[2]))
    x = random_heads(2, 16)
    rotary = Rotary.blocks((4, 6, 6), theta=256.0)
    assert torch.allclose(turn(x, rotary), apply_rotary_emb(x[None], table)[0], atol=1e-5)


def test_half_pairing_is_the_table_of_cosmos() -> None:
    from diffusers.models.embeddings import apply_rotary_emb
    from diffusers.models.transformers.transformer_cosmos import CosmosRotaryPosEmbed

    embed = CosmosRotaryPosEmbed(32, max_size=(8, 8, 8), patch_size=(1, 1, 1), rope_scale=(1.0, 1.0, 1.0))
    table = embed(torch.empty(1, 4, *SIZE))
    x = random_heads(2, 32)
    own = apply_rotary_emb(x[None], table, use_real=True, use_real_unbind_dim=-2)[0]
    assert torch.allclose(turn(x, Rotary.blocks((12, 10, 10), pairing="half")), own, atol=1e-5)


# --------------------------------------------------------------------------------------------------- by construction


@given(
    st.lists(st.sampled_from(["t", "y", "x", ""]), min_size=1, max_size=6),
    st.sampled_from(["interleaved", "half"]),
    st.tuples(*[st.floats(-3, 3)] * 3),
)
def test_only_the_difference_of_two_places_counts(axes, pairing, starts) -> None:
    frequencies = tuple(0.1 * (index + 1) for index in range(len(axes)))
    rotary = Rotary(tuple(axes), frequencies, pairing, starts)
    still = Rotary(tuple(axes), frequencies, pairing)
    x = random_heads(1, rotary.width).double()[:, :1].expand(-1, int(np.prod(SIZE)), -1)
    products = [turn(x, each) @ turn(x, each).mT for each in (rotary, still)]
    assert torch.allclose(*products, atol=1e-4)


def test_a_pair_turns_along_its_own_axis_alone() -> None:
    angles = Rotary(("t", "", "x"), (2.0, 0.0, 0.5), starts=(1.0, 0.0, 0.0)).angles(2, 2, 3)
    assert angles.shape == (1, 2, 2, 3, 3)
    assert angles[0, :, 1, 2].tolist() == [[2.0, 0.0, 1.0], [4.0, 0.0, 1.0]]


def test_heads_may_turn_differently() -> None:
    rotary = Rotary(("t", "y", "x", "t"), (1.0, 2.0, 3.0, 4.0), heads=2)
    assert (rotary.width, rotary.angles(2, 2, 2).shape) == (4, (2, 2, 2, 2, 2))
    assert rotary.angles(2, 2, 2)[:, 1, 1, 1].tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"axes": (), "frequencies": ()}, "at least 1"),
        ({"axes": ("t",), "frequencies": (1.0, 2.0)}, "same length"),
        ({"axes": ("z",), "frequencies": (1.0,)}, "'z'"),
        ({"axes": ("t",), "frequencies": (1.0,), "pairing": "both"}, "'both'"),
        ({"axes": ("t",) * 3, "frequencies": (1.0,) * 3, "heads": 2}, "3 pairs do not divide among 2 heads"),
        ({"axes": ("t",), "frequencies": (float("nan"),)}, "finite"),
    ],
)
def test_layouts_that_contradict_themselves_are_refused(values, said) -> None:
    with pytest.raises(UsageError, match=said):
        Rotary(**values)


def test_blocks_of_odd_width_are_refused() -> None:
    with pytest.raises(UsageError, match="even"):
        Rotary.blocks((15, 24, 25))
