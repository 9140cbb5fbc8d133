"""Options of video diffusion models, and what they do to a loaded pipeline.

Low-rank weights, offloading, a tiled or sliced autoencoder, the noise schedule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from vcorr.contract.errors import MissingError, UsageError
from vcorr.diffusion.configs import Size
from vcorr.store.fingerprint import hash_file

PromptUse = Literal["caption", "empty"]

_IDENTITY_LENGTH = 16


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """Options every video diffusion model has (`--set model.KEY=VALUE`).

    size: "released" for the sizes of the model as released; "small" for networks and videos that a CPU runs in seconds,
    for `--weights random`. height, width: pixels the model reads or makes; clips are resized to it. frames: the most
    video frames it reads, and those it makes; a shorter clip is read as far as its frames fill whole latents. All three
    are those of `size` when 0. network: values of the denoiser's configuration that `--weights random` is to have
    instead, e.g. `--set model.network.num_layers=2`. prompt: "caption" gives the clip's
    own text, "empty" none. lora: path of a safetensors file with low-rank weights, merged in when the model is loaded.
    offload: networks stay in CPU memory and come to the GPU only while they run. vae_tiling: the autoencoder works tile
    by tile, which takes less memory and changes pixels slightly; vae_slicing: item by item of its batch, which changes
    nothing and helps autoencoders of images, whose batch is the frames.
    """

    size: Size = "released"
    height: int = 0
    width: int = 0
    frames: int = 0
    network: dict[str, Any] = field(default_factory=dict)
    prompt: PromptUse = "caption"
    lora: str | None = None
    offload: bool = False
    vae_tiling: bool = False
    vae_slicing: bool = False


def apply_options(pipe: Any, config: VideoConfig, device: str) -> None:
    """Does to a loaded pipeline what its options ask for, and brings it to the device.

    Raises:
        UsageError: an option cannot be had.
        MissingError: a package that an option needs is not there.
    """
    pipe.set_progress_bar_config(disable=True)
    if config.lora is not None:
        merge_lora(pipe, config.lora)
    if config.vae_tiling:
        tile_autoencoder(pipe)
    if config.vae_slicing:
        slice_autoencoder(pipe)
    place(pipe, device, offload=config.offload)


def lora_file(path: str) -> Path:
    """The file that `--set model.lora=PATH` names.

    Raises:
        MissingError: there is no such file.
        UsageError: it is not a safetensors file.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise MissingError(f"model.lora={path}: there is no such file.", hint="Give the path of a .safetensors file.")
    if file.suffix != ".safetensors":
        raise UsageError(
            f"model.lora={path} is no .safetensors file; pickles can run code when they are read.",
            hint="Convert it where you trust it: safetensors.torch.save_file(torch.load(...), 'lora.safetensors')",
        )
    return file


def lora_identity(path: str) -> str:
    """What identifies the file in rows and fingerprints: a prefix of the SHA-256 of its contents."""
    return hash_file(lora_file(path))[:_IDENTITY_LENGTH]


def merge_lora(pipe: Any, path: str) -> None:
    """Merges the low-rank weights of a file into the pipeline's own, at full strength.

    Raises:
        MissingError: the file or the package peft is not there.
        UsageError: the pipeline takes none, or the file does not fit it.
    """
    file = lora_file(path)
    if not hasattr(pipe, "load_lora_weights"):
        raise UsageError(f"{type(pipe).__name__} takes no low-rank weights.", hint="Leave out model.lora.")
    if find_spec("peft") is None:
        raise MissingError("model.lora needs the package peft.", hint="pip install peft")
    try:
        pipe.load_lora_weights(str(file.parent), weight_name=file.name, local_files_only=True, use_safetensors=True)
        pipe.fuse_lora()
        pipe.unload_lora_weights()
    except (ValueError, RuntimeError, KeyError, OSError) as error:
        # What a foreign file raises depends on its keys and on the library that reads them.
        raise UsageError(f"model.lora={path} does not fit {type(pipe).__name__}: {error}") from error


def place(pipe: Any, device: str, *, offload: bool) -> None:
    """Brings the pipeline to the device, or, offloaded, lets each network come to it only while it runs.

    Raises:
        UsageError: there is nothing to offload to, or the pipeline does not say in which order.
        MissingError: the package accelerate is not there.
    """
    if not offload:
        pipe.to(device)
        return
    if device == "cpu":
        raise UsageError(
            "Offloading keeps networks in CPU memory until the GPU needs them; the device is the CPU already.",
            hint="Leave out --offload, or give --device cuda.",
        )
    if find_spec("accelerate") is None:
        raise MissingError("Offloading needs the package accelerate.", hint="pip install accelerate")
    if pipe.model_cpu_offload_seq is None:
        raise UsageError(f"{type(pipe).__name__} cannot be offloaded.", hint="Leave out --offload.")
    pipe.enable_model_cpu_offload(device=device)


def tile_autoencoder(pipe: Any) -> None:
    """Lets the autoencoder work tile by tile, with less memory and slightly other pixels.

    Raises:
        UsageError: it cannot.
    """
    if not hasattr(pipe.vae, "use_tiling"):
        raise UsageError(f"{type(pipe.vae).__name__} cannot work in tiles.", hint="Leave out --vae-tiling.")
    pipe.vae.enable_tiling()


def slice_autoencoder(pipe: Any) -> None:
    """Lets the autoencoder work item by item of its batch, with less memory and the same pixels.

    Raises:
        UsageError: it cannot.
    """
    if not hasattr(pipe.vae, "use_slicing"):
        raise UsageError(f"{type(pipe.vae).__name__} cannot work in slices.", hint="Leave out model.vae_slicing.")
    pipe.vae.enable_slicing()


_SHIFTS = ("flow_shift", "shift")
"""What schedulers of flow matching call the shift of their noise schedule."""


def shift_schedule(pipe: Any, shift: float) -> None:
    """Lets the pipeline sample with another shift of its flow-matching schedule, t' = s t / (1 + (s - 1) t).

    Raises:
        UsageError: the shift is not above 0, or the scheduler has none.
    """
    if not (math.isfinite(shift) and shift > 0):
        raise UsageError(f"The shift of a noise schedule must be above 0, got {shift}.", hint="1 means none.")
    scheduler = pipe.scheduler
    name = next((name for name in _SHIFTS if name in scheduler.config), None)
    if name is None:
        raise UsageError(f"{type(scheduler).__name__} has no shift.", hint="Leave out model.flow_shift.")
    if scheduler.config[name] != shift:
        pipe.register_modules(scheduler=type(scheduler).from_config(scheduler.config, **{name: shift}))
