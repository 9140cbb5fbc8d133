"""From a pipeline's class to the facts that fill the templates: built small, run, looked at."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vcorr.authoring.scaffold.pipelines.facts import Argument, Guess, PipelineFacts, Prompt, Ratios, Sites
from vcorr.authoring.scaffold.pipelines.find import GUIDE, Found, find_pipeline
from vcorr.authoring.scaffold.pipelines.measure import (
    GUIDANCE,
    LATENTS,
    STEPS,
    Pass,
    Seen,
    Stage,
    UnseenError,
    latents_of,
    prepare,
    prompt_arguments,
    run,
    unmoved,
)
from vcorr.authoring.scaffold.pipelines.sizes import FEW, class_path, constructor, defaults, small
from vcorr.capture.labels import BATCHED
from vcorr.contract.errors import UsageError

MAIN = ("transformer", "vae", "scheduler")
"""The components that are made even where the constructor does without them."""
SPATIAL = ("vae_scale_factor_spatial", "vae_spatial_compression_ratio", "vae_spatial_scale_factor", "vae_scale_factor")
TEMPORAL = ("vae_scale_factor_temporal", "vae_temporal_compression_ratio", "vae_temporal_scale_factor")
NORMS = (("norm_q", "norm_k"), ("to_q", "to_k"))

USUAL_TOKENS = 226
"""Text tokens where nothing says how many."""
WIDTH_WORDS = {"embedding": ("caption", "text", "cross"), "pooled": ("pool", "text"), "mask": ()}
"""What the keys of widths have in their names, by the kind of argument."""

Place = Literal["before", "after", "none"]


def learn(name: str) -> PipelineFacts:
    """Everything that the class of that name shows.

    Where the pipeline cannot be run with small random networks, `unseen` says why, and every value that would have been
    seen is a guess.

    Raises:
        UsageError: it is no pipeline that this scaffold can write an adapter for; the message says why.
    """
    found = find_pipeline(name)
    kinds = _made_components(found)
    released = {part: {"_class_name": class_path(kind), **defaults(kind)} for part, kind in kinds.items()}
    changes = small(kinds)
    guesses = _always(kinds)
    try:
        return _seen(found, kinds, released, changes, guesses)
    except UnseenError as error:
        return _unseen(found, released, changes, [*guesses, *_to_fill_in(error.message)], error.message)


def _seen(
    found: Found,
    kinds: Mapping[str, type],
    released: dict[str, dict[str, Any]],
    changes: dict[str, dict[str, Any]],
    guesses: list[Guess],
) -> PipelineFacts:
    pipe = _built(found, kinds, changes)
    ratios = _ratios(pipe, guesses)
    if _say_ratios(pipe, ratios, released, changes):
        pipe = _built(found, kinds, changes)
    stage = prepare(found, pipe, video_size(ratios, LATENTS))
    if getattr(pipe.vae, "use_tiling", False):
        guesses.append(Guess("sizes", "the autoencoder works in tiles alone: which sizes they cover without a rest"))
    return _facts(stage, run(stage), ratios, released, changes, guesses)


def _to_fill_in(why: str) -> list[Guess]:
    """What has to be written by hand where the pipeline could not be run."""
    said = {
        "small/": f"give the components sizes that run together: {why}",
        "attention": "path of the video self-attention of a block",
        "text": "where text tokens stand in its sequence",
        "branches": "guidance branches in the order of the batch",
        "compression": "pixels per latent, latents per token",
        "latent_axes": "order of the axes of the denoiser's latents",
        "encoding": "text tokens, their width, the mask",
    }
    return [Guess(where, f"not seen: {what}") for where, what in said.items()]


def _unseen(
    found: Found,
    released: Mapping[str, Mapping[str, Any]],
    changes: Mapping[str, Mapping[str, Any]],
    guesses: list[Guess],
    why: str,
) -> PipelineFacts:
    """What the source alone says, and what most pipelines are like."""
    source = inspect.getsource(found.kind)
    names = prompt_arguments(found.call)
    ratios = Ratios(8, 4, *_patch(released["transformer"]), causal=True)
    labelled, batched = "cache_context(" in source, re.search(r"cat\(\[negative_\w+, \w+", source)
    simple = set(names) <= {"prompt_embeds", "prompt_attention_mask"}
    widths = {"embedding": "4096", "pooled": "768", "mask": ""}
    frames, height, width = video_size(ratios, LATENTS)
    return PipelineFacts(
        pipeline_class=found.kind.__name__,
        denoiser="transformer",
        denoiser_class=found.components["transformer"][0].__name__,
        sites=[Sites("transformer_blocks.{}.attn1", 2, "num_layers", "transformer_blocks.{}")],
        heads="self.network['num_attention_heads']",
        text="none",
        branches=("uncond", "cond") if batched and not labelled else ("cond",),
        passes=(),
        per_sample=False,
        latent_axes="" if "_pack_latents" in source else "bcfhw",
        ratios=ratios,
        prompt=Prompt(
            tokens=str(found.default("max_sequence_length") or USUAL_TOKENS),
            arguments=[Argument(name, kind, widths[kind]) for name, kind in names.items()],
            mask=(_mask_place(found.kind) or 1) if "mask" in names.values() else None,
            simple=simple,
            options={},
        ),
        embedded_guidance=bool(released["transformer"].get("guidance_embeds")),
        guidance_argument=_guidance_argument(found, guesses),
        guider=_has_guider(found),
        frames_argument=found.frames_argument,
        steps=int(found.default("num_inference_steps") or 50),
        video=_usual_video(found, ratios, guesses),
        small_video={"frames": frames, "height": height, "width": width},
        released=released,
        small=changes,
        guesses=tuple(guesses),
        unseen=why,
    )


def _say_ratios(
    pipe: Any, ratios: Ratios, released: dict[str, dict[str, Any]], changes: dict[str, dict[str, Any]]
) -> bool:
    """Writes the ratios into the autoencoder's configuration, where that leaves them open and the pipeline is wrong."""
    names = {"spatial_compression_ratio": ratios.spatial, "temporal_compression_ratio": ratios.temporal}
    said = {_attribute(pipe, SPATIAL), _attribute(pipe, TEMPORAL)}
    if said == {ratios.spatial, ratios.temporal} or not all(released["vae"].get(name, 0) is None for name in names):
        return False
    released["vae"] |= names
    changes["vae"] |= names
    return True


