"""AnimateDiff: motion modules, temporal attention trained on videos, inside Stable Diffusion 1.5.

Its released weights lie in two repositories: those of Stable Diffusion, and those of the motion modules alone.

Shape legend: C latent channels, F x h x w latents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from vcorr import TokenGrid
from vcorr.diffusion import WeightsSource
from vcorr.records import Factorised
from vcorr_unet.structure import Place, Transformer
from vcorr_unet.text import TextUNet, TextUNetConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor

STABLE_DIFFUSION = "StableDiffusionPipeline"


@dataclass(frozen=True, kw_only=True)
class AnimateDiffConfig(TextUNetConfig):
    """Options of `animatediff`; see also those of every video UNet.

    num_attention_heads: of the attention within frames; motion_num_attention_heads: of that of the motion modules.
    motion_max_seq_length: frames these know positions of. use_motion_mid_block: whether there is one at the deepest
    level, as in the version that the card names and not in every other.
    """

    height: int = 512
    width: int = 512
    frames: int = 16
    cross_attention_dim: int = 768
    num_attention_heads: int = 8
    motion_num_attention_heads: int = 8
    motion_max_seq_length: int = 32
    use_motion_mid_block: bool = True

    @property
    def spatial_heads(self) -> tuple[int, ...]:
        """Heads of the spatial attention of each level."""
        return (self.num_attention_heads,) * self.levels

    @property
    def temporal_heads(self) -> tuple[int, ...]:
        """Heads of the motion modules of each level."""
        return (self.motion_num_attention_heads,) * self.levels


class AnimateDiff(TextUNet[AnimateDiffConfig]):
    """AnimateDiff on Stable Diffusion 1.5 through diffusers' `AnimateDiffPipeline`."""

    pipeline_class: ClassVar[str] = "AnimateDiffPipeline"
    card: ClassVar[str] = "vcorr_unet:cards/animatediff.yaml"
    frame_inputs: ClassVar[tuple[str, ...]] = ("encoder_hidden_states",)
    transformers = (
        Transformer("attentions.{}.transformer_blocks.0", Factorised("frame")),
        Transformer("motion_modules.{}.transformer_blocks.0", Factorised("place"), ("attn1", "attn2"), everywhere=True),
    )

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Every self-attention module, in the order of execution."""
        every = super().places
        if self.config.use_motion_mid_block:
            return every
        return tuple(place for place in every if not place.name.startswith("mid_block.motion_modules"))

    @property
    def frame_limit(self) -> int:
        """Those of the motion modules."""
        return self.config.motion_max_seq_length

    def locate(self, weights: str) -> WeightsSource:
        """The source that `--weights` names; "hub" is two repositories, a path one saved `AnimateDiffPipeline`.

        Raises:
            MissingError: one of the two is not in the cache; see also `vcorr.diffusion.locate_weights`.
        """
        from vcorr.diffusion import locate_weights

        if weights != "hub":
            return super().locate(weights)
        source, adapter = locate_weights(weights, self.model_card(), STABLE_DIFFUSION), self._adapter()
        self._adapter_folder()
        return replace(source, identity=f"{source.identity}+{adapter['hub_id']}@{adapter['revision']}")

    def read(self, source: WeightsSource, dtype: torch.dtype) -> Any:
        """The pipeline of both repositories, or of one folder that holds it whole."""
        if source.kind != "hub":
            return super().read(source, dtype)
        from vcorr_unet.networks import read_animatediff

        assert source.folder is not None  # what `locate` found
        return read_animatediff(source.folder, self._adapter_folder(), dtype)

    def build(self, seed: int) -> Any:
        """The pipeline with random weights and without text encoder."""
        from vcorr_unet.networks import animatediff_pipeline

        return animatediff_pipeline(self.config)

    def condition(self, prompt: str, grid: TokenGrid) -> Mapping[str, Any]:
        """The prompt's embedding, once a frame."""
        embedding = self.embed(prompt)["prompt_embeds"]
        return {"encoder_hidden_states": embedding.repeat_interleave(grid.frames, dim=0)}

    def inputs(self, latents: Tensor, timestep: Tensor, condition: Any) -> Mapping[str, Any]:
        """What the pipeline's loop passes to the UNet, for a batch of one."""
        return {"sample": latents, "timestep": timestep, **condition}

    def _adapter(self) -> Mapping[str, Any]:
        adapter: Mapping[str, Any] = self.model_card().extra["motion_adapter"]
        return adapter

    def _adapter_folder(self) -> Path:
        from vcorr.diffusion.weights import locate_component

        adapter = self._adapter()
        title = f"the motion modules of {self.model_card().title}"
        return locate_component(title, adapter["hub_id"], adapter["revision"])
