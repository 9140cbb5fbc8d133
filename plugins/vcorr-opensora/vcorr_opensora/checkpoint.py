"""Reads the released files of Open-Sora 2.0 into diffusers' networks.

The transformer is diffusers' Flux transformer under other names. Four things differ in more than name:

- The linear layers of queries, keys and values may be one ("fused") or three ("split"); in single blocks the first
  layer of the feed-forward network is part of them.
- Rotary embedding turns pairs of values of a head. diffusers and the fused layout pair neighbours (2j, 2j + 1); the
  split layout, the released one, pairs value j with value j + d/2. The order of a head's values is free as long as
  queries, keys and their norms share it, so these are reordered.
- The final modulation puts out (shift, scale); diffusers expects (scale, shift).
- The condition on an image enters through a layer of its own, added to that of the latents:
  W x + b + W' c + b' = [W W'] [x c] + (b + b'), so both become one layer of diffusers' transformer.

Files are memory-mapped: tensors that change neither order nor dtype stay views into them, and no more than one tensor
of the others is held twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLHunyuanVideo, FluxTransformer2DModel
from safetensors import safe_open
from torch import Tensor, nn

from vcorr import UsageError
from vcorr_opensora.sampling import rotary_axes

_OUTER = {
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "final_layer.linear": "proj_out",
}
_DOUBLE = {
    "img_mod.lin": "norm1.linear",
    "txt_mod.lin": "norm1_context.linear",
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out",
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
}
_SINGLE = {"modulation.lin": "norm.linear", "linear2": "proj_out"}
"""Linear layers that differ in name alone, released to diffusers: outside the blocks, and inside each kind of block."""

_IMAGE = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.norm_q", "attn.norm_k")
_TEXT = ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.norm_added_q", "attn.norm_added_k")
"""diffusers' layers of queries, keys and values and norms of queries and keys, of each stream of a double block."""

_Tensors = Iterator[tuple[str, Tensor]]
_WEIGHT_BIAS = ("weight", "bias")
_LISTED = 4
_VAE_NORM_GROUPS = 32


@dataclass(frozen=True)
class Sizes:
    """What the shapes of a released transformer say of it.

    double, single: blocks. width: of the hidden state, head: of an attention head. fused: whether queries, keys and
    values come from one layer; if so, heads pair neighbours, else halves.
    """

    double: int
    single: int
    width: int
    head: int
    latent: int
    condition: int
    text: int
    pooled: int
    fused: bool

    @property
    def config(self) -> Mapping[str, Any]:
        """Of diffusers' transformer."""
        return {
            "in_channels": self.latent + self.condition,
            "out_channels": self.latent,
            "num_layers": self.double,
            "num_single_layers": self.single,
            "attention_head_dim": self.head,
            "num_attention_heads": self.width // self.head,
            "joint_attention_dim": self.text,
            "pooled_projection_dim": self.pooled,
            "axes_dims_rope": rotary_axes(self.head),
        }


class Released:
    """The tensors of a released file by name, each taken once, so that what nobody took can be told.

    Args:
        shapes: of every tensor.
        read: gives one by its name.
        label: of the file, for errors.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], read: Callable[[str], Tensor], label: str) -> None:
        self.shapes = dict(shapes)
        self._read = read
        self._label = label
        self._left = set(shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor. Raises as `take`."""
        if name not in self.shapes:
            raise UsageError(f"{self._label} lacks {name!r}: it is not a transformer of Open-Sora 2.0.")
        return self.shapes[name]

    def take(self, name: str) -> Tensor:
        """A tensor; raises UsageError when the file lacks it."""
        self.shape(name)
        self._left.discard(name)
        return self._read(name)

    def check_all_taken(self) -> None:
        """Raises UsageError when tensors are left that the network has no place for."""
        if self._left:
            raise UsageError(f"{self._label} holds tensors of another network: {_listed(self._left)}.")


def load_transformer(path: Path, dtype: torch.dtype) -> Any:
    """The transformer of a released file, in either layout, on the CPU.

    Raises:
        UsageError: tensors are missing, left over, or of shapes that do not fit together.
    """
    with safe_open(path, framework="pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  # not a dict
        released = Released(shapes, file.get_tensor, str(path))
        sizes = sizes_of(released)
        state = {name: tensor.to(dtype) for name, tensor in converted(released, sizes)}
        released.check_all_taken()
    return _filled(lambda: FluxTransformer2DModel(**sizes.config), state, path)


def load_vae(path: Path, dtype: torch.dtype) -> Any:
    """The autoencoder of a released file, whose names are diffusers' own, on the CPU. Raises as `load_transformer`."""
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name).to(dtype) for name in file.keys()}  # noqa: SIM118
    return _filled(lambda: AutoencoderKLHunyuanVideo(**_vae_sizes(state, path)), state, path)


