"""Loads pipelines from local folders: safetensors only, without downloads or progress bars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vcorr.contract.entries import resolve
from vcorr.contract.errors import MissingError, UsageError, did_you_mean, unknown_name

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def torch_dtype(name: str) -> torch.dtype:
    """Returns the dtype of that name.

    Raises:
        UsageError: it is not in `DTYPES`.
    """
    if name not in DTYPES:
        raise unknown_name("dtype", name, DTYPES)
    return DTYPES[name]


def load_pipeline(
    class_name: str, folder: Path, dtype: torch.dtype, vae_dtype: torch.dtype | None = None, **components: Any
) -> Any:
    """Loads the diffusers pipeline in `folder`, on the CPU; `components` replace or extend the saved ones.

    vae_dtype: dtype of the autoencoder, if it is another one.

    Raises:
        MissingError: this diffusers has no such pipeline, or a package the pipeline needs is missing.
        UsageError: the folder's files do not make such a pipeline.
    """
    pipeline_class = pipeline_type(class_name)
    with quiet_loading():
        try:
            return pipeline_class.from_pretrained(
                folder,
                dtype=dtype if vae_dtype in (None, dtype) else {"default": dtype, "vae": vae_dtype},
                local_files_only=True,
                use_safetensors=True,
                **components,
            )
        except ImportError as error:
            raise MissingError(
                f"{class_name} needs a package that is not installed: {error}",
                hint="Install it, or take other weights: quantised ones need the package that made them.",
            ) from error
        except Exception as error:  # a damaged or foreign folder raises any error, depending on the file and its reader
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UsageError(f"{folder} cannot be loaded as a {class_name}: {reason}") from error


@contextmanager
def seed_generators(seed: int, device: str = "cpu") -> Iterator[None]:
    """Seeds torch's own generators, on the CPU and on `device`, while the block runs; then restores their states."""
    gpus = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


def cast_pipeline(pipe: Any, dtype: torch.dtype) -> None:
    """Casts every network of a pipeline with random weights to `dtype`, whole, and sets it to evaluation mode."""
    for network in networks(pipe):
        nn.Module.to(network, dtype=dtype).eval()


def networks(pipe: Any) -> list[nn.Module]:
    """Returns the components of a pipeline that are torch modules."""
    return [component for component in pipe.components.values() if isinstance(component, nn.Module)]


def pipeline_type(class_name: str) -> Any:
    """Returns the class of that name in the installed diffusers, or of a plugin, "package.module:Class".

    Raises:
        MissingError: diffusers has no class of that name.
    """
    import diffusers

    if ":" in class_name:
        return resolve(class_name, "The pipeline class")

    found = getattr(diffusers, class_name, None)
    if found is None:
        near = did_you_mean(class_name, dir(diffusers))
        raise MissingError(
            f"diffusers {diffusers.__version__} has no {class_name}.{near}",
            hint="Correct the name, or install the version that vcorr asks for.",
        )
    return found


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Turns the libraries' own progress bars off while the block runs, and then restores them."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = [(x, x.is_progress_bar_enabled()) for x in (diffusers_logging, transformers_logging)]
    for library, _ in libraries:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, enabled in libraries:
            if enabled:
                library.enable_progress_bar()
