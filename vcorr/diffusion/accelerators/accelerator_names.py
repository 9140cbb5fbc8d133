"""Reads the text of the option `accelerate`: names of accelerators with their options.

"windowed", "windowed:frames=1,space=4" and "fp8+windowed" are such texts, and so is "package.module:Class:key=value".
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, get_type_hints

from vcorr.contract.entries import resolve
from vcorr.contract.errors import MissingError, PluginError, UsageError, unknown_name
from vcorr.contract.modes import mode_of
from vcorr.contract.option_notes import notes_of
from vcorr.diffusion.accelerators.accelerator import Accelerator

if TYPE_CHECKING:
    import torch

    from vcorr.contract.records import RunSettings
    from vcorr.diffusion.accelerators.accelerator import AcceleratedModel

NONE = "none"
"""The value of the option without an accelerator."""

_HERE = "vcorr.diffusion.accelerators."
ACCELERATORS: Mapping[str, str] = {
    "first-block-cache": f"{_HERE}feature_caches:FirstBlockCache",
    "pyramid-attention-broadcast": f"{_HERE}feature_caches:PyramidAttentionBroadcast",
    "faster-cache": f"{_HERE}feature_caches:FasterCache",
    "mag-cache": f"{_HERE}feature_caches:MagCache",
    "taylorseer": f"{_HERE}feature_caches:TaylorSeer",
    "fp8": f"{_HERE}stored_weights:LayerwiseCasting",
    "int8": f"{_HERE}stored_weights:EightBit",
    "nf4": f"{_HERE}stored_weights:NormalFloat",
    "windowed": f"{_HERE}attention_windows:Windowed",
    "spacing": f"{_HERE}step_spacing:StepSpacing",
}
"""The accelerators that vcorr brings: name to import string."""


@dataclass(frozen=True)
class Accelerators:
    """The accelerators of a model, in the order in which they are applied. text: as the option gives them."""

    text: str = NONE
    each: tuple[Accelerator, ...] = ()

    @property
    def reuses_steps(self) -> bool:
        """Whether one of them reuses results of earlier steps."""
        return any(one.reuses_steps for one in self.each)

    @property
    def replaces_attention(self) -> bool:
        """Whether one of them computes attention itself."""
        return any(one.replaces_attention for one in self.each)

    def check(self, model: AcceleratedModel) -> None:
        """Checks packages, and that the model can take all of them.

        Raises:
            MissingError: a package is not installed.
            UsageError: the model cannot take one.
        """
        for one in self.each:
            if one.package and find_spec(one.module or one.package) is None:
                raise MissingError(
                    f"model.accelerate={self.text} needs the package {one.package}.",
                    hint=f"pip install {one.package}",
                )
            one.check(model)

    def check_settings(self, settings: RunSettings) -> None:
        """Checks that the mode of a run can use them.

        Raises:
            UsageError: one reuses earlier steps, and the mode samples no video or another guidance runs.
        """
        if not self.reuses_steps:
            return
        if not mode_of(settings.mode).makes_video:
            raise UsageError(
                f"model.accelerate={self.text} reuses results of earlier sampling steps; mode {settings.mode} has "
                "none, because each of its passes stands alone.",
                hint="It can be measured on generated videos: vcorr study accelerators, or vcorr generate.",
            )
        if getattr(settings, "guidance", None) is not None:
            raise UsageError(
                f"model.accelerate={self.text} keeps results of each pass, and a guidance adds passes of its own.",
                hint="Leave out --guidance.",
            )

    def loading(self, denoisers: Sequence[str], dtype: torch.dtype) -> dict[str, Any]:
        """Returns the arguments of `from_pretrained` of all of them."""
        return {name: value for one in self.each for name, value in one.loading(denoisers, dtype).items()}

    def apply(self, model: AcceleratedModel) -> None:
        """Applies all of them to a loaded model."""
        for one in self.each:
            one.apply(model)

    @contextmanager
    def sampling(self, model: AcceleratedModel, settings: RunSettings, *, probed: bool) -> Iterator[None]:
        """Keeps all of them open while a video is sampled.

        Args:
            model: the model.
            settings: of the run.
            probed: whether probes read the passes.

        Raises:
            UsageError: probes read passes that skip attention.
        """
        if probed and self.reuses_steps:
            raise UsageError(
                f"model.accelerate={self.text} skips attention in some steps, so probes cannot read it.",
                hint="Score the videos: vcorr generate, or vcorr study accelerators.",
            )
        with ExitStack() as stack:
            for one in self.each:
                stack.enter_context(one.sampling(model, settings))
            yield


def read_accelerators(text: str) -> Accelerators:
    """Returns the accelerators that the option names.

    Raises:
        UsageError: a name or an option is unknown, or a value has the wrong type.
        PluginError: an import string does not lead to a dataclass of `Accelerator`.
    """
    if text.strip() in ("", NONE):
        return Accelerators()
    return Accelerators(text, tuple(_read_one(part.strip()) for part in text.split("+")))


def _read_one(text: str) -> Accelerator:
    *name, last = text.split(":")
    options = last if "=" in last or not name else ""
    spoken = ":".join(name if "=" in last else [*name, last])
    kind = _find_class(spoken)
    values = dict(_read_options(kind, spoken, options)) if "=" in options else {}
    return kind(**values)


def _find_class(name: str) -> type[Accelerator]:
    if name not in ACCELERATORS and ":" not in name:
        hint = f"Known: {', '.join(ACCELERATORS)}; of your own: package.module:Class."
        raise unknown_name("accelerator", name, ACCELERATORS, hint=hint)
    label = f"accelerator {name!r}"
    found: Any = resolve(ACCELERATORS.get(name, name), label)
    fits = isinstance(found, type) and issubclass(found, Accelerator) and dataclasses.is_dataclass(found)
    if not fits:
        raise PluginError(f"{label} must be a dataclass that inherits from vcorr.diffusion.Accelerator.")
    kind: type[Accelerator] = found
    return kind


def _read_options(kind: type[Any], name: str, text: str) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(kind)}
    for part in text.split(","):
        key, _, value = (word.strip() for word in part.partition("="))
        if key not in known:
            raise unknown_name(
                f"option of accelerator {name}", key, known, hint=f"Options: {', '.join(sorted(known))}."
            )
        yield key, _convert(value, hints[key], kind, f"model.accelerate: {name}:{key}")


_BOOLEANS = {"true": True, "false": False}
_WORDS = {int: "a whole number", float: "a number", bool: "true or false"}


def _convert(value: str, wanted: Any, kind: type[Any], where: str) -> Any:
    """Converts the text of an option to its type, and checks its limits."""
    notes = notes_of(kind, where.rpartition(":")[2])
    try:
        found = _BOOLEANS[value.lower()] if wanted is bool else wanted(value)
    except (KeyError, ValueError) as error:
        raise UsageError(f"{where}: expected {_WORDS.get(wanted, 'text')}, got {value!r}.") from error
    least, most = -math.inf if notes.least is None else notes.least, math.inf if notes.most is None else notes.most
    if isinstance(found, (int, float)) and not (math.isfinite(found) and least <= found <= most):
        limits = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
        raise UsageError(f"{where}: expected {_WORDS[wanted]}, {limits}, got {value}.")
    return found
