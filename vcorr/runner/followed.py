"""What a tracking run follows points with: a tracker, a model that predicts directly, or a model at attention sites.

Each is a part whose object is a `TrackerModel`, so that the stages of a run need not know which one it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from vcorr.contract.errors import UsageError
from vcorr.plugins.registry import Registry
from vcorr.runner.called_model import CalledModel
from vcorr.runner.called_tracker import CalledTracker
from vcorr.runner.parts import Part, make_part, model_part
from vcorr.runner.spec import RunSpec
from vcorr.runner.tracking import Tracking
from vcorr.store.fingerprint import LENGTH, fingerprint
from vcorr.tracking.tracker_model import DirectModel, PlainTracker, TrackerModel

_NO_DATA = "For example: --data sprites. Data with tracks: vcorr list datasets"


@dataclass(frozen=True)
class FollowedTracker(Part):
    """A tracker that takes the place of a model."""

    def create(self) -> TrackerModel:
        """Makes the tracker; raises as `Part.create`."""
        tracker = CalledTracker(Part(self.entry, self.plugin, self.config))
        return TrackerModel(PlainTracker(tracker), identity=lambda: _name_files(tracker))


@dataclass(frozen=True)
class FollowedModel(Part):
    """A model without attention sites, such as a baseline, that predicts where points are."""

    def create(self) -> TrackerModel:
        """Makes the model; raises as `Part.create`."""
        model = CalledModel(Part(self.entry, self.plugin, self.config))
        return TrackerModel(DirectModel(model), model)


def _name_files(tracker: CalledTracker) -> str:
    """Returns what identifies the files of a tracker, as the weights of a model are identified."""
    files = tracker.identity()
    return f"files:{fingerprint(files)[:LENGTH]}" if files else "none"


def find_measured(spec: RunSpec, registry: Registry) -> Part:
    """Returns the model that a run measures, or the tracker that takes its place in a tracking run.

    Raises:
        UsageError: nothing is named, or a model and a tracker; or an unknown name or option.
    """
    if not spec.is_tracking:
        return model_part(spec, registry)
    if bool(spec.model) == bool(spec.tracker):
        said = "Both a model and a tracker were named" if spec.model else "Neither a model nor a tracker was named"
        raise UsageError(f"{said}.", hint="Name one: --model tiny, or --tracker dis (vcorr list trackers)")
    if not spec.data:
        raise UsageError("No data was named.", hint=_NO_DATA)
    if spec.model:
        return model_part(spec, registry)
    found = make_part(registry.trackers.get(spec.tracker or ""), spec.options.get("tracker", {}), "tracker")
    return FollowedTracker(found.entry, found.plugin, found.config)


def follow(spec: RunSpec, model: Part) -> tuple[Part, Tracking | None]:
    """Returns the part that the plan runs, and how it follows points; the model itself and None for another task.

    Raises:
        UsageError: options of tracking where nothing takes them.
    """
    if not spec.is_tracking:
        return model, None
    if options := spec.options.get("track"):
        raise UsageError(
            f"track.{next(iter(options))} does not apply: {model.entry.label} follows points by itself.",
            hint="Leave it out.",
        )
    if isinstance(model, FollowedTracker):
        return model, Tracking({})
    return FollowedModel(model.entry, model.plugin, model.config), Tracking({})