def video_size(ratios: Ratios, tokens: tuple[int, int, int]) -> tuple[int, int, int]:
    """T, H and W of a video of so many tokens."""
    frames, rows, cols = tokens
    stride, latents = ratios.spatial * ratios.patch, frames * ratios.temporal_patch
    video_frames = 1 + (latents - 1) * ratios.temporal if ratios.causal else latents * ratios.temporal
    return video_frames, rows * stride, cols * stride


def _made_components(found: Found) -> dict[str, type]:
    """The components with random weights: those of `MAIN`, and what else the constructor asks for."""
    needed = constructor(found.kind)
    return {
        name: kinds[0]
        for name, kinds in found.components.items()
        if name in MAIN or needed[name].default is inspect.Parameter.empty
    }


def _built(found: Found, kinds: Mapping[str, type], changes: Mapping[str, Mapping[str, Any]]) -> Any:
    parameters = constructor(found.kind)
    absent = {name: None for name, each in parameters.items() if name != "self" and each.default is each.empty}
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made = {name: _component(kind, changes[name]) for name, kind in kinds.items()}
            return found.kind(**{**absent, **made})
    except Exception as error:
        raise UnseenError(
            f"the components cannot be made small: {type(error).__name__}: {str(error).rstrip(' .')}"
        ) from error


def _component(kind: Any, changes: Mapping[str, Any]) -> Any:
    made = kind.from_config(dict(changes))
    return made.eval() if isinstance(made, nn.Module) else made


# ------------------------------------------------------------------------------------------------------------- geometry


