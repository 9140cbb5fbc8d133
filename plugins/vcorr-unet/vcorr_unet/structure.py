"""Finds the attention modules of a UNet from its configuration. Imports neither torch nor diffusers.

A down block of a UNet halves the resolution, the middle block keeps it, and an up block doubles it again. A block has
layers, and a layer has one or more transformer blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from vcorr import BlockAxes, Factorised


@dataclass(frozen=True)
class UNetBlock:
    """One block of a UNet.

    name: path of the module. level: number of times that its input was halved. layers: number of transformer blocks of
    each kind in it. spatial: whether it has spatial attention; the down and up blocks of the deepest level do not.
    """

    name: str
    level: int
    layers: int
    spatial: bool = True


@dataclass(frozen=True)
class Transformer:
    """A kind of transformer block, which every layer of a UNet block has, and its self-attention modules.

    path: path inside the UNet block, with "{}" for the layer. factorised: spatial or temporal attention. attention:
    names of the self-attention modules, in order of execution. block_axes: axes of the transformer block's output.
    everywhere: whether blocks without spatial attention have it too.
    """

    path: str
    factorised: Factorised
    attention: tuple[str, ...] = ("attn1",)
    block_axes: BlockAxes = "bnc"
    everywhere: bool = False


@dataclass(frozen=True)
class SelfAttention:
    """A self-attention module.

    name: its path. block: path of its transformer block. kind: kind of that block. level: number of times that the
    resolution was halved before it. heads: number of heads; 0 for the number of heads of the level.
    """

    name: str
    block: str
    kind: Transformer
    level: int
    heads: int = 0


def unet_blocks(levels: int, layers: int) -> tuple[UNetBlock, ...]:
    """Returns the blocks in order of execution; an up block has one layer more than a down block."""
    deepest = levels - 1
    down = [UNetBlock(f"down_blocks.{i}", i, layers, spatial=i < deepest) for i in range(levels)]
    up = [UNetBlock(f"up_blocks.{i}", deepest - i, layers + 1, spatial=i > 0) for i in range(levels)]
    return (*down, UNetBlock("mid_block", deepest, 1), *up)


def self_attentions(blocks: Iterable[UNetBlock], kinds: Sequence[Transformer]) -> Iterator[SelfAttention]:
    """Yields every self-attention module of the blocks, in order of execution."""
    for block in blocks:
        for layer in range(block.layers):
            for kind in kinds:
                if block.spatial or kind.everywhere:
                    yield from attentions_in(f"{block.name}.{kind.path.format(layer)}", kind, block.level)


def attentions_in(path: str, kind: Transformer, level: int, heads: int = 0) -> Iterator[SelfAttention]:
    """Yields the self-attention modules of one transformer block."""
    return (SelfAttention(f"{path}.{name}", path, kind, level, heads) for name in kind.attention)
