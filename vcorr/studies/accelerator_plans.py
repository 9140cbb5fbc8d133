"""What a study of accelerators asks, and the plans of its runs. All are made before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vcorr.contract.errors import MissingError, UsageError
from vcorr.diffusion.adapter import DiffusersVideoModel
from vcorr.plugins.registry import Registry
from vcorr.runner.called_model import CalledModel
from vcorr.runner.parts import card_of, model_part
from vcorr.runner.plan import Plan, make_plan
from vcorr.runner.spec import RunSpec
from vcorr.runner.tracking_site import fill_site
from vcorr.stats.sites import SiteId, parse_site
from vcorr.studies.accelerator_arms import PLAIN, AcceleratedArm


@dataclass(frozen=True)
class AcceleratorQuestion:
    """What to study.

    read: spec of the correspondence runs. videos: spec of the generation runs. arms: without the plain one. pairs:
    pairs of videos that are timed; 0 for none. site: where skill is reported, LAYER:STEP; "" for the site of the
    model's card. command: the command line.
    """

    read: RunSpec
    videos: RunSpec
    arms: tuple[AcceleratedArm, ...]
    pairs: int = 1
    site: str = ""
    command: Sequence[str] = ()


@dataclass(frozen=True)
class ArmPlans:
    """The plans of the two runs of an arm. read: None if its attention is not measured.

    refused: why the model cannot take the arm; "" if it can.
    """

    arm: AcceleratedArm
    read: Plan | None = None
    videos: Plan | None = None
    refused: str = ""

    def both(self) -> tuple[Plan, Plan]:
        """Returns the two runs of an arm that has both, as the plain one does."""
        assert self.read is not None
        assert self.videos is not None
        return self.read, self.videos


def find_num_steps(spec: RunSpec, registry: Registry) -> int:
    """Returns the number of sampling steps of the plain videos.

    Raises:
        UsageError: the model or an option is unknown, or the model is no diffusers model, which accelerators are for.
    """
    adapter = CalledModel(model_part(spec, registry))
    if not isinstance(adapter.made, DiffusersVideoModel):
        raise UsageError(
            f"Model {spec.model!r} is not a diffusers video model, so there is nothing to accelerate.",
            hint="See: vcorr list models",
        )
    return spec.num_steps or adapter.steps


def find_site(asked: AcceleratorQuestion, plan: Plan, registry: Registry) -> SiteId:
    """Returns the site at which skill is reported: the one that was named, or the first layer of the model's card.

    Raises:
        UsageError: the card names no layer; or the study does not read the site.
    """
    spec, settings = asked.read, plan.selection.settings
    site = parse_site(asked.site) if asked.site else _read_card_site(spec, plan, registry)
    if site.step not in settings.steps or site.layer not in plan.selection.layers:
        named = "--site" if asked.site else f"The card of {spec.model}"
        raise UsageError(
            f"{named} names the site {site}, which this study does not read.",
            hint=f"Name another with --site, or read it too: layer {site.layer} and step {site.step}.",
        )
    return site


def _read_card_site(spec: RunSpec, plan: Plan, registry: Registry) -> SiteId:
    adapter, card = plan.live.adapter, card_of(model_part(spec, registry))
    open_spec = replace(spec, layers="all", steps=None)
    named = fill_site(open_spec, adapter.sites(), adapter.steps, card, plan.identity.weights).spec
    last = plan.selection.settings.num_steps - 1
    return SiteId(int(named.layers.split(",")[0]), last if named.steps == "last" else int(str(named.steps)))


def plan_arm(arm: AcceleratedArm, asked: AcceleratorQuestion, registry: Registry) -> ArmPlans:
    """Makes the plans of an arm."""
    try:
        videos = make_plan(arm.fill(asked.videos), registry)
        if arm.unread and arm.label != PLAIN:
            return ArmPlans(arm, None, videos)
        read = make_plan(arm.fill(asked.read), registry)
        return ArmPlans(arm, read, videos.with_model_of(read))
    except (UsageError, MissingError) as error:
        if not arm.is_usual:
            raise
        return ArmPlans(arm, refused=error.message)
