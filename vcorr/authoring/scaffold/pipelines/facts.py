"""Holds what the scaffold learns from a pipeline: facts that fill the templates, and guesses for a person to check."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Guess:
    """Something that a person has to check.

    where: an attribute or method in model.py, or a file. what: why it has to be checked.
    """

    where: str
    what: str


@dataclass(frozen=True)
class Sites:
    """Attention modules of one kind of block.

    Attributes:
        pattern: path inside the denoiser, with "{}" for the number of the block.
        count: number of modules at the small size.
        layers: key of the denoiser's configuration that counts them; "" when no key does.
        block: pattern of the modules whose output is the hidden state.
        block_output: index of the output that holds the video tokens.
        unrotated: submodules of q and k before the rotary embedding, and the axes of their outputs; None without them.
    """

    pattern: str
    count: int
    layers: str
    block: str = ""
    block_output: int = 0
    unrotated: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class Ratios:
    """How pixels become tokens.

    spatial, temporal: pixels per latent along a side, and video frames per latent frame. patch, temporal_patch: latents
    per token along a side, and in time. causal: whether frame 0 has a latent frame of its own.
    """

    spatial: int
    temporal: int
    patch: int
    temporal_patch: int
    causal: bool


@dataclass(frozen=True)
class Argument:
    """An argument of the pipeline's call that holds an embedded prompt.

    kind: "embedding", (1, n, c); "pooled", (1, c); or "mask", (1, n). width: Python for c; "" for a mask.
    """

    name: str
    kind: Literal["embedding", "pooled", "mask"]
    width: str = ""


@dataclass(frozen=True)
class Prompt:
    """How the pipeline's call takes an embedded prompt.

    tokens: Python for n. arguments: arguments of the call. mask: index of the mask in what `encode_prompt` returns.
    simple: whether a `PromptEncoding` can describe all this. options: arguments that `encode_prompt` and the call take.
    """

    tokens: str
    arguments: Sequence[Argument]
    mask: int | None
    simple: bool
    options: Mapping[str, Any]

    @property
    def width(self) -> str:
        """Python for the width of the first embedding."""
        return next((each.width for each in self.arguments if each.kind == "embedding"), "")

    @property
    def in_network(self) -> bool:
        """Whether both `tokens` and `width` are numbers, or keys of the denoiser's configuration."""
        return all(re.fullmatch(r"\d+|self\.network\['\w+'\]", text) for text in (self.tokens, self.width))


@dataclass(frozen=True)
class PipelineFacts:
    """Values for the templates of an adapter.

    Attributes:
        released: configuration of each component, which are the defaults of its class.
        small: values that differ at the small size, by component.
        guider: whether a component holds the strength of guidance instead of an argument of the call.
        tiles: whether the autoencoder only works in tiles.
        unseen: why the pipeline could not be run; "" when it was run.
    """

    pipeline_class: str
    denoiser: str
    denoiser_class: str
    sites: Sequence[Sites]
    heads: str
    text: Literal["before", "after", "none"]
    branches: tuple[str, ...]
    passes: tuple[str, ...]
    per_sample: bool
    latent_axes: str
    ratios: Ratios
    prompt: Prompt
    embedded_guidance: bool
    guidance_argument: str
    frames_argument: str
    steps: int
    video: Mapping[str, int]
    small_video: Mapping[str, int]
    released: Mapping[str, Mapping[str, Any]]
    small: Mapping[str, Mapping[str, Any]]
    guesses: Sequence[Guess]
    guider: bool = False
    tiles: bool = False
    unseen: str = ""

    def why_check(self, where: str) -> str:
        """Returns why a written value has to be checked; "" when it was seen."""
        return "; ".join(guess.what for guess in self.guesses if guess.where == where)
