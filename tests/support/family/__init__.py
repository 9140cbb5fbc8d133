"""A model family as a plugin would bring it: the class, and a line for each model. Sizes are in `configs`."""

import vcorr
from vcorr.contract.records import Unrotated
from vcorr.diffusion import Compression, DiffusersVideoModel, PromptEncoding


class Walker(DiffusersVideoModel):
    """A video transformer with text in cross-attention, and guidance in labelled passes."""

    pipeline_class = "WanPipeline"
    attention = "blocks.{}.attn1"
    block = "blocks.{}"
    unrotated = Unrotated(axes="bnc")
    compression = Compression(spatial=8, temporal=4, patch=2)
    encoding = PromptEncoding(512, "text_dim", options={"max_sequence_length": 512})


@vcorr.hookimpl
def vcorr_models():
    """The models."""
    return [
        vcorr.ModelEntry(
            name="walker",
            summary="A family of one model, for tests.",
            factory="support.family:Walker",
            config="vcorr.diffusion:VideoConfig",
            card="support.family:card.yaml",
            configs="support.family:configs",
            check={"size": "small"},
        )
    ]
