"""Cosmos 1, text to world: full 3D self-attention, EDM noise, guidance as two passes without a label, cond first."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vcorr import MissingError, Site, Unrotated
from vcorr.diffusion import Compression, DiffusersVideoModel, PromptEncoding, Sizes, VideoConfig

if TYPE_CHECKING:
    from torch import Tensor


class Cosmos(DiffusersVideoModel[VideoConfig]):
    """Cosmos 1 through diffusers' `CosmosTextToWorldPipeline`, whose guardrail stays in place for released weights."""

    pipeline_class = "CosmosTextToWorldPipeline"
    passes = ("cond", "uncond")
    unrotated = Unrotated("norm_q", "norm_k", "bhnd")
    steps = 36
    compression = Compression(spatial=8, temporal=8, patch=2)
    # T5; what is padding is zeros in place of a mask
    encoding = PromptEncoding(512, "text_embed_dim", options={"max_sequence_length": 512})

    def sizes(self, site: Site | None) -> Mapping[str, Sizes]:
        """As far as the learned positions reach."""
        side, pack = super().sizes(site)["height"], self.compression
        frames, rows, cols = self.network["max_size"]
        return {
            "height": Sizes(side.first, side.step, rows * pack.spatial),
            "width": Sizes(side.first, side.step, cols * pack.spatial),
            "frames": Sizes(pack.least_frames, pack.frame_step, (frames - 1) * pack.temporal + 1),
        }

    def load(self, device: str, dtype: str, weights: str) -> None:
        """See the base class.

        Raises:
            MissingError: also when torchvision is missing where the transformer needs it.
        """
        self.weights_id(weights)  # from then on the sizes are those of the weights
        if self.network["concat_padding_mask"] and find_spec("torchvision") is None:
            raise MissingError(
                f"{self.model_card().title} gives its transformer a mask of the padding, for which diffusers needs the "
                "package torchvision.",
                hint="pip install torchvision, of the release that goes with your torch. Random weights of the small "
                "size also work without: --set model.size=small",
            )
        super().load(device, dtype, weights)

    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        """(T, H, W, 3) uint8 RGB to (1, C, F, h, w) with the standard deviation the scheduler expects of data."""
        return super().encode(video) * float(self.pipe.scheduler.config.sigma_data)

    def stand_ins(self) -> Mapping[str, Any]:
        """No guardrail for noise."""
        from vcorr_diffusers.guardrail import NothingToGuard

        return {"safety_checker": NothingToGuard()}
