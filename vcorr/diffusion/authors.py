"""Holds the settings with which a model's authors sample, where a loaded pipeline does not bring them along.

A card lists them with their sources (`settings`). The options of `AuthorsConfig` replace them one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from vcorr.contract.errors import PluginError, UsageError, did_you_mean
from vcorr.contract.modes import mode_of
from vcorr.contract.option_notes import option
from vcorr.contract.records import AppliedSettings, ModelCard, RunSettings
from vcorr.diffusion.options import SHIFTS, VideoConfig

VaeDtype = Literal["model", "float32", "bfloat16", "float16"]

STEPS = "steps"
"""The name of the number of sampling steps among the settings of a card."""

_IN_EVERY_MODE = ("flow_shift", "vae_dtype")
_TEXTS = ("negative_prompt", "prompt_template")
_PLACE = "{}"
"""Where a template takes the prompt."""


@dataclass(frozen=True, kw_only=True)
class AuthorsConfig(VideoConfig):
    """Options of models whose authors sample with settings that a loaded pipeline does not bring along.

    An option that is not given has the authors' value, which the card lists with its source. If the card has none, the
    folder of the weights or the pipeline decides.
    """

    flow_shift: float | None = option(
        None,
        "Shift of the noise schedule, in every mode; null for the authors' value.",
    )
    guidance_scale: float | None = option(
        None,
        "Strength of guidance in generate mode; `--cfg` replaces it. null for the authors' value.",
        least=0,
    )
    negative_prompt: str | None = option(
        None,
        "Text of the unconditional branch in generate mode; '' for none, null for the authors' text.",
    )
    prompt_template: str | None = option(
        None,
        'Text around the prompt, which replaces "{}"; "{}" alone for none. The authors\' template, for null, is '
        "used in generate mode only, and a template given here in every mode.",
    )
    vae_dtype: VaeDtype | None = option(
        None,
        'Dtype of the autoencoder in every mode; "model" for the dtype of the run, null for the authors\' value.',
    )


def authors_values(card: ModelCard) -> dict[str, Any]:
    """Returns the authors' values by the names of options, from the field `settings` of a card."""
    return {one["option"]: one["value"] for one in card.extra.get("settings", ())}


class AuthorSettings:
    """The settings of one model: its options, and the authors' values for options that are not given."""

    def __init__(self, config: VideoConfig, card: ModelCard | None) -> None:
        """Takes the options and the card; a model without a card has no authors' values.

        Raises:
            PluginError: the card lists a setting that is no option.
            UsageError: the template has no place, or several places, for the prompt.
        """
        found = {} if card is None else authors_values(card)
        self._title = "" if card is None else card.title
        self.steps: int | None = found.get(STEPS)
        self._config = config
        self._authors = {name: value for name, value in found.items() if name != STEPS}
        for name in self._authors:
            if not hasattr(config, name):
                raise PluginError(
                    f"The card of {self._title} lists the setting {name!r}, and {type(config).__name__} has no such "
                    f"option.{did_you_mean(name, (each.name for each in fields(config)))}",
                    hint="Correct the name, or let the options of the model be a vcorr.diffusion.AuthorsConfig.",
                )
        template = self.value("prompt_template")
        if template is not None and template.count(_PLACE) != 1:
            raise UsageError(
                f"model.prompt_template={template!r} must have {_PLACE} exactly once, where the prompt goes.",
                hint="For example: --set 'model.prompt_template={} In the style of a film.'",
            )

    def value(self, name: str) -> Any:
        """Returns an option, or the authors' value if it is not given; None if there is neither."""
        given = getattr(self._config, name, None)
        return self._authors.get(name) if given is None else given

    def in_template(self, prompt: str, mode: str) -> str:
        """Returns the prompt as the model gets it: the authors' template counts only in modes that make a video."""
        template = getattr(self._config, "prompt_template", None)
        if template is None and mode_of(mode).makes_video:
            template = self._authors.get("prompt_template")
        return prompt if template is None else template.replace(_PLACE, prompt)

    def in_run(
        self, settings: RunSettings, folder: Mapping[str, Any], unused: frozenset[str] = frozenset()
    ) -> AppliedSettings:
        """Returns the authors' values that count in a run, and sentences on them.

        folder: configuration of the scheduler in the folder of the weights; empty for weights without a folder. unused:
        names of settings that other options switch off.
        """
        names = [name for name in self._authors if name not in unused and self._counts(name, settings)]
        used = {name: self._authors[name] for name in names}
        return AppliedSettings(used, tuple(self._notes(used, folder)))

    def _counts(self, name: str, settings: RunSettings) -> bool:
        if getattr(self._config, name) is not None:
            return False
        if name in _IN_EVERY_MODE:
            return True
        strength = settings.cfg if settings.cfg is not None else getattr(self._config, "guidance_scale", None)
        replaced = name.startswith("guidance_scale") and strength is not None
        unprompted = name == "prompt_template" and self._config.prompt == "empty"
        return mode_of(settings.mode).makes_video and not (replaced or unprompted)

    def _notes(self, used: Mapping[str, Any], folder: Mapping[str, Any]) -> Iterator[str]:
        theirs = next((folder[name] for name in SHIFTS if name in folder), None)
        ours = used.get("flow_shift")
        if None not in (theirs, ours) and theirs != ours:
            yield (
                f"The noise schedule has the shift {ours:g} of the authors of {self._title}; the scheduler in the "
                f"folder of the weights has {theirs:g}, which --set model.flow_shift={theirs:g} takes."
            )
        texts = [name for name in _TEXTS if used.get(name)]
        if texts:
            words = " and ".join(name.replace("_", " ") for name in texts)
            without = {"negative_prompt": "model.negative_prompt=''", "prompt_template": "'model.prompt_template={}'"}
            options = " ".join(f"--set {without[name]}" for name in texts)
            yield f"Videos are sampled with the {words} of the authors of {self._title}; {options} leaves it out."
