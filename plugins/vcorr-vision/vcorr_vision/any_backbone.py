"""Adapts any vision network of transformers, by hub id or folder: `--model hf:ID`.

Its layers, tokens and heads come from its configuration and from one pass without numbers (`vcorr_vision.anatomy`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from vcorr import BlockAxes, Clip, Factorised, MissingError, ModelCard, Site, TokenGrid, Unrotated, UsageError, option
from vcorr import is_random as names_random
from vcorr.capture import TokenLayout
from vcorr.diffusion import Sizes, folder_identity, locate_component, locate_network, random_seed
from vcorr_vision.config_facts import choose_sides, frame_counts, input_shape, vision_part
from vcorr_vision.inputs import Shape
from vcorr_vision.pixel_model import Batched, FrameSize, PixelConfig, PixelModel, batches
from vcorr_vision.pixels import NOTHING

if TYPE_CHECKING:
    from torch import Tensor

    from vcorr_vision.anatomy import Anatomy, Layer

CONFIG = "config.json"
HASHED = 8
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True, kw_only=True)
class AnyConfig(Batched, PixelConfig):
    """Options of `hf`."""

    id: str = option("", "Hub id or folder of the network; the text after the colon in --model hf:ID.")
    revision: str | None = option(
        None, "Commit of the hub repository; null for the copy of its main branch in the local cache."
    )
    height: int | None = option(
        None,
        "Height to which clips are resized; null for the side that it was made for.",
        unit="pixels",
        least=1,
    )
    width: int | None = option(
        None,
        "Width to which clips are resized; null for the side that it was made for.",
        unit="pixels",
        least=1,
    )


class AnyBackbone(PixelModel[AnyConfig]):
    """A vision network of transformers whose folder or hub repository the user names."""

    # ------------------------------------------------------------------------------------------------------- what it is

    @property
    def title(self) -> str:
        """What messages call the model."""
        return f"hf:{self.config.id}"

    def model_card(self) -> ModelCard:
        """Returns a card that says no more than the name; the network's own card is at the hub."""
        kinds = {site.attention for site in self.sites()}
        attention = next((kind for kind in ("full3d", "factorised") if kind in kinds), "none")
        hub_id = None if self._is_folder else self.config.id
        return ModelCard(
            "hf", self.title, "A vision network of transformers.", cast("Any", attention), "unknown", hub_id=hub_id
        )

    @property
    def _is_folder(self) -> bool:
        return Path(self.config.id).expanduser().is_dir()

    @cached_property
    def folder(self) -> Path:
        """The folder that holds the network's config.json: the user's own, or a snapshot in the cache of the hub.

        Raises:
            UsageError: no id was given, a file, or a revision of a folder.
            MissingError: there is no such folder, and the hub id is not in the cache.
        """
        asked = self.config.id
        if not asked:
            raise UsageError("--model hf names no network.", hint="For example: --model hf:facebook/dinov2-base")
        if self._is_folder:
            if self.config.revision is not None:
                raise UsageError(f"model.revision does not apply to the folder {asked}.", hint="Leave it out.")
            return Path(asked).expanduser()
        if (file := Path(asked).expanduser()).is_file():
            raise UsageError(f"--model {self.title} names a file.", hint=f"Name its folder: --model hf:{file.parent}")
        if not _HUB_ID.fullmatch(asked):
            raise MissingError(
                f"--model {self.title}: there is no such folder, and a hub id has the form OWNER/NAME.",
                hint="For example: --model hf:facebook/dinov2-base",
            )
        return self._find_config(asked)

    def _find_config(self, hub_id: str) -> Path:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(hub_id, CONFIG, revision=self.config.revision)
        if isinstance(found, str):
            return Path(found).parent
        return locate_component(self.title, hub_id, self.config.revision)  # raises, with what to type

    @cached_property
    def settings(self) -> Any:
        """The network's configuration, adapted to the size that is read; raises as `folder` and `read_settings`."""
        from vcorr_vision.loading import read_settings

        found = read_settings(self.folder, self.title)
        vision = vision_part(found)
        if hasattr(vision, "crop_size"):  # the network computes rows and columns from this side
            height, width = self._sides(vision)
            if height != width:
                raise UsageError(
                    f"{self.title} reads squares, not {height}x{width} pixels.",
                    hint=f"For example: --set model.width={height}",
                )
            vision.crop_size = height
        return found

    def _sides(self, vision: Any) -> tuple[int, int]:
        return choose_sides(vision, self.config.height, self.config.width, self.title)

    @cached_property
    def shape(self) -> Shape:
        """The size of the input; raises UsageError if the options do not fit the network."""
        vision = vision_part(self.settings)
        return input_shape(vision, self._sides(vision), self.config.frames, self.title)

    @cached_property
    def anatomy(self) -> Anatomy:
        """The layers of the network; raises as `vcorr_vision.anatomy.examine`."""
        from vcorr_vision.anatomy import examine

        return examine(self.settings, self.shape, self.title)

    # -------------------------------------------------------------------------------------------------------- contract

    def sites(self) -> Sequence[Site]:
        """Returns the layers; where their attention cannot be read, their hidden state still can."""
        return tuple(_site(index, layer) for index, layer in enumerate(self.anatomy.layers))

    def grid(self, clip: Clip, site: Site | None) -> TokenGrid:
        """Returns the grid of a layer, which may be coarser than the grid of other layers; raises as the base class."""
        grid = super().grid(clip, site)
        layer = self.anatomy.layers[0 if site is None else site.layer]
        stride = (self.shape.width / layer.cols, self.shape.height / layer.rows)
        return replace(grid, rows=layer.rows, cols=layer.cols, stride=stride)

    def frame_size(self, clip: Clip) -> FrameSize:
        """Returns height, width and patch; raises as `shape`."""
        return FrameSize(self.shape.height, self.shape.width, self.shape.patch)

    def frame_sizes(self) -> Sizes:
        """Returns the numbers of frames that the network can read."""
        return frame_counts(vision_part(self.settings), self.shape)

    @property
    def most_frames(self) -> int | None:
        """Largest number of frames to read: for a video network, the number that it was made for, or the option."""
        return self.shape.frames if self.shape.video else self.config.frames

    @property
    def tubelet(self) -> int:
        """Number of frames that a token covers."""
        return self.shape.tubelet

    @property
    def layout(self) -> TokenLayout:
        """The class token and registers, before the tokens of the frame or of the video."""
        special = self.anatomy.special
        return TokenLayout("before", text_tokens=special) if special else TokenLayout()

    def weights_id(self, weights: str) -> str:
        """Returns the identity of the weights, without loading them.

        Raises:
            MissingError: the weights are not in reach.
            UsageError: `--weights` names a folder, which belongs into the model's name.
        """
        if names_random(weights):
            config = hashlib.sha256((self.folder / CONFIG).read_bytes()).hexdigest()
            return f"random:{random_seed(weights)}:{config[:HASHED]}"
        if weights != "hub":
            raise UsageError(
                f"--weights {weights!r} does not apply to {self.title}.",
                hint=f"The folder is the model: --model hf:{weights}",
            )
        folder = self.folder
        if self._is_folder:
            locate_network(str(folder), self.model_card(), self.settings.model_type)
            return f"path:{folder_identity(folder)}"
        locate_component(self.title, self.config.id, self.config.revision)
        return f"hub:{self.config.id}@{folder.name}"

    def load(self, device: str, dtype: str, weights: str) -> None:
        """Loads the network. Never downloads; raises as `weights_id` and `read_tower`."""
        self.weights_id(weights)
        from vcorr_vision.anatomy import build_tower
        from vcorr_vision.loading import read_normalisation, read_tower

        if names_random(weights):
            network = build_tower(self.settings, dtype, random_seed(weights), self.title)
        else:
            network = read_tower(self.settings, self.folder, dtype, self.anatomy.tower)
        self._network = network.to(device)
        self.device = device
        inside = hasattr(vision_part(self.settings), "norm_mean")  # such a network normalises by itself
        self._normalisation = NOTHING if inside else read_normalisation(self.folder)
        self._check_order()

    def _check_order(self) -> None:
        """Checks that a change of pixels appears at its token: tokens are in the order of frames, rows and columns.

        Maps have rows and columns by themselves.

        Raises:
            UsageError: they are in another order, as in networks that sort tokens by time last.
        """
        from vcorr.testing import find_impulse

        if self.anatomy.layers[0].maps:
            return
        frames = self.frame_sizes().first
        noise = np.random.default_rng(0).integers(0, 256, (frames, self.shape.height, self.shape.width, 3), np.uint8)
        clip = Clip("order", "", np.ones((1, 2), np.float32), noise)
        grid = self.grid(clip, self.sites()[0])
        token = (grid.frames - 1, 0, grid.cols - 1)
        found = find_impulse(self, clip, token, -1, 0)
        if found != token:
            self._check_finite()
            self._network = None
            raise UsageError(
                f"{self.title}: tokens of {self.anatomy.network} are in another order than frames, rows and columns: a "
                f"change of the pixels at {token} appears at {found}.",
                hint="It needs an adapter of its own: docs/plugins.md",
            )

    def _check_finite(self) -> None:
        """Raises UsageError if a tensor of the network holds NaN or infinity."""
        tensors = self.network.state_dict()
        if broken := [name for name in sorted(tensors) if not tensors[name].isfinite().all()]:
            raise UsageError(
                f"{self.title}: the weights hold NaN or infinity in {broken[0]}.", hint="Copy or download them again."
            )

    def inputs(self, pixels: Tensor) -> Mapping[str, Any]:
        """Returns the frames as the network takes them."""
        from vcorr_vision.inputs import network_inputs

        return network_inputs(self.network, pixels, self.shape)

    def passes(self, video: NDArray[np.uint8]) -> Iterable[NDArray[np.uint8]]:
        """Returns the frames of each pass: all of a video network, else as `batches`."""
        return (video,) if self.shape.video else batches(video, self.config.batch)


def _site(index: int, layer: Layer) -> Site:
    axes = cast("BlockAxes", layer.maps or "bnc")
    if not layer.attention:
        spatial = None if layer.whole else Factorised("spatial")
        return Site(
            index, layer.block, attention="none", block=layer.block, block_axes=axes, factorised=spatial,
            unread=layer.unread,
        )  # fmt: skip
    return Site(
        index,
        layer.attention,
        layer.heads,
        "full3d" if layer.whole else "factorised",
        block=layer.block,
        block_axes=axes,
        unrotated=None if layer.unrotated is None else Unrotated(*layer.unrotated, "bnc"),
        factorised=None if layer.whole else Factorised("spatial"),
    )
