"""Holds what adapters of backbones share. A backbone is a network without noise that maps pixels to tokens.

Shape legend: T video frames, H x W pixels, F x h x w tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from vcorr import (
    Clip,
    Factorised,
    Site,
    Unrotated,
    UsageError,
    option,
)
from vcorr.capture import TokenLayout
from vcorr.diffusion import (
    Sizes,
    WeightsSource,
    attention_sites,
    check_loaded,
    check_size,
    locate_network,
)
from vcorr_vision.pixel_model import Batched, FrameSize, PixelConfig, PixelModel, batches

if TYPE_CHECKING:
    from torch import Tensor

LOADED = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "patch_size",
    "num_register_tokens",
    "tubelet_size",
)
"""Options that determine sites and tokens; the networks' configurations have the same names."""


@dataclass(frozen=True, kw_only=True)
class VisionConfig(PixelConfig):
    """Options of every backbone (`--set model.KEY=VALUE`).

    `--weights random` builds a network of the sizes that are given here, and other weights must agree with them.
    """

    height: int = option(480, "Height to which clips are resized.", unit="pixels", least=1)
    width: int = option(720, "Width to which clips are resized.", unit="pixels", least=1)
    hidden_size: int = option(768, "Size of the network: width of a token.", least=1)
    num_hidden_layers: int = option(12, "Size of the network: number of layers.", least=1, most=1000)
    num_attention_heads: int = option(12, "Size of the network: number of heads.", least=1)
    patch_size: int = option(16, "Size of the network: side of a token.", unit="pixels", least=1)

    def __post_init__(self) -> None:
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise UsageError(
                f"model.hidden_size={self.hidden_size} does not divide among model.num_attention_heads="
                f"{self.num_attention_heads}.",
                hint="The width of a token must be a multiple of the number of heads.",
            )


C = TypeVar("C", bound=VisionConfig)


class Backbone(PixelModel[C]):
    """A transformers backbone as a `vcorr.VideoModel`: one pass per clip, no steps, no generation.

    Class attributes of a subclass name the checkpoint (`card`, `model_type`, `network_class`) and the paths of
    attention and blocks. Its `network_options` says what `--weights random` builds.
    """

    model_type: ClassVar[str]
    """Value of `model_type` in the config.json of its folders."""
    network_class: ClassVar[str]
    """Class name in transformers."""
    attention: ClassVar[str]
    """Path of a layer's attention module, with "{}" for the number."""
    block: ClassVar[str]
    """Path of a layer, whose output is the hidden state."""
    unrotated: ClassVar[Unrotated | None] = None
    """Where queries and keys are before the rotary embedding; None without such an embedding."""
    build_options: ClassVar[Mapping[str, Any]] = {}
    """Further arguments of the network's class, in addition to its configuration."""

    # --------------------------------------------------------------------------------------- what a subclass overrides

    def network_options(self) -> Mapping[str, Any]:
        """Returns options of the network's configuration for random weights."""
        names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "patch_size")
        return {name: getattr(self.config, name) for name in names}

    def read_options(self) -> Mapping[str, Any]:
        """Returns options of a released network's configuration that depend on the input size."""
        return {}

    def network_sizes(self) -> Mapping[str, Any]:
        """Returns sizes of the loaded network by the names of the options that have to agree with them."""
        found = self.network.config
        names = [name for name in LOADED if hasattr(self.config, name)]
        return {name: getattr(found, name) for name in names}

    # -------------------------------------------------------------------------------------------------------- contract

    def sites(self) -> Sequence[Site]:
        """Returns the attention modules, from the options only."""
        config = self.config
        return attention_sites(
            self.attention,
            config.num_hidden_layers,
            config.num_attention_heads,
            block=self.block,
            unrotated=self.unrotated,
        )

    def frame_size(self, clip: Clip) -> FrameSize:
        """Returns height and width of the options.

        Raises:
            UsageError: one of them is no multiple of the patch.
        """
        config, title = self.config, self.model_card().title
        side = Sizes(config.patch_size, config.patch_size)
        for name in ("height", "width"):
            check_size(name, getattr(config, name), side, title)
        return FrameSize(config.height, config.width, (config.patch_size, config.patch_size))

    def locate(self, weights: str) -> WeightsSource:
        """Finds the source that `--weights` names, without loading it; raises as `vcorr.diffusion.locate_network`."""
        return locate_network(weights, self.model_card(), self.model_type)

    def weights_id(self, weights: str) -> str:
        """Returns the identity of the weights, without loading them; raises as `locate`."""
        return self.locate(weights).identity

    def load(self, device: str, dtype: str, weights: str) -> None:
        """Loads the network. Never downloads.

        Raises:
            MissingError: the weights are not in reach.
            UsageError: they belong to another network, or their sizes differ from the options.
        """
        source = self.locate(weights)
        from vcorr_vision.loading import build_network, read_network, read_normalisation

        if source.folder is None:
            self._network = build_network(
                self.network_class, self.network_options(), dtype, source.seed, self.build_options
            )
        else:
            self._network = read_network(
                self.network_class, source.folder, dtype, self.read_options(), self.build_options
            )
            self._normalisation = read_normalisation(source.folder)
        try:
            check_loaded(self.config, self.network_sizes(), weights)
        except BaseException:
            self._network = None
            raise
        self._network.to(device)
        self.device = device


@dataclass(frozen=True, kw_only=True)
class ImageConfig(Batched, VisionConfig):
    """Options of image backbones."""


I = TypeVar("I", bound=ImageConfig)  # noqa: E741


class ImageBackbone(Backbone[I]):
    """A backbone that reads one frame at a time; each has a class token in front and a latent frame of its own."""

    def sites(self) -> Sequence[Site]:
        """Returns the attention modules; their attention is spatial, so the network itself never compares frames."""
        config = self.config
        return attention_sites(
            self.attention,
            config.num_hidden_layers,
            config.num_attention_heads,
            "factorised",
            block=self.block,
            unrotated=self.unrotated,
            factorised=Factorised("spatial"),
        )

    @property
    def layout(self) -> TokenLayout:
        """One class token, before the tokens of the frame."""
        return TokenLayout("before", text_tokens=1)

    def inputs(self, pixels: Tensor) -> Mapping[str, Any]:
        """Returns the frames as batch rows."""
        return {"pixel_values": pixels}

    def passes(self, video: NDArray[np.uint8]) -> Iterable[NDArray[np.uint8]]:
        """Returns the frames of each pass; raises as `batches`."""
        return batches(video, self.config.batch)


@dataclass(frozen=True, kw_only=True)
class VideoConfig(VisionConfig):
    """Options of video backbones."""

    tubelet_size: int = option(
        2,
        "Size of the network: number of frames that a token covers.",
        unit="frames",
        least=1,
    )


V = TypeVar("V", bound=VideoConfig)


class VideoBackbone(Backbone[V]):
    """A backbone whose tokens cover several frames and attend to all tokens of the clip in one pass."""

    @property
    def tubelet(self) -> int:
        """`tubelet_size` of the options."""
        return self.config.tubelet_size

    def frame_sizes(self) -> Sizes:
        """Returns whole tokens: at least one for the queries and one to match with."""
        return Sizes(2 * self.tubelet, self.tubelet)
