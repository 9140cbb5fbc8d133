"""Finds the blocks of a transformer, and takes over their calls.

A transformer runs one or more lists of blocks one after the other, such as ``transformer_blocks`` and then
``single_transformer_blocks``. What a block puts out is all that later blocks see of earlier ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map_only, tree_unflatten

from vcorr.capture.modules import find
from vcorr.contract.errors import UsageError
from vcorr.contract.records import Site


@dataclass(frozen=True)
class Block:
    """A block of a list. path: inside the denoiser. layers: of the attention sites in it."""

    path: str
    layers: tuple[int, ...]

    @property
    def list_path(self) -> str:
        """Path of the list."""
        return self.path.rpartition(".")[0]


def find_blocks(denoiser: nn.Module, sites: Sequence[Site]) -> tuple[Block, ...]:
    """Returns the blocks that hold the sites, in the order in which they run.

    A block is the outermost item of a list of modules on the path to a site.

    Raises:
        UsageError: a site is in no list of blocks.
    """
    layers: dict[str, list[int]] = {}
    for site in sorted(sites, key=lambda each: each.layer):
        layers.setdefault(_block_of(denoiser, site), []).append(site.layer)
    return tuple(Block(path, tuple(numbers)) for path, numbers in layers.items())


def _block_of(denoiser: nn.Module, site: Site) -> str:
    parts = site.name.split(".")
    for count in range(1, len(parts)):
        above = find(denoiser, ".".join(parts[:count]))[0]
        if isinstance(above, nn.ModuleList):
            return ".".join(parts[: count + 1])
    raise UsageError(
        f"{site.name} is in no list of blocks of {type(denoiser).__name__}, so its block cannot be skipped.",
        hint="A guidance that perturbs attention works here: --guidance cag",
    )


@contextmanager
def replace_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Makes a module compute `forward` while the block runs; its hooks still run around it."""
    members = vars(module)
    before = members.get("forward")
    members["forward"] = forward
    try:
        yield
    finally:
        if before is None:
            del members["forward"]
        else:
            members["forward"] = before


def pass_through(like: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Returns the input of a block in the form of its output.

    Args:
        like: an output of the block: a tensor, or several.
        args: of the block.
        kwargs: of the block.

    Raises:
        UsageError: an output has the shape of no input, so the block does more than to change its input.
    """
    outputs, form = tree_flatten(like)
    left = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
    found: list[Any] = []
    for output in outputs:
        index = next((i for i, each in enumerate(left) if isinstance(output, Tensor) and _is_like(each, output)), None)
        if isinstance(output, Tensor) and index is None:
            raise UsageError(
                f"A block puts out a tensor {tuple(output.shape)} that is none of its inputs, so it cannot be skipped.",
                hint="A guidance that perturbs attention works here: --guidance cag",
            )
        found.append(output if index is None else left.pop(index))
    return tree_unflatten(found, form)


def _is_like(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype


def take_rows(values: Any, branch: int, of: int) -> Any:
    """Returns one branch's batch rows of every tensor, as views, of the batch rows of `of` branches."""
    return tree_map_only(Tensor, lambda each: each.chunk(of)[branch], values)


def copy_rows(values: Any) -> Any:
    """Returns the same with a copy of every tensor, because models may write into what a block put out."""
    return tree_map_only(Tensor, Tensor.clone, values)


def to_form(values: Any) -> Any:
    """Returns the same with tensors of the same shapes and dtypes that hold no numbers."""
    return tree_map_only(Tensor, lambda each: each.to("meta"), values)
