"""The adapters of the Wan models, and of SkyReels V2, which was built after them.

Full 3D self-attention over video tokens; text, and in some models an image, through cross-attention, which is not read.
Guidance runs as two passes, which the pipeline labels. The autoencoder is causal: the first frame is a latent of its
own, every four frames after it share one. In two models of Wan 2.2 two transformers take turns, one above and one below
a timestep; another one is told a timestep for every token.

The schedulers in some of the released folders are not those that the authors run. `configs/NAME/authors.json` has the
authors' values, by the names of options, and the number of steps.

Shape legend: C latent channels, F x h x w latents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vcorr import Clip, Rotary, Site, TokenGrid, Unrotated, UsageError
from vcorr.diffusion import (
    Compression,
    Configs,
    DiffusersVideoModel,
    PromptEncoding,
    Sizes,
    VideoConfig,
    locate_weights,
)

if TYPE_CHECKING:
    from torch import Tensor

    from vcorr.diffusion import WeightsSource

_SECOND = "transformer_2"
_POSITIONS = 1024
"""Along an axis, where the configuration in a folder does not say it: diffusers' default."""


@dataclass(frozen=True, kw_only=True)
class WanConfig(VideoConfig):
    """Options of the Wan models, beside those of every model. Those that are not given are what the authors run the
    model with; its card says it.

    flow_shift: of the noise schedule in both modes, whatever the scheduler in the folder of the weights has.
    guidance_scale: of generate mode, where `--guidance` replaces it; guidance_scale_2: of the second transformer, where
    there are two. negative_prompt: what guidance leads away from.
    """

    flow_shift: float | None = None
    guidance_scale: float | None = None
    guidance_scale_2: float | None = None
    negative_prompt: str = ""