def _ratios(pipe: Any, guesses: list[Guess]) -> Ratios:
    patch, temporal_patch = _patch(pipe.transformer.config)
    spatial, temporal = (_attribute(pipe, names) for names in (SPATIAL, TEMPORAL))
    if spatial is None or temporal is None:
        guesses.append(Guess("compression", "the pipeline does not say how much its autoencoder compresses"))
    said = (spatial or 8, temporal or 4, True)
    seen = _seen_ratios(pipe.vae, said[0], said[1], guesses) or said
    return Ratios(seen[0], seen[1], patch, temporal_patch, seen[2])


def _attribute(pipe: Any, names: Sequence[str]) -> int | None:
    return next((int(getattr(pipe, name)) for name in names if getattr(pipe, name, None)), None)


def _patch(config: Mapping[str, Any]) -> tuple[int, int]:
    """Latents of a token along a side and in time."""
    size = config.get("patch_size") or 1
    if isinstance(size, (list, tuple)):
        return int(size[-1]), int(size[0]) if len(size) == 3 else 1
    return int(size), int(config.get("patch_size_t") or 1)


def _seen_ratios(vae: Any, spatial: int, temporal: int, guesses: list[Guess]) -> tuple[int, int, bool] | None:
    """Pixels per latent in space and in time, and whether frame 0 has a latent of its own, from latents of videos.

    The ratios that the pipeline says are where to look first.
    """
    side, reason = 2 * spatial, ""
    for first in (1, 0):
        try:
            short, long = (_latents(vae, first + count * temporal, side) for count in (2, 4))
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            continue
        grown = long[1] - short[1]
        if grown > 0 and short[1] == first + grown and side % short[2] == 0:
            return side // short[2], 2 * temporal // grown, bool(first)
        reason = f"{first + 2 * temporal} frames of {side} x {side} pixels make {short[1]} latents of {short[2]} rows"
    guesses.append(Guess("compression", f"the autoencoder shows no ratio ({reason[:160]}); `encode` may be needed too"))
    return None


def _latents(vae: Any, frames: int, side: int) -> tuple[int, int, int, int]:
    try:
        return latents_of(vae, frames, side, side)
    except NotImplementedError:
        vae.enable_tiling()  # some work in tiles alone
        return latents_of(vae, frames, side, side)


# ------------------------------------------------------------------------------------------------------------ attention


def _facts(
    stage: Stage,
    passes: Sequence[Pass],
    ratios: Ratios,
    released: Mapping[str, Mapping[str, Any]],
    changes: Mapping[str, Mapping[str, Any]],
    guesses: list[Guess],
) -> PipelineFacts:
    video = LATENTS[0] * LATENTS[1] * LATENTS[2]
    names = _site_names(passes[0].calls, video, stage)
    text = _text_place(stage, passes, names[0], video, guesses)
    per_sample = sum(seen.name == names[0] for seen in passes[0].calls) > 1
    branches, order = _branches(stage, passes, guesses)
    _note_other_latents(passes, guesses)
    prompt = _prompt(stage, guesses)
    return PipelineFacts(
        pipeline_class=stage.found.kind.__name__,
        denoiser="transformer",
        denoiser_class=type(stage.denoiser).__name__,
        sites=_sites(stage, names, changes, guesses),
        heads=_heads(stage, passes[0].calls, names[0], guesses),
        text=text,
        branches=branches,
        passes=order,
        per_sample=per_sample,
        tiles=bool(getattr(stage.pipe.vae, "use_tiling", False)),
        latent_axes=_latent_axes(stage, passes[0], ratios, guesses),
        ratios=ratios,
        prompt=prompt,
        embedded_guidance=bool(stage.config.get("guidance_embeds")),
        guidance_argument=_guidance_argument(stage.found, guesses),
        guider=_has_guider(stage.found),
        frames_argument=stage.found.frames_argument,
        steps=int(stage.found.default("num_inference_steps") or 50),
        video=_usual_video(stage.found, ratios, guesses),
        small_video=dict(zip(("frames", "height", "width"), stage.size, strict=True)),
        released=released,
        small=changes,
        guesses=tuple(guesses),
    )


