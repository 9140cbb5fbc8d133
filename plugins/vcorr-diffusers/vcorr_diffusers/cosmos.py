"""Adapts Cosmos 1, text to world: full 3D self-attention, EDM noise, guidance in two passes, conditional first."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vcorr import MissingError, Site, Unrotated, UsageError
from vcorr.diffusion import AuthorsConfig, Compression, DiffusersVideoModel, PromptEncoding, Sizes

if TYPE_CHECKING:
    from torch import Tensor


_HALF = ("bfloat16", "float16")


class Cosmos(DiffusersVideoModel[AuthorsConfig]):
    """Cosmos 1 through diffusers' `CosmosTextToWorldPipeline`; released weights keep the pipeline's guardrail."""

    pipeline_class = "CosmosTextToWorldPipeline"
    passes = ("cond", "uncond")
    unrotated = Unrotated("norm_q", "norm_k", "bhnd")
    steps = 36
    compression = Compression(spatial=8, temporal=8, patch=2)
    # T5; embeddings of padding are zeros, and there is no mask
    encoding = PromptEncoding(512, "text_embed_dim", options={"max_sequence_length": 512})

    def sizes(self, site: Site | None) -> Mapping[str, Sizes]:
        """Returns the sizes of the base class, up to the largest size that has learned positions."""
        side, pack = super().sizes(site)["height"], self.compression
        frames, rows, cols = self.network["max_size"]
        return {
            "height": Sizes(side.first, side.step, rows * pack.spatial),
            "width": Sizes(side.first, side.step, cols * pack.spatial),
            "frames": Sizes(pack.least_frames, pack.frame_step, (frames - 1) * pack.temporal + 1),
        }

    def check_loading(self, device: str, dtype: str) -> None:
        """Checks what loading needs; see the base class.

        Raises:
            MissingError: also if the transformer needs torchvision and it is not installed.
            UsageError: also if the autoencoder cannot encode videos in its dtype on a CPU.
        """
        super().check_loading(device, dtype)
        self._check_encoding(device, dtype)
        if self.network["concat_padding_mask"] and find_spec("torchvision") is None:
            raise MissingError(
                f"{self.model_card().title} gives its transformer a mask of the padding, for which diffusers needs the "
                "package torchvision.",
                hint="Run pip install torchvision, in the release for your torch. Random weights of the small size do "
                "not need it: --set model.size=small",
            )

    def load(self, device: str, dtype: str, weights: str) -> None:
        """Loads the pipeline; see the base class. Raises as `check_loading`."""
        self.weights_id(weights)  # afterwards `network` has the configuration of these weights
        self.check_loading(device, dtype)
        super().load(device, dtype, weights)

    def _check_encoding(self, device: str, dtype: str) -> None:
        named = self.setting("vae_dtype")
        own = dtype if named in (None, "model") else named
        if device == "cpu" and own in _HALF:
            raise UsageError(
                f"The autoencoder of {self.model_card().title} cannot encode videos in {own} on a CPU: torch has no "
                "pooling over three axes for this dtype there.",
                hint="Let it alone compute in float32: --set model.vae_dtype=float32. Or all: --dtype float32",
            )

    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        """Encodes (T, H, W, 3) uint8 RGB as (1, C, F, h, w), with the standard deviation that the scheduler expects."""
        return super().encode(video) * float(self.pipe.scheduler.config.sigma_data)

    def stand_ins(self) -> Mapping[str, Any]:
        """Returns a guardrail that accepts everything, because random weights make only noise."""
        from vcorr_diffusers.guardrail import NothingToGuard

        return {"safety_checker": NothingToGuard()}
