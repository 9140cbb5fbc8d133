"""The guidance of a run that generates videos: looks it up, makes it, and says what the tables have of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vcorr.contract.bases import GuidanceBase, with_defaults
from vcorr.contract.cards import read_card_layers
from vcorr.contract.errors import PluginError, UsageError, unknown_name
from vcorr.contract.guidance_protocols import GuidedSite, GuidedStep, Perturbation
from vcorr.contract.part_calls import show_value
from vcorr.contract.records import ModelCard, Site
from vcorr.contract.tasks import MAKING_VIDEOS
from vcorr.plugins.registry import Registry
from vcorr.runner.parts import Part, make_part
from vcorr.runner.spec import NO_GUIDANCE, RunSpec

if TYPE_CHECKING:
    from vcorr.contract.guidance_protocols import Guidance

SITES_OPTION, ALL_STEPS = "layers", "all"


@dataclass(frozen=True)
class Guided:
    """How a run guides its videos.

    part: the guidance with its options. layers, heads: where it acts; layers are empty if it perturbs none, and heads
    are None for all.
    """

    part: Part
    layers: tuple[int, ...] = ()
    heads: tuple[int, ...] | None = None

    def identity(self) -> dict[str, Any]:
        """Returns what can change a video; part of the fingerprint of predictions."""
        return {**self.part.identity(), "layers": list(self.layers)}

    def columns(self) -> dict[str, Any]:
        """Returns the columns of the scores table that say how a video was guided."""
        config = self.part.config
        scale = getattr(config, "scale", None)
        return {
            "guidance": self.part.entry.name,
            "guidance_scale": float(scale) if isinstance(scale, (int, float)) and math.isfinite(scale) else None,
            "guidance_layers": ",".join(map(str, self.layers)),
            "guidance_steps": str(getattr(config, "steps", ALL_STEPS) or ALL_STEPS),
        }


def say_guidance(guided: Guided | None) -> str:
    """Returns in words what guides the videos of a run, such as "cag, scale 1, layers 13,17,21, steps all"."""
    if guided is None:
        return NO_GUIDANCE
    columns = guided.columns()
    scale = "" if columns["guidance_scale"] is None else f", scale {columns['guidance_scale']:g}"
    layers = f", layers {columns['guidance_layers']}" if guided.layers else ""
    return f"{columns['guidance']}{scale}{layers}, steps {columns['guidance_steps']}"


def guidance_part(spec: RunSpec, registry: Registry) -> Part | None:
    """Returns the guidance that a spec names, with its options; None for none.

    Raises:
        UsageError: an unknown name or option, options without a guidance, or a guidance in a run of another task.
    """
    options = spec.options.get("guidance", {})
    if spec.task not in MAKING_VIDEOS and (options or spec.guidance != NO_GUIDANCE):
        raise UsageError(
            f"guidance {spec.guidance!r} is set, and this run generates no videos to score.",
            hint="Guided videos are made by: vcorr generate --help. The strength of classifier-free guidance is cfg.",
        )
    if spec.guidance == NO_GUIDANCE:
        if options:
            raise UsageError(
                f"guidance.{next(iter(options))} is set, and no guidance is used.", hint=f"For example: {_EXAMPLE}"
            )
        return None
    names = registry.guidances.names()
    if spec.guidance not in names:
        listing = ", ".join((*names, NO_GUIDANCE) if NO_GUIDANCE not in names else names)
        raise unknown_name("guidance", spec.guidance, [*names, NO_GUIDANCE], hint=f"Guidances: {listing}")
    return make_part(registry.guidances.get(spec.guidance), options, "guidance")


_EXAMPLE = "--guidance cag"


def make_guidance(part: Part | None, seed: int) -> Guidance | None:
    """Makes the guidance of a run, which draws by chance from the run's seed; None for none.

    Raises:
        PluginError, UsageError: it cannot be made with its options.
    """
    if part is None:
        return None
    made = part.create()
    with part.name.calling("with_seed()"):
        found: Guidance = with_defaults(made, GuidanceBase).with_seed(seed)
    return found


@dataclass(frozen=True)
class CalledGuidance:
    """The guidance of a plan, whose calls name its plugin when they fail. Both are None for no guidance."""

    part: Part | None = None
    made: Guidance | None = None

    @classmethod
    def of(cls, spec: RunSpec, registry: Registry) -> CalledGuidance:
        """Looks up and makes the guidance that a spec names; raises as `guidance_part` and `make_guidance`."""
        part = guidance_part(spec, registry)
        return cls(part, make_guidance(part, spec.seed))

    def count_steps(self, asked: int) -> int:
        """Returns how many steps are sampled, where `asked` would be without a guidance.

        Raises:
            PluginError: the guidance returns no whole number of at least 1.
        """
        if self.part is None or self.made is None:
            return asked
        with self.part.name.calling("num_steps()"):
            found: Any = with_defaults(self.made, GuidanceBase).num_steps(asked)
            if type(found) is not int or found < 1:
                raise PluginError(f"num_steps() must return a whole number of at least 1, got {show_value(found)}.")
        return int(found)

    def count_guided(self, num_steps: int) -> int:
        """Returns in how many steps of sampling the guidance does something."""
        if self.part is None or self.made is None:
            return 0
        made = with_defaults(self.made, GuidanceBase)
        with self.part.name.calling("guides()"):
            return sum(bool(made.guides(GuidedStep(step, num_steps))) for step in range(num_steps))

    def say_unguided(self, num_steps: int) -> tuple[str, ...]:
        """Returns a sentence if the guidance does nothing in any step of a run."""
        if self.part is None or self.count_guided(num_steps):
            return ()
        return (f"The guidance acts in none of the {num_steps} steps, so it changes no video.",)

    def choose(self, sites: Sequence[GuidedSite]) -> Guided | None:
        """Returns where the guidance acts; None for no guidance.

        Raises:
            UsageError: its options do not fit the model, such as a layer that it does not have.
            PluginError: it breaks its contract.
        """
        if self.part is None or self.made is None:
            return None
        with self.part.name.calling("perturb()"):
            found: Any = self.made.perturb(sites)
            if found is not None and not isinstance(found, Perturbation):
                raise PluginError(f"perturb() must return a vcorr.Perturbation or None, got {show_value(found)}.")
        return Guided(self.part) if found is None else Guided(self.part, found.layers, found.heads)


def mark_sites(sites: Sequence[Site], card: ModelCard | None) -> tuple[GuidedSite, ...]:
    """Returns the sites of a model, with those that its card recommends for guidance."""
    named = frozenset(read_card_layers(card))
    return tuple(GuidedSite(site, site.layer in named) for site in sites)


def with_layers(spec: RunSpec, layers: Sequence[int]) -> RunSpec:
    """Returns the spec with these layers as the option of its guidance."""
    own = {**spec.options.get("guidance", {}), SITES_OPTION: ",".join(map(str, layers))}
    return replace(spec, options={**spec.options, "guidance": own})