def _site_names(calls: Sequence[Seen], video: int, stage: Stage) -> list[str]:
    """The modules whose tokens attend to the whole video, in the order they ran."""
    wide = [
        seen.name
        for seen in calls
        if seen.q.shape[-2] == seen.k.shape[-2] >= video and "audio" not in seen.name and not _refines(seen.name)
    ]
    if not wide:
        counts = sorted({seen.q.shape[-2] for seen in calls})
        raise UsageError(
            f"No attention of {stage.found.kind.__name__} sees the {video} tokens of a whole video; sequences have "
            f"{', '.join(map(str, counts)) or 'no'} tokens. It attends over space or time alone, or without softmax.",
            hint=f"{GUIDE} Its table has a line for models like this one.",
        )
    return list(dict.fromkeys(wide))


def _refines(name: str) -> bool:
    """Whether a module works on text before it meets the video."""
    return "refiner" in name or "context_embedder" in name or "text_blocks" in name or "text_transformer" in name


def _text_place(stage: Stage, passes: Sequence[Pass], name: str, video: int, guesses: list[Guess]) -> Place:
    """Where the text tokens are: the keys of the first site that stay when the latents change."""
    tokens = next(seen.k.shape[-2] for seen in passes[0].calls if seen.name == name)
    if tokens == video:
        return "none"
    still = unmoved(passes[0].calls, run(stage, seed=1)[0].calls, name)
    text = tokens - video
    if all(still[:text]) and not any(still[text:]):
        return "before"
    if all(still[-text:]) and not any(still[:-text]):
        return "after"
    guesses.append(Guess("text", f"where the {text} text tokens of {tokens} stand does not show; before written"))
    return "before"


def _sites(
    stage: Stage, names: Sequence[str], changes: Mapping[str, Mapping[str, Any]], guesses: list[Guess]
) -> list[Sites]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(re.sub(r"(?<=\.)\d+(?=\.)", "{}", name, count=1), []).append(name)
    sites = []
    for pattern, members in found.items():
        block = pattern.partition(".{}")[0] + ".{}" if "{}" in pattern else ""
        key = next((key for key in FEW if changes["transformer"].get(key) == len(members)), "")
        if not key:
            guesses.append(Guess("sites", f"no key of the configuration counts the {len(members)} of {pattern}"))
        output, unrotated = _look_inside(stage, members[0], block.format(0))
        sites.append(Sites(pattern, len(members), key, block if output is not None else "", output or 0, unrotated))
    return sites


def _look_inside(stage: Stage, name: str, block: str) -> tuple[int | None, tuple[str, str, str] | None]:
    """Which output of the block holds the video tokens, and where q and k are before the rotary embedding."""
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
    axes = _unrotated_axes(kept.get("q"), q) if parts else None
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


def _unrotated_axes(before: Any, q: Tensor) -> str | None:
    """The axes of a norm's output, "bhnd", "bnhd" or "bnc", where q was turned after it; None where it was not."""
    video, (_, heads, tokens, width) = LATENTS[0] * LATENTS[1] * LATENTS[2], q.shape
    if not isinstance(before, Tensor):
        return None
    for count in (tokens, video):
        shapes = {"bhnd": (heads, count, width), "bnhd": (count, heads, width), "bnc": (count, heads * width)}
        for axes, shape in shapes.items():
            if tuple(before.shape[1:]) == shape:
                return axes if _was_turned(before, q, axes) else None
    return None


def _was_turned(before: Tensor, q: Tensor, axes: str) -> bool:
    """Whether the queries that attend differ from those of the norm, by more than a change of precision."""
    heads, count = q.shape[1], before.shape[2 if axes == "bhnd" else 1]
    shaped = before.reshape(*before.shape[:-1], heads, -1) if axes == "bnc" else before
    own = shaped if axes == "bhnd" else shaped.transpose(1, 2)
    rows = min(len(own), len(q))
    ends = (q[:rows, :, :count], q[:rows, :, -count:])
    return not any(torch.allclose(own[:rows].float(), end.float(), rtol=1e-3, atol=1e-4) for end in ends)


