"""Holds what adapters of diffusers video models share: weights, noise schedule, latents, renoising and sampling.

A new model is a subclass of `DiffusersVideoModel`, which declares the pipeline's class, its attention modules, its
token layout and its compression; that class lists all. Importing this package imports neither torch nor diffusers, so
models can be listed, and missing weights reported, at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vcorr.diffusion.accelerators.accelerator import Accelerator as Accelerator
    from vcorr.diffusion.adapter import DiffusersVideoModel as DiffusersVideoModel
    from vcorr.diffusion.authors import AuthorsConfig as AuthorsConfig
    from vcorr.diffusion.configs import Configs as Configs
    from vcorr.diffusion.configs import packaged_configs as packaged_configs
    from vcorr.diffusion.images import starting_image as starting_image
    from vcorr.diffusion.latents import encode_frames as encode_frames
    from vcorr.diffusion.latents import encode_video as encode_video
    from vcorr.diffusion.latents import prompt_noise as prompt_noise
    from vcorr.diffusion.latents import to_model_range as to_model_range
    from vcorr.diffusion.loading import load_pipeline as load_pipeline
    from vcorr.diffusion.loading import quiet_loading as quiet_loading
    from vcorr.diffusion.loading import seed_generators as seed_generators
    from vcorr.diffusion.loading import torch_dtype as torch_dtype
    from vcorr.diffusion.options import PromptUse as PromptUse
    from vcorr.diffusion.options import VideoConfig as VideoConfig
    from vcorr.diffusion.options import shift_schedule as shift_schedule
    from vcorr.diffusion.packaged import packaged_model as packaged_model
    from vcorr.diffusion.prompts import PromptEncoding as PromptEncoding
    from vcorr.diffusion.prompts import random_mask as random_mask
    from vcorr.diffusion.random_weights import component_from_config as component_from_config
    from vcorr.diffusion.random_weights import open_gates as open_gates
    from vcorr.diffusion.random_weights import pipeline_from_configs as pipeline_from_configs
    from vcorr.diffusion.schedule import NoiseSchedule as NoiseSchedule
    from vcorr.diffusion.schedule import noise_levels as noise_levels
    from vcorr.diffusion.size_checks import check_loaded as check_loaded
    from vcorr.diffusion.size_checks import check_size as check_size
    from vcorr.diffusion.size_checks import frames_to_read as frames_to_read
    from vcorr.diffusion.size_checks import size_in_words as size_in_words
    from vcorr.diffusion.token_layout import Compression as Compression
    from vcorr.diffusion.token_layout import Sizes as Sizes
    from vcorr.diffusion.token_layout import attention_sites as attention_sites
    from vcorr.diffusion.weights import WeightsSource as WeightsSource
    from vcorr.diffusion.weights import check_pipeline_folder as check_pipeline_folder
    from vcorr.diffusion.weights import folder_identity as folder_identity
    from vcorr.diffusion.weights import locate_component as locate_component
    from vcorr.diffusion.weights import locate_network as locate_network
    from vcorr.diffusion.weights import locate_weights as locate_weights
    from vcorr.diffusion.weights import other_revisions as other_revisions
    from vcorr.diffusion.weights import random_seed as random_seed
    from vcorr.interventions.windowed_attention import AttentionWindow as AttentionWindow
else:
    from vcorr.contract.lazy_names import lazy_names

    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        {
            "vcorr.diffusion.accelerators.accelerator": "Accelerator",
            "vcorr.diffusion.adapter": "DiffusersVideoModel",
            "vcorr.diffusion.authors": "AuthorsConfig",
            "vcorr.diffusion.configs": "Configs packaged_configs",
            "vcorr.diffusion.images": "starting_image",
            "vcorr.diffusion.latents": "encode_frames encode_video prompt_noise to_model_range",
            "vcorr.diffusion.loading": "load_pipeline quiet_loading seed_generators torch_dtype",
            "vcorr.diffusion.options": "PromptUse VideoConfig shift_schedule",
            "vcorr.diffusion.packaged": "packaged_model",
            "vcorr.diffusion.prompts": "PromptEncoding random_mask",
            "vcorr.diffusion.random_weights": "component_from_config open_gates pipeline_from_configs",
            "vcorr.diffusion.schedule": "NoiseSchedule noise_levels",
            "vcorr.diffusion.size_checks": "check_loaded check_size frames_to_read size_in_words",
            "vcorr.diffusion.token_layout": "Compression Sizes attention_sites",
            "vcorr.diffusion.weights": (
                "WeightsSource check_pipeline_folder folder_identity locate_component "
                "locate_network locate_weights other_revisions random_seed"
            ),
            "vcorr.interventions.windowed_attention": "AttentionWindow",
        },
    )
