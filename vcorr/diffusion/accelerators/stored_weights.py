"""Weights of the denoiser in fewer bits: fp8 storage of diffusers, int8 and nf4 by a package or simulated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from vcorr.contract.errors import MissingError, UsageError
from vcorr.contract.option_notes import option
from vcorr.diffusion.accelerators.accelerator import AcceleratedModel, Accelerator

if TYPE_CHECKING:
    from torch import Tensor

SIMULATED = "simulated"
_PACKAGES = {"bitsandbytes": "bitsandbytes", "torchao": "torchao", "quanto": "optimum-quanto"}
"""The packages that quantise, by the name of the option: as pip names them."""
_MODULES = {"bitsandbytes": "bitsandbytes", "torchao": "torchao", "quanto": "optimum.quanto"}


@dataclass(frozen=True)
class LayerwiseCasting(Accelerator):
    """Stores the denoiser's weights as float8 and computes in the run's dtype, layer by layer."""

    title: ClassVar[str] = "fp8 weights, cast layer by layer"

    form: str = option("e4m3fn", 'The float8 format: "e4m3fn" or "e5m2".')

    def __post_init__(self) -> None:
        if self.form not in ("e4m3fn", "e5m2"):
            raise UsageError(f"model.accelerate: fp8:form must be e4m3fn or e5m2, got {self.form!r}.")

    def apply(self, model: AcceleratedModel) -> None:
        """Casts the weights; norms and embeddings stay, as the denoiser's class says."""
        import torch

        stored = getattr(torch, f"float8_{self.form}")
        for name in model.denoisers:
            denoiser = getattr(model.pipe, name)
            if not hasattr(denoiser, "enable_layerwise_casting"):
                raise UsageError(f"{type(denoiser).__name__} cannot cast its weights layer by layer.")
            denoiser.enable_layerwise_casting(storage_dtype=stored, compute_dtype=denoiser.dtype)


@dataclass(frozen=True)
class _Quantised(Accelerator, ABC):
    """Weights of the denoiser's linear layers in a few bits."""

    by: str = option(
        SIMULATED,
        '"simulated" rounds the weights to the values of the format and computes as before, so neither time nor memory '
        'is gained. "bitsandbytes", "torchao" and "quanto" quantise through diffusers while the weights are loaded.',
    )
    block: int = option(64, "Weights that share a scale, when simulated; 0 for a whole row.", least=0)

    _kind: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if self.by not in (SIMULATED, *_PACKAGES):
            known = ", ".join((SIMULATED, *_PACKAGES))
            raise UsageError(f"model.accelerate: {self._kind}:by must be one of {known}, got {self.by!r}.")

    @property
    def note(self) -> str:  # type: ignore[override]
        """What readers of its numbers must know."""
        return "simulated: weights rounded, no time gained" if self.by == SIMULATED else ""

    def check(self, model: AcceleratedModel) -> None:
        """Checks that the package is installed, and that it has the format."""
        if self.by == SIMULATED:
            return
        if not _is_installed(_MODULES[self.by]):
            raise MissingError(
                f"model.accelerate={self._kind}:by={self.by} needs the package {_PACKAGES[self.by]}.",
                hint=f"pip install {_PACKAGES[self.by]}, or simulate it: model.accelerate={self._kind}",
            )
        self._config(None)

    def loading(self, denoisers: Sequence[str], dtype: Any) -> Mapping[str, Any]:
        """Returns diffusers' quantisation of the denoisers, unless it is simulated."""
        if self.by == SIMULATED:
            return {}
        from diffusers import PipelineQuantizationConfig

        config = self._config(dtype)
        return {"quantization_config": PipelineQuantizationConfig(quant_mapping=dict.fromkeys(denoisers, config))}

    def apply(self, model: AcceleratedModel) -> None:
        """Rounds the weights, if it is simulated; checks that they were quantised, if it is not."""
        for name in model.denoisers:
            denoiser = getattr(model.pipe, name)
            if self.by == SIMULATED:
                round_weights(denoiser, self._round, self.block)
            elif getattr(denoiser, "hf_quantizer", None) is None:
                raise UsageError(
                    f"model.accelerate={self._kind}:by={self.by}: {self.by} quantises weights while diffusers loads "
                    "them, and these were not loaded so.",
                    hint=f"Give --weights a folder that diffusers saved, or simulate: model.accelerate={self._kind}",
                )

    @abstractmethod
    def _round(self, scaled: Tensor) -> Tensor:
        """Rounds weights in [-1, 1] to the values of the format."""

    @abstractmethod
    def _config(self, dtype: Any) -> Any:
        """Returns diffusers' configuration for the chosen package."""


@dataclass(frozen=True)
class EightBit(_Quantised):
    """Eight bits per weight, with the largest weight of a block at 127."""

    title: ClassVar[str] = "int8 weights"
    _kind: ClassVar[str] = "int8"

    def _round(self, scaled: Tensor) -> Tensor:
        return (scaled * 127).round() / 127

    def _config(self, dtype: Any) -> Any:
        import diffusers

        if self.by == "bitsandbytes":
            return diffusers.BitsAndBytesConfig(load_in_8bit=True)
        if self.by == "quanto":
            return diffusers.QuantoConfig(weights_dtype="int8")
        quantisation: Any = import_module("torchao.quantization")
        return diffusers.TorchAoConfig(quantisation.Int8WeightOnlyConfig())


@dataclass(frozen=True)
class NormalFloat(_Quantised):
    """Four bits per weight: the 16 values of NF4, which fit normally distributed weights."""

    title: ClassVar[str] = "nf4 weights"
    _kind: ClassVar[str] = "nf4"

    def _round(self, scaled: Tensor) -> Tensor:
        import torch

        values = torch.tensor(NF4, dtype=scaled.dtype, device=scaled.device)
        middles = (values[1:] + values[:-1]) / 2
        return values[torch.bucketize(scaled, middles)]

    def _config(self, dtype: Any) -> Any:
        import diffusers

        if self.by != "bitsandbytes":
            raise UsageError(
                f"model.accelerate=nf4:by={self.by}: diffusers makes nf4 with bitsandbytes alone.",
                hint="model.accelerate=nf4:by=bitsandbytes, or int8 with this package.",
            )
        return diffusers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
"""The values of NF4 (Dettmers et al., QLoRA, arXiv 2305.14314, appendix E)."""


def round_weights(network: Any, rounded: Callable[[Tensor], Tensor], block: int) -> None:
    """Rounds the weights of every linear layer of a network, in place, in float32.

    Args:
        network: a torch module.
        rounded: rounds weights, scaled to [-1, 1], to the values of a format.
        block: number of neighbouring weights of a row that share a scale, their largest absolute value; 0 for a row.
    """
    import torch

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.copy_(_round_blocks(module.weight.float(), rounded, block))


def _round_blocks(weight: Tensor, rounded: Callable[[Tensor], Tensor], block: int) -> Tensor:
    """Returns a rounded matrix, (outputs, inputs); the last block of a row may be shorter."""
    import torch

    width = weight.shape[1]
    size = block or width
    padded = torch.nn.functional.pad(weight, (0, -width % size)).reshape(len(weight), -1, size)
    scale = padded.abs().amax(dim=2, keepdim=True).clamp_min(torch.finfo(torch.float32).smallest_normal)
    found: Tensor = (rounded(padded / scale) * scale).flatten(1)[:, :width]
    return found


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a package of which it is a part is not there
        return False
