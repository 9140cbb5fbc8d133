"""Holds the options of video diffusion models and applies them to a loaded pipeline.

They cover offloading, the autoencoder's tiles, slices and dtype, and the noise schedule; `lora` merges low-rank
weights.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from vcorr.contract.errors import UsageError
from vcorr.contract.option_notes import option
from vcorr.diffusion.configs import Size

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PromptUse = Literal["caption", "empty"]


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """The options that every video diffusion model has (`--set model.KEY=VALUE`).

    Of a clip that is shorter than `frames`, a model reads the frames that fill whole latents.
    """

    size: Size = option(
        "released",
        '"released" for the sizes of the released model; "small" for networks and videos that a CPU runs in '
        "seconds, for `--weights random`.",
    )
    height: int = option(
        0,
        "Height of the video that the model reads or makes; clips are resized to it. 0 for the height of `size`.",
        unit="pixels",
        least=0,
    )
    width: int = option(
        0,
        "Width of the video that the model reads or makes; clips are resized to it. 0 for the width of `size`.",
        unit="pixels",
        least=0,
    )
    frames: int = option(
        0,
        "Number of frames of the video that the model makes, and the most that it reads. 0 for the number of `size`.",
        unit="frames",
        least=0,
    )
    network: dict[str, Any] = option(
        factory=dict,
        explanation=(
            "Values that replace values of the denoiser's configuration under `--weights random`, e.g. `--set "
            "model.network.num_layers=2`."
        ),
    )
    prompt: PromptUse = option("caption", '"caption" gives the clip\'s own text, "empty" none.')
    lora: str | None = option(
        None,
        "Path of a safetensors file with low-rank weights, which are merged into every denoiser when the model is"
        " loaded; the file has to fit wholly.",
    )
    accelerate: str = option(
        "none",
        "What makes the model faster or smaller, such as fp8, nf4, windowed or first-block-cache, with its options, as "
        'in "windowed:frames=1"; several are joined by "+". docs/accelerators.md lists them.',
        later=True,
    )
    offload: bool = option(False, "Networks stay in CPU memory and come to the GPU only while they run.")
    vae_tiling: bool = option(
        False,
        "The autoencoder works tile by tile, which takes less memory and changes pixels slightly.",
    )
    vae_slicing: bool = option(
        False,
        "The autoencoder works item by item of its batch. This changes nothing and takes less memory in image "
        "autoencoders, whose batch is the frames.",
    )


def apply_options(pipe: Any, config: VideoConfig, device: str) -> None:
    """Applies the options to a loaded pipeline, and brings it to the device.

    Raises:
        UsageError: the pipeline cannot have an option.
    """
    pipe.set_progress_bar_config(disable=True)
    if config.vae_tiling:
        tile_autoencoder(pipe)
    if config.vae_slicing:
        slice_autoencoder(pipe)
    place(pipe, device, offload=config.offload)


_METHODS = ("encode", "decode")
"""The methods of an autoencoder that pipelines and adapters call."""


def place(pipe: Any, device: str, *, offload: bool) -> None:
    """Brings the pipeline to the device; with `offload`, each network comes to it only while it runs.

    Raises:
        UsageError: the device is the CPU, or the pipeline does not declare the order of its networks.
    """
    if not offload:
        pipe.to(device)
        return
    from vcorr.diffusion.loading import networks

    check_offload(device)
    if pipe.model_cpu_offload_seq is None:
        raise UsageError(f"{type(pipe).__name__} cannot be offloaded.", hint="Leave out --offload.")
    pipe.enable_model_cpu_offload(device=device)
    for network in networks(pipe):
        _come_for_methods(network)


def _come_for_methods(network: Any) -> None:
    """Makes an offloaded autoencoder come to the device for `encode` and `decode` too.

    accelerate's hook runs in `forward` only. The autoencoders of diffusers call it in these methods; others may not.
    """
    for name in _METHODS:
        if callable(getattr(network, name, None)):
            setattr(network, name, _with_hook(network, getattr(network, name)))


def _with_hook(network: Any, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        hook = getattr(network, "_hf_hook", None)  # gone again if the hooks were removed
        if hook is not None:
            hook.pre_forward(network)
        return method(*args, **kwargs)

    return call


def check_offload(device: str) -> None:
    """Raises UsageError if networks cannot be offloaded from this device, because it is the CPU."""
    if device == "cpu":
        raise UsageError(
            "Offloading keeps networks in CPU memory until the GPU needs them; the device is the CPU already.",
            hint="Leave out --offload, or give --device cuda.",
        )


def cast_autoencoder(pipe: Any, dtype: torch.dtype) -> None:
    """Makes the pipeline's autoencoder compute in a dtype of its own, whatever dtype its inputs have."""
    import torch

    torch.nn.Module.to(pipe.vae, dtype=dtype)  # without the libraries' exceptions for some of its modules
    for name in _METHODS:
        setattr(pipe.vae, name, _cast_input(getattr(pipe.vae, name), dtype))


