"""Finds the attention modules of a pipeline that see the whole video, their text, blocks, norms and heads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vcorr.authoring.scaffold.pipelines.facts import Guess, Sites
from vcorr.authoring.scaffold.pipelines.find import GUIDE
from vcorr.authoring.scaffold.pipelines.measure import LATENTS, Pass, Seen, Stage, find_unchanged, run
from vcorr.authoring.scaffold.pipelines.sizes import FEW
from vcorr.contract.errors import UsageError

NORMS = (("norm_q", "norm_k"), ("to_q", "to_k"))

Place = Literal["before", "after", "none"]


def find_site_names(calls: Sequence[Seen], video: int, stage: Stage) -> list[str]:
    """Returns the modules whose tokens attend to the whole video, in the order in which they ran.

    Raises:
        UsageError: no module does.
    """
    wide = [
        seen.name
        for seen in calls
        if seen.q.shape[-2] == seen.k.shape[-2] >= video and "audio" not in seen.name and not _refines(seen.name)
    ]
    if not wide:
        counts = sorted({seen.q.shape[-2] for seen in calls})
        raise UsageError(
            f"No attention of {stage.found.kind.__name__} sees the {video} tokens of a whole video; sequences have "
            f"{', '.join(map(str, counts)) or 'no'} tokens. Its attention is spatial or temporal, or has no softmax.",
            hint=f"{GUIDE} Its table has a row for models like this one.",
        )
    return list(dict.fromkeys(wide))


def _refines(name: str) -> bool:
    """Returns whether a module processes text before text and video are joined."""
    return "refiner" in name or "context_embedder" in name or "text_blocks" in name or "text_transformer" in name


def find_text_place(stage: Stage, passes: Sequence[Pass], name: str, video: int, guesses: list[Guess]) -> Place:
    """Returns where the text tokens are: their keys at the first site stay the same when the latents change."""
    tokens = next(seen.k.shape[-2] for seen in passes[0].calls if seen.name == name)
    if tokens == video:
        return "none"
    same = find_unchanged(passes[0].calls, run(stage, seed=1)[0].calls, name)
    text = tokens - video
    if all(same[:text]) and not any(same[text:]):
        return "before"
    if all(same[-text:]) and not any(same[:-text]):
        return "after"
    guesses.append(
        Guess("text", f"the run does not show where the {text} text tokens among {tokens} are; 'before' is written")
    )
    return "before"


def describe_sites(
    stage: Stage, names: Sequence[str], changes: Mapping[str, Mapping[str, Any]], guesses: list[Guess]
) -> list[Sites]:
    """Returns the sites by the pattern of their names, with the block and the norms of the first site per pattern."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(re.sub(r"(?<=\.)\d+(?=\.)", "{}", name, count=1), []).append(name)
    sites = []
    for pattern, members in found.items():
        block = pattern.partition(".{}")[0] + ".{}" if "{}" in pattern else ""
        key = next((key for key in FEW if changes["transformer"].get(key) == len(members)), "")
        if not key:
            guesses.append(
                Guess("sites", f"no key of the configuration gives the number ({len(members)}) of {pattern}")
            )
        output, unrotated = _look_inside(stage, members[0], block.format(0))
        sites.append(Sites(pattern, len(members), key, block if output is not None else "", output or 0, unrotated))
    return sites


def _look_inside(stage: Stage, name: str, block: str) -> tuple[int | None, tuple[str, str, str] | None]:
    """Returns which output of the block holds the video tokens, and which modules give q and k before the rotation."""
    kept: dict[str, Any] = {}
    module = stage.denoiser.get_submodule(name)
    parts = next((pair for pair in NORMS if all(_is_module(module, part) for part in pair)), None)
    looked = {"block": stage.denoiser.get_submodule(block), **({"q": getattr(module, parts[0])} if parts else {})}
    hooks = [each.register_forward_hook(_keep(kept, key)) for key, each in looked.items()]
    try:
        passes = run(stage)
    finally:
        for hook in hooks:
            hook.remove()
    q = next(seen.q for seen in passes[0].calls if seen.name == name)
    output = _video_output(kept.get("block"), q.shape[-2])
    axes = _axes_before_rotation(kept.get("q"), q) if parts else None
    return output, (*parts, axes) if parts and axes else None


def _is_module(module: nn.Module, part: str) -> bool:
    return isinstance(getattr(module, part, None), nn.Module)


def _keep(kept: dict[str, Any], key: str) -> Any:
    def hook(_module: nn.Module, _args: Any, output: Any) -> None:
        kept.setdefault(key, output.detach().clone() if isinstance(output, Tensor) else output)

    return hook


def _video_output(output: Any, tokens: int) -> int | None:
    video = LATENTS[0] * LATENTS[1] * LATENTS[2]
    outputs = output if isinstance(output, tuple) else (output,)
    counts = [each.shape[1] if isinstance(each, Tensor) and each.ndim == 3 else 0 for each in outputs]
    return next((index for index, count in enumerate(counts) if count in (video, tokens)), None)


def _axes_before_rotation(before: Any, q: Tensor) -> str | None:
    """Returns the axes of a norm's output ("bhnd", "bnhd" or "bnc") if q is rotated after it, else None."""
    video, (_, heads, tokens, width) = LATENTS[0] * LATENTS[1] * LATENTS[2], q.shape
    if not isinstance(before, Tensor):
        return None
    for count in (tokens, video):
        shapes = {"bhnd": (heads, count, width), "bnhd": (count, heads, width), "bnc": (count, heads * width)}
        for axes, shape in shapes.items():
            if tuple(before.shape[1:]) == shape:
                return axes if _is_rotated(before, q, axes) else None
    return None


def _is_rotated(before: Tensor, q: Tensor, axes: str) -> bool:
    """Returns whether the queries of attention differ from the norm's output by more than a change of precision."""
    heads, count = q.shape[1], before.shape[2 if axes == "bhnd" else 1]
    shaped = before.reshape(*before.shape[:-1], heads, -1) if axes == "bnc" else before
    own = shaped if axes == "bhnd" else shaped.transpose(1, 2)
    rows = min(len(own), len(q))
    ends = (q[:rows, :, :count], q[:rows, :, -count:])
    return not any(torch.allclose(own[:rows].float(), end.float(), rtol=1e-3, atol=1e-4) for end in ends)


def heads_source(stage: Stage, calls: Sequence[Seen], name: str, guesses: list[Guess]) -> str:
    """Returns Python for the number of heads."""
    seen = next(each.q.shape[1] for each in calls if each.name == name)
    if stage.config.get("num_attention_heads") == seen:
        return "self.network['num_attention_heads']"
    config = stage.config
    width = next(each.q.shape[-1] for each in calls if each.name == name)
    key = next((key for key, value in config.items() if isinstance(value, int) and value == seen * width), "")
    if key:
        return f"self.network['{key}'] // {width}"
    guesses.append(Guess("sites", f"no key of the configuration gives the {seen} heads"))
    return str(seen)
