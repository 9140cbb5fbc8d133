"""The adapters of the CogVideoX models.

Full 3D attention over text and video tokens, text first; batches guidance as (uncond, cond). The autoencoder is
causal: the first frame is a latent of its own, every four frames after it share one. CogVideoX-1.5 puts two latents
into a token; an odd number of latents is padded in front. The image-to-video models see the latents of an image in
further channels.

Shape legend: T video frames, H x W pixels, C latent channels, F x h x w latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vcorr import Clip, Site, TokenGrid, UsageError
from vcorr.diffusion import Compression, DiffusersVideoModel, VideoConfig, attention_sites, starting_image
from vcorr.records import Unrotated

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class CogVideoXConfig(VideoConfig):
    """Options of the CogVideoX models; the defaults are CogVideoX-2B's.

    All but those of every model (height, width, frames, prompt, lora, offload, vae_tiling, vae_slicing) are sizes of
    the networks: `--weights random` builds them as they are given here, and weights from elsewhere must agree with
    those that decide where the tokens are.

    num_layers, num_attention_heads, attention_head_dim: of the transformer. patch_size: latents a token covers in x
    and y; temporal_patch: in time. text_embed_dim: width of the prompt embedding. max_text_seq_length: its tokens,
    padding included. rotary: rotary position embedding in place of sines added to the tokens. learned_positions: a
    learned table added as well, which fits one size of video only. position_size: rows and columns of latents that
    positions are counted in, at most those of a video; those of height and width when empty. strength_embed_dim: width
    of a constant input that one model has ("ofs" in diffusers), 0 for none. patch_bias: whether the first layer has a
    bias. vae_channels: one width a resolution level; the autoencoder shrinks space by 2 between levels.
    temporal_compression: frames a latent covers. scaling_factor: what latents are multiplied by. inverted_image_scale:
    those of an image are divided by it instead. snr_shift_scale: of the noise schedule.
    """

    height: int = 480
    width: int = 720
    frames: int = 49
    num_layers: int = 30
    num_attention_heads: int = 30
    attention_head_dim: int = 64
    patch_size: int = 2
    temporal_patch: int = 1
    text_embed_dim: int = 4096
    max_text_seq_length: int = 226
    time_embed_dim: int = 512
    strength_embed_dim: int = 0
    rotary: bool = False
    learned_positions: bool = False
    position_size: tuple[int, ...] = ()
    patch_bias: bool = True
    latent_channels: int = 16
    vae_channels: tuple[int, ...] = (128, 256, 256, 512)
    vae_layers_per_block: int = 3
    vae_norm_groups: int = 32
    temporal_compression: int = 4
    scaling_factor: float = 1.15258426
    inverted_image_scale: bool = False
    snr_shift_scale: float = 3.0

    @property
    def spatial_compression(self) -> int:
        """Pixels a latent covers in x and y."""
        return int(2 ** (len(self.vae_channels) - 1))


class CogVideoX(DiffusersVideoModel[CogVideoXConfig]):
    """CogVideoX through diffusers' `CogVideoXPipeline`.

    Random weights come without the text encoder, whose 4.7 billion parameters would only turn the prompt into other
    random numbers: the prompt embedding is then standard normal noise, seeded by the prompt's text.
    """

    pipeline_class: ClassVar[str] = "CogVideoXPipeline"
    card: ClassVar[str] = "vcorr_cogvideox:cards/cogvideox.yaml"
    text = "before"
    branches = ("uncond", "cond")
    latent_axes = "bfchw"

    def sites(self) -> Sequence[Site]:
        """The joint attention of every block."""
        return attention_sites(
            "transformer_blocks.{}.attn1",
            self.config.num_layers,
            self.config.num_attention_heads,
            block="transformer_blocks.{}",  # puts out the video tokens, then the text tokens
            unrotated=Unrotated() if self.config.rotary else None,
        )

    @property
    def compression(self) -> Compression:
        """4x8x8 and patches of 2x2 at the released sizes."""
        config = self.config
        return Compression(
            spatial=config.spatial_compression,
            temporal=config.temporal_compression,
            patch=config.patch_size,
            temporal_patch=config.temporal_patch,
            front_padded=config.temporal_patch > 1,
        )

    def grid(self, clip: Clip, site: Site | None) -> TokenGrid:
        """How tokens lie over the clip; see the base class.

        Raises:
            UsageError: also when the positions the model knows do not reach that far, or fit another length only.
        """
        grid = super().grid(clip, site)
        self._check_positions(grid)
        return grid

    def build(self, seed: int) -> Any:
        """The pipeline with random weights and without text encoder."""
        from vcorr_cogvideox.networks import build_pipeline

        return build_pipeline(self.config)

    def loaded_sizes(self) -> Mapping[str, Any]:
        """The sizes that decide where sites and tokens are."""
        transformer, vae = self.pipe.transformer.config, self.pipe.vae.config
        same_depth = len(vae.block_out_channels) == len(self.config.vae_channels)
        sizes = {
            "num_layers": transformer.num_layers,
            "num_attention_heads": transformer.num_attention_heads,
            "patch_size": transformer.patch_size,
            "temporal_patch": transformer.patch_size_t or 1,
            "rotary": transformer.use_rotary_positional_embeddings,
            "learned_positions": transformer.use_learned_positional_embeddings,
            "temporal_compression": vae.temporal_compression_ratio,
            # The number of levels decides the stride; their widths do not.
            "vae_channels": self.config.vae_channels if same_depth else tuple(vae.block_out_channels),
        }
        if transformer.use_learned_positional_embeddings:
            scale = 2 ** (len(vae.block_out_channels) - 1)
            sizes["height"], sizes["width"] = transformer.sample_height * scale, transformer.sample_width * scale
            sizes["frames"] = transformer.sample_frames
        return sizes

    def text_limit(self) -> int:
        """The text tokens of the transformer."""
        return int(self.pipe.transformer.config.max_text_seq_length)

    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        """(T, H, W, 3) uint8 RGB to (1, C, F, h, w); padding in front repeats the first latent, as in training."""
        import torch

        latents = super().encode(video)
        padding = self.compression.padding(len(video))
        return torch.cat([latents[:, :, :1]] * padding + [latents], dim=2) if padding else latents

    def decode(self, latents: Tensor, video_frames: int) -> NDArray[np.uint8]:
        """The inverse of `encode`; the padding in front is left out, as the pipeline does."""
        return super().decode(latents[:, :, self.compression.padding(video_frames) :], video_frames)

    def condition(self, prompt: str, grid: TokenGrid) -> Mapping[str, Any]:
        """The prompt embedding and, for models that use them, the rotary tables, both as the pipeline makes them."""
        pipe = self.pipe
        rotary = None
        if pipe.transformer.config.use_rotary_positional_embeddings:
            latents = grid.frames * self.config.temporal_patch
            rotary = pipe._prepare_rotary_positional_embeddings(
                round(grid.height), round(grid.width), latents, self.device
            )
        return {"encoder_hidden_states": self._prompt_embedding(prompt), "image_rotary_emb": rotary}

    def inputs(self, latents: Tensor, timestep: Tensor, condition: Any) -> Mapping[str, Any]:
        """What the pipeline's loop passes to the transformer, for a batch of one."""
        return {
            "hidden_states": latents.transpose(1, 2).contiguous(),  # the transformer takes (B, F, C, h, w)
            "timestep": timestep.expand(1),
            "attention_kwargs": None,
            "return_dict": False,
            **condition,
        }

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """The prompt, or its stand-in where there is no text encoder."""
        if self.pipe.text_encoder is not None:
            return {"prompt": self.prompt(clip), "max_sequence_length": self.text_limit()}
        return {
            "prompt_embeds": self._prompt_embedding(self.prompt(clip)),
            "negative_prompt_embeds": self._prompt_embedding(""),
        }

    def _prompt_embedding(self, prompt: str) -> Tensor:
        """(1, n, text_embed_dim), padded to the n text tokens of the transformer."""
        pipe = self.pipe
        tokens = self.text_limit()
        if pipe.text_encoder is None:
            from vcorr.diffusion.latents import prompt_noise

            shape = (1, tokens, pipe.transformer.config.text_embed_dim)
            return prompt_noise(shape, prompt).to(self.device, pipe.transformer.dtype)
        embedding: Tensor = pipe.encode_prompt(
            prompt, do_classifier_free_guidance=False, max_sequence_length=tokens, device=self.device
        )[0]
        return embedding

    def check_makes(self, grid: TokenGrid) -> None:
        """The autoencoder decodes latents in pairs, and the first frame by itself only among an odd number of them.

        Raises:
            UsageError: it cannot decode so many frames.
        """
        ratio, frames = self.config.temporal_compression, grid.video_frames
        latents = (frames - 1) // ratio + 1
        if latents % 2 == 0:
            raise UsageError(
                f"{self.model_card().title} cannot make {frames} frames in {latents} latents: it decodes odd numbers.",
                hint=f"The nearest counts it makes are {frames - ratio} and {frames + ratio}: --set model.frames=...",
            )

    def _check_positions(self, grid: TokenGrid) -> None:
        config, title = self.config, self.model_card().title
        if config.learned_positions and grid.video_frames != config.frames:
            raise UsageError(
                f"{title} has learned the positions of {config.frames} frames and takes no other number; this clip has "
                f"{grid.video_frames}.",
                hint="Choose longer clips.",
            )
        limits = [size * config.spatial_compression for size in self._position_size()]
        for name, pixels, limit in zip(("height", "width"), (grid.height, grid.width), limits, strict=False):
            if pixels > limit:
                raise UsageError(f"model.{name}={pixels:g} is beyond the positions of {title}: at most {limit}.")

    def _position_size(self) -> tuple[int, ...]:
        """Rows and columns of latents with a position; empty where any number has one."""
        if not self.config.position_size or self._pipe is None:
            return self.config.position_size
        transformer = self.pipe.transformer.config
        return (transformer.sample_height, transformer.sample_width)


