"""Finds out how a vision network of transformers is built, by one pass without numbers.

The network is built on torch's device `meta`, which has shapes and no values, so this costs no memory, whatever its
size. The pass says which modules call torch's attention, with how many heads and tokens, and what the layers put out.

Shape legend: T video frames, H x W pixels, B batch rows, N tokens of a sequence, F x h x w tokens of the grid.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from vcorr import UsageError
from vcorr.diffusion import seed_generators, torch_dtype
from vcorr_vision.error_text import in_one_line
from vcorr_vision.inputs import Shape, network_inputs
from vcorr_vision.loading import with_attention

_LEVELS = 6
"""How often the sides of the grid may be halved in a network of several resolutions."""


@dataclass(frozen=True)
class Layer:
    """A layer of a network, whose output is a hidden state.

    block: its path. maps: whether it puts out maps, "fhwc" or "fchw", or "" for tokens. rows, cols: of its grid.
    attention: path of its attention module, if that can be read, else ""; heads: of it. whole: whether it sees all
    frames. unrotated: the names of the modules that put out q and k before a rotary embedding; None without one.
    unread: why its attention cannot be read.
    """

    block: str
    maps: str
    rows: int
    cols: int
    attention: str = ""
    heads: int = 0
    whole: bool = False
    unrotated: tuple[str, str] | None = None
    unread: str = ""


@dataclass(frozen=True)
class Anatomy:
    """What a pass tells about a network.

    tower: path of the vision network in the whole model; "" if it is the whole. network: its class. layers: in order of
    execution. special: number of tokens that belong to no place, in front of the tokens of a sequence.
    """

    tower: str
    network: str
    layers: tuple[Layer, ...]
    special: int


@dataclass
class _Notes:
    """What was seen in a pass: the shapes of q and k of each call by module, and of the outputs by module."""

    calls: dict[str, tuple[torch.Size, torch.Size]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    outputs: dict[str, torch.Size] = field(default_factory=dict)


def examine(config: Any, shape: Shape, name: str) -> Anatomy:
    """Finds the anatomy of the network with this configuration of transformers, for an input of this shape.

    name: of the model, for messages.

    Raises:
        UsageError: transformers has no such network, it cannot read this input, or none of its layers has a grid.
    """
    whole = build_whole(config, name)
    path, tower = find_tower(whole)
    notes = _note_pass(tower, shape, name)
    found = _find_layers(tower, notes, shape)
    if not found:
        raise UsageError(
            f"{name}: {type(tower).__name__} puts out no tokens on a grid of {shape.patch[0]}x{shape.patch[1]} pixels.",
            hint="vcorr reads vision networks whose layers put out a token per patch, or maps.",
        )
    special = max(count for _, count in found)
    layers = tuple(layer if count == special else _without_attention(layer, count, special) for layer, count in found)
    return Anatomy(path, type(tower).__name__, layers, special)


def _without_attention(layer: Layer, count: int, special: int) -> Layer:
    """Returns a layer that has another number of special tokens than the sequences of the network have."""
    why = f"its sequence holds {count} tokens that belong to no place, and the network's {special}"
    return replace(layer, attention="", heads=0, unrotated=None, unread=layer.unread or why)


def build_whole(config: Any, name: str) -> Any:
    """Builds the whole model of a configuration, without values.

    Raises:
        UsageError: transformers has no model for it.
    """
    try:
        with torch.device("meta"):
            return with_attention(partial(transformers.AutoModel.from_config, config)).eval()
    except Exception as error:  # a configuration that does not fit raises any error, depending on the network
        raise UsageError(
            f"{name}: transformers {transformers.__version__} builds no network of the type {config.model_type!r}: "
            f"{in_one_line(error)}"
        ) from error


def find_tower(whole: nn.Module) -> tuple[str, nn.Module]:
    """Returns the path and the module of the vision network: the whole, or the part that has the `vision_config`."""
    wanted = getattr(getattr(whole, "config", None), "vision_config", None)
    if wanted is None:
        return "", whole
    for path, module in whole.named_modules():
        if path and isinstance(module, transformers.PreTrainedModel) and type(module.config) is type(wanted):
            return path, module
    return "", whole


def build_tower(settings: Any, dtype: str, seed: int, name: str) -> Any:
    """Builds the vision network of a configuration with random weights, on the CPU; raises as `build_whole`."""
    _, outline = find_tower(build_whole(settings, name))
    with seed_generators(seed):
        network = type(outline)(outline.config)
    return network.to(torch_dtype(dtype)).eval()


# ------------------------------------------------------------------------------------------------------------- the pass


def _note_pass(tower: nn.Module, shape: Shape, name: str) -> _Notes:
    pixels = torch.empty(shape.frames, 3, shape.height, shape.width, device="meta")
    notes = _Notes()
    try:
        with torch.no_grad(), _watch(tower, notes):
            tower(**network_inputs(tower, pixels, shape))
    except Exception as error:  # what a network cannot read raises any error, depending on the network
        size = f"{shape.frames} frames of {shape.height}x{shape.width} pixels"
        raise UsageError(
            f"{name}: {type(tower).__name__} cannot read {size}: {in_one_line(error)}",
            hint="Other sizes: --set model.height=PIXELS --set model.width=PIXELS",
        ) from error
    return notes


@contextmanager
def _watch(tower: nn.Module, notes: _Notes) -> Iterator[None]:
    """Notes the calls of torch's attention by the innermost running module, and the outputs of all modules."""
    running: list[str] = []
    original = nn.functional.scaled_dot_product_attention

    def attend(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
        notes.calls.setdefault(running[-1], (query.shape, key.shape))
        notes.counts[running[-1]] += 1
        return value.new_empty(*query.shape[:-1], value.shape[-1])

    def enter(path: str) -> Any:
        return lambda *_: running.append(path)

    def leave(path: str) -> Any:
        def note(_: nn.Module, __: Any, output: Any) -> None:
            running.pop()
            first = output[0] if isinstance(output, (tuple, list)) and output else output
            if isinstance(first, Tensor):
                notes.outputs[path] = first.shape

        return note

    with ExitStack() as stack:
        for path, module in tower.named_modules():
            stack.callback(module.register_forward_pre_hook(enter(path)).remove)
            stack.callback(module.register_forward_hook(leave(path)).remove)
        nn.functional.scaled_dot_product_attention = attend
        try:
            yield
        finally:
            nn.functional.scaled_dot_product_attention = original


# ----------------------------------------------------------------------------------------------------------- the layers


def _find_layers(tower: nn.Module, notes: _Notes, shape: Shape) -> list[tuple[Layer, int]]:
    """Returns the layers in the order of execution, each with its number of special tokens."""
    items = _list_items(tower)
    outputs = {path: output for path, output in notes.outputs.items() if path in items}
    placed = {
        path: place
        for path, output in outputs.items()
        if (place := _place(output, shape, channels_first=_convolves(tower.get_submodule(path))))
    }
    inner = [path for path in placed if not any(other.startswith(f"{path}.") for other in placed)]
    blocks = {call: block for call in notes.calls if (block := _block_of(call, inner))}
    families = {block.rpartition(".")[0] for block in blocks.values()}
    read = [path for path in inner if not families or path.rpartition(".")[0] in families]
    return [(_describe(tower, path, placed[path], notes, blocks, shape), placed[path].special) for path in read]


def _list_items(tower: nn.Module) -> set[str]:
    """Returns the paths of the items of all lists of modules, without single norms and projections."""
    lists = {path: module for path, module in tower.named_modules() if isinstance(module, nn.ModuleList)}
    return {
        f"{path}.{name}"
        for path, items in lists.items()
        for name, item in items.named_children()
        if any(item.children())
    }


def _block_of(call: str, blocks: Sequence[str]) -> str:
    around = [block for block in blocks if call == block or call.startswith(f"{block}.")]
    return max(around, key=len, default="")


@dataclass(frozen=True)
class _Place:
    """How an output lies on a grid. whole: whether a batch row holds all frames."""

    maps: str
    rows: int
    cols: int
    special: int
    whole: bool


def _convolves(block: nn.Module) -> bool:
    return any(isinstance(child, nn.Conv2d) for child in block.children())


def _place(output: torch.Size, shape: Shape, *, channels_first: bool) -> _Place | None:
    """Returns how an output lies on the grid: as maps (B, C, h, w) or (B, h, w, C), or as tokens (B, N, C).

    channels_first: what maps are whose sizes could mean both.
    """
    if len(output) == 4 and output[0] == shape.frames:
        forms = {"fhwc": output[1:3], "fchw": output[2:]}
        fitting = [maps for maps, (rows, cols) in forms.items() if _is_scaled(rows, cols, shape)]
        if fitting:
            maps = fitting[-1 if channels_first else 0]
            return _Place(maps, *forms[maps], 0, whole=False)
    if len(output) != 3 or output[0] not in (1, shape.frames):
        return None
    whole = shape.video and output[0] == 1
    times = shape.frames // shape.tubelet if whole else 1
    rows, cols = shape.height // shape.patch[0], shape.width // shape.patch[1]
    for level in range(_LEVELS):
        halved = rows % (1 << level) == cols % (1 << level) == 0
        if halved and output[1] == times * (rows >> level) * (cols >> level):
            return _Place("", rows >> level, cols >> level, 0, whole)
    special = output[1] - times * rows * cols
    return _Place("", rows, cols, special, whole) if special > 0 else None


def _is_scaled(rows: int, cols: int, shape: Shape) -> bool:
    """Returns whether a map has the frame's proportions: whole pixels per place, the same in both directions."""
    if min(rows, cols) < 1 or shape.height % rows or shape.width % cols:
        return False
    return shape.height // rows * shape.patch[1] == shape.width // cols * shape.patch[0]


def _describe(
    tower: nn.Module, path: str, place: _Place, notes: _Notes, blocks: Mapping[str, str], shape: Shape
) -> Layer:
    calls = [call for call, block in blocks.items() if block == path]
    reasons = [_why_unread(tower, call, place, notes, shape) for call in calls]
    plain = Layer(path, place.maps, place.rows, place.cols, whole=place.whole)
    if "" not in reasons:
        block = type(tower.get_submodule(path)).__name__
        return replace(plain, unread=reasons[0] if reasons else f"{block} does not call torch's attention")
    call = calls[reasons.index("")]
    heads = notes.calls[call][0][1]
    return replace(
        plain, attention=call, heads=heads, unrotated=_find_unrotated(tower.get_submodule(call), call, notes)
    )


def _why_unread(tower: nn.Module, call: str, place: _Place, notes: _Notes, shape: Shape) -> str:
    """Returns why the attention of a module cannot be read on the grid; "" if it can."""
    q, k = notes.calls[call]
    kind = type(tower.get_submodule(call)).__name__
    rows = 1 if place.whole else shape.frames
    times = shape.frames // shape.tubelet if place.whole else 1
    if notes.counts[call] > 1:
        return f"{kind} computes attention {notes.counts[call]} times in a pass"
    if q[-2] != k[-2]:
        return f"{kind} has {q[-2]} queries for {k[-2]} keys"
    if q[0] > rows:
        return f"{kind} attends within windows"
    if q[0] != rows or q[-2] != place.special + times * place.rows * place.cols:
        return f"{kind} attends to {q[-2]} tokens, which are not the grid's"
    return ""


_PROJECTIONS = (("q_proj", "k_proj"), ("query", "key"))


def _find_unrotated(module: nn.Module, call: str, notes: _Notes) -> tuple[str, str] | None:
    """Returns the names of the projections to q and k of an attention module that rotates them after that."""
    takes = inspect.signature(module.forward).parameters
    rotates = "position_embeddings" in takes or hasattr(module, "apply_rotary_embeddings")
    if not rotates or any("norm" in name for name, _ in module.named_children()):
        return None
    q, _ = notes.calls[call]
    wanted = (q[0], q[-2], q[1] * q[-1])
    for pair in _PROJECTIONS:
        if all(tuple(notes.outputs.get(f"{call}.{name}", ())) == wanted for name in pair):
            return pair
    return None
