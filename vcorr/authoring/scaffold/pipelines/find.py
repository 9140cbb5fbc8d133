"""Finds the class that `--from-pipeline` names, and reads its components from the constructor."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vcorr.contract.errors import UsageError, unknown_name

FRAMES = ("num_frames", "video_length", "frames")
"""Names of the argument for the number of video frames in the calls of pipelines."""
GUIDE = "docs/new-model.md of vcorr shows how to write an adapter by hand."


@dataclass(frozen=True)
class Found:
    """A pipeline class that makes videos from text.

    components: diffusers classes in the constructor's annotations, by the component's name; the first one is used.
    """

    kind: type
    components: Mapping[str, tuple[type, ...]]
    frames_argument: str

    @property
    def call(self) -> Mapping[str, inspect.Parameter]:
        """Arguments of the pipeline's call."""
        return inspect.signature(self.kind.__call__).parameters

    def default(self, argument: str) -> Any:
        """Returns the default of an argument of the call; None when it has no default."""
        found = self.call.get(argument)
        return None if found is None or found.default is found.empty else found.default


def find_pipeline(name: str) -> Found:
    """Returns the pipeline class with that name in the installed diffusers.

    Raises:
        UsageError: there is no such class, it does not make videos from text only, or it has no transformer.
    """
    import diffusers

    kind = getattr(diffusers, name, None) if name.endswith("Pipeline") else None
    if not (inspect.isclass(kind) and issubclass(kind, diffusers.DiffusionPipeline)):
        known = video_pipelines()
        hint = f"diffusers {diffusers.__version__} has {len(known)} that make videos, for example LTXPipeline."
        raise unknown_name("pipeline class of diffusers", name, known, hint=hint)
    call = inspect.signature(kind.__call__).parameters
    frames = next((each for each in FRAMES if each in call), None)
    if frames is None:
        raise UsageError(
            f"{name} makes no video: its call takes no number of frames ({' or '.join(FRAMES)}).",
            hint="For a network of your own: vcorr plugin new NAME --kind model, without --from-pipeline.",
        )
    found = Found(kind, _components(kind), frames)
    _check_kind(name, found)
    return found


def video_pipelines() -> list[str]:
    """Returns the names of the installed pipeline classes whose call takes a number of frames."""
    import diffusers

    names = [name for name in dir(diffusers) if name.endswith("Pipeline")]
    return [name for name in names if _takes_frames(getattr(diffusers, name, None))]


def _takes_frames(kind: Any) -> bool:
    try:
        return inspect.isclass(kind) and bool(set(FRAMES) & set(inspect.signature(kind.__call__).parameters))
    except (TypeError, ValueError):
        return False


def _check_kind(name: str, found: Found) -> None:
    if "transformer" not in found.components:
        raise UsageError(
            f"{name} has no transformer: this scaffold can write adapters for video transformers, but not for networks "
            "with several resolutions.",
            hint=GUIDE,
        )
    first = list(found.call)[1]
    if first in ("image", "video"):
        raise UsageError(
            f"{name} starts from its argument {first!r}: this scaffold writes adapters that start from text.",
            hint="Use the family's text-to-video pipeline, and put this class and needs_image = True into the written "
            f"adapter. The checks then report what else is different. {GUIDE}",
        )
    if "vae" not in found.components:
        raise UsageError(f"{name} has no autoencoder in its component 'vae'.", hint=GUIDE)


def _components(kind: Any) -> dict[str, tuple[type, ...]]:
    """Returns the diffusers classes in the constructor's annotations, by the name of the argument."""
    import diffusers

    found: dict[str, tuple[type, ...]] = {}
    hints = typing.get_type_hints(kind.__init__)
    for name in inspect.signature(kind.__init__).parameters:
        hint = hints.get(name)
        given = [each for each in (typing.get_args(hint) or (hint,)) if inspect.isclass(each)]
        own = [_concrete(each) for each in given if issubclass(each, diffusers.ConfigMixin)]
        if own:
            found[name] = tuple(own)
        elif name == "scheduler":
            found[name] = (_usual_scheduler(given),)
    return found


def _concrete(kind: type) -> type:
    """Returns classifier-free guidance for the base class of guiders, and any other class as it is."""
    if kind.__name__ == "BaseGuidance":
        from diffusers.guiders import ClassifierFreeGuidance

        found: type = ClassifierFreeGuidance
        return found
    return kind


def _usual_scheduler(given: Sequence[type]) -> type:
    """Chooses a scheduler for a pipeline that takes any: DDIM if it lists Karras schedulers, else flow matching."""
    import diffusers

    of_noise = any("Karras" in each.__name__ for each in given)
    found: type = diffusers.DDIMScheduler if of_noise else diffusers.FlowMatchEulerDiscreteScheduler
    return found
