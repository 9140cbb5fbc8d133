"""Makes the objects that a plan works with in one process: the adapter, the dataset and the card."""

from __future__ import annotations

from dataclasses import dataclass

from vcorr.contract.errors import MissingError
from vcorr.contract.guidance_protocols import Guidance
from vcorr.contract.records import ModelCard
from vcorr.runner.called_model import CalledModel
from vcorr.runner.called_tracker import tracker_files
from vcorr.runner.guided import make_guidance
from vcorr.runner.identity import PICTURE_PACKAGES, Identity, computing_versions, tracker_versions
from vcorr.runner.parts import Parts, card_of
from vcorr.runner.run_data import ClipReader, data_identity
from vcorr.store.fingerprint import find_differences, plain


@dataclass(frozen=True)
class Live:
    """What a run works with.

    adapter: with or without loaded weights. dataset: reads the clips. card: None for a model without one. guidance:
    steers sampling; None for none.
    """

    adapter: CalledModel
    dataset: ClipReader
    card: ModelCard | None
    guidance: Guidance | None = None


def make_live(parts: Parts, weights: str, planned: Identity, seed: int) -> Live:
    """Makes the objects for a plan that was made in another process.

    Args:
        parts: the parts of the plan.
        weights: the value of `--weights`.
        planned: what identified weights, files and packages when the plan was made.
        seed: of the run, for a guidance that draws by chance.

    Raises:
        MissingError: this process has no weights, or other weights, files or packages.
        PluginError: a plugin of the plan is not installed here.
    """
    adapter, dataset = CalledModel(parts.model), ClipReader(parts.data)
    found = Identity(
        adapter.weights_id(weights),
        data_identity(parts.data, dataset),
        tracker_files(parts.tracker),
        computing_versions(parts.model, pictures=set(PICTURE_PACKAGES) <= set(planned.versions)),
        tracker_versions(parts.tracker),
    )
    _check_same(found, planned, parts.model.entry.label)
    return Live(adapter, dataset, card_of(parts.model), make_guidance(parts.guidance, seed))


def _check_same(found: Identity, planned: Identity, label: str) -> None:
    """Checks that results of this process belong under the fingerprints of the plan. label: of the model."""
    for name, (here, then) in find_differences(plain(found), plain(planned)).items():
        what = f"{label} has the weights" if name == "weights" else f"{name} is"
        raise MissingError(
            f"{what} {here} here; the run was planned with {then}.",
            hint="Make the same weights, files and packages available to every process of a run, and leave the files "
            "unchanged while it runs.",
        )
