"""Where the attention of a UNet is, from its configuration alone. Imports neither torch nor diffusers.

A UNet halves its resolution from one level to the next on the way down, attends once more at the bottom, and doubles it
again on the way up. In each block there are layers, and in each layer one or more transformer blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from vcorr import BlockAxes, Factorised


@dataclass(frozen=True)
class UNetBlock:
    """One block of a UNet.

    name: path of the module. level: how often its input has been halved. layers: transformers in it, of each kind.
    spatial: whether it attends within frames; the blocks of the deepest level do not.
    """

    name: str
    level: int
    layers: int
    spatial: bool = True


@dataclass(frozen=True)
class Transformer:
    """A transformer block that every layer of a UNet block has, and its self-attention modules.

    path: inside the UNet block, with "{}" for the layer. factorised: over what it attends. attention: names of the
    modules, in the order they run. block_axes: of what the transformer block puts out. everywhere: whether it is also
    in blocks without spatial attention.
    """

    path: str
    factorised: Factorised
    attention: tuple[str, ...] = ("attn1",)
    block_axes: BlockAxes = "bnc"
    everywhere: bool = False


@dataclass(frozen=True)
class Place:
    """An attention module and where it is.

    name: its path. block: of the transformer block it is in. kind: of that block. level: how often the resolution has
    been halved there. heads: where they are not those of the level.
    """

    name: str
    block: str
    kind: Transformer
    level: int
    heads: int = 0


def unet_blocks(levels: int, layers: int) -> tuple[UNetBlock, ...]:
    """The blocks in the order they run; those on the way up have a layer more."""
    deepest = levels - 1
    down = [UNetBlock(f"down_blocks.{i}", i, layers, spatial=i < deepest) for i in range(levels)]
    up = [UNetBlock(f"up_blocks.{i}", deepest - i, layers + 1, spatial=i > 0) for i in range(levels)]
    return (*down, UNetBlock("mid_block", deepest, 1), *up)


def attention_places(blocks: Iterable[UNetBlock], kinds: Sequence[Transformer]) -> Iterator[Place]:
    """Every self-attention module of the blocks, in the order of execution."""
    for block in blocks:
        for layer in range(block.layers):
            for kind in kinds:
                if block.spatial or kind.everywhere:
                    yield from places_in(f"{block.name}.{kind.path.format(layer)}", kind, block.level)


def places_in(path: str, kind: Transformer, level: int, heads: int = 0) -> Iterator[Place]:
    """The self-attention modules of one transformer block."""
    return (Place(f"{path}.{name}", path, kind, level, heads) for name in kind.attention)
