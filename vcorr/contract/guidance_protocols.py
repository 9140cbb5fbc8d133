"""The protocol of a guidance, and the records that it gets and returns.

A guidance steers sampling. It may ask for one more prediction per step, made with perturbed attention. It changes the
predictions of a step before the pipeline combines them. Importing this module imports no torch.

Shape legend: R rows, H heads, N tokens in a sequence, d head width, n text tokens, F x h x w video tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

from vcorr.contract.errors import PluginError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.model_records import Site

if TYPE_CHECKING:
    from torch import Tensor

UNCOND, COND, PERTURBED = "uncond", "cond", "perturbed"
"""Names of the guidance branches. Pipelines may have further ones, under names of their own."""

PerturbationKind = Literal["attention", "block"]


@dataclass(frozen=True)
class GuidedSite:
    """An attention site of the model that is guided.

    site: the attention module. recommended: whether the model's card names its layer for guidance.
    """

    site: Site
    recommended: bool = False

    @property
    def layer(self) -> int:
        """Number of the layer."""
        return self.site.layer

    @property
    def joins_frames(self) -> bool:
        """Whether a token of this attention can see tokens of other latent frames."""
        if self.site.attention == "full3d":
            return True
        return self.site.factorised is not None and self.site.factorised.kind == "temporal"


@dataclass(frozen=True)
class GuidedStep:
    """A step of sampling.

    step: 0-based index into the scheduler's timesteps. num_steps: their number. noise: sigma / (alpha + sigma) in
    [0, 1], NaN if it is not known.
    """

    step: int
    num_steps: int
    noise: float = float("nan")


@dataclass(frozen=True, eq=False)
class GuidedCall:
    """The attention of the conditional branch at a perturbed site, as the model is about to compute it.

    site: the attention module. grid: how the video tokens lie over the video.
    q, k, v: (R, H, N, d), after query-key norm and rotary embedding, in the model's order of tokens. Under attention
    over all tokens R is 1 and N is n + F*h*w. Under temporal attention R is h*w and N is F; under spatial attention R
    is F and N is n + h*w. If a perturbation names heads, H counts these heads alone.
    n_text: number of text tokens in each sequence. text_first: whether they come before the video tokens.
    key_mask: (n,) bool, True where a text token is real and not padding; None if the model masks nothing.
    scale: of the dot products inside the softmax; None means 1/sqrt(d).
    """

    site: Site
    grid: TokenGrid
    q: Tensor
    k: Tensor
    v: Tensor
    n_text: int = 0
    text_first: bool = True
    key_mask: Tensor | None = None
    scale: float | None = None


AttentionEdit = Callable[[GuidedCall], "Tensor"]
"""Computes the perturbed attention output, (R, H, N, d)."""


@dataclass(frozen=True)
class Perturbation:
    """What a further prediction changes in the model.

    Args:
        layers: numbers of the layers that are changed, ascending.
        heads: the heads that are changed in these layers, ascending; None for all of them.
        kind: "attention": `edit` computes the attention of the layers. "block": the blocks that hold these layers are
            skipped, so that their input is their output.
        edit: computes the attention of the conditional branch; None for "block".

    Raises:
        PluginError: the values contradict each other.
    """

    layers: tuple[int, ...]
    heads: tuple[int, ...] | None = None
    kind: PerturbationKind = "attention"
    edit: AttentionEdit | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(PerturbationKind):
            raise PluginError(f"Perturbation: kind must be 'attention' or 'block', got {self.kind!r}.")
        _check_ascending("layers", self.layers)
        if self.heads is not None:
            _check_ascending("heads", self.heads)
        if self.kind == "attention" and not callable(self.edit):
            raise PluginError("Perturbation: kind 'attention' needs an edit, a function of a vcorr.GuidedCall.")
        if self.kind == "block" and (self.edit is not None or self.heads is not None):
            raise PluginError("Perturbation: kind 'block' skips whole blocks; it takes neither edit nor heads.")


def _check_ascending(name: str, values: Any) -> None:
    whole = isinstance(values, tuple) and all(type(each) is int and each >= 0 for each in values)
    if not whole or not values or list(values) != sorted(set(values)):
        raise PluginError(f"Perturbation: {name} must be a tuple of ascending indices, got {values!r}.")


@runtime_checkable
class Guidance(Protocol):
    """A way to steer sampling.

    A guidance adds the same to every prediction of a step: pipelines combine predictions with weights that add up to 1,
    so the guided prediction moves by as much, whatever the strength of classifier-free guidance is. Then it works for
    branches in one batch, in separate passes, and for distilled models with the conditional branch alone.

    Optional members, such as a guidance interval: `vcorr.GuidanceBase`.
    """

    def perturb(self, sites: Sequence[GuidedSite]) -> Perturbation | None:
        """Chooses what a further prediction changes; None if the guidance needs no further prediction.

        Args:
            sites: all attention sites of the model, by ascending layer.

        Raises:
            UsageError: the options do not fit the model, such as a layer that it does not have.
        """
        ...

    def combine(self, predictions: Mapping[str, Tensor], step: GuidedStep) -> Mapping[str, Tensor]:
        """Changes the predictions of a step, before the pipeline combines them.

        Args:
            predictions: the network's outputs by guidance branch: "cond", "uncond" under classifier-free guidance, and
                "perturbed" if `perturb` asked for it. All have the same shape.
            step: the step of sampling.

        A pipeline may run its branches as separate passes. "cond" then goes back to the pipeline before "uncond" is
        known, and `combine` is called for each pass with what is known. So the new "cond" must not depend on "uncond".

        Returns:
            New predictions by branch. A branch that is left out stays as it is; "perturbed" is not used any more. The
            given tensors must not be written to.
        """
        ...
