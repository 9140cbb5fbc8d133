"""The adapters of the Wan models.

Full 3D self-attention over video tokens; text, and in some models an image, through cross-attention, which is not read.
Guidance runs as two passes, which the pipeline labels. The autoencoder is causal: the first frame is a latent of its
own, every four frames after it share one. In two models of Wan 2.2 two transformers take turns, one above and one below
a timestep; another one is told a timestep for every token.

Shape legend: T video frames, C latent channels, F x h x w latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vcorr import Clip, Site, TokenGrid, UsageError
from vcorr.diffusion import (
    Compression,
    DiffusersVideoModel,
    PromptEncoding,
    Sizes,
    VideoConfig,
    attention_sites,
    starting_image,
)
from vcorr.records import Unrotated

if TYPE_CHECKING:
    import torch
    from torch import Tensor

TEXT_TOKENS = 512
"""Of a prompt, padding included; diffusers' attention of the image-to-video models counts on this number."""
IMAGE_TOKENS = 257
"""Of an image, for the models that see one through a CLIP image encoder."""
PATCH = (1, 2, 2)
"""Latents a token covers in time, y and x."""


@dataclass(frozen=True, kw_only=True)
class WanConfig(VideoConfig):
    """Options of the Wan models; the defaults are those of Wan 2.1 1.3B.

    guidance_scale: of generate mode, where `--guidance` replaces it; guidance_scale_2: of the second transformer where
    there are two, 0 for the same. negative_prompt: what guidance leads away from.

    All others but those of every model (height, width, frames, prompt, lora, offload, vae_tiling, vae_slicing) are
    sizes of the networks: `--weights random` builds them as they are given here, and weights from elsewhere must agree
    with those that decide where the tokens are.

    num_layers, num_attention_heads, attention_head_dim, ffn_dim, freq_dim: of the transformer. text_dim: width of the
    prompt embedding. image_dim: width of the image embedding, 0 for models that see none. rope_max_seq_len: tokens with
    a position along each axis. latent_channels, vae_dim: of the autoencoder; vae_decoder_dim: where its decoder is
    wider, else 0; vae_patch: pixels that it takes as one, in x and y. flow_shift: of the noise schedule.
    boundary_ratio: the share of the timesteps below which a second transformer runs, 0 for models with one.
    expand_timesteps: whether every token is told its timestep.
    """

    height: int = 480
    width: int = 832
    frames: int = 81
    guidance_scale: float = 5.0
    guidance_scale_2: float = 0.0
    negative_prompt: str = ""
    num_layers: int = 30
    num_attention_heads: int = 12
    attention_head_dim: int = 128
    ffn_dim: int = 8960
    freq_dim: int = 256
    text_dim: int = 4096
    image_dim: int = 0
    rope_max_seq_len: int = 1024
    latent_channels: int = 16
    vae_dim: int = 96
    vae_decoder_dim: int = 0
    vae_patch: int = 1
    flow_shift: float = 3.0
    boundary_ratio: float = 0.0
    expand_timesteps: bool = False