def _heads(stage: Stage, calls: Sequence[Seen], name: str, guesses: list[Guess]) -> str:
    """Python for the number of heads."""
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


# ------------------------------------------------------------------------------------------------- branches and latents


def _branches(stage: Stage, passes: Sequence[Pass], guesses: list[Guess]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the rows of a batch, and of a step's passes where they have no label."""
    other = run(stage, prompt=1)
    step = max(len(passes) // STEPS, 1)
    if step == 1 or passes[0].label == BATCHED:
        rows = _rows(passes[0])
        return _named([_row_changes(passes[0], other[0], row, rows) for row in range(rows)], guesses), ()
    if passes[0].label is not None:
        return ("cond",), ()
    changed = [_row_changes(one, two, 0, 1) for one, two in zip(passes[:step], other[:step], strict=True)]
    return ("cond",), _named(changed, guesses)


def _rows(one: Pass) -> int:
    """Rows of the batch that a pass is given."""
    first = next(iter(one.arguments.values()))
    return len(first) if isinstance(first, Tensor) else 1


def _named(changed: Sequence[bool], guesses: list[Guess]) -> tuple[str, ...]:
    """A branch for each row or pass: "cond" where the prompt counts."""
    if len(changed) == 1:
        return ("cond",)
    if sum(changed) != 1:
        guesses.append(
            Guess(
                "model.py: branches", f"the prompt changes {sum(changed)} of {len(changed)} branches; the last is read"
            )
        )
        return (*(f"other{index}" for index in range(len(changed) - 1)), "cond")
    names = iter(["uncond", "perturbed", "other", "further"])
    return tuple("cond" if each else next(names) for each in changed)


def _row_changes(one: Pass, other: Pass, row: int, rows: int) -> bool:
    """Whether any argument of a pass differs in that row between two prompts."""
    return any(
        isinstance(value, Tensor)
        and value.ndim > 1
        and len(value) == rows
        and not torch.equal(value[row], other.arguments[name][row])
        for name, value in one.arguments.items()
    )


def _latent_axes(stage: Stage, first: Pass, ratios: Ratios, guesses: list[Guess]) -> str:
    """Order of the axes of the denoiser's latents; "" where they are packed into tokens."""
    latents = next(iter(first.arguments.values()))
    frames = LATENTS[0] * ratios.temporal_patch
    rows, cols = (count * ratios.patch for count in LATENTS[1:])
    if latents.ndim == 5 and tuple(latents.shape[3:]) == (rows, cols):
        return "bcfhw" if latents.shape[2] == frames else "bfchw"
    if latents.ndim == 5 and tuple(latents.shape[1:4]) == (frames, rows, cols):
        return "bfhwc"
    if not hasattr(stage.pipe, "_pack_latents"):
        guesses.append(
            Guess(
                "model.py: denoiser_input",
                f"latents reach the denoiser as {tuple(latents.shape)}: say how they are made",
            )
        )
    return ""


def _has_guider(found: Found) -> bool:
    """Whether a component keeps the strength of guidance, and the call takes none."""
    return "guider" in found.components and not any(name in found.call for name in GUIDANCE)


def _note_other_latents(passes: Sequence[Pass], guesses: list[Guess]) -> None:
    """Arguments besides latents and timestep that a pipeline changes from step to step, such as latents of sound."""
    first = passes[0].arguments
    last = next(one.arguments for one in reversed(passes) if one.label == passes[0].label)
    latents = next(iter(first), "")
    moved = [
        name
        for name, value in first.items()
        if isinstance(value, Tensor)
        and name != latents
        and "timestep" not in name
        and isinstance(last.get(name), Tensor)
        and not torch.equal(value, last[name])
    ]
    if moved:
        guesses.append(
            Guess(
                "branches",
                f"{', '.join(moved)} change from step to step; in renoise mode they stay as at the first one",
            )
        )


def _guidance_argument(found: Found, guesses: list[Guess]) -> str:
    taken = next((name for name in GUIDANCE if name in found.call), "")
    if not taken and not _has_guider(found):
        guesses.append(Guess("guidance_argument", "the call takes no strength of guidance; guidance_scale written"))
    return taken or GUIDANCE[0]


def _usual_video(found: Found, ratios: Ratios, guesses: list[Guess]) -> dict[str, int]:
    """Frames, height and width of the pipeline's call by default."""
    names = {"frames": found.frames_argument, "height": "height", "width": "width"}
    usual = {name: found.default(argument) for name, argument in names.items()}
    written = {
        "frames": 1 + 12 * ratios.temporal if ratios.causal else 12 * ratios.temporal,
        "height": 480,
        "width": 720,
    }
    stride = ratios.spatial * ratios.patch
    written.update({side: round(written[side] / stride) * stride for side in ("height", "width")})
    for name, value in usual.items():
        if not isinstance(value, int):
            guesses.append(Guess("video.json", f"the call has no {name} by default; {written[name]} written"))
    return {name: value if isinstance(value, int) else written[name] for name, value in usual.items()}


# --------------------------------------------------------------------------------------------------------------- prompt


def _prompt(stage: Stage, guesses: list[Guess]) -> Prompt:
    kinds = list(stage.arguments.values())
    if "embedding" not in kinds:
        raise UsageError(
            f"The call of {stage.found.kind.__name__} takes no embedded prompt (prompt_embeds): without one it cannot "
            "be run with random weights.",
            hint=GUIDE,
        )
    tokens = stage.found.default("max_sequence_length")
    mask = _mask_place(stage.found.kind) if "mask" in kinds else None
    if "mask" in kinds and mask is None:
        guesses.append(Guess("encoding", "where encode_prompt returns the mask does not show"))
    return Prompt(
        tokens=_from_config(stage, stage.tokens, ("length",)) or str(tokens or USUAL_TOKENS),
        arguments=[Argument(name, kind, _width(stage, name)) for name, kind in stage.arguments.items()],
        mask=(mask or 1) if "mask" in kinds else None,
        simple=set(stage.arguments) <= {"prompt_embeds", "prompt_attention_mask"},
        options={"max_sequence_length": tokens} if tokens else {},
    )


def _width(stage: Stage, name: str) -> str:
    """Python for the width of an embedding; "" for a mask."""
    width = stage.widths.get(name)
    return "" if width is None else _from_config(stage, width, WIDTH_WORDS[stage.arguments[name]]) or str(width)


def _from_config(stage: Stage, number: int, words: Sequence[str]) -> str:
    """Python that computes a number from configurations: a value whose key has one of the words, or two of them."""
    for name, part in stage.pipe.components.items():
        config = dict(getattr(part, "config", None) or {})
        usable = {
            key: value
            for key, value in config.items()
            if type(value) is int and value > 1 and any(word in key for word in words)
        }
        read = "self.network" if name == "transformer" else f"self.config_of('{name}')"
        for key, value in usable.items():
            if value == number:
                return f"{read}['{key}']"
        for one, other in pairwise(sorted(usable)):
            if usable[one] * usable[other] == number:
                return f"{read}['{one}'] * {read}['{other}']"
    return ""


def _mask_place(kind: Any) -> int | None:
    """The place of the mask in the tuple that `encode_prompt` returns, from its source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind.encode_prompt)))
    except (AttributeError, OSError, TypeError, SyntaxError):
        return None
    returns = [
        node.value for node in ast.walk(tree) if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple)
    ]
    for value in returns:
        names = [ast.unparse(each) for each in value.elts]
        for index, each in enumerate(names):
            if "mask" in each and "negative" not in each:
                return index
    return None


def _always(kinds: Mapping[str, type]) -> list[Guess]:
    """What no random network can show."""
    classes = ", ".join(kind.__name__ for kind in kinds.values())
    return [
        Guess("configs/", f"sizes are the defaults of the classes, not those of a release: {classes}"),
        Guess("cards/", "licence, hub_id and revision are those of the weights you use"),
        Guess("encode", "latents are shifted and scaled as the autoencoder's configuration says"),
    ]