def load_own(kind: Any, path: Path, dtype: torch.dtype) -> Any:
    """A network of this plugin, whose modules are named as in the released file, on the CPU.

    Args:
        kind: the network's class; `sizes_in(shapes)` tells its sizes from a file's shapes, `computed` names what a file
            may lack.
        path: of the file.
        dtype: of the network.

    Raises:
        UsageError: tensors are missing, left over, or of shapes that do not fit together.
    """
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name).to(dtype) for name in file.keys()}  # noqa: SIM118
    try:
        sizes = kind.sizes_in({name: tuple(tensor.shape) for name, tensor in state.items()})
    except KeyError as error:
        raise UsageError(f"{path} lacks {error}: it is no {kind.__name__}.") from error
    computed = {name: tensor.to(dtype) for name, tensor in kind.computed(sizes).items() if name not in state}
    return _filled(lambda: kind(**sizes), {**state, **computed}, path)


def load_encoder(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A text encoder of that class of transformers, from a folder that may hold more than it, on the CPU.

    Raises:
        UsageError: tensors are missing.
    """
    with _no_reports():  # one reports every tensor of the image encoder beside CLIP's, and of the decoder beside T5's
        network, report = kind.from_pretrained(
            folder, dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    if report["missing_keys"]:
        raise UsageError(f"{folder} is no complete {kind.__name__}: it lacks {_listed(report['missing_keys'])}.")
    return network.eval()


def sizes_of(released: Released) -> Sizes:
    """The sizes of a released transformer, from its shapes. Raises UsageError where a tensor that tells is missing."""
    width, latent = released.shape("img_in.weight")
    fused = "double_blocks.0.img_attn.qkv.weight" in released.shapes
    return Sizes(
        double=_count(released.shapes, "double_blocks."),
        single=_count(released.shapes, "single_blocks."),
        width=width,
        head=released.shape("double_blocks.0.img_attn.norm.query_norm.scale")[0],
        latent=latent,
        condition=released.shape("cond_in.weight")[1],
        text=released.shape("txt_in.weight")[1],
        pooled=released.shape("vector_in.in_layer.weight")[1],
        fused=fused,
    )


def converted(released: Released, sizes: Sizes) -> _Tensors:
    """The tensors of diffusers' transformer, by name."""
    yield from _renamed(released, _OUTER)
    yield from _first_layer(released)
    for suffix in _WEIGHT_BIAS:
        shift, scale = released.take(f"final_layer.adaLN_modulation.1.{suffix}").chunk(2)
        yield f"norm_out.linear.{suffix}", torch.cat([scale, shift])
    for index in range(sizes.double):
        yield from _double_block(released, sizes, f"double_blocks.{index}.", f"transformer_blocks.{index}.")
    for index in range(sizes.single):
        yield from _single_block(released, sizes, f"single_blocks.{index}.", f"single_transformer_blocks.{index}.")


def interleaved(tensor: Tensor, head: int) -> Tensor:
    """Reorders the first dimension, heads of d = `head` values each, from pairs (j, j + d/2) to pairs (2j, 2j + 1)."""
    pairs = tensor.view(-1, 2, head // 2, *tensor.shape[1:]).transpose(1, 2)
    return pairs.reshape(tensor.shape)


def _renamed(released: Released, names: Mapping[str, str], old: str = "", new: str = "") -> _Tensors:
    for before, after in names.items():
        for suffix in _WEIGHT_BIAS:
            yield f"{new}{after}.{suffix}", released.take(f"{old}{before}.{suffix}")


def _first_layer(released: Released) -> _Tensors:
    weights = [released.take(f"{layer}.weight") for layer in ("img_in", "cond_in")]
    yield "x_embedder.weight", torch.cat(weights, dim=1)
    yield "x_embedder.bias", released.take("img_in.bias") + released.take("cond_in.bias")


def _double_block(released: Released, sizes: Sizes, old: str, new: str) -> _Tensors:
    yield from _renamed(released, _DOUBLE, old, new)
    for stream, names in (("img_attn", _IMAGE), ("txt_attn", _TEXT)):
        yield from _projections(_stream_layers(released, sizes, f"{old}{stream}."), sizes, new, names)
        yield from _norms(released, sizes, f"{old}{stream}.norm.", new, names)


def _single_block(released: Released, sizes: Sizes, old: str, new: str) -> _Tensors:
    yield from _renamed(released, _SINGLE, old, new)
    layers = _single_layers(released, sizes, old)
    yield from _projections([(suffix, parts[:3]) for suffix, parts in layers], sizes, new, _IMAGE)
    yield from ((f"{new}proj_mlp.{suffix}", parts[3]) for suffix, parts in layers)
    yield from _norms(released, sizes, f"{old}norm.", new, _IMAGE)


_Layers = list[tuple[str, tuple[Tensor, ...]]]
"""("weight" or "bias", the layers of queries, keys, values, and in single blocks of the feed-forward network)."""


def _stream_layers(released: Released, sizes: Sizes, old: str) -> _Layers:
    """Of one stream of a double block."""
    if sizes.fused:
        return [(suffix, released.take(f"{old}qkv.{suffix}").chunk(3)) for suffix in _WEIGHT_BIAS]
    return [(suffix, tuple(released.take(f"{old}{part}_proj.{suffix}") for part in "qkv")) for suffix in _WEIGHT_BIAS]


def _single_layers(released: Released, sizes: Sizes, old: str) -> _Layers:
    """Of a single block."""
    return [(suffix, _single_parts(released, sizes, old, suffix)) for suffix in _WEIGHT_BIAS]


def _single_parts(released: Released, sizes: Sizes, old: str, suffix: str) -> tuple[Tensor, ...]:
    if sizes.fused:
        whole = released.take(f"{old}linear1.{suffix}")
        return (*whole[: 3 * sizes.width].chunk(3), whole[3 * sizes.width :])
    values = released.take(f"{old}v_mlp.{suffix}")
    heads = (released.take(f"{old}{part}_proj.{suffix}") for part in "qk")
    return (*heads, values[: sizes.width], values[sizes.width :])


def _projections(layers: _Layers, sizes: Sizes, new: str, names: tuple[str, ...]) -> _Tensors:
    for suffix, (q, k, v) in layers:
        for name, tensor in zip(names, (_reordered(q, sizes), _reordered(k, sizes), v), strict=False):
            yield f"{new}{name}.{suffix}", tensor


def _norms(released: Released, sizes: Sizes, old: str, new: str, names: tuple[str, ...]) -> _Tensors:
    for part, name in zip(("query_norm", "key_norm"), names[3:], strict=True):
        yield f"{new}{name}.weight", _reordered(released.take(f"{old}{part}.scale"), sizes)


def _reordered(tensor: Tensor, sizes: Sizes) -> Tensor:
    return tensor if sizes.fused else interleaved(tensor, sizes.head)


def _count(shapes: Mapping[str, Any], prefix: str) -> int:
    """How many blocks have names that start with `prefix` and a number."""
    return len({name.removeprefix(prefix).partition(".")[0] for name in shapes if name.startswith(prefix)})


def _vae_sizes(state: Mapping[str, Tensor], path: Path) -> Mapping[str, Any]:
    try:
        levels = _count(state, "encoder.down_blocks.")
        widths = [state[f"encoder.down_blocks.{i}.resnets.0.conv1.conv.weight"].shape[0] for i in range(levels)]
        latent = state["post_quant_conv.weight"].shape[0]
    except KeyError as error:
        raise UsageError(f"{path} lacks {error}: it is not the autoencoder of HunyuanVideo.") from error
    return {
        "latent_channels": latent,
        "block_out_channels": tuple(widths),
        "layers_per_block": _count(state, "encoder.down_blocks.0.resnets."),
        "norm_num_groups": _VAE_NORM_GROUPS,
    }


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


@contextmanager
def _no_reports() -> Iterator[None]:
    """Keeps transformers from logging while the block runs."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _filled(build: Callable[[], nn.Module], state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """A network with the tensors of `state` themselves as its parameters, never with memory of its own."""
    with torch.device("meta"):
        network = build()
    try:
        network.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise UsageError(f"{path} does not fit {type(network).__name__}: {error}") from error
    return network.eval()
