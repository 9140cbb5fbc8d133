"""The arms of a study of guidances: which guidance each one uses, with which options."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from vcorr.contract.errors import UsageError, unknown_name
from vcorr.plugins.registry import Registry
from vcorr.runner.guided import SITES_OPTION
from vcorr.runner.spec import NO_GUIDANCE, RunSpec

_BETWEEN_ARMS = re.compile(r",(?=\s*[a-zA-Z])")
"""A comma before a name: commas before numbers belong to an option, as in layers=13,17."""


@dataclass(frozen=True)
class Arm:
    """One guidance of a study. label: as it was typed. options: of the guidance, over the options of all arms."""

    label: str
    guidance: str
    options: Mapping[str, str] = field(default_factory=dict, hash=False)

    def fill(self, spec: RunSpec, names: frozenset[str]) -> RunSpec:
        """Returns the spec of the arm's run. names: the options that its guidance has.

        An option that the arms share reaches those which have it. Layers that a run chooses reach those with layers
        that names none themselves.
        """
        shared = spec.options.get("guidance", {})
        own = {**{key: value for key, value in shared.items() if key.split(".")[0] in names}, **self.options}
        others = {part: values for part, values in spec.options.items() if part != "guidance"}
        takes = SITES_OPTION in names and own.get(SITES_OPTION, "auto") == "auto"
        return replace(
            spec,
            guidance=self.guidance,
            options={**others, **({"guidance": own} if own else {})},
            from_run=spec.from_run if takes else None,
        )


def parse_arms(text: str | None, registry: Registry) -> tuple[Arm, ...]:
    """Returns the arms that `--guidances` names, with `none` first; for None, all installed guidances.

    An arm is a name, or a name with options of its own, such as cag+scale=2+layers=13,17.

    Raises:
        UsageError: there is no such guidance, an option is not KEY=VALUE, an arm is there twice, or none is left.
    """
    known = [NO_GUIDANCE, *(name for name in registry.guidances.names() if name != NO_GUIDANCE)]
    written = known if text is None else [one.strip() for one in _BETWEEN_ARMS.split(text) if one.strip()]
    arms = [_parse_arm(one, known) for one in written]
    if not any(arm.label == NO_GUIDANCE for arm in arms):
        arms.insert(0, Arm(NO_GUIDANCE, NO_GUIDANCE))
    labels = [arm.label for arm in arms]
    if len(set(labels)) < len(labels):
        raise UsageError(f"--guidances {text}: an arm is there twice.", hint="Name each once.")
    if len(arms) == 1:
        raise UsageError(
            "There is nothing to compare with 'none'.", hint="For example: --guidances cag,random-layers,more-steps"
        )
    return tuple(sorted(arms, key=lambda arm: arm.label != NO_GUIDANCE))


def _parse_arm(text: str, known: Sequence[str]) -> Arm:
    name, *pairs = text.split("+")
    if name not in known:
        raise unknown_name("guidance", name, known, hint=f"Guidances: {', '.join(known)}")
    options = dict(pair.partition("=")[::2] for pair in pairs)
    if not all("=" in pair and pair.partition("=")[0] for pair in pairs):
        raise UsageError(f"{text!r} is no guidance with options.", hint="For example: cag+scale=2+layers=13,17")
    return Arm(text, name, options)


def find_option_names(arm: Arm, registry: Registry) -> frozenset[str]:
    """Returns the names of the options that the guidance of an arm has; none for no guidance."""
    if arm.guidance == NO_GUIDANCE:
        return frozenset()
    config = registry.guidances.get(arm.guidance).entry.config_type()
    return frozenset() if config is None else frozenset(each.name for each in dataclasses.fields(config))


def check_shared(spec: RunSpec, names: Sequence[frozenset[str]]) -> None:
    """Checks that each option which the arms share is one of some arm; raises UsageError if not."""
    every = frozenset().union(*names)
    for key in spec.options.get("guidance", {}):
        if key.split(".")[0] not in every:
            raise unknown_name("option", f"guidance.{key}", [f"guidance.{name}" for name in sorted(every)])
