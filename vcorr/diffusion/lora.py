"""Merges low-rank weights (LoRA) into a pipeline's denoisers, all of a file or nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from vcorr.capture.modules import shorten
from vcorr.contract.errors import UsageError
from vcorr.diffusion.lora_files import check_peft, lora_file


def merge_lora(pipe: Any, files: Mapping[str, str]) -> None:
    """Merges the low-rank weights of files into the pipeline's own, at full strength.

    Args:
        pipe: a diffusers pipeline, not offloaded yet.
        files: the path of the file of each denoiser, by the component's name. A file may also hold weights of other
            components, such as the text encoder.

    Raises:
        MissingError: a file does not exist, or the package peft is not installed.
        UsageError: the pipeline takes no low-rank weights, or a file does not fit it, wholly or in part.
    """
    if not hasattr(pipe, "load_lora_weights"):
        raise UsageError(f"{type(pipe).__name__} takes no low-rank weights.", hint="Leave out model.lora.")
    check_peft()
    for denoiser, path in files.items():
        _merge_file(pipe, denoiser, lora_file(path))


def _merge_file(pipe: Any, denoiser: str, file: Path) -> None:
    second = {"load_into_transformer_2": True} if denoiser == "transformer_2" else {}
    name = type(pipe).__name__
    with _collect_warnings() as warnings:
        try:
            pipe.load_lora_weights(
                str(file.parent), weight_name=file.name, local_files_only=True, use_safetensors=True, **second
            )
            changed = _find_changed(pipe)
            if changed:
                pipe.fuse_lora(components=changed)
                pipe.unload_lora_weights()
        except Exception as error:  # a foreign file raises any error, depending on its keys and on who reads them
            reason = " ".join(str(error).split()) or type(error).__name__
            text = f"model.lora={file} does not fit {denoiser} of {name}: {reason}"
            raise UsageError(text, hint=_KEYS) from error
    if denoiser not in changed:
        raise UsageError(
            f"model.lora={file} does not fit {name}: none of its weights belongs to {denoiser}.",
            hint=_KEYS,
        )
    _check_whole(warnings, file, name)
    _check_finite(getattr(pipe, denoiser), file)


def _find_changed(pipe: Any) -> list[str]:
    """Returns the names of the components that have got low-rank weights."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    components = {name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)}
    return [
        name
        for name, part in components.items()
        if any(isinstance(module, BaseTunerLayer) for module in part.modules())
    ]


@contextmanager
def _collect_warnings() -> Iterator[list[str]]:
    """Collects what diffusers logs about low-rank weights while the block runs, in place of printing it."""
    collected: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            collected.append(record.getMessage())

    logger = logging.getLogger("diffusers")
    handlers, level = logger.handlers, logger.level
    logger.handlers = [Collector()]
    logger.setLevel(logging.WARNING)
    try:
        yield collected
    finally:
        logger.handlers = handlers
        logger.setLevel(level)


_KEYS = (
    "It must hold pairs such as transformer.NAME.lora_A.weight and .lora_B.weight, as pipe.save_lora_weights() writes."
)
_UNEXPECTED = "unexpected keys found in the model: "
"""How diffusers 0.42 lists the weights of a file that it dropped."""
_FILTERED = "dora_scale"
"""What diffusers 0.42 drops from a DoRA file, whose remaining weights are then another change than was trained."""


def _check_whole(warnings: list[str], file: Path, name: str) -> None:
    if any(_FILTERED in text for text in warnings):
        raise UsageError(f"model.lora={file} is a DoRA file; diffusers would drop its magnitudes.")
    dropped = [text.partition(_UNEXPECTED)[2].strip().rstrip(".") for text in warnings if _UNEXPECTED in text]
    if dropped:
        keys = [key.strip() for text in dropped for key in text.split(",")]
        raise UsageError(
            f"model.lora={file} fits {name} only in part: the model has no place for {shorten(keys)}.",
            hint="The file belongs to another size or version of the model.",
        )


def _check_finite(denoiser: nn.Module, file: Path) -> None:
    broken = [name for name, weight in denoiser.named_parameters() if not weight.isfinite().all()]
    if broken:
        raise UsageError(f"model.lora={file} makes weights NaN or infinite: {shorten(broken)}.")