class Wan(DiffusersVideoModel[WanConfig]):
    """Wan through diffusers' `WanPipeline`.

    Random weights come without the text encoder, whose 5.7 billion parameters would only turn the prompt into other
    random numbers: the prompt embedding is then standard normal noise, seeded by the prompt's text.
    """

    pipeline_class = "WanPipeline"
    saved_as = ("WanPipeline",)
    attention = "blocks.{}.attn1"
    block = "blocks.{}"
    unrotated = Unrotated(axes="bnc")
    # padded with zeros, without a mask; diffusers' attention of the image-to-video models counts on this number
    encoding = PromptEncoding(512, "text_dim", options={"max_sequence_length": 512})

    def __init__(self, config: WanConfig, card: str = "", configs: str = "") -> None:
        super().__init__(config, card, configs)
        if config.guidance_scale_2 is not None and _SECOND not in self.denoisers:
            raise UsageError(
                f"{self.model_card().title} has one transformer, so that model.guidance_scale_2 says nothing.",
                hint="Its strength of guidance is model.guidance_scale.",
            )
        authors = dict(self.config_of("authors"))
        self.steps = authors.pop("steps")
        self.config = replace(
            self.config, **{name: value for name, value in authors.items() if getattr(config, name) is None}
        )

    @property
    def rotary(self) -> Rotary:
        """A third of a head turns with each axis, in pairs; what is left over with time."""
        width = self.network["attention_head_dim"]
        side = 2 * (width // 6)
        return Rotary.blocks((width - 2 * side, side, side))

    @property
    def compression(self) -> Compression:
        """4x8x8 or 4x16x16, and patches of 2x2."""
        return Compression(spatial=self.config_of("vae").get("scale_factor_spatial", 8), temporal=4, patch=2)

    def sizes(self, site: Site | None = None) -> Mapping[str, Sizes]:
        """Whatever divides into tokens, as far as there are positions for them."""
        limit, pack = self.network.get("rope_max_seq_len", _POSITIONS), self.compression
        side = Sizes(pack.stride, pack.stride, limit * pack.stride)
        frames = Sizes(pack.least_frames, pack.frame_step, pack.temporal_ratio * (limit - 1) + 1)
        return {"height": side, "width": side, "frames": frames}

    def locate(self, weights: str) -> WeightsSource:
        """See the base class. Weights that are told a timestep for every token serve from text and from an image."""
        both = Wan.saved_as + WanImageToVideo.saved_as
        accepted = both if self.config_of("pipeline").get("expand_timesteps") else self.saved_as
        return locate_weights(weights, self.model_card(), accepted)

    def take_sizes(self, configs: Configs) -> None:
        """See the base class.

        Raises:
            UsageError: one transformer where the model has two that take turns, or the other way round.
        """
        if (_SECOND in configs) != (_SECOND in self._packaged):
            raise UsageError(
                f"The weights have {1 + (_SECOND in configs)} of the transformers that take turns; "
                f"{self.model_card().title} has {1 + (_SECOND in self._packaged)}.",
                hint=f"Give the weights of {self.model_card().hub_id}, or another --model.",
            )
        super().take_sizes(configs)

    def load(self, device: str, dtype: str, weights: str) -> None:
        """See the base class. The noise schedule is shifted as `flow_shift` says, not as the folder does."""
        from vcorr.diffusion import shift_schedule

        super().load(device, dtype, weights)
        if self.config.flow_shift is not None:
            shift_schedule(self.pipe, self.config.flow_shift)

    def denoiser_at(self, timestep: float) -> str:
        """The second transformer, where there is one, below the boundary."""
        ratio = self.config_of("pipeline").get("boundary_ratio")
        second = ratio is not None and timestep < ratio * self.config_of("scheduler")["num_train_timesteps"]
        return _SECOND if second else self.denoiser

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """See the base class; and the negative prompt, or its stand-in where there is no text encoder, and guidance."""
        names = ("guidance_scale", "guidance_scale_2")
        strengths = {name: value for name in names if (value := getattr(self.config, name)) is not None}
        given, negative = super().call_inputs(clip, grid), self.config.negative_prompt
        if self.pipe.text_encoder is not None:
            return {**given, **strengths, "negative_prompt": negative}
        return {**given, **strengths, "negative_prompt_embeds": self.embed(negative)["prompt_embeds"]}


class WanImageToVideo(Wan):
    """Wan that starts from an image, through diffusers' `WanImageToVideoPipeline`.

    The image is frame 0 of the clip's video, in both modes. The transformer sees its latents, and a mask that tells
    which frames are given, in further channels; or, in models that are told a timestep for every token, in place of the
    first latent frame. Wan 2.1 also sees it through a CLIP image encoder, for which random weights have a stand-in:
    standard normal noise, seeded by the image.
    """

    pipeline_class = "vcorr_wan.image:ImageToVideo"
    saved_as = ("WanImageToVideoPipeline", "ImageToVideo")
    needs_image = True

    def denoiser_input(self, latents: Tensor, own: Tensor) -> Tensor:
        """See the base class; models that are told a timestep for every token see the image's first latent frame."""
        found = super().denoiser_input(latents, own)
        if self.config_of("pipeline").get("expand_timesteps"):
            found[:, :, :1] = own[:, :, :1]
        return found


class SkyReels(Wan):
    """SkyReels V2 from text, through diffusers' `SkyReelsV2Pipeline`.

    The models of this family that attend block by block in time ("diffusion forcing") have another pipeline and are not
    read: their attention is causal, and its rows are no longer those of all frames.
    """

    pipeline_class = "SkyReelsV2Pipeline"
    saved_as = ("SkyReelsV2Pipeline",)

    def take_sizes(self, configs: Configs) -> None:
        """As of Wan.

        Raises:
            UsageError: the weights are those of a model that attends block by block in time, or is told its fps.
        """
        found = configs[self.denoiser]
        block = found.get("num_frame_per_block", 1)
        if block > 1 or found.get("inject_sample_info"):
            raise UsageError(
                f"The transformer attends in blocks of {block} frames, or is told frames a second: that is SkyReels V2 "
                "for diffusion forcing, whose attention is not that of all frames.",
                hint=f"Give the weights of {self.model_card().hub_id}.",
            )
        super().take_sizes(configs)
