"""The objects that a plan works with in one process. Another process makes its own from the parts of the plan."""

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
    """adapter: its weights may be loaded. dataset: reads the clips. card: None for a model without one."""

    adapter: VideoModel
    dataset: ClipReader
    card: ModelCard | None


def weights_id(adapter: VideoModel, weights: str) -> str:
    """Returns what identifies the weights; an adapter learns here which sizes the model has.

    Raises:
        MissingError: the weights are not in reach.
    """
    return str(with_defaults(adapter, VideoModelBase).weights_id(weights))


def make_live(parts: Parts, weights: str, expected: str) -> Live:
    """Makes the objects of a plan that was made in another process.

    Args:
        parts: of the plan.
        weights: what `--weights` says.
        expected: what identifies the weights that the plan was made for.

    Raises:
        MissingError: these weights are not in reach here.
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
