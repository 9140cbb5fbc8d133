"""Finds and identifies files of low-rank weights (LoRA), without torch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from vcorr.contract.errors import MissingError, UsageError
from vcorr.contract.text_files import expand_home
from vcorr.store.fingerprint import hash_file

_IDENTITY_LENGTH = 16


def check_peft() -> None:
    """Raises MissingError if the package that reads low-rank weights is not installed."""
    if find_spec("peft") is None:
        raise MissingError("model.lora needs the package peft.", hint="pip install peft")


def lora_file(path: str) -> Path:
    """Returns the path of the file that `--set model.lora=PATH` names.

    Raises:
        MissingError: there is no such file.
        UsageError: it is not a safetensors file.
    """
    file = expand_home(path)
    if not file.is_file():
        raise MissingError(f"model.lora={path}: there is no such file.", hint="Give the path of a .safetensors file.")
    if file.suffix != ".safetensors":
        raise UsageError(
            f"model.lora={path} is not a .safetensors file; pickles can run code when they are read.",
            hint="Convert it where you trust it: safetensors.torch.save_file(torch.load(...), 'lora.safetensors')",
        )
    return file


def lora_identity(files: Mapping[str, str], denoisers: int) -> str:
    """Returns the identity of merged files for tables and fingerprints: a prefix of the SHA-256 of their contents.

    For a model with several denoisers, it names each: "transformer=HASH,transformer_2=HASH".

    Args:
        files: the path of the file of each denoiser that has one, by the component's name.
        denoisers: number of denoisers of the model.

    Raises:
        MissingError, UsageError: as `lora_file`.
    """
    hashes = {name: hash_file(lora_file(path))[:_IDENTITY_LENGTH] for name, path in files.items()}
    if denoisers == 1:
        return next(iter(hashes.values()))
    return ",".join(f"{name}={value}" for name, value in hashes.items())
