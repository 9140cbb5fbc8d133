"""Reads the released files of Open-Sora 2.0 into diffusers' networks.

The transformer is diffusers' Flux transformer with other names. Four things differ in more than their names:

- The linear layers of queries, keys and values may be one ("fused") or three ("split"). In single blocks they also
  contain the first layer of the feed-forward network.
- Rotary embedding turns pairs of values of a head. diffusers and the fused layout pair neighbours (2j, 2j + 1). The
  split layout, which is the released one, pairs value j with value j + d/2. Queries, keys and their norms may share any
  order of values, so the loader reorders all of them.
- The final modulation returns (shift, scale); diffusers expects (scale, shift).
- The condition on an image has an input layer of its own, whose output is added to the output of the latents' layer.
  Both become one layer of diffusers' transformer: W x + b + W' c + b' = [W W'] [x c] + (b + b').

Files are memory-mapped. Tensors that change neither order nor dtype stay views of the file. Of the others, at most one
is in memory twice at any time.
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
"""Linear layers that differ only in name, from released to diffusers: outside the blocks, and in each kind of block."""

_IMAGE = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.norm_q", "attn.norm_k")
_TEXT = ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.norm_added_q", "attn.norm_added_k")
"""diffusers' names in each stream of a double block: layers of queries, keys and values, norms of queries and keys."""

_Tensors = Iterator[tuple[str, Tensor]]
_WEIGHT_BIAS = ("weight", "bias")
_LISTED = 4
_VAE_NORM_GROUPS = 32


@dataclass(frozen=True)
class Sizes:
    """Sizes of a released transformer, read from the shapes of its tensors.

    double, single: number of blocks of each kind. width: channels of the hidden state. head: channels of an attention
    head. latent, condition, text, pooled: channels of the inputs. fused: whether one layer computes queries, keys and
    values; if so, rotary embedding pairs neighbours, else halves.
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
        """Configuration of diffusers' transformer with these sizes."""
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
    """The tensors of a released file by name; it remembers which ones were taken, so that unused ones can be reported.

    Args:
        shapes: shape of every tensor, by name.
        read: returns a tensor for its name.
        label: name of the file, for errors.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], read: Callable[[str], Tensor], label: str) -> None:
        self.shapes = dict(shapes)
        self._read = read
        self._label = label
        self._left = set(shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of a tensor. Raises as `take`."""
        if name not in self.shapes:
            raise UsageError(f"{self._label} lacks {name!r}: it is not a transformer of Open-Sora 2.0.")
        return self.shapes[name]

    def take(self, name: str) -> Tensor:
        """Returns a tensor; raises UsageError if the file lacks it."""
        self.shape(name)
        self._left.discard(name)
        return self._read(name)

    def check_all_taken(self) -> None:
        """Raises UsageError if the file has tensors that the network does not have."""
        if self._left:
            raise UsageError(f"{self._label} holds tensors of another network: {_list_names(self._left)}.")


def load_transformer(path: Path, dtype: torch.dtype) -> Any:
    """Loads the transformer of a released file, in either layout, on the CPU.

    Raises:
        UsageError: tensors are missing or left over, or their shapes do not fit together.
    """
    with safe_open(path, framework="pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  # not a dict
        released = Released(shapes, file.get_tensor, str(path))
        sizes = sizes_of(released)
        state = {name: tensor.to(dtype) for name, tensor in convert(released, sizes)}
        released.check_all_taken()
    return _fill(lambda: FluxTransformer2DModel(**sizes.config), state, path)


def load_vae(path: Path, dtype: torch.dtype) -> Any:
    """Loads the autoencoder of a released file with diffusers' names, on the CPU. Raises as `load_transformer`."""
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name).to(dtype) for name in file.keys()}  # noqa: SIM118
    return _fill(lambda: AutoencoderKLHunyuanVideo(**_vae_sizes(state, path)), state, path)


def load_own(kind: Any, path: Path, dtype: torch.dtype) -> Any:
    """Loads a network of this plugin, whose modules are named as in the released file, on the CPU.

    Args:
        kind: class of the network; `sizes_in(shapes)` returns its sizes from the shapes in a file, and
            `compute_missing(sizes)` the tensors that a file may lack.
        path: path of the file.
        dtype: dtype of the network.

    Raises:
        UsageError: tensors are missing or left over, or their shapes do not fit together.
    """
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name).to(dtype) for name in file.keys()}  # noqa: SIM118
    try:
        sizes = kind.sizes_in({name: tuple(tensor.shape) for name, tensor in state.items()})
    except KeyError as error:
        raise UsageError(f"{path} lacks {error}: it is not a {kind.__name__}.") from error
    computed = {name: tensor.to(dtype) for name, tensor in kind.compute_missing(sizes).items() if name not in state}
    return _fill(lambda: kind(**sizes), {**state, **computed}, path)


