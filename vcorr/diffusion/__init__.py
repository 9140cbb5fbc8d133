"""What adapters of diffusers video models have in common: weights, noise schedule, latents, renoising and sampling.

A new model is a subclass of `DiffusersVideoModel`: the pipeline's class, the names of its attention modules, its token
layout, its compression, and how one forward pass is called (see that class for the list). Importing this package
imports neither torch nor diffusers, so that models can be listed, and missing weights reported, at once.
"""

from __future__ import annotations

from vcorr.diffusion.adapter import DiffusersVideoModel
from vcorr.diffusion.images import starting_image
from vcorr.diffusion.options import VideoConfig
from vcorr.diffusion.packaged import packaged_model
from vcorr.diffusion.prompts import PromptEncoding
from vcorr.diffusion.token_layout import Compression, Sizes, attention_sites
from vcorr.diffusion.weights import (
    WeightsSource,
    check_pipeline_folder,
    folder_identity,
    locate_network,
    locate_weights,
)

__all__ = [
    "Compression",
    "DiffusersVideoModel",
    "PromptEncoding",
    "Sizes",
    "VideoConfig",
    "WeightsSource",
    "attention_sites",
    "check_pipeline_folder",
    "folder_identity",
    "locate_network",
    "locate_weights",
    "packaged_model",
    "starting_image",
]
