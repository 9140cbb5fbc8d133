"""Which class `--from-pipeline` means, and what its constructor says of the components."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vcorr.contract.errors import UsageError, unknown_name

FRAMES = ("num_frames", "video_length", "frames")
"""What calls of pipelines name the number of video frames."""
GUIDE = "docs/new-model.md of vcorr writes an adapter by hand."


@dataclass(frozen=True)
class Found:
    """A pipeline class that makes videos from text.

    components: by name, the diffusers classes that its constructor is annotated with; the first one is taken.
    """

    kind: type
    components: Mapping[str, tuple[type, ...]]
    frames_argument: str

    @property
    def call(self) -> Mapping[str, inspect.Parameter]:
        """The arguments of the pipeline's call."""
        return inspect.signature(self.kind.__call__).parameters

    def default(self, argument: str) -> Any:
        """The default of an argument of the call; None where it has none."""
        found = self.call.get(argument)
        return None if found is None or found.default is found.empty else found.default


def find_pipeline(name: str) -> Found:
    """The pipeline class of that name in the installed diffusers.

    Raises:
        UsageError: there is no such class, or it makes no video from text alone, or has no transformer.
    """
    import diffusers

    kind = getattr(diffusers, name, None) if name.endswith("Pipeline") else None
    if not (inspect.isclass(kind) and issubclass(kind, diffusers.DiffusionPipeline)):
        known = video_pipelines()
        hint = f"diffusers {diffusers.__version__} has {len(known)} that make videos, LTXPipeline for example."
        raise unknown_name("pipeline class of diffusers", name, known, hint=hint)
    call = inspect.signature(kind.__call__).parameters
    frames = next((each for each in FRAMES if each in call), None)
    if frames is None:
        raise UsageError(
            f"{name} makes no video: its call takes no number of frames ({' or '.join(FRAMES)}).",
            hint="A network of your own: vcorr plugin new NAME --kind model, without --from-pipeline.",
        )
    found = Found(kind, _components(kind), frames)
    _check_kind(name, found)
    return found


def video_pipelines() -> list[str]:
    """Names of the installed pipeline classes whose call takes a number of frames."""
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
            f"{name} has no transformer: this scaffold knows video transformers, and not networks with several "
            "resolutions.",
            hint=GUIDE,
        )
    first = list(found.call)[1]
    if first in ("image", "video"):
        raise UsageError(
            f"{name} starts from its argument {first!r}: this scaffold writes adapters that start from text.",
            hint="Take the family's text-to-video pipeline, and put this class and needs_image = True into what is "
            f"written: the checks say what else is different. {GUIDE}",
        )
    if "vae" not in found.components:
        raise UsageError(f"{name} has no autoencoder in its component 'vae'.", hint=GUIDE)


def _components(kind: Any) -> dict[str, tuple[type, ...]]:
    """The annotated classes of diffusers, by the name of the constructor's argument."""
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
    """Classifier-free guidance where any guider is taken."""
    if kind.__name__ == "BaseGuidance":
        from diffusers.guiders import ClassifierFreeGuidance

        found: type = ClassifierFreeGuidance
        return found
    return kind


def _usual_scheduler(given: Sequence[type]) -> type:
    """A scheduler for a pipeline that takes any: DDIM where diffusers lists those of noise, else flow matching."""
    import diffusers

    of_noise = any("Karras" in each.__name__ for each in given)
    found: type = diffusers.DDIMScheduler if of_noise else diffusers.FlowMatchEulerDiscreteScheduler
    return found
