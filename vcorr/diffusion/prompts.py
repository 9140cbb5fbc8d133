"""Embeds prompts: with the pipeline's own text encoder, or as seeded noise if random weights come without one.

Shape legend: n text tokens, c width of an embedding.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from vcorr.contract.errors import PluginError, did_you_mean

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class PromptEncoding:
    """How a pipeline encodes a prompt, as data.

    tokens: n, the length to which prompts are padded, and the most that the text encoder reads. width: c. Both may be
    names of values in the denoiser's configuration. mask: index of the mask in the tuple that the pipeline's
    `encode_prompt` returns, after the embedding at index 0; None if the model takes no mask. options: arguments of
    `encode_prompt`, and of the pipeline's call if it has them, so that both read a prompt in the same way.
    """

    tokens: int | str
    width: int | str
    mask: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def with_sizes(self, network: Mapping[str, Any]) -> PromptEncoding:
        """Returns the encoding with numbers in place of names of values in `network`, the denoiser's configuration.

        Raises:
            PluginError: the configuration has no value of that name.
        """
        for size in (self.tokens, self.width):
            if isinstance(size, str) and size not in network:
                raise PluginError(
                    f"The prompt's encoding names the value {size!r}, which the denoiser's configuration does not have."
                    f"{did_you_mean(size, network)}",
                    hint="Correct it in the adapter's `encoding`, or give the number itself.",
                )
        tokens, width = (network[size] if isinstance(size, str) else size for size in (self.tokens, self.width))
        return replace(self, tokens=tokens, width=width)

    def embed(self, pipe: Any, prompt: str, device: str, dtype: torch.dtype) -> dict[str, Tensor]:
        """Returns the embedding, (1, n, c), and the mask, (1, n), by the names of the pipeline's arguments.

        Without a text encoder both are stand-ins made from the prompt's text: see `prompt_noise` and `random_mask`.
        """
        from vcorr.diffusion.latents import prompt_noise

        if pipe.text_encoder is None:
            tokens, width = int(self.tokens), int(self.width)
            embedding, mask = prompt_noise((1, tokens, width), prompt), random_mask(tokens, prompt)
            embedding = embedding.to(device, dtype)
        else:
            encoded = pipe.encode_prompt(prompt, do_classifier_free_guidance=False, device=device, **self.options)
            embedding, mask = encoded[0], encoded[self.mask or 0]
        return {"prompt_embeds": embedding} | (
            {} if self.mask is None else {"prompt_attention_mask": mask.to(embedding.device)}
        )

    def call_inputs(
        self, pipe: Any, prompt: str, device: str, dtype: torch.dtype, negative: str | None = None
    ) -> dict[str, Any]:
        """Returns arguments of the pipeline's call: the prompts, or, without a text encoder, stand-ins for them.

        negative: text of the unconditional branch; None for the pipeline's own, or for "" without a text encoder.
        """
        known = inspect.signature(type(pipe).__call__).parameters
        if pipe.text_encoder is not None:
            texts = {"prompt": prompt} if negative is None else {"prompt": prompt, "negative_prompt": negative}
            return {**texts, **{name: value for name, value in self.options.items() if name in known}}
        unconditional = self.embed(pipe, negative or "", device, dtype)
        return {
            **self.embed(pipe, prompt, device, dtype),
            **{f"negative_{name}": value for name, value in unconditional.items()},
            # some pipelines have a default text here, and refuse to take both
            **({"negative_prompt": None} if "negative_prompt" in known else {}),
        }


def random_mask(tokens: int, prompt: str) -> Tensor:
    """Returns (1, tokens) bool, like a tokenizer with one token per word and one that ends the text."""
    import torch

    return torch.arange(tokens)[None] < len(prompt.split()) + 1
