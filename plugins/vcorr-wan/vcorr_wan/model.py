"""Adapts the Wan models and SkyReels V2, which has Wan's architecture.

Attention is full 3D self-attention over video tokens. Text, and in some models an image, enters through
cross-attention, which probes do not read. Guidance runs as two passes, which the pipeline labels. The autoencoder is
causal: frame 0 has a latent frame of its own, and each further group of four frames shares one. Two models of Wan 2.2
have two transformers, one above and one below a timestep. Another model of Wan 2.2 takes a timestep per token.

Shape legend: C latent channels, F x h x w latents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from vcorr import AppliedSettings, Clip, Rotary, RunSettings, Site, TokenGrid, Unrotated, UsageError, option
from vcorr.diffusion import (
    AuthorsConfig,
    Compression,
    Configs,
    DiffusersVideoModel,
    PromptEncoding,
    Sizes,
    locate_weights,
)

if TYPE_CHECKING:
    from torch import Tensor

    from vcorr.diffusion import WeightsSource

_SECOND = "transformer_2"
_POSITIONS = 1024
"""Number of positions along an axis if a folder's configuration does not say it; diffusers' default."""


@dataclass(frozen=True, kw_only=True)
class WanConfig(AuthorsConfig):
    """Options of the Wan models, in addition to the options of every model."""

    guidance_scale_2: float | None = option(
        None,
        "Strength of guidance of the second transformer in generate mode, if there are two; null for the strength"
        " of the first. `--cfg` sets both, unless this is given.",
        least=0,
    )
    lora_2: str | None = option(
        None,
        "Path of the low-rank weights of the second transformer, if there are two; `lora` is then for the first alone.",
    )


class Wan(DiffusersVideoModel[WanConfig]):
    """Wan through diffusers' `WanPipeline`.

    Random weights have no text encoder: its 5.7 billion random parameters would only turn the prompt into random
    numbers. The prompt embedding is then standard normal noise, with a seed computed from the prompt's text.
    """

    pipeline_class = "WanPipeline"
    saved_as: ClassVar[tuple[str, ...]] = ("WanPipeline",)
    attention = "blocks.{}.attn1"
    block = "blocks.{}"
    unrotated = Unrotated(axes="bnc")
    guided_branches = 2
    # padded with zeros, without a mask; diffusers' attention in the image-to-video models assumes this number
    encoding = PromptEncoding(512, "text_dim", options={"max_sequence_length": 512})

    def __init__(self, config: WanConfig, card: str = "", configs: str = "") -> None:
        super().__init__(config, card, configs)
        if config.guidance_scale_2 is not None and _SECOND not in self.denoisers:
            raise UsageError(
                f"{self.model_card().title} has one transformer, so model.guidance_scale_2 would have no effect.",
                hint="Set its strength of guidance with model.guidance_scale.",
            )
        if config.lora_2 is not None and _SECOND not in self.denoisers:
            raise UsageError(
                f"{self.model_card().title} has one transformer, so model.lora_2 would have no effect.",
                hint="Give its low-rank weights with model.lora.",
            )

    @property
    def rotary(self) -> Rotary:
        """The rotary layout: each axis turns a third of a head's channels, in pairs; time also turns the remainder."""
        width = self.network["attention_head_dim"]
        side = 2 * (width // 6)
        return Rotary.blocks((width - 2 * side, side, side))

    @property
    def compression(self) -> Compression:
        """4x8x8 or 4x16x16, and patches of 2x2."""
        return Compression(spatial=self.config_of("vae").get("scale_factor_spatial", 8), temporal=4, patch=2)

    def sizes(self, site: Site | None = None) -> Mapping[str, Sizes]:
        """Returns the sizes that divide into tokens and have positions."""
        limit, pack = self.network.get("rope_max_seq_len", _POSITIONS), self.compression
        side = Sizes(pack.stride, pack.stride, limit * pack.stride)
        frames = Sizes(pack.least_frames, pack.frame_step, pack.temporal_ratio * (limit - 1) + 1)
        return {"height": side, "width": side, "frames": frames}

    def locate(self, weights: str) -> WeightsSource:
        """Locates weights; see the base class. Models with a timestep per token accept both pipelines' folders."""
        both = Wan.saved_as + WanImageToVideo.saved_as
        accepted = both if self.config_of("pipeline").get("expand_timesteps") else self.saved_as
        return locate_weights(weights, self.model_card(), accepted)

    def take_sizes(self, configs: Configs) -> None:
        """Takes the sizes of loaded weights; see the base class.

        Raises:
            UsageError: the weights have one transformer and the model has two, or the reverse.
        """
        if (_SECOND in configs) != (_SECOND in self._packaged):
            raise UsageError(
                f"Number of transformers in the weights: {1 + (_SECOND in configs)}. "
                f"{self.model_card().title} has {1 + (_SECOND in self._packaged)}.",
                hint=f"Use the weights of {self.model_card().hub_id}, or choose another --model.",
            )
        super().take_sizes(configs)

    def lora_files(self) -> Mapping[str, str]:
        """Returns the low-rank weights of each transformer: `lora`, and `lora_2` for the second if it is given."""
        own = super().lora_files()
        if self.config.lora_2 is None:
            return own
        return {name: path for name, path in own.items() if name != _SECOND} | {_SECOND: self.config.lora_2}

    def denoiser_at(self, timestep: float) -> str:
        """Returns the name of the transformer at a timestep: the second one, if there is one, below the boundary."""
        ratio = self.config_of("pipeline").get("boundary_ratio")
        second = ratio is not None and timestep < ratio * self.config_of("scheduler")["num_train_timesteps"]
        return _SECOND if second else self.denoiser

    def guidance(self, strength: float) -> Mapping[str, float]:
        """Returns the strength of guidance: of both transformers, if an option does not give it for the second."""
        if _SECOND not in self.denoisers:
            return super().guidance(strength)
        second = self.config.guidance_scale_2
        return {"guidance_scale": strength, "guidance_scale_2": strength if second is None else second}

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """Returns the base class's inputs, with the authors' strength of guidance for the second transformer."""
        given, second = super().call_inputs(clip, grid), self.setting("guidance_scale_2")
        replaced = self.config.guidance_scale is not None
        return given if second is None or replaced else {**given, "guidance_scale_2": second}

    def own_settings(self, settings: RunSettings) -> AppliedSettings:
        """Returns the authors' values that count, and which transformers `--cfg` sets; see the base class."""
        found = super().own_settings(settings)
        if settings.cfg is None or _SECOND not in self.denoisers:
            return found
        second = self.config.guidance_scale_2
        which = (
            "both transformers; --set model.guidance_scale_2=... sets the second one."
            if second is None
            else f"the first transformer; the second one has {second:g}, from model.guidance_scale_2."
        )
        note = f"--cfg {settings.cfg:g} sets the strength of guidance of {which}"
        return replace(found, notes=(*found.notes, note))


class WanImageToVideo(Wan):
    """Wan that starts from an image, through diffusers' `WanImageToVideoPipeline`.

    The image is frame 0 of the clip's video, in both modes. The transformer receives its latents, and a mask of the
    given frames, in additional channels. In models with a timestep per token, the latents replace the first latent
    frame. Wan 2.1 also receives an embedding of a CLIP image encoder; random weights replace it with standard normal
    noise, with a seed computed from the image.
    """

    pipeline_class = "vcorr_wan.image:ImageToVideo"
    saved_as = ("WanImageToVideoPipeline", "ImageToVideo")
    needs_image = True

    def denoiser_input(self, latents: Tensor, own: Tensor) -> Tensor:
        """Returns the denoiser's input; models with a timestep per token keep the image's latents in it."""
        found = super().denoiser_input(latents, own)
        if self.config_of("pipeline").get("expand_timesteps"):
            found[:, :, :1] = own[:, :, :1]
        return found


class SkyReels(Wan):
    """SkyReels V2 from text, through diffusers' `SkyReelsV2Pipeline`.

    The models of this family for "diffusion forcing" attend block by block in time and have another pipeline. The
    plugin refuses them, because their attention is causal and not over all frames.
    """

    pipeline_class = "SkyReelsV2Pipeline"
    saved_as = ("SkyReelsV2Pipeline",)

    def take_sizes(self, configs: Configs) -> None:
        """Takes the sizes of loaded weights, as Wan does.

        Raises:
            UsageError: the model of the weights attends block by block in time, or takes frames per second as input.
        """
        found = configs[self.denoiser]
        block = found.get("num_frame_per_block", 1)
        if block > 1 or found.get("inject_sample_info"):
            raise UsageError(
                f"The transformer attends in blocks of {block} frames, or takes frames per second as input. This is "
                "SkyReels V2 for diffusion forcing, whose attention is not over all frames.",
                hint=f"Use the weights of {self.model_card().hub_id}.",
            )
        super().take_sizes(configs)
