"""Builds models with random weights, and the arguments of one denoiser pass.

Shape legend: T video frames, H x W pixels, C latent channels, F x h x w latents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vcorr.contract.errors import PluginError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Clip, RunSettings
from vcorr.diffusion import DiffusersVideoModel
from vcorr.diffusion.loading import torch_dtype
from vcorr.diffusion.random_weights import random_pipeline

CHANNELS = ("latent_channels", "z_dim")
"""Names that configurations of autoencoders use for C."""
NUM_STEPS = 10
"""Steps of the schedule; its middle step is run. The number does not change what a pass costs."""


@dataclass(frozen=True)
class Pass:
    """One pass of a denoiser: the module, its arguments, and how many guidance branches they hold."""

    module: nn.Module
    inputs: Mapping[str, Any]
    batch: int

    def __call__(self) -> None:
        """Runs the pass."""
        self.module(**self.inputs)


def build_model(model: DiffusersVideoModel[Any], device: str, dtype: str) -> DiffusersVideoModel[Any]:
    """Gives an adapter a pipeline with random weights, created on `device` in `dtype`; returns the adapter."""
    pipe = random_pipeline(model.build, 0, device, torch_dtype(dtype), model.denoiser)
    # a plugin's build() may create modules elsewhere than on the default device
    pipe.to(device)
    model.adopt(pipe, device)
    return model


def one_pass(model: DiffusersVideoModel[Any], *, guidance: bool = True, keep_vae: bool = False) -> Pass:
    """Returns a pass as the pipeline runs it in the middle of sampling, for random latents and an empty prompt.

    Args:
        model: an adapter that has its pipeline.
        guidance: run all branches that the pipeline puts into one batch; else only the conditional branch.
        keep_vae: keep the autoencoder in memory; else it is removed from the pipeline.

    Raises:
        PluginError: the autoencoder's configuration does not give the number of latent channels.
    """
    grid = model.grid(empty_clip(), None)
    image = np.zeros((1, round(grid.height), round(grid.width), 3), dtype=np.uint8) if model.needs_image else None
    settings = RunSettings(steps=(NUM_STEPS // 2,), num_steps=NUM_STEPS)
    passes = model.borrow(empty_clip(image), grid, settings)
    step = NUM_STEPS // 2
    module = passes.module(step)
    latents = torch.randn(_latent_shape(model, grid), device=model.device, dtype=next(module.parameters()).dtype)
    if not keep_vae:
        model.pipe.register_modules(vae=None)
    branches = len(model.branches) if guidance else 1
    repeated = {
        name: torch.cat([value] * branches) if name in model.frame_inputs else _repeat(value, branches)
        for name, value in passes.inputs(latents, step).items()
    }
    return Pass(module, repeated, branches)


def empty_clip(video: Any = None) -> Clip:
    """Returns a clip with an empty prompt and no queries."""
    return Clip(id="bench", prompt="", queries=np.zeros((0, 2), dtype=np.float32), video=video)


def _repeat(value: Any, branches: int) -> Any:
    """Repeats an argument of batch size 1 for all branches; returns any other argument unchanged."""
    batched = isinstance(value, Tensor) and value.ndim > 0 and len(value) == 1
    return torch.cat([value] * branches) if batched else value


def _latent_shape(model: DiffusersVideoModel[Any], grid: TokenGrid) -> tuple[int, ...]:
    """Returns the shape (1, C, F, h, w) of the latents that `encode` returns."""
    pack, found = model.compression, model.pipe.vae.config
    channels = next((found[name] for name in CHANNELS if found.get(name)), None)
    if channels is None:
        raise PluginError(
            f"The autoencoder of {type(model).__name__} does not say how many channels its latents have.",
            hint=f"Its configuration needs a key {' or '.join(CHANNELS)}.",
        )
    return (1, int(channels), grid.frames * pack.temporal_patch, grid.rows * pack.patch, grid.cols * pack.patch)
