"""Builds and reads networks of transformers, from safetensors only and without downloads, with torch's attention."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import transformers
from transformers.utils import logging

from vcorr import UsageError
from vcorr.diffusion import quiet_loading, seed_generators, torch_dtype
from vcorr_vision.pixels import IMAGENET, Normalisation

ATTENTION = "sdpa"
"""The implementation that calls torch's function, which vcorr can intercept."""
PREPROCESSORS = ("preprocessor_config.json", "video_preprocessor_config.json")


def build_network(
    class_name: str, options: Mapping[str, Any], dtype: str, seed: int, build_options: Mapping[str, Any]
) -> Any:
    """Builds a network with random weights, on the CPU."""
    network_class = getattr(transformers, class_name)
    config = network_class.config_class(**options)
    config._attn_implementation = ATTENTION
    with seed_generators(seed):
        network = network_class(config, **build_options)
    return network.to(torch_dtype(dtype)).eval()


def read_network(
    class_name: str, folder: Path, dtype: str, options: Mapping[str, Any], build_options: Mapping[str, Any]
) -> Any:
    """Reads the network saved in `folder`, on the CPU; `options` replace values of its configuration.

    Raises:
        UsageError: the folder holds no such network, or lacks some of its tensors.
    """
    network_class = getattr(transformers, class_name)
    try:
        with quiet_loading(), _without_report():
            config = network_class.config_class.from_pretrained(folder, local_files_only=True, **options)
            network, report = network_class.from_pretrained(
                folder,
                config=config,
                dtype=torch_dtype(dtype),
                attn_implementation=ATTENTION,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                **build_options,
            )
    except Exception as error:  # a damaged or foreign folder raises any error, depending on the file and its reader
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{folder} cannot be loaded as a {class_name}: {reason}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise UsageError(
            f"{folder} has no weights for {len(missing)} tensors of {class_name}, for example {missing[0]}.",
            hint="Check --weights and --model.",
        )
    return network.eval()


@contextmanager
def _without_report() -> Iterator[None]:
    """Keeps transformers from printing unused and missing tensors; the caller reports missing ones as an error."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def read_normalisation(folder: Path) -> Normalisation:
    """Reads the normalisation of the image processor next to the network; ImageNet's if there is none.

    Raises:
        UsageError: the file cannot be read.
    """
    for path in (folder / name for name in PREPROCESSORS):
        if path.exists():
            return _read(path)
    return IMAGENET


def _read(path: Path) -> Normalisation:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        mean, std = (tuple(map(float, found[name])) for name in ("image_mean", "image_std"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} does not say image_mean and image_std: {error!r}.") from error
    if len(mean) != 3 or len(std) != 3 or not all(std):
        raise UsageError(f"{path}: image_mean and image_std must be three numbers each, got {mean} and {std}.")
    return Normalisation((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))
