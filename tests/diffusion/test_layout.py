"""From frames to tokens, against the slow way: number the latents, pad, group."""

import pytest

from vcorr import TokenGrid, UsageError
from vcorr.contract.records import Unrotated
from vcorr.diffusion import Compression, Sizes, attention_sites

PADDED = Compression(spatial=8, temporal=4, patch=2, temporal_patch=2, front_padded=True)


def slow_spans(frames):
    """Frames of each token of CogVideoX-1.5, latent by latent."""
    latents = [(0, 0)] + [(first, first + 3) for first in range(1, frames, 4)]
    padded = [None] * (len(latents) % 2) + latents
    pairs = [[latent for latent in padded[i : i + 2] if latent] for i in range(0, len(padded), 2)]
    return tuple((pair[0][0], pair[-1][1]) for pair in pairs)


def test_a_token_may_span_more_than_a_latent():
    pack = Compression(spatial=8, temporal=4, patch=2, temporal_patch=2, causal=False)
    assert (pack.stride, pack.temporal_ratio, pack.frame_step, pack.least_frames) == (16, 8, 8, 16)
    assert pack.time(24) == (3, None)
    assert pack.padding(24) == 0


@pytest.mark.parametrize("frames", [9, 13, 17, 49, 81, 85, 161])
def test_front_padding(frames):
    tokens, spans = PADDED.time(frames)
    assert spans == slow_spans(frames)
    assert tokens == len(spans)
    grid = TokenGrid(tokens, 2, 3, (16, 16), video_frames=frames, temporal_ratio=8, spans=spans)
    assert [grid.latent_at(frame) for frame in range(frames)] == sorted(grid.latent_at(f) for f in range(frames))


@pytest.mark.parametrize(
    ("frames", "first", "later"),
    [(81, (0, 0), lambda j: (8 * j - 7, 8 * j)), (85, (0, 4), lambda j: (8 * j - 3, 8 * j + 4))],
)
def test_front_padding_by_formula(frames, first, later):
    spans = PADDED.time(frames)[1]
    assert spans == (first, *(later(j) for j in range(1, 11)))
    assert PADDED.padding(frames) == (1 if frames == 81 else 0)


def test_lengths_of_padded_video():
    assert (PADDED.frame_step, PADDED.least_frames) == (4, 9)
    with pytest.raises(UsageError, match="81 and 85"):
        PADDED.time(83)


def test_sites_name_their_blocks():
    one, two = attention_sites("b.{}.attn", 2, 3, block="b.{}", block_output=1, unrotated=Unrotated())
    assert (one.name, one.block, one.block_output, one.heads) == ("b.0.attn", "b.0", 1, 3)
    assert (two.layer, two.block, two.unrotated) == (1, "b.1", Unrotated())
    assert attention_sites("b.{}.attn", 1, 3)[0].block == ""


def test_sites_of_a_second_kind_go_on_counting():
    sites = attention_sites("a.{}.attn", 2, 3) + attention_sites("b.{}.attn", 2, 3, first=2, block="b.{}")
    assert [site.layer for site in sites] == [0, 1, 2, 3]
    assert [(site.name, site.block) for site in sites[2:]] == [("b.0.attn", "b.0"), ("b.1.attn", "b.1")]


def test_sizes_against_a_list_of_them():
    sizes, listed = Sizes(24, 16, 88), [24, 40, 56, 72, 88]
    assert [n for n in range(130) if n in sizes] == listed
    for size in range(130):
        below, above = ([n for n in listed if n <= size], [n for n in listed if n > size])
        assert sizes.fitting(size) == (below[-1] if below else None)
        if size not in sizes:
            assert list(sizes.nearest(size)) == below[-1:] + above[:1]


def test_sizes_in_words():
    assert str(Sizes(9, 8)) == "9 and more, in steps of 8"
    assert str(Sizes(24, 16, 88)) == "24 to 88, in steps of 16"
    assert str(Sizes(16, 1, 16)) == "16 and no other"
