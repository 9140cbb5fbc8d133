"""Builds and reads networks of transformers, from safetensors only and without downloads, with torch's attention."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import transformers
from transformers.utils import logging

from vcorr import UsageError
from vcorr.diffusion import quiet_loading, seed_generators, torch_dtype
from vcorr_vision.error_text import in_one_line
from vcorr_vision.pixels import IMAGENET, NOTHING, Normalisation

ATTENTION = "sdpa"
"""The implementation that calls torch's function, which vcorr can intercept."""
CONFIG, PIPELINE = "config.json", "model_index.json"
PICTURES = "pixel_values"
"""Beginning of the name of the input, in networks that read pictures or videos."""
PREPROCESSORS = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")


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
        raise _unreadable(folder, class_name, error) from error
    _check_complete(report, folder, class_name)
    return network.eval()


def _unreadable(folder: Path, what: str, error: Exception) -> UsageError:
    return UsageError(f"{folder} cannot be loaded as a {what}: {in_one_line(error)}")


def _check_complete(report: Mapping[str, Any], folder: Path, class_name: str, part: str = "") -> None:
    """Raises UsageError if the folder lacks tensors whose names begin with `part`."""
    missing = sorted(name for name in report["missing_keys"] if name.startswith(part))
    if missing:
        raise UsageError(
            f"{folder} has no weights for {len(missing)} tensors of {class_name}, for example {missing[0]}.",
            hint="Check --weights and --model.",
        )


def read_settings(folder: Path, title: str) -> Any:
    """Reads the configuration of any network of transformers that reads pictures.

    title: of the model, for messages.

    Raises:
        UsageError: there is no configuration, transformers does not know it, or the network reads no pictures.
    """
    if not (folder / CONFIG).is_file():
        is_pipeline = (folder / PIPELINE).is_file()
        what = "is a pipeline of diffusers" if is_pipeline else f"has no {CONFIG}"
        raise UsageError(
            f"{title}: the folder {what}.",
            hint="Models of diffusers have names of their own: vcorr list models"
            if is_pipeline
            else "Name the folder that a network of transformers was saved in.",
        )
    try:
        found = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a damaged file, or a network with code of its own, raises any error
        raise UsageError(
            f"{title}: transformers {transformers.__version__} cannot read its config.json: {in_one_line(error)}",
            hint="Only networks of the installed transformers are read, no code from a repository.",
        ) from error
    reads = _main_input(found)
    if not reads.startswith(PICTURES) and not hasattr(found, "vision_config"):
        raise UsageError(
            f"{title}: a network of the type {found.model_type!r} reads {reads}, no pictures.",
            hint="Name a network that reads pictures or videos, for example --model hf:facebook/dinov2-base",
        )
    return found


def _main_input(settings: Any) -> str:
    """Returns what the network of a configuration calls its input; `PICTURES` if transformers has no network."""
    network = transformers.MODEL_MAPPING.get(type(settings), None)
    network = network[0] if isinstance(network, (list, tuple)) else network
    return str(getattr(network, "main_input_name", PICTURES))


def with_attention(build: Callable[..., Any]) -> Any:
    """Calls `build` so that it makes a network with torch's attention; with its own, where it has no other."""
    try:
        return build(attn_implementation=ATTENTION)
    except ValueError as error:
        if "attn_implementation" not in str(error) and "scaled_dot_product_attention" not in str(error):
            raise
        return build(attn_implementation="eager")


def read_tower(settings: Any, folder: Path, dtype: str, tower: str) -> Any:
    """Reads the vision network at the path `tower` of any saved model, on the CPU, with torch's attention if it can.

    Raises:
        UsageError: the folder cannot be read, or lacks tensors of the network.
    """
    read = partial(
        transformers.AutoModel.from_pretrained,
        folder,
        config=settings,
        dtype=torch_dtype(dtype),
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
    )
    try:
        with quiet_loading(), _without_report():
            whole, report = with_attention(read)
    except Exception as error:  # as in `read_network`
        raise _unreadable(folder, settings.model_type, error) from error
    _check_complete(report, folder, type(whole).__name__, tower)
    return whole.get_submodule(tower).eval()


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
        found = found.get("image_processor", found)  # a processor of pictures and text holds one of pictures
        if found.get("do_normalize") is False:
            return NOTHING
        mean, std = (tuple(map(float, found[name])) for name in ("image_mean", "image_std"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} does not say image_mean and image_std: {error!r}.") from error
    whole = all(map(math.isfinite, (*mean, *std))) and all(each > 0 for each in std)
    if len(mean) != 3 or len(std) != 3 or not whole:
        raise UsageError(
            f"{path}: image_mean and image_std must be three numbers each, and image_std over 0; got {mean} and {std}."
        )
    return Normalisation((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))
