"""Makes configurations of a pipeline's components: class defaults, and small sizes that run fast on a CPU."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

WIDTH = 32
"""Channels of everything that may be narrow; the usual number of groups in group norms divides it."""
TEXT_TOKENS = 8

FEW = {"num_layers": 2, "num_single_layers": 3, "num_blocks": 2, "num_visual_blocks": 2}
"""Numbers of blocks at the small size; they differ, so that a counted number shows which key it comes from."""
ONE = ("num_refiner_layers", "num_text_blocks", "num_res_blocks", "num_mmdit_blocks")
NARROW = {
    **dict.fromkeys(("caption_channels", "text_embed_dim", "text_dim", "in_text_dim"), WIDTH),
    **dict.fromkeys(("text_embed_2_dim", "in_text_dim2"), WIDTH + 16),
}
"""Widths of embedded prompts; the second one differs, so that a width shows which key it comes from."""
POOLED = {"pooled_projection_dim": WIDTH + 8}
FEED_FORWARD = ("ffn_dim", "ff_dim")
HEADS = "num_attention_heads"
WIDTHS = ("_dim", "_channels")
"""Endings of configuration keys: `HEADS` for numbers of heads, `WIDTHS` for widths."""
TEXT_LENGTHS = ("max_text_seq_length", "max_sequence_length")


def constructor(kind: Any) -> Mapping[str, inspect.Parameter]:
    """Returns the arguments of a class's constructor, including `self`."""
    return inspect.signature(kind.__init__).parameters


def class_path(kind: type) -> str:
    """Returns the name of a class that diffusers exports; for any other class, "package.module:Class"."""
    import diffusers

    return kind.__name__ if hasattr(diffusers, kind.__name__) else f"{kind.__module__}:{kind.__name__}"


def defaults(kind: type) -> dict[str, Any]:
    """Returns the default configuration of a component's class."""
    parameters = constructor(kind).values()
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    known = [each for each in parameters if each.name != "self" and each.kind not in variable]
    return {each.name: _plain(each.default) for each in known if each.default is not each.empty}


def small(kinds: Mapping[str, type]) -> dict[str, dict[str, Any]]:
    """Returns the values that differ at the small size, by component: fewer layers and heads, narrow channels.

    The width of a head stays. A width that several components share by name and default value stays shared.
    """
    usual = {part: defaults(kind) for part, kind in kinds.items()}
    changed = {part: _shrink(values) for part, values in usual.items()}
    joint = {part: _joint_widths(values, changed[part]) for part, values in usual.items()}
    for part, values in usual.items():
        shared = {
            key: width for other in kinds for key, width in joint[other].items() if _same(usual, part, other, key)
        }
        changed[part] |= {key: width for key, width in shared.items() if width != values[key]}
    return changed


def _same(usual: Mapping[str, Mapping[str, Any]], one: str, other: str, key: str) -> bool:
    return key in usual[one] and usual[one][key] == usual[other][key]


def _shrink(usual: Mapping[str, Any]) -> dict[str, Any]:
    changed = {name: _smaller(name, value) for name, value in usual.items() if value}
    return {name: value for name, value in changed.items() if value is not None and value != usual[name]}


def _smaller(name: str, value: Any) -> Any:
    """Returns a smaller value for one key; None when the value stays."""
    counts = {**FEW, **dict.fromkeys(ONE, 1), **dict.fromkeys(TEXT_LENGTHS, TEXT_TOKENS)}
    widths = {**NARROW, **POOLED, **dict.fromkeys(FEED_FORWARD, 2 * WIDTH), "base_dim": 8}
    if name in counts or name in widths:
        return counts.get(name, widths.get(name))
    if name.endswith(HEADS):
        return 2
    if name.endswith("num_learnable_registers"):  # the number of text tokens must be a multiple of it
        return TEXT_TOKENS
    if name.endswith("block_out_channels") and isinstance(value, list):
        return [WIDTH * each // min(value) for each in value]
    if name.endswith("layers_per_block"):
        return [1] * len(value) if isinstance(value, list) else 1
    return None


def _joint_widths(usual: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """Returns new values for widths that equal heads x width of a head, so that they still do at the small size."""
    found: dict[str, int] = {}
    for name in [key for key in usual if key.endswith(HEADS) and usual[key]]:
        width = usual.get(f"{name.removesuffix(HEADS)}attention_head_dim")
        joint = [key for key, value in usual.items() if width and value == usual[name] * width and key.endswith(WIDTHS)]
        found |= {key: changed.get(name, usual[name]) * width for key in joint}
    return found


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
