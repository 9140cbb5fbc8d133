"""Configurations of a pipeline's components: the class defaults, and what changes at a size that a CPU runs fast."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

WIDTH = 32
"""Channels of everything that may be narrow; the groups of usual group norms divide it."""
TEXT_TOKENS = 8

FEW = {"num_layers": 2, "num_single_layers": 3, "num_blocks": 2, "num_visual_blocks": 2}
"""Counts of blocks at the small size; different ones, so that what was counted shows which key counts it."""
ONE = ("num_refiner_layers", "num_text_blocks", "num_res_blocks", "num_mmdit_blocks")
NARROW = {
    **dict.fromkeys(("caption_channels", "text_embed_dim", "text_dim", "in_text_dim"), WIDTH),
    **dict.fromkeys(("text_embed_2_dim", "in_text_dim2"), WIDTH + 16),
}
"""Widths of embedded prompts; the second one's is another, so that what was given shows which key it is."""
POOLED = {"pooled_projection_dim": WIDTH + 8}
FEED_FORWARD = ("ffn_dim", "ff_dim")
HEADS = "num_attention_heads"
WIDTHS = ("_dim", "_channels")
"""How keys of counts of heads and of widths end."""
TEXT_LENGTHS = ("max_text_seq_length", "max_sequence_length")


def constructor(kind: Any) -> Mapping[str, inspect.Parameter]:
    """The arguments of a class's constructor, `self` among them."""
    return inspect.signature(kind.__init__).parameters


def class_path(kind: type) -> str:
    """The name of a class of diffusers, or "package.module:Class" of one that diffusers does not export."""
    import diffusers

    return kind.__name__ if hasattr(diffusers, kind.__name__) else f"{kind.__module__}:{kind.__name__}"


def defaults(kind: type) -> dict[str, Any]:
    """The configuration of a component as its class has it by default."""
    parameters = constructor(kind).values()
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    known = [each for each in parameters if each.name != "self" and each.kind not in variable]
    return {each.name: _plain(each.default) for each in known if each.default is not each.empty}


def small(kinds: Mapping[str, type]) -> dict[str, dict[str, Any]]:
    """What changes at the size for checks, by component: fewer layers and heads, narrow channels.

    The width of a head stays. A width that several components share by name and default value stays shared.
    """
    usual = {part: defaults(kind) for part, kind in kinds.items()}
    changed = {part: _changed(values) for part, values in usual.items()}
    joint = {part: _joint_widths(values, changed[part]) for part, values in usual.items()}
    for part, values in usual.items():
        shared = {
            key: width for other in kinds for key, width in joint[other].items() if _same(usual, part, other, key)
        }
        changed[part] |= {key: width for key, width in shared.items() if width != values[key]}
    return changed


def _same(usual: Mapping[str, Mapping[str, Any]], one: str, other: str, key: str) -> bool:
    return key in usual[one] and usual[one][key] == usual[other][key]


def _changed(usual: Mapping[str, Any]) -> dict[str, Any]:
    changed = {name: _smaller(name, value) for name, value in usual.items() if value}
    return {name: value for name, value in changed.items() if value is not None and value != usual[name]}


def _smaller(name: str, value: Any) -> Any:
    """A smaller value for one key, or None where it stays."""
    counts = {**FEW, **dict.fromkeys(ONE, 1), **dict.fromkeys(TEXT_LENGTHS, TEXT_TOKENS)}
    widths = {**NARROW, **POOLED, **dict.fromkeys(FEED_FORWARD, 2 * WIDTH), "base_dim": 8}
    if name in counts or name in widths:
        return counts.get(name, widths.get(name))
    if name.endswith(HEADS):
        return 2
    if name.endswith("num_learnable_registers"):  # text tokens are a multiple of them
        return TEXT_TOKENS
    if name.endswith("block_out_channels") and isinstance(value, list):
        return [WIDTH * each // min(value) for each in value]
    if name.endswith("layers_per_block"):
        return [1] * len(value) if isinstance(value, list) else 1
    return None


def _joint_widths(usual: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """Widths that are heads x width of a head by default are so at the small size as well."""
    found: dict[str, int] = {}
    for name in [key for key in usual if key.endswith(HEADS) and usual[key]]:
        width = usual.get(f"{name.removesuffix(HEADS)}attention_head_dim")
        joint = [key for key, value in usual.items() if width and value == usual[name] * width and key.endswith(WIDTHS)]
        found |= {key: changed.get(name, usual[name]) * width for key in joint}
    return found


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