def _cast_input(method: Callable[..., Any], dtype: torch.dtype) -> Callable[..., Any]:
    """Returns a method that casts its first argument, latents or pixels; some pipelines do not."""

    @functools.wraps(method)
    def call(first: Tensor, *args: Any, **kwargs: Any) -> Any:
        return method(first.to(dtype), *args, **kwargs)

    return call


def tile_autoencoder(pipe: Any) -> None:
    """Makes the autoencoder work tile by tile, with less memory and slightly different pixels.

    Raises:
        UsageError: the autoencoder cannot do that.
    """
    if not hasattr(pipe.vae, "use_tiling"):
        raise UsageError(f"{type(pipe.vae).__name__} cannot work in tiles.", hint="Leave out --vae-tiling.")
    pipe.vae.enable_tiling()


def slice_autoencoder(pipe: Any) -> None:
    """Makes the autoencoder work item by item of its batch, with less memory and the same pixels.

    Raises:
        UsageError: the autoencoder cannot do that.
    """
    if not hasattr(pipe.vae, "use_slicing"):
        raise UsageError(f"{type(pipe.vae).__name__} cannot work in slices.", hint="Leave out model.vae_slicing.")
    pipe.vae.enable_slicing()


SHIFTS = ("flow_shift", "shift")
"""Names of the shift of the noise schedule in the configurations of flow-matching schedulers."""


def name_of_shift(scheduler: Mapping[str, Any], shift: float) -> str:
    """Returns the name of the shift in the configuration of a scheduler.

    Raises:
        UsageError: the shift is not above 0, or the scheduler has none.
    """
    if not (math.isfinite(shift) and shift > 0):
        raise UsageError(f"The shift of a noise schedule must be above 0, got {shift}.", hint="1 means none.")
    for name in SHIFTS:
        # schedulers of several kinds have a shift in their configuration, which counts only for flow matching
        if name in scheduler and (name == "shift" or scheduler.get("use_flow_sigmas")):
            return name
    raise UsageError(f"{scheduler['_class_name']} has no shift.", hint="Leave out model.flow_shift.")


def shift_schedule(pipe: Any, shift: float) -> None:
    """Makes the pipeline sample with another shift s of its flow-matching schedule, t' = s t / (1 + (s - 1) t).

    A scheduler that shifts dynamically, by the size of the video or by a constant, does so no longer.

    Raises:
        UsageError: the shift is not above 0, or the scheduler has none.
    """
    scheduler = pipe.scheduler
    name = name_of_shift({**scheduler.config, "_class_name": type(scheduler).__name__}, shift)
    dynamic = scheduler.config.get("use_dynamic_shifting", False)
    if dynamic or scheduler.config[name] != shift:
        changes = {name: shift, **({"use_dynamic_shifting": False} if dynamic else {})}
        pipe.register_modules(scheduler=type(scheduler).from_config(scheduler.config, **changes))
