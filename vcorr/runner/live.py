"""Makes the objects that a plan works with in one process: the adapter, the dataset and the card."""

from __future__ import annotations

from dataclasses import dataclass

from vcorr.contract.bases import VideoModelBase, with_defaults
from vcorr.contract.errors import MissingError
from vcorr.contract.protocols import VideoModel
from vcorr.contract.records import ModelCard
from vcorr.runner.parts import Parts, card_of
from vcorr.runner.run_data import ClipReader


@dataclass(frozen=True)
class Live:
    """adapter: with or without loaded weights. dataset: reads the clips. card: None for a model without one."""

    adapter: VideoModel
    dataset: ClipReader
    card: ModelCard | None


def weights_id(adapter: VideoModel, weights: str) -> str:
    """Returns what identifies the weights. In this call an adapter also learns which sizes the model has.

    Raises:
        MissingError: the weights are not available.
    """
    return str(with_defaults(adapter, VideoModelBase).weights_id(weights))


def make_live(parts: Parts, weights: str, expected: str) -> Live:
    """Makes the objects for a plan that was made in another process.

    Args:
        parts: the parts of the plan.
        weights: the value of `--weights`.
        expected: what identified the weights when the plan was made.

    Raises:
        MissingError: this process has no weights, or other ones.
        PluginError: a plugin of the plan is not installed here.
    """
    adapter: VideoModel = parts.model.create()
    found = weights_id(adapter, weights)
    if found != expected:
        raise MissingError(
            f"{parts.model.entry.label} has the weights {found} here; the run was planned with {expected}.",
            hint="Make the same weights available to every process of a run.",
        )
    return Live(adapter, ClipReader(parts.data.create()), card_of(parts.model))