class CogVideoXImageToVideo(CogVideoX):
    """CogVideoX that starts from an image, through diffusers' `CogVideoXImageToVideoPipeline`.

    The image is frame 0 of the clip's video, in both modes. Its latents are made by the pipeline's own code; they are a
    sample of the autoencoder's posterior, drawn from the seed.
    """

    pipeline_class: ClassVar[str] = "CogVideoXImageToVideoPipeline"
    card: ClassVar[str] = "vcorr_cogvideox:cards/cogvideox-5b-i2v.yaml"
    needs_image: ClassVar[bool] = True

    def build(self, seed: int) -> Any:
        """The pipeline with random weights and without text encoder."""
        from vcorr_cogvideox.networks import build_image_pipeline

        return build_image_pipeline(self.config, self.pipeline_class)

    def loaded_sizes(self) -> Mapping[str, Any]:
        """As of the text-to-video models, and the constant input."""
        width = self.pipe.transformer.config.ofs_embed_dim or 0
        return {**super().loaded_sizes(), "strength_embed_dim": width}

    def clip_condition(self, clip: Clip, grid: TokenGrid, seed: int) -> Mapping[str, Any]:
        """As `condition`, and the image's latents, (1, F, C, h, w)."""
        condition = self.condition(self.prompt(clip), grid)
        return {**condition, "image": self._image_latents(clip, grid, seed)}

    def inputs(self, latents: Tensor, timestep: Tensor, condition: Any) -> Mapping[str, Any]:
        """What the pipeline's loop passes to the transformer, for a batch of one."""
        import torch

        shared = {name: value for name, value in condition.items() if name != "image"}
        inputs = {**super().inputs(latents, timestep, shared)}
        inputs["hidden_states"] = torch.cat([inputs["hidden_states"], condition["image"]], dim=2)
        constant = self.pipe.transformer.config.ofs_embed_dim is not None
        return {**inputs, "ofs": latents.new_full((1,), fill_value=2.0) if constant else None}

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """The prompt and the image."""
        return {**super().call_inputs(clip, grid), "image": self._image(clip, grid)}

    def _image(self, clip: Clip, grid: TokenGrid) -> Any:
        return starting_image(clip, grid, self.model_card().title)

    def _image_latents(self, clip: Clip, grid: TokenGrid, seed: int) -> Tensor:
        from vcorr.diffusion.sampling import sampling_generator

        pipe, height, width = self.pipe, round(grid.height), round(grid.width)
        dtype = pipe.transformer.dtype
        image = pipe.video_processor.preprocess(self._image(clip, grid), height=height, width=width)
        padding = self.compression.padding(grid.video_frames)
        _, latents = pipe.prepare_latents(
            image.to(self.device, dtype=dtype),
            num_channels_latents=pipe.transformer.config.in_channels // 2,
            num_frames=grid.video_frames + padding * self.config.temporal_compression,
            height=height,
            width=width,
            dtype=dtype,
            device=self.device,
            generator=sampling_generator(seed),
            latents=image.new_zeros(()),  # those of the video are not asked for here
        )
        found: Tensor = latents
        return found


