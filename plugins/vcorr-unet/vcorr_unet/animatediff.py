"""Adapts AnimateDiff: motion modules (temporal attention, trained on videos) inside Stable Diffusion 1.5.

Its weights and configurations are released in two repositories, one of Stable Diffusion and one of the motion modules.
The pipeline builds one network from both, whose configuration has the names of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcorr import Factorised, Site
from vcorr.diffusion import Sizes, VideoConfig, WeightsSource
from vcorr_unet.structure import SelfAttention, Transformer
from vcorr_unet.text_to_video import CLIP_TEXT
from vcorr_unet.unet import VideoUNet

if TYPE_CHECKING:
    import torch

STABLE_DIFFUSION = "StableDiffusionPipeline"
MOTION = Transformer(
    "motion_modules.{}.transformer_blocks.0", Factorised("temporal"), ("attn1", "attn2"), everywhere=True
)


class AnimateDiff(VideoUNet[VideoConfig]):
    """AnimateDiff on Stable Diffusion 1.5 through diffusers' `AnimateDiffPipeline`."""

    pipeline_class = "AnimateDiffPipeline"
    denoiser_class = "UNetMotionModel"  # one network of the image network and the motion modules
    encoding = CLIP_TEXT
    frame_inputs = ("encoder_hidden_states",)
    transformers = (Transformer("attentions.{}.transformer_blocks.0", Factorised("spatial")), MOTION)

    @property
    def attention_modules(self) -> Sequence[SelfAttention]:
        """Every self-attention module; some versions have no motion modules at the deepest level."""
        every = super().attention_modules
        if self._motion["use_motion_mid_block"]:
            return every
        return tuple(module for module in every if not module.name.startswith("mid_block.motion_modules"))

    def heads(self, kind: Transformer) -> Any:
        """Returns the number of heads; Stable Diffusion's configuration names it `attention_head_dim`."""
        if kind is MOTION:
            return self._motion["motion_num_attention_heads"]
        return self.network.get("num_attention_heads") or self.network["attention_head_dim"]

    def sizes(self, site: Site | None) -> Mapping[str, Sizes]:
        """Returns the sizes of every video UNet; the motion modules have positions for a limited number of frames."""
        return {**super().sizes(site), "frames": Sizes(2, 1, self._motion["motion_max_seq_length"])}

    def locate(self, weights: str) -> WeightsSource:
        """Finds the source that `--weights` names: two repositories for "hub", one saved pipeline for a path.

        Raises:
            MissingError: one of the two is not in the cache; see also `vcorr.diffusion.locate_weights`.
        """
        from vcorr.diffusion import locate_weights

        if weights != "hub":
            return super().locate(weights)
        source, adapter = locate_weights(weights, self.model_card(), STABLE_DIFFUSION), self._adapter
        self._adapter_folder()
        return replace(source, identity=f"{source.identity}+{adapter['hub_id']}@{adapter['revision']}")

    def read(self, source: WeightsSource, dtype: torch.dtype) -> Any:
        """Reads the pipeline of both repositories, with the motion modules' scheduler, or of one folder."""
        if source.kind != "hub":
            return super().read(source, dtype)
        from diffusers import MotionAdapter

        from vcorr.diffusion import component_from_config, load_pipeline, packaged_configs

        assert source.folder is not None  # `locate` has found it
        scheduler = component_from_config("scheduler", packaged_configs(self.configs)["scheduler"])
        modules = MotionAdapter.from_pretrained(
            self._adapter_folder(), torch_dtype=dtype, local_files_only=True, use_safetensors=True
        )
        return load_pipeline(self.pipeline_class, source.folder, dtype, motion_adapter=modules, scheduler=scheduler)

    def build(self, seed: int) -> Any:
        """Builds the pipeline with random weights; it builds one network, from the configurations of both parts."""
        import torch
        from diffusers import UNetMotionModel

        from vcorr.diffusion import component_from_config, pipeline_from_configs

        parts = ("unet", "motion_adapter")
        with torch.device("meta"):
            empty = [component_from_config(part, self.config_of(part)) for part in parts]
            both = UNetMotionModel.from_unet2d(*empty, load_weights=False)
        others = {part: self.config_of(part) for part in ("vae", "scheduler")}
        return pipeline_from_configs(self.pipeline_class, {**others, "unet": both.config}, {})

    @property
    def _motion(self) -> Mapping[str, Any]:
        """Configuration of the motion modules; after loading, the network's own configuration contains it."""
        return {**self.config_of("motion_adapter"), **self.network}

    @property
    def _adapter(self) -> Mapping[str, Any]:
        adapter: Mapping[str, Any] = self.model_card().extra["motion_adapter"]
        return adapter

    def _adapter_folder(self) -> Path:
        from vcorr.diffusion import locate_component

        title = f"the motion modules of {self.model_card().title}"
        return locate_component(title, self._adapter["hub_id"], self._adapter["revision"])