class Wan(DiffusersVideoModel[WanConfig]):
    """Wan through diffusers' `WanPipeline`.

    Random weights come without the text encoder, whose 5.7 billion parameters would only turn the prompt into other
    random numbers: the prompt embedding is then standard normal noise, seeded by the prompt's text.
    """

    pipeline_class: ClassVar[str] = "WanPipeline"
    card: ClassVar[str] = "vcorr_wan:cards/wan2.1-1.3b.yaml"

    def sites(self) -> Sequence[Site]:
        """The self-attention of every block."""
        return attention_sites(
            "blocks.{}.attn1",
            self.config.num_layers,
            self.config.num_attention_heads,
            block="blocks.{}",
            unrotated=Unrotated(axes="bnc"),
        )

    @property
    def compression(self) -> Compression:
        """4x8x8 and patches of 2x2 in most models."""
        return Compression(spatial=8 * self.config.vae_patch, temporal=4, patch=PATCH[-1])

    @property
    def encoding(self) -> PromptEncoding:
        """Padded with zeros to 512 tokens, without a mask."""
        return PromptEncoding(TEXT_TOKENS, self.config.text_dim, options={"max_sequence_length": TEXT_TOKENS})

    def sizes(self, site: Site | None = None) -> Mapping[str, Sizes]:
        """Whatever divides into tokens, as far as there are positions for them."""
        limit, pack = self.config.rope_max_seq_len, self.compression
        side = Sizes(pack.stride, pack.stride, limit * pack.stride)
        frames = Sizes(pack.least_frames, pack.frame_step, pack.temporal_ratio * (limit - 1) + 1)
        return {"height": side, "width": side, "frames": frames}

    def build(self, seed: int) -> Any:
        """The pipeline with random weights and without text encoder."""
        from vcorr_wan.networks import build_pipeline

        return build_pipeline(self.config)

    def loaded_sizes(self) -> Mapping[str, Any]:
        """The sizes that decide where sites and tokens are, and which transformer runs when."""
        pipe, sizes = self.pipe, super().loaded_sizes()
        return {
            **sizes,
            "image_dim": sizes["image_dim"] or 0,
            "vae_patch": pipe.vae.config.patch_size or 1,
            "boundary_ratio": pipe.config.get("boundary_ratio") or 0.0,
            "expand_timesteps": pipe.config.get("expand_timesteps", False),
        }

    @property
    def denoisers(self) -> tuple[str, ...]:
        """Both transformers of the models that have two."""
        return ("transformer", "transformer_2") if self.config.boundary_ratio else ("transformer",)

    def denoiser_at(self, timestep: float) -> str:
        """The second transformer, where there is one, below the boundary."""
        ratio = self.pipe.config.get("boundary_ratio")
        second = ratio is not None and timestep < ratio * self.pipe.scheduler.config.num_train_timesteps
        return "transformer_2" if second else "transformer"

    def condition(self, prompt: str, grid: TokenGrid) -> Mapping[str, Any]:
        """The prompt embedding, (1, 512, text_dim)."""
        return {"encoder_hidden_states": self.embed(prompt)["prompt_embeds"].to(self.pipe.transformer.dtype)}

    def inputs(self, latents: Tensor, timestep: Tensor, condition: Any) -> Mapping[str, Any]:
        """What the pipeline's loop passes to the transformer."""
        return {
            "hidden_states": latents.to(self.pipe.transformer.dtype),
            "timestep": self._timesteps(timestep, latents),
            "attention_kwargs": None,
            "return_dict": False,
            **condition,
        }

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """The prompt and the negative one, or their stand-ins where there is no text encoder, and guidance."""
        config = self.config
        call = {**super().call_inputs(clip, grid), "guidance_scale": config.guidance_scale}
        if config.guidance_scale_2:
            call["guidance_scale_2"] = config.guidance_scale_2
        if self.pipe.text_encoder is not None:
            return {**call, "negative_prompt": config.negative_prompt}
        return {**call, "negative_prompt_embeds": self.embed(config.negative_prompt)["prompt_embeds"]}

    def _timesteps(self, timestep: Tensor, latents: Tensor, given: int = 0) -> Tensor:
        """(1,), or (1, F*h/2*w/2) for models that are told one for every token: 0 for those of the `given` frames."""
        if not self.config.expand_timesteps:
            return timestep.expand(1)
        frames, rows, cols = latents.shape[2:]
        each = timestep.float().repeat(frames, rows // PATCH[1] * (cols // PATCH[2]))
        each[:given] = 0
        return each.flatten()[None]


class WanImageToVideo(Wan):
    """Wan that starts from an image, through diffusers' `WanImageToVideoPipeline`.

    The image is frame 0 of the clip's video, in both modes. The transformer sees its latents, and a mask that tells
    which frames are given, in further channels; or, in models that are told a timestep for every token, in place of the
    first latent frame. Wan 2.1 also sees it through a CLIP image encoder, for which random weights have a stand-in:
    standard normal noise, seeded by the image.
    """

    pipeline_class: ClassVar[str] = "WanImageToVideoPipeline"
    saved_as: ClassVar[tuple[str, ...]] = ("WanImageToVideoPipeline",)
    card: ClassVar[str] = "vcorr_wan:cards/wan2.1-14b-i2v-480p.yaml"
    needs_image: ClassVar[bool] = True

    def build(self, seed: int) -> Any:
        """The pipeline with random weights and without text and image encoder."""
        from vcorr_wan.networks import build_image_pipeline

        return build_image_pipeline(self.config)

    def denoiser_input(self, latents: Tensor, own: Tensor) -> Tensor:
        """As in the base class; models that are told a timestep for every token see the image's first latent frame."""
        found = super().denoiser_input(latents, own)
        if self.pipe.config.get("expand_timesteps"):
            found[:, :, :1] = own[:, :, :1]
        return found

    def clip_condition(self, clip: Clip, grid: TokenGrid, seed: int) -> Mapping[str, Any]:
        """As `condition`, the image's embedding (None where the model takes none) and its latents and mask."""
        pipe, image = self.pipe, self._image(clip, grid)
        embedding = None
        if pipe.transformer.config.image_dim is not None:
            embedding = pipe.encode_image(image, self.device).to(pipe.transformer.dtype)
        return {
            **self.condition(self.prompt(clip), grid),
            "encoder_hidden_states_image": embedding,
            "image": self._image_latents(image, grid),
        }

    def inputs(self, latents: Tensor, timestep: Tensor, condition: Any) -> Mapping[str, Any]:
        """What the pipeline's loop passes to the transformer."""
        import torch

        image = condition["image"]
        shared = {name: value for name, value in condition.items() if name != "image"}
        if not self.config.expand_timesteps:
            return super().inputs(torch.cat([latents.float(), image], dim=1), timestep, shared)
        given = image.shape[2]
        seen = torch.cat([image, latents[:, :, given:].float()], dim=2)
        return {**super().inputs(seen, timestep, shared), "timestep": self._timesteps(timestep, seen, given)}

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """The prompts, guidance and the image."""
        return {**super().call_inputs(clip, grid), "image": self._image(clip, grid)}

    def _image(self, clip: Clip, grid: TokenGrid) -> Any:
        return starting_image(clip, grid, self.model_card().title)

    def _image_latents(self, image: Any, grid: TokenGrid) -> torch.Tensor:
        """(1, 4 + C, F, h, w) float32, as the pipeline makes them: the mask, and the image before empty frames.

        (1, C, 1, h, w), the image alone, for models that see it in place of the first latent frame.
        """
        import torch

        pipe, height, width = self.pipe, round(grid.height), round(grid.width)
        pixels = pipe.video_processor.preprocess(image, height=height, width=width).to(self.device, torch.float32)
        _, condition, *_ = pipe.prepare_latents(
            pixels,
            batch_size=1,
            num_channels_latents=pipe.vae.config.z_dim,
            height=height,
            width=width,
            num_frames=grid.video_frames,
            dtype=torch.float32,
            device=self.device,
            latents=pixels.new_zeros(()),  # those of the video are not asked for here
        )
        found: torch.Tensor = condition
        return found


# ------------------------------------------------------------------------------------------------- the family, as data


@dataclass(frozen=True, kw_only=True)
class Wan14BConfig(WanConfig):
    """Options of `wan2.1-14b`: those of `wan2.1-1.3b`, with the sizes of the 14B."""

    num_layers: int = 40
    num_attention_heads: int = 40
    ffn_dim: int = 13824


@dataclass(frozen=True, kw_only=True)
class Wan14BImageConfig(Wan14BConfig):
    """Options of `wan2.1-14b-i2v-480p`: those of `wan2.1-1.3b`, with the sizes of the 14B and an image."""

    image_dim: int = 1280


@dataclass(frozen=True, kw_only=True)
class Wan14BImage720Config(Wan14BImageConfig):
    """Options of `wan2.1-14b-i2v-720p`: those of `wan2.1-14b-i2v-480p` at a larger size of video."""

    height: int = 720
    width: int = 1280
    flow_shift: float = 5.0


class Wan14B(Wan):
    """Wan 2.1 14B."""

    card: ClassVar[str] = "vcorr_wan:cards/wan2.1-14b.yaml"


class WanImageToVideo720(WanImageToVideo):
    """Wan 2.1 14B I2V for 720p."""

    card: ClassVar[str] = "vcorr_wan:cards/wan2.1-14b-i2v-720p.yaml"


@dataclass(frozen=True, kw_only=True)
class WanA14BConfig(Wan14BConfig):
    """Options of `wan2.2-a14b`: those of `wan2.1-14b`, with two transformers."""

    guidance_scale: float = 4.0
    guidance_scale_2: float = 3.0
    boundary_ratio: float = 0.875


@dataclass(frozen=True, kw_only=True)
class WanA14BImageConfig(WanA14BConfig):
    """Options of `wan2.2-a14b-i2v`: those of `wan2.2-a14b`, with the values of the image-to-video model."""

    guidance_scale: float = 3.5
    guidance_scale_2: float = 3.5
    boundary_ratio: float = 0.9


@dataclass(frozen=True, kw_only=True)
class Wan5BConfig(WanConfig):
    """Options of `wan2.2-5b`: those of `wan2.1-1.3b`, with the sizes of the 5B."""

    height: int = 704
    width: int = 1280
    frames: int = 121
    num_attention_heads: int = 24
    ffn_dim: int = 14336
    latent_channels: int = 48
    vae_dim: int = 160
    vae_decoder_dim: int = 256
    vae_patch: int = 2
    flow_shift: float = 5.0
    expand_timesteps: bool = True


class WanA14B(Wan):
    """Wan 2.2 A14B."""

    card: ClassVar[str] = "vcorr_wan:cards/wan2.2-a14b.yaml"


class WanA14BImageToVideo(WanImageToVideo):
    """Wan 2.2 A14B I2V."""

    card: ClassVar[str] = "vcorr_wan:cards/wan2.2-a14b-i2v.yaml"


class Wan5B(Wan):
    """Wan 2.2 TI2V 5B from text alone."""

    saved_as: ClassVar[tuple[str, ...]] = ("WanPipeline", "WanImageToVideoPipeline")
    card: ClassVar[str] = "vcorr_wan:cards/wan2.2-5b.yaml"


class Wan5BImageToVideo(WanImageToVideo):
    """Wan 2.2 TI2V 5B from an image and text."""

    saved_as: ClassVar[tuple[str, ...]] = ("WanPipeline", "WanImageToVideoPipeline")
    card: ClassVar[str] = "vcorr_wan:cards/wan2.2-5b-i2v.yaml"


# ----------------------------------------------------------------------------------------- SkyReels V2, built after Wan


@dataclass(frozen=True, kw_only=True)
class SkyReelsConfig(Wan14BConfig):
    """Options of `skyreels-v2-14b-540p`: those of `wan2.1-14b`, with the values of SkyReels V2."""

    height: int = 544
    width: int = 960
    frames: int = 97
    guidance_scale: float = 6.0
    flow_shift: float = 8.0


class SkyReels(Wan):
    """SkyReels V2 from text, through diffusers' `SkyReelsV2Pipeline`.

    The models of this family that attend block by block in time ("diffusion forcing") have another pipeline and are not
    read: their attention is causal, and its rows are no longer those of all frames.
    """

    pipeline_class: ClassVar[str] = "SkyReelsV2Pipeline"
    card: ClassVar[str] = "vcorr_wan:cards/skyreels-v2-14b-540p.yaml"

    def build(self, seed: int) -> Any:
        """The pipeline with random weights and without text encoder."""
        from vcorr_wan.networks import build_skyreels_pipeline

        return build_skyreels_pipeline(self.config)

    def loaded_sizes(self) -> Mapping[str, Any]:
        """As of Wan.

        Raises:
            UsageError: the weights are those of a model that attends block by block in time, or is told its fps.
        """
        found = self.pipe.transformer.config
        if found.num_frame_per_block > 1 or found.inject_sample_info:
            raise UsageError(
                f"The transformer attends in blocks of {found.num_frame_per_block} frames, or is told frames a second: "
                "that is SkyReels V2 for diffusion forcing, whose attention is not that of all frames.",
                hint=f"Give the weights of {self.model_card().hub_id}.",
            )
        return super().loaded_sizes()