# ------------------------------------------------------------------------------------------------- the family, as data


@dataclass(frozen=True, kw_only=True)
class CogVideoX5BConfig(CogVideoXConfig):
    """Options of `cogvideox-5b`: those of `cogvideox`, with the sizes of CogVideoX-5B."""

    num_layers: int = 42
    num_attention_heads: int = 48
    rotary: bool = True
    scaling_factor: float = 0.7
    snr_shift_scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class CogVideoX15Config(CogVideoX5BConfig):
    """Options of `cogvideox-1.5-5b`: those of `cogvideox`, with the sizes of CogVideoX1.5-5B."""

    height: int = 768
    width: int = 1360
    frames: int = 81
    temporal_patch: int = 2
    patch_bias: bool = False
    position_size: tuple[int, ...] = (300, 300)
    inverted_image_scale: bool = True


@dataclass(frozen=True, kw_only=True)
class CogVideoX5BImageConfig(CogVideoX5BConfig):
    """Options of `cogvideox-5b-i2v`: those of `cogvideox`, with the sizes of CogVideoX-5B-I2V."""

    learned_positions: bool = True


@dataclass(frozen=True, kw_only=True)
class CogVideoX15ImageConfig(CogVideoX15Config):
    """Options of `cogvideox-1.5-5b-i2v`: those of `cogvideox`, with the sizes of CogVideoX1.5-5B-I2V."""

    strength_embed_dim: int = 512


class CogVideoX5B(CogVideoX):
    """CogVideoX-5B."""

    card: ClassVar[str] = "vcorr_cogvideox:cards/cogvideox-5b.yaml"


class CogVideoX15(CogVideoX):
    """CogVideoX1.5-5B."""

    card: ClassVar[str] = "vcorr_cogvideox:cards/cogvideox-1.5-5b.yaml"


class CogVideoX15ImageToVideo(CogVideoXImageToVideo):
    """CogVideoX1.5-5B-I2V."""

    card: ClassVar[str] = "vcorr_cogvideox:cards/cogvideox-1.5-5b-i2v.yaml"


class CogVideoX2BImageToVideo(CogVideoXImageToVideo):
    """The community's CogVideoX-2B-I2V, which was trained with the image repeated in every frame."""

    pipeline_class: ClassVar[str] = "vcorr_cogvideox.networks:StillToVideoPipeline"
    saved_as: ClassVar[tuple[str, ...]] = (
        "CogVideoXPipeline",
        "CogVideoXImageToVideoPipeline",
        "StillToVideoPipeline",
    )
    card: ClassVar[str] = "vcorr_cogvideox:cards/cogvideox-2b-i2v.yaml"
