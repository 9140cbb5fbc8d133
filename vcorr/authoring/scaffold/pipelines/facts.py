"""What the scaffold learnt of a pipeline: facts that fill the templates, and guesses that a person has to check."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Guess:
    """Something a person has to check.

    where: the name of what was written, as it stands in model.py, or the file. what: why it has to be checked.
    """

    where: str
    what: str


@dataclass(frozen=True)
class Sites:
    """Attention modules of one kind of block.

    pattern: path inside the denoiser with "{}" for the number. count: at the small size. layers: key of the denoiser's
    configuration that counts them; "" when none does. block: pattern of the modules that put out the hidden state.
    block_output: which of their outputs holds the video tokens. unrotated: submodules of q and k before the rotary
    embedding, and the axes of their outputs; None where there is none.
    """

    pattern: str
    count: int
    layers: str
    block: str = ""
    block_output: int = 0
    unrotated: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class Ratios:
    """How pixels become tokens: pixels per latent, latents per token, in space and in time; causal in time or not."""

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

    tokens: Python for n. arguments: of the call. mask: place of the mask in what `encode_prompt` returns. simple:
    whether a `PromptEncoding` describes it all. options: arguments of `encode_prompt` that the call shares.
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
        """Whether tokens and width are numbers, or keys of the denoiser's configuration."""
        return all(re.fullmatch(r"\d+|self\.network\['\w+'\]", text) for text in (self.tokens, self.width))


@dataclass(frozen=True)
class PipelineFacts:
    """What fills the templates of an adapter.

    released and small: by component, the configuration (class defaults) and what changes at the size for checks.
    guider: whether a component keeps the strength of guidance, and the call takes none. tiles: whether the autoencoder
    works in tiles alone. unseen: why the pipeline could not be run, "" where it was.
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

    def guessed(self, where: str) -> str:
        """Why something that was written has to be checked; "" where it was seen."""
        return "; ".join(guess.what for guess in self.guesses if guess.where == where)
