"""Holds Open-Sora 1.2 as a diffusers pipeline, which diffusers does not have.

Shape legend: T video frames, H x W pixels, C latent channels, F x h x w latents, n text tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor
from diffusers.video_processor import VideoProcessor
from torch import Tensor

from vcorr import load_card
from vcorr_opensora.checkpoint import load_encoder, load_own
from vcorr_opensora.pipeline import Callback, OpenSoraPipelineOutput, scheduler_of
from vcorr_opensora.released import V1, locate_parts
from vcorr_opensora.v1.autoencoder import OpenSoraAutoencoder
from vcorr_opensora.v1.chunks import CHUNK, CHUNK_LATENTS, ChunkedCompression
from vcorr_opensora.v1.transformer import NATIVE_SIDE, STDiT3

CARD = "vcorr_opensora:cards/open-sora-1.2.yaml"
CONFIGS = "vcorr_opensora:configs/open-sora-1.2"


@dataclass(frozen=True)
class MaskedText:
    """A prompt as the transformer reads it. tokens: (1, n, width) from T5. real: (1, n) bool, False for padding."""

    tokens: Tensor
    real: Tensor


class OpenSora1Pipeline(DiffusionPipeline):  # type: ignore[misc]  # diffusers is not typed
    """Generates one video from text.

    Components: transformer, a `STDiT3`; vae, an `OpenSoraAutoencoder`; scheduler, a `FlowMatchEulerDiscreteScheduler`
    with the settings in `CONFIGS`; text_encoder and tokenizer, T5. Without T5 the call needs an encoded prompt.

    `from_pretrained` takes a folder with the layout of the release.
    """

    model_cpu_offload_seq = "text_encoder->transformer->vae"
    _optional_components = ["text_encoder", "tokenizer"]  # noqa: RUF012  # diffusers' own

    def __init__(
        self, transformer: Any, vae: Any, scheduler: Any, text_encoder: Any = None, tokenizer: Any = None
    ) -> None:
        super().__init__()
        self.register_modules(
            transformer=transformer, vae=vae, scheduler=scheduler, text_encoder=text_encoder, tokenizer=tokenizer
        )
        self.video_processor = VideoProcessor(vae_scale_factor=8)

    @classmethod
    def from_pretrained(cls, folder: Any, **options: Any) -> Any:
        """Loads the pipeline from a folder with the layout of the release, on the CPU.

        Parts that the folder lacks come from the hub's cache.

        Raises:
            MissingError: a part is missing.
            UsageError: a part belongs to another network, or is a pickle.
        """
        from transformers import T5EncoderModel, T5Tokenizer

        dtype = options.get("dtype", torch.float32)
        parts = locate_parts(V1, load_card(CARD, "Open-Sora 1.2"), Path(folder))
        return cls(
            transformer=load_own(STDiT3, parts["transformer"] / "model.safetensors", dtype),
            vae=load_own(OpenSoraAutoencoder, parts["vae"] / "model.safetensors", dtype),
            scheduler=scheduler_of(CONFIGS),
            text_encoder=load_encoder(T5EncoderModel, parts["text_encoder"], dtype),
            tokenizer=T5Tokenizer.from_pretrained(parts["tokenizer"], local_files_only=True),
        )

    # ------------------------------------------------------------------------------------------------------------ parts

    def encode_prompt(self, prompt: str, max_sequence_length: int = 300) -> MaskedText:
        """Encodes a prompt with T5, padded or cut to `max_sequence_length` tokens."""
        found = self.tokenizer(
            prompt, padding="max_length", max_length=max_sequence_length, truncation=True, return_tensors="pt"
        ).to(self._execution_device)
        tokens = self.text_encoder(found.input_ids, attention_mask=found.attention_mask).last_hidden_state
        return MaskedText(tokens.to(self.transformer.dtype), found.attention_mask.bool())

    def schedule_arguments(self, num_steps: int, frames: int, height: int, width: int) -> Mapping[str, Any]:
        """Returns the arguments of `scheduler.set_timesteps` except the number of steps. frames: T.

        As in the release, only the latent frames of whole chunks count, if there is a whole chunk.
        """
        latents = frames // CHUNK * CHUNK_LATENTS or ChunkedCompression().time(frames)[0]
        shift = math.sqrt(height * width * latents) / NATIVE_SIDE
        return {"sigmas": np.linspace(1.0, 1.0 / num_steps, num_steps), "mu": shift}

    def transformer_inputs(self, latents: Tensor, text: MaskedText, timestep: Tensor, fps: float) -> Mapping[str, Any]:
        """Returns the keyword arguments of the transformer.

        Args:
            latents: (B, C, F, h, w).
            text: the prompts of the B batch rows.
            timestep: 0-dimensional, 1000 at pure noise.
            fps: frames per second.
        """
        return {
            "hidden_states": latents.to(self.transformer.dtype),
            "timestep": timestep.expand(len(latents)),
            "encoder_hidden_states": text.tokens,
            "encoder_attention_mask": text.real,
            "fps": torch.full((len(latents),), float(fps), device=latents.device),
            "height": 8 * latents.shape[3],
            "width": 8 * latents.shape[4],
        }

    # ------------------------------------------------------------------------------------------------------------- call

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | None = None,
        height: int = 240,
        width: int = 432,
        num_frames: int = 51,
        num_inference_steps: int = 30,
        guidance_scale: float = 7.0,
        fps: float = 24,
        text: MaskedText | None = None,
        max_sequence_length: int = 300,
        generator: torch.Generator | None = None,
        latents: Tensor | None = None,
        output_type: str = "np",
        callback_on_step_end: Callback | None = None,
    ) -> OpenSoraPipelineOutput:
        """Samples one video.

        Args:
            prompt: text of the video.
            height: height of the video in pixels; a multiple of 16.
            width: width of the video in pixels; a multiple of 16.
            num_frames: frames of the video.
            num_inference_steps: number of Euler steps.
            guidance_scale: strength of guidance; 1 turns it off and runs only the conditional branch.
            fps: frames per second, an input of the network.
            text: an encoded prompt, which replaces `prompt`.
            max_sequence_length: number of text tokens.
            generator: generator of the noise.
            latents: (1, C, F, h, w), the noise to start from.
            output_type: "np", "pt", "pil", or "latent" for the latents themselves.
            callback_on_step_end: called with the pipeline, the step's index, its timestep and an empty mapping.
        """
        text = text or self.encode_prompt(prompt or "", max_sequence_length)
        latents = self._noise(num_frames, height, width, generator) if latents is None else latents
        if guidance_scale != 1:
            text = self._with_null(text)
        arguments = self.schedule_arguments(num_inference_steps, num_frames, height, width)
        self.scheduler.set_timesteps(num_inference_steps, device=self._execution_device, **arguments)
        with self.progress_bar(total=num_inference_steps) as bar:
            for step, timestep in enumerate(self.scheduler.timesteps):
                rows = latents.expand(len(text.tokens), -1, -1, -1, -1)
                towards = self.transformer(**self.transformer_inputs(rows, text, timestep, fps))
                if guidance_scale != 1:
                    cond, uncond = towards.chunk(2)
                    towards = uncond + guidance_scale * (cond - uncond)
                # the network's velocity points to the video, the scheduler's to the noise
                latents = self.scheduler.step(-towards, timestep, latents, return_dict=False)[0]
                if callback_on_step_end is not None:
                    callback_on_step_end(self, step, timestep, {})
                bar.update()
        frames: Any = latents
        if output_type != "latent":
            video = self.vae.decode(latents.to(self.vae.dtype), num_frames)
            frames = self.video_processor.postprocess_video(video, output_type=output_type)
        self.maybe_free_model_hooks()
        return OpenSoraPipelineOutput(frames=frames)

    def _with_null(self, text: MaskedText) -> MaskedText:
        """Returns the text of both branches: the prompt, then as many tokens of the embedding for no prompt."""
        null = self.transformer.null_text[:, : text.tokens.shape[1]].to(text.tokens)
        return MaskedText(torch.cat([text.tokens, null]), torch.cat([text.real, text.real]))

    def _noise(self, num_frames: int, height: int, width: int, generator: torch.Generator | None) -> Tensor:
        frames, _ = ChunkedCompression().time(num_frames)
        shape = (1, self.vae.config.latent_channels, frames, height // 8, width // 8)
        noise: Tensor = randn_tensor(shape, generator, self._execution_device, self.transformer.dtype)
        return noise
