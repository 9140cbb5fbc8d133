"""Holds Open-Sora 2.0 as a diffusers pipeline, which diffusers does not have.

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

from vcorr import load_card
from vcorr.diffusion import component_from_config, packaged_configs
from vcorr_opensora.checkpoint import load_encoder, load_transformer, load_vae
from vcorr_opensora.released import V2, locate_parts
from vcorr_opensora.sampling import (
    PATCH,
    guide,
    image_condition,
    image_strength,
    oscillate,
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
    """Output of the pipeline. frames: (1, T, H, W, 3) float32 in [0, 1], or as `output_type` says."""

    frames: Any


@dataclass(frozen=True)
class Text:
    """A prompt as the transformer reads it. tokens: (1, n, width) from T5. pooled: (1, width) from CLIP."""

    tokens: Tensor
    pooled: Tensor


class OpenSoraPipeline(DiffusionPipeline):  # type: ignore[misc]  # diffusers is not typed
    """Generates one video from text, or from text and an image.

    Components:

    - transformer: diffusers' `FluxTransformer2DModel`. Its input is the noisy latents and the condition on an image,
      side by side; its output is the velocity of the latents.
    - vae: `AutoencoderKLHunyuanVideo`.
    - scheduler: `FlowMatchEulerDiscreteScheduler` with the settings in `CONFIGS`.
    - text_encoder, tokenizer: T5; text_encoder_2, tokenizer_2: CLIP. Without them the call needs embeddings.

    `from_pretrained` takes a folder of `save_pretrained`, or a folder with the layout of the release.
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
        # The release works in tiles of 256 pixels, which overlap by a quarter, and on all frames at once.
        vae.enable_tiling()
        vae.use_framewise_encoding = vae.use_framewise_decoding = False

    @classmethod
    def from_pretrained(cls, folder: Any, **options: Any) -> Any:
        """Loads a folder as every diffusers pipeline does; loads a folder of the release with `load_released`."""
        if V2.fills(Path(folder)):
            return load_released(Path(folder), options.get("dtype", torch.float32))
        return super().from_pretrained(folder, **options)

    # ------------------------------------------------------------------------------------------------------------ parts

    def encode_prompt(self, prompt: str, max_sequence_length: int = 512) -> Text:
        """Encodes a prompt with T5, padded or cut to `max_sequence_length` tokens, and with CLIP, which reads 77.

        It does not mask padding, as in training.
        """
        t5, clip = self.text_encoder, self.text_encoder_2
        tokens = t5(self._token_ids(self.tokenizer, prompt, max_sequence_length)).last_hidden_state
        pooled = clip(self._token_ids(self.tokenizer_2, prompt, CLIP_TOKENS)).pooler_output
        return Text(tokens.to(self.transformer.dtype), pooled.to(self.transformer.dtype))

    def encode_image(self, image: Any, height: int, width: int, generator: torch.Generator | None = None) -> Tensor:
        """Samples the latents of an image, (1, C, 1, h, w), from the autoencoder's posterior."""
        pixels = self.video_processor.preprocess(image, height=height, width=width)
        pixels = pixels.to(self._execution_device, self.vae.dtype).unsqueeze(2)
        latents = self.vae.encode(pixels).latent_dist.sample(generator)
        result: Tensor = latents * self.vae.config.scaling_factor
        return result

    def schedule_arguments(self, num_steps: int, frames: int, tokens_per_frame: int) -> Mapping[str, Any]:
        """Returns the arguments of `scheduler.set_timesteps` except the number of steps. frames: F."""
        config = self.scheduler.config
        low = (config.base_image_seq_len, config.base_shift)
        high = (config.max_image_seq_len, config.max_shift)
        return {
            "sigmas": np.linspace(1.0, 1.0 / num_steps, num_steps),
            "mu": time_shift(tokens_per_frame, frames, low, high),
        }

    def transformer_inputs(self, latents: Tensor, condition: Tensor, text: Text, timestep: Tensor) -> Mapping[str, Any]:
        """Returns the keyword arguments of the transformer.

        Args:
            latents: (B, C, F, h, w).
            condition: (B, 1 + C, F, h, w), from `image_condition`.
            text: the prompts of the B batch rows.
            timestep: 0-dimensional, in [0, 1000] as the scheduler returns it.
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
            prompt: text of the video.
            image: the first frame, for image to video: a PIL image, or anything diffusers' processors take.
            height: height of the video in pixels; a multiple of 16.
            width: width of the video in pixels; a multiple of 16.
            num_frames: frames of the video, 4k + 1.
            num_inference_steps: number of Euler steps.
            guidance_scale: strength of guidance by text; 1 turns off all guidance, also by the image, and runs only the
                conditional branch.
            image_guidance_scale: strength of guidance by the image.
            negative_prompt: text of the branches without the prompt.
            text: an encoded prompt, which replaces `prompt`.
            negative_text: an encoded prompt, which replaces `negative_prompt`.
            max_sequence_length: number of text tokens.
            generator: generator of the noise.
            latents: (1, C, F, h, w), the noise to start from.
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
            text, condition = _join_branches(text, negative, condition)
        arguments = self.schedule_arguments(num_inference_steps, latents.shape[2], _tokens_per_frame(latents))
        self.scheduler.set_timesteps(num_inference_steps, device=device, **arguments)
        with self.progress_bar(total=num_inference_steps) as bar:
            for step, timestep in enumerate(self.scheduler.timesteps):
                velocity = self._velocity(latents, condition, text, timestep)
                if guidance_scale != 1:
                    strengths = guidance_scale, image_guidance_scale
                    velocity = _guide(velocity, step, num_inference_steps, strengths, towards_image=image is not None)
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
        """Predicts the velocity of the latents (1, C, F, h, w) in every branch, (B, C, F, h, w)."""
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
    """Builds the scheduler from a folder of configurations; the release has no file for it."""
    return component_from_config("scheduler", packaged_configs(configs)["scheduler"])


def load_released(folder: Path, dtype: torch.dtype) -> OpenSoraPipeline:
    """Loads the pipeline from a folder with the layout of the release, on the CPU.

    Text encoders may come from the hub's cache.

    Raises:
        MissingError: a part is missing.
        UsageError: a part belongs to another network, or is a pickle.
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


def _join_branches(text: Text, negative: Text, condition: Tensor) -> tuple[Text, Tensor]:
    """Returns text and condition of the three branches: with text and image, with the image only, with neither."""
    tokens = torch.cat([text.tokens, negative.tokens, negative.tokens])
    pooled = torch.cat([text.pooled, negative.pooled, negative.pooled])
    return Text(tokens, pooled), torch.cat([condition, condition, torch.zeros_like(condition)])


def _guide(
    branches: Tensor, step: int, num_steps: int, strengths: tuple[float, float], *, towards_image: bool
) -> Tensor:
    """Returns the guided velocity of a step. strengths: of guidance by text and by the image, before they oscillate."""
    text, image = strengths
    towards: Tensor | float = oscillate(image, step)
    if towards_image:
        towards = image_strength(image, step, num_steps, branches.shape[2]).to(branches)
    return guide(branches, oscillate(text, step), towards)


def _tokens_per_frame(latents: Tensor) -> int:
    return latents.shape[3] * latents.shape[4] // PATCH**2
