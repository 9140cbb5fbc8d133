"""Collects the facts about a pipeline class that fill the templates.

The pipeline is made with small random networks and run; `ratio_facts`, `site_facts`, `branch_facts` and `prompt_facts`
evaluate what it does.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from vcorr.authoring.scaffold.pipelines.branch_facts import (
    find_branches,
    find_guidance_argument,
    find_latent_axes,
    has_guider,
    note_other_latents,
)
from vcorr.authoring.scaffold.pipelines.facts import Argument, Guess, PipelineFacts, Prompt, Ratios, Sites
from vcorr.authoring.scaffold.pipelines.find import Found, find_pipeline
from vcorr.authoring.scaffold.pipelines.measure import (
    LATENTS,
    Pass,
    Stage,
    UnseenError,
    prepare,
    prompt_arguments,
    run,
)
from vcorr.authoring.scaffold.pipelines.prompt_facts import USUAL_TOKENS, describe_prompt, find_mask_place
from vcorr.authoring.scaffold.pipelines.ratio_facts import find_ratios, patch_of, usual_video, video_size, write_ratios
from vcorr.authoring.scaffold.pipelines.site_facts import (
    describe_sites,
    find_site_names,
    find_text_place,
    heads_source,
)
from vcorr.authoring.scaffold.pipelines.sizes import class_path, constructor, defaults, small

MAIN = ("transformer", "vae", "scheduler")
"""Components that are always made, even if the constructor does not need them."""


def learn(name: str) -> PipelineFacts:
    """Returns the facts about the pipeline class with that name.

    If the pipeline cannot be run with small random networks, `unseen` says why, and the values that a run would show
    are guesses.

    Raises:
        UsageError: this scaffold cannot write an adapter for the class; the message says why.
    """
    found = find_pipeline(name)
    kinds = _choose_components(found)
    released = {part: {"_class_name": class_path(kind), **defaults(kind)} for part, kind in kinds.items()}
    changes = small(kinds)
    guesses = _always(kinds)
    try:
        return _learn_from_run(found, kinds, released, changes, guesses)
    except UnseenError as error:
        return _learn_from_source(found, released, changes, [*guesses, *_to_fill_in(error.message)], error.message)


def _learn_from_run(
    found: Found,
    kinds: Mapping[str, type],
    released: dict[str, dict[str, Any]],
    changes: dict[str, dict[str, Any]],
    guesses: list[Guess],
) -> PipelineFacts:
    pipe = _build(found, kinds, changes)
    ratios = find_ratios(pipe, guesses)
    if write_ratios(pipe, ratios, released, changes):
        pipe = _build(found, kinds, changes)
    stage = prepare(found, pipe, video_size(ratios, LATENTS))
    if getattr(pipe.vae, "use_tiling", False):
        guesses.append(Guess("sizes", "the autoencoder only works in tiles: which sizes do whole tiles cover?"))
    return _facts(stage, run(stage), ratios, released, changes, guesses)


def _to_fill_in(why: str) -> list[Guess]:
    """Returns what has to be written by hand when the pipeline could not be run."""
    unknown = {
        "small/": f"give the components sizes that run together: {why}",
        "attention": "path of the video self-attention of a block",
        "text": "where text tokens are in its sequence",
        "branches": "guidance branches in the order of the batch",
        "compression": "pixels per latent, latents per token",
        "latent_axes": "order of the axes of the denoiser's latents",
        "encoding": "text tokens, their width, the mask",
    }
    return [Guess(where, f"not seen: {what}") for where, what in unknown.items()]


def _learn_from_source(
    found: Found,
    released: Mapping[str, Mapping[str, Any]],
    changes: Mapping[str, Mapping[str, Any]],
    guesses: list[Guess],
    why: str,
) -> PipelineFacts:
    """Returns what the source shows without a run, and for all else the values that most pipelines have."""
    source = inspect.getsource(found.kind)
    names = prompt_arguments(found.call)
    ratios = Ratios(8, 4, *patch_of(released["transformer"]), causal=True)
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
            mask=(find_mask_place(found.kind) or 1) if "mask" in names.values() else None,
            simple=simple,
            options={},
        ),
        embedded_guidance=bool(released["transformer"].get("guidance_embeds")),
        guidance_argument=find_guidance_argument(found, guesses),
        guider=has_guider(found),
        frames_argument=found.frames_argument,
        steps=int(found.default("num_inference_steps") or 50),
        video=usual_video(found, ratios, guesses),
        small_video={"frames": frames, "height": height, "width": width},
        released=released,
        small=changes,
        guesses=tuple(guesses),
        unseen=why,
    )


def _choose_components(found: Found) -> dict[str, type]:
    """Returns the components that get random weights: the ones in `MAIN`, and all that the constructor needs."""
    needed = constructor(found.kind)
    return {
        name: kinds[0]
        for name, kinds in found.components.items()
        if name in MAIN or needed[name].default is inspect.Parameter.empty
    }


def _build(found: Found, kinds: Mapping[str, type], changes: Mapping[str, Mapping[str, Any]]) -> Any:
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


def _facts(
    stage: Stage,
    passes: Sequence[Pass],
    ratios: Ratios,
    released: Mapping[str, Mapping[str, Any]],
    changes: Mapping[str, Mapping[str, Any]],
    guesses: list[Guess],
) -> PipelineFacts:
    video = LATENTS[0] * LATENTS[1] * LATENTS[2]
    names = find_site_names(passes[0].calls, video, stage)
    text = find_text_place(stage, passes, names[0], video, guesses)
    per_sample = sum(seen.name == names[0] for seen in passes[0].calls) > 1
    branches, order = find_branches(stage, passes, guesses)
    note_other_latents(passes, guesses)
    prompt = describe_prompt(stage, guesses)
    return PipelineFacts(
        pipeline_class=stage.found.kind.__name__,
        denoiser="transformer",
        denoiser_class=type(stage.denoiser).__name__,
        sites=describe_sites(stage, names, changes, guesses),
        heads=heads_source(stage, passes[0].calls, names[0], guesses),
        text=text,
        branches=branches,
        passes=order,
        per_sample=per_sample,
        tiles=bool(getattr(stage.pipe.vae, "use_tiling", False)),
        latent_axes=find_latent_axes(stage, passes[0], ratios, guesses),
        ratios=ratios,
        prompt=prompt,
        embedded_guidance=bool(stage.config.get("guidance_embeds")),
        guidance_argument=find_guidance_argument(stage.found, guesses),
        guider=has_guider(stage.found),
        frames_argument=stage.found.frames_argument,
        steps=int(stage.found.default("num_inference_steps") or 50),
        video=usual_video(stage.found, ratios, guesses),
        small_video=dict(zip(("frames", "height", "width"), stage.size, strict=True)),
        released=released,
        small=changes,
        guesses=tuple(guesses),
    )


def _always(kinds: Mapping[str, type]) -> list[Guess]:
    """Returns the guesses about facts that no random network can show."""
    classes = ", ".join(kind.__name__ for kind in kinds.values())
    return [
        Guess("configs/", f"sizes are the defaults of the classes, not the sizes of a release: {classes}"),
        Guess("cards/", "licence, hub_id and revision must be the ones of the weights you use"),
        Guess(
            "encode", "latents are shifted and scaled as the autoencoder's configuration says: does the pipeline agree?"
        ),
    ]
