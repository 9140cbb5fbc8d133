"""Open-Sora 2.0 as a diffusers pipeline; diffusers itself has none.

Shape legend: T video frames, H x W pixels, C latent channels, F x h x w latents, N tokens, n text tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from diffusers.video_processor import VideoProcessor
from torch import Tensor

from vcorr.contract.cards import load_card
from vcorr.diffusion.configs import packaged_configs
from vcorr.diffusion.random_weights import component_from_config
from vcorr_opensora.checkpoint import load_encoder, load_transformer, load_vae
from vcorr_opensora.released import V2, locate_parts
from vcorr_opensora.sampling import (
    PATCH,
    guide,
    image_condition,
    image_strength,
    oscillating,
    patchify,
    positions,
    time_shift,
    unpatchify,
)

CARD = "vcorr_opensora:cards/open-sora-2.0.yaml"
CLIP_TOKENS = 77
CONFIGS = "vcorr_opensora:configs/open-sora-2.0"
Callback = Callable[[Any, int, Any, dict[str, Any]], Mapping[str, Any]]


@dataclass
class OpenSoraPipelineOutput(BaseOutput):  # type: ignore[misc]  # diffusers is not typed
    """frames: (1, T, H, W, 3) float32 in [0, 1], or what another `output_type` makes."""

    frames: Any


@dataclass(frozen=True)
class Text:
    """A prompt as the transformer reads it. tokens: (1, n, width), of T5. pooled: (1, width), of CLIP."""

    tokens: Tensor
    pooled: Tensor


class OpenSoraPipeline(DiffusionPipeline):  # type: ignore[misc]  # diffusers is not typed
    """Text, or text and an image, to one video.

    Components:

    - transformer: diffusers' `FluxTransformer2DModel` whose input is the noisy latents and the condition on an image,
      side by side, and whose output is the velocity of the latents;
    - vae: `AutoencoderKLHunyuanVideo`;
    - scheduler: `FlowMatchEulerDiscreteScheduler` with the settings in `CONFIGS`;
    - text_encoder, tokenizer: T5; text_encoder_2, tokenizer_2: CLIP. Without them embeddings have to be given.

    `from_pretrained` takes a folder of `save_pretrained`, or one laid out as the release is.
    """

    model_cpu_offload_seq = "text_encoder->text_encoder_2->transformer->vae"
    _optional_components = ["text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"]  # noqa: RUF012  # diffusers'

    def __init__(
        self,
        transformer: Any,
        vae: Any,
        scheduler: Any,
        text_encoder: Any = None,
        tokenizer: Any = None,
        text_encoder_2: Any = None,
        tokenizer_2: Any = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            transformer=transformer,
            vae=vae,
            scheduler=scheduler,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            text_encoder_2=text_encoder_2,
            tokenizer_2=tokenizer_2,
        )
        self.video_processor = VideoProcessor(vae_scale_factor=vae.config.spatial_compression_ratio)
        # As released: tiles of 256 pixels, which overlap by a quarter, and all frames at once.
        vae.enable_tiling()
        vae.use_framewise_encoding = vae.use_framewise_decoding = False

    @classmethod
    def from_pretrained(cls, folder: Any, **options: Any) -> Any:
        """As of every diffusers pipeline; a folder of the release is read with `load_released`."""
        if V2.fills(Path(folder)):
            return load_released(Path(folder), options.get("dtype", torch.float32))
        return super().from_pretrained(folder, **options)

    # ------------------------------------------------------------------------------------------------------------ parts

    def encode_prompt(self, prompt: str, max_sequence_length: int = 512) -> Text:
        """A prompt through both encoders, padded to `max_sequence_length` tokens and cut there; CLIP reads 77 of them.

        Padding is not masked, as in training.
        """
        t5, clip = self.text_encoder, self.text_encoder_2
        tokens = t5(self._token_ids(self.tokenizer, prompt, max_sequence_length)).last_hidden_state
        pooled = clip(self._token_ids(self.tokenizer_2, prompt, CLIP_TOKENS)).pooler_output
        return Text(tokens.to(self.transformer.dtype), pooled.to(self.transformer.dtype))

    def encode_image(self, image: Any, height: int, width: int, generator: torch.Generator | None = None) -> Tensor:
        """(1, C, 1, h, w): the latents of an image, a sample of the autoencoder's posterior."""
        pixels = self.video_processor.preprocess(image, height=height, width=width)
        pixels = pixels.to(self._execution_device, self.vae.dtype).unsqueeze(2)
        latents = self.vae.encode(pixels).latent_dist.sample(generator)
        return latents * self.vae.config.scaling_factor

    def schedule_arguments(self, num_steps: int, frames: int, tokens_per_frame: int) -> Mapping[str, Any]:
        """What `scheduler.set_timesteps` is given beside the number of steps, for F = `frames` latents."""
        config = self.scheduler.config
        low = (config.base_image_seq_len, config.base_shift)
        high = (config.max_image_seq_len, config.max_shift)
        return {
            "sigmas": np.linspace(1.0, 1.0 / num_steps, num_steps),
            "mu": time_shift(tokens_per_frame, frames, low, high),
        }

    def transformer_inputs(self, latents: Tensor, condition: Tensor, text: Text, timestep: Tensor) -> Mapping[str, Any]:
        """Keyword arguments of the transformer.

        Args:
            latents: (B, C, F, h, w).
            condition: (B, 1 + C, F, h, w), of `image_condition`.
            text: of the B rows.
            timestep: 0-dimensional, in [0, 1000] as the scheduler gives it.
        """
        dtype, device = self.transformer.dtype, latents.device
        frames, rows, cols = latents.shape[2], latents.shape[3] // PATCH, latents.shape[4] // PATCH
        return {
            "hidden_states": torch.cat([patchify(latents.to(dtype)), patchify(condition.to(dtype))], dim=-1),
            "encoder_hidden_states": text.tokens,
            "pooled_projections": text.pooled,
            "timestep": (timestep / self.scheduler.config.num_train_timesteps).expand(len(latents)).to(dtype),
            "img_ids": positions(frames, rows, cols, device),
            "txt_ids": torch.zeros(text.tokens.shape[1], 3, device=device),
            "return_dict": False,
        }

    # ------------------------------------------------------------------------------------------------------------- call

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | None = None,
        image: Any = None,
        height: int = 192,
        width: int = 336,
        num_frames: int = 129,
        num_inference_steps: int = 50,
        guidance_scale: float = 7.5,
        image_guidance_scale: float = 3.0,
        negative_prompt: str = "",
        text: Text | None = None,
        negative_text: Text | None = None,
        max_sequence_length: int = 512,
        generator: torch.Generator | None = None,
        latents: Tensor | None = None,
        output_type: str = "np",
        callback_on_step_end: Callback | None = None,
    ) -> OpenSoraPipelineOutput:
        """Samples one video.

        Args:
            prompt: what to show.
            image: the first frame, for image to video: a PIL image, or anything diffusers' processors take.
            height: of the video, in pixels; a multiple of 16, as is `width`.
            width: of the video.
            num_frames: of the video, 4k + 1.
            num_inference_steps: Euler steps.
            guidance_scale: strength of guidance by text; 1 turns all guidance off, that by the image too, and leaves
                the conditional branch alone.
            image_guidance_scale: strength of guidance by the image.
            negative_prompt: of the branches without text.
            text: an encoded prompt, in place of `prompt`.
            negative_text: an encoded prompt, in place of `negative_prompt`.
            max_sequence_length: text tokens.
            generator: of the noise.
            latents: (1, C, F, h, w), noise to start from.
            output_type: "np", "pt", "pil", or "latent" for the latents themselves.
            callback_on_step_end: called with the pipeline, the step's index, its timestep and an empty mapping.
        """
        text = text or self.encode_prompt(prompt or "", max_sequence_length)
        device = self._execution_device
        latents = self._noise(num_frames, height, width, generator) if latents is None else latents
        first = None if image is None else self.encode_image(image, height, width, generator).to(latents.dtype)
        condition = image_condition(latents, first)
        if guidance_scale != 1:
            negative = negative_text or self.encode_prompt(negative_prompt, max_sequence_length)
            text, condition = _in_branches(text, negative, condition)
        arguments = self.schedule_arguments(num_inference_steps, latents.shape[2], _tokens_per_frame(latents))
        self.scheduler.set_timesteps(num_inference_steps, device=device, **arguments)
        with self.progress_bar(total=num_inference_steps) as bar:
            for step, timestep in enumerate(self.scheduler.timesteps):
                velocity = self._velocity(latents, condition, text, timestep)
                if guidance_scale != 1:
                    strengths = guidance_scale, image_guidance_scale
                    velocity = _guided(velocity, step, num_inference_steps, strengths, towards_image=image is not None)
                latents = self.scheduler.step(velocity, timestep, latents, return_dict=False)[0]
                if callback_on_step_end is not None:
                    callback_on_step_end(self, step, timestep, {})
                bar.update()
        if first is not None:
            latents[:, :, :1] = first
        frames = latents if output_type == "latent" else self._decode(latents, output_type)
        self.maybe_free_model_hooks()
        return OpenSoraPipelineOutput(frames=frames)

    def _velocity(self, latents: Tensor, condition: Tensor, text: Text, timestep: Tensor) -> Tensor:
        """(B, C, F, h, w), one row a branch, of the same latents (1, C, F, h, w)."""
        rows = latents.expand(len(condition), -1, -1, -1, -1)
        tokens = self.transformer(**self.transformer_inputs(rows, condition, text, timestep))[0]
        _, _, frames, height, width = latents.shape
        return unpatchify(tokens, frames, height // PATCH, width // PATCH)

    def _decode(self, latents: Tensor, output_type: str) -> Any:
        latents = latents.to(self.vae.dtype) / self.vae.config.scaling_factor
        video = self.vae.decode(latents, return_dict=False)[0]
        return self.video_processor.postprocess_video(video, output_type=output_type)

    def _noise(self, num_frames: int, height: int, width: int, generator: torch.Generator | None) -> Tensor:
        vae = self.vae.config
        shape = (
            1,
            vae.latent_channels,
            (num_frames - 1) // vae.temporal_compression_ratio + 1,
            height // vae.spatial_compression_ratio,
            width // vae.spatial_compression_ratio,
        )
        noise: Tensor = randn_tensor(shape, generator, self._execution_device, self.transformer.dtype)
        return noise

    def _token_ids(self, tokenizer: Any, prompt: str, length: int) -> Tensor:
        found = tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        ids: Tensor = found.input_ids.to(self._execution_device)
        return ids


def scheduler_of(configs: str) -> Any:
    """The scheduler of a folder of configurations; the release has none of its own."""
    return component_from_config("scheduler", packaged_configs(configs)["scheduler"])


def load_released(folder: Path, dtype: torch.dtype) -> OpenSoraPipeline:
    """The pipeline of a folder laid out as the release is, on the CPU; text encoders may come from the hub's cache.

    Raises:
        MissingError: a part is missing.
        UsageError: a part is of another network, or a pickle.
    """
    from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer

    parts = locate_parts(V2, load_card(CARD, "Open-Sora 2.0"), folder)
    return OpenSoraPipeline(
        transformer=load_transformer(parts["transformer"], dtype),
        vae=load_vae(parts["vae"], dtype),
        scheduler=scheduler_of(CONFIGS),
        text_encoder=load_encoder(T5EncoderModel, parts["text_encoder"], dtype),
        tokenizer=T5Tokenizer.from_pretrained(parts["tokenizer"], local_files_only=True),
        text_encoder_2=load_encoder(CLIPTextModel, parts["text_encoder_2"], dtype),
        tokenizer_2=CLIPTokenizer.from_pretrained(parts["tokenizer_2"], local_files_only=True),
    )


def _in_branches(text: Text, negative: Text, condition: Tensor) -> tuple[Text, Tensor]:
    """Text and condition of the three branches: with text and image, with the image alone, with neither."""
    tokens = torch.cat([text.tokens, negative.tokens, negative.tokens])
    pooled = torch.cat([text.pooled, negative.pooled, negative.pooled])
    return Text(tokens, pooled), torch.cat([condition, condition, torch.zeros_like(condition)])


def _guided(
    branches: Tensor, step: int, num_steps: int, strengths: tuple[float, float], *, towards_image: bool
) -> Tensor:
    """The velocity of a step; `strengths` are those of text and image before they oscillate."""
    text, image = strengths
    towards: Tensor | float = oscillating(image, step)
    if towards_image:
        towards = image_strength(image, step, num_steps, branches.shape[2]).to(branches)
    return guide(branches, oscillating(text, step), towards)


def _tokens_per_frame(latents: Tensor) -> int:
    return latents.shape[3] * latents.shape[4] // PATCH**2