def load_encoder(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Loads a text encoder, on the CPU. kind: its class in transformers. The folder may hold other networks too.

    Raises:
        UsageError: tensors are missing.
    """
    with _no_reports():  # transformers reports every unused tensor: CLIP's image encoder, T5's decoder
        network, report = kind.from_pretrained(
            folder, dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    if report["missing_keys"]:
        raise UsageError(f"{folder} is not a complete {kind.__name__}: it lacks {_list_names(report['missing_keys'])}.")
    return network.eval()


def sizes_of(released: Released) -> Sizes:
    """Reads the sizes of a released transformer from its shapes. Raises UsageError if a needed tensor is missing."""
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


def convert(released: Released, sizes: Sizes) -> _Tensors:
    """Yields the tensors of diffusers' transformer, by name."""
    yield from _rename(released, _OUTER)
    yield from _first_layer(released)
    for suffix in _WEIGHT_BIAS:
        shift, scale = released.take(f"final_layer.adaLN_modulation.1.{suffix}").chunk(2)
        yield f"norm_out.linear.{suffix}", torch.cat([scale, shift])
    for index in range(sizes.double):
        yield from _double_block(released, sizes, f"double_blocks.{index}.", f"transformer_blocks.{index}.")
    for index in range(sizes.single):
        yield from _single_block(released, sizes, f"single_blocks.{index}.", f"single_transformer_blocks.{index}.")


def interleave(tensor: Tensor, head: int) -> Tensor:
    """Reorders the first dimension, heads of d = `head` values each, from pairs (j, j + d/2) to pairs (2j, 2j + 1)."""
    pairs = tensor.view(-1, 2, head // 2, *tensor.shape[1:]).transpose(1, 2)
    return pairs.reshape(tensor.shape)


def _rename(released: Released, names: Mapping[str, str], old: str = "", new: str = "") -> _Tensors:
    for before, after in names.items():
        for suffix in _WEIGHT_BIAS:
            yield f"{new}{after}.{suffix}", released.take(f"{old}{before}.{suffix}")


def _first_layer(released: Released) -> _Tensors:
    weights = [released.take(f"{layer}.weight") for layer in ("img_in", "cond_in")]
    yield "x_embedder.weight", torch.cat(weights, dim=1)
    yield "x_embedder.bias", released.take("img_in.bias") + released.take("cond_in.bias")


def _double_block(released: Released, sizes: Sizes, old: str, new: str) -> _Tensors:
    yield from _rename(released, _DOUBLE, old, new)
    for stream, names in (("img_attn", _IMAGE), ("txt_attn", _TEXT)):
        yield from _projections(_stream_layers(released, sizes, f"{old}{stream}."), sizes, new, names)
        yield from _norms(released, sizes, f"{old}{stream}.norm.", new, names)


def _single_block(released: Released, sizes: Sizes, old: str, new: str) -> _Tensors:
    yield from _rename(released, _SINGLE, old, new)
    layers = _single_layers(released, sizes, old)
    yield from _projections([(suffix, parts[:3]) for suffix, parts in layers], sizes, new, _IMAGE)
    yield from ((f"{new}proj_mlp.{suffix}", parts[3]) for suffix, parts in layers)
    yield from _norms(released, sizes, f"{old}norm.", new, _IMAGE)


_Layers = list[tuple[str, tuple[Tensor, ...]]]
"""("weight" or "bias", the tensors of queries, keys, values, and in single blocks of the feed-forward network)."""


def _stream_layers(released: Released, sizes: Sizes, old: str) -> _Layers:
    """Returns the layers of one stream of a double block."""
    if sizes.fused:
        return [(suffix, released.take(f"{old}qkv.{suffix}").chunk(3)) for suffix in _WEIGHT_BIAS]
    return [(suffix, tuple(released.take(f"{old}{part}_proj.{suffix}") for part in "qkv")) for suffix in _WEIGHT_BIAS]


def _single_layers(released: Released, sizes: Sizes, old: str) -> _Layers:
    """Returns the layers of a single block."""
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
        for name, tensor in zip(names, (_reorder(q, sizes), _reorder(k, sizes), v), strict=False):
            yield f"{new}{name}.{suffix}", tensor


def _norms(released: Released, sizes: Sizes, old: str, new: str, names: tuple[str, ...]) -> _Tensors:
    for part, name in zip(("query_norm", "key_norm"), names[3:], strict=True):
        yield f"{new}{name}.weight", _reorder(released.take(f"{old}{part}.scale"), sizes)


def _reorder(tensor: Tensor, sizes: Sizes) -> Tensor:
    return tensor if sizes.fused else interleave(tensor, sizes.head)


def _count(shapes: Mapping[str, Any], prefix: str) -> int:
    """Counts the blocks whose names start with `prefix` and a number."""
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


def _list_names(names: Iterable[str]) -> str:
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


def _fill(build: Callable[[], nn.Module], state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """Builds a network whose parameters are the tensors of `state` themselves, without further memory."""
    with torch.device("meta"):
        network = build()
    try:
        network.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise UsageError(f"{path} does not fit {type(network).__name__}: {error}") from error
    return network.eval()
