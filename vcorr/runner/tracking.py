"""What a tracking run adds to a plan: how points are followed, and checks of the data that it is measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vcorr.contract.errors import UsageError
from vcorr.contract.modes import has_video, mode_of
from vcorr.contract.records import Clip, is_random
from vcorr.contract.tasks import PROPAGATION
from vcorr.runner.parts import Part
from vcorr.runner.spec import RunSpec

_DATA_WITH_TRACKS = "Name data with videos and tracks, such as --data sprites (vcorr list datasets)."


@dataclass(frozen=True)
class Tracking:
    """How a tracking run follows points.

    options: the options `track.KEY` as plain values; empty for a tracker, and for a model that predicts directly.
    preset: name of the preset that they come from; "" for none.
    """

    options: Mapping[str, Any]
    preset: str = ""

    def identity(self) -> dict[str, Any]:
        """Returns what can change the tracks; part of the fingerprint of predictions."""
        return {"task": "tracking", "track": {**self.options, **({"preset": self.preset} if self.preset else {})}}


@dataclass(frozen=True)
class Propagation:
    """How a run carries masks.

    options: the options `propagate.KEY` as plain values; none where points move the masks. reading: the options
    `track.KEY`, which say how a model reads a video; none without attention sites.
    """

    options: Mapping[str, Any]
    reading: Mapping[str, Any]

    def identity(self) -> dict[str, Any]:
        """Returns what can change the masks; part of the fingerprint of predictions."""
        return {"task": PROPAGATION, "propagate": dict(self.options), "track": dict(self.reading)}


def note_random(weights: str) -> tuple[str, ...]:
    """Returns a sentence if these weights are random, for commands that store no run."""
    return ("Random weights: what was found says nothing about the released model.",) if is_random(weights) else ()


def refuse_propagating(spec: RunSpec) -> None:
    """Checks that no option says how masks are carried; raises UsageError if one does."""
    if options := spec.options.get("propagate"):
        raise UsageError(
            f"propagate.{next(iter(options))} is set, but this run carries no masks.",
            hint="Masks are carried by: vcorr propagate --help",
        )


def check_reads_videos(spec: RunSpec) -> None:
    """Checks that the mode makes no videos; raises UsageError if it does."""
    if spec.mode is not None and mode_of(spec.mode).makes_video:
        raise UsageError(
            f"{spec.task.capitalize()} reads videos; it has no mode {spec.mode!r}.", hint="Leave mode out."
        )


def refuse_tracking(spec: RunSpec, fields: Sequence[str]) -> None:
    """Checks that nothing says how points are followed. fields: of the spec, that must have no value.

    Raises:
        UsageError: an option or a field does.
    """
    if options := spec.options.get("track"):
        raise UsageError(
            f"track.{next(iter(options))} is set, but this run reads correspondence and follows no points.",
            hint="Points are followed by: vcorr track --help",
        )
    for name in fields:
        if getattr(spec, name) is not None:
            raise UsageError(f"{name} is set, and only tracking has one.", hint="vcorr track --help")


def check_one_named(spec: RunSpec) -> None:
    """Checks that a spec names a model or a tracker, and not both; raises UsageError if not."""
    if bool(spec.model) == bool(spec.tracker):
        said = "Both a model and a tracker were named" if spec.model else "Neither a model nor a tracker was named"
        raise UsageError(f"{said}.", hint="Name one: --model tiny, or --tracker dis (vcorr list trackers)")


def check_data(data: Part, first: Clip | None) -> None:
    """Checks that the first clip can be followed and measured; None is a clip that could not be loaded, and passes.

    Raises:
        UsageError: it has no video, one frame, or no tracks.
    """
    if first is None:
        return
    label = data.entry.label
    if not has_video(first):
        frames = 0 if first.video is None else len(first.video)
        said = "one frame" if frames else "no video"
        raise UsageError(f"{label}: clip {first.id} has {said}, in which no point moves.", hint=_DATA_WITH_TRACKS)
    if first.tracks is None:
        raise UsageError(
            f"{label}: clip {first.id} has no tracks, against which tracking is measured.", hint=_DATA_WITH_TRACKS
        )
