"""The base class of accelerators, which plugins use as well (docs/accelerators.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from vcorr.contract.records import Clip, ModelCard, RunSettings, Site

if TYPE_CHECKING:
    import torch

    from vcorr.capture.captures import TokenLayout
    from vcorr.contract.geometry import TokenGrid
    from vcorr.diffusion.token_layout import Compression


class AcceleratedModel(Protocol):
    """The members of a `DiffusersVideoModel` that accelerators use; that class documents them."""

    device: str
    latent_axes: ClassVar[str]

    @property
    def pipe(self) -> Any:
        """The loaded pipeline."""

    @property
    def denoisers(self) -> tuple[str, ...]:
        """The components whose attention is read."""

    def sites(self) -> Sequence[Site]:
        """Returns the attention sites."""

    def layout(self) -> TokenLayout:
        """Returns where the text and the guidance branches are."""

    def grid(self, clip: Clip, site: Site | None) -> TokenGrid:
        """Returns how tokens lie over a clip."""

    def compression_at(self, site: Site | None) -> Compression:
        """Returns how pixels become tokens at a site."""

    def scheduler_config(self) -> Mapping[str, Any]:
        """Returns the configuration of the scheduler."""

    def model_card(self) -> ModelCard:
        """Returns the model's card."""


class Accelerator:
    """Makes a model faster or smaller, and may change what it computes.

    A subclass is a frozen dataclass; its fields are the options, each with a default, of type int, float, bool or str.
    `--set model.accelerate=NAME:KEY=VALUE` makes an instance. A class of a plugin is named by its import string,
    "package.module:Class". The text of the option is part of the fingerprint of a run.
    """

    title: ClassVar[str] = ""
    """What it is, in a few words, for tables."""
    package: ClassVar[str] = ""
    """The package that it needs, as pip names it; "" for none."""
    module: ClassVar[str] = ""
    """The name under which the package is imported, if it differs from `package`."""
    reuses_steps: ClassVar[bool] = False
    """Whether a step of sampling reuses results of earlier steps. Then only mode generate runs, without probes: skipped
    attention cannot be read."""
    replaces_attention: ClassVar[bool] = False
    """Whether it computes attention itself. Then no guidance can perturb attention."""
    keeps_network: ClassVar[bool] = False
    """Whether a single pass of the network is the plain one, as with other timesteps. Then attention is as before."""
    note: ClassVar[str] = ""
    """What a reader of its numbers must know, such as that it only simulates; "" for nothing."""

    def check(self, model: AcceleratedModel) -> None:
        """Checks that the model can take it, before weights are loaded; by default every model can.

        Raises:
            UsageError: it cannot; the message says why.
        """

    def loading(self, denoisers: Sequence[str], dtype: torch.dtype) -> Mapping[str, Any]:
        """Returns further arguments of the pipeline's `from_pretrained`; by default none."""
        return {}

    def apply(self, model: AcceleratedModel) -> None:
        """Changes the loaded pipeline, once, before it moves to the device; by default nothing.

        Raises:
            UsageError: the pipeline cannot take it.
        """

    @contextmanager
    def sampling(self, model: AcceleratedModel, settings: RunSettings) -> Iterator[None]:
        """Runs around the sampling of one video; by default it does nothing."""
        yield
