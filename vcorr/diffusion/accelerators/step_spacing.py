"""Other timesteps of the same scheduler, as few-step and distilled schedules use them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vcorr.contract.errors import UsageError
from vcorr.contract.option_notes import option
from vcorr.diffusion.accelerators.accelerator import AcceleratedModel, Accelerator

SPACINGS = ("leading", "linspace", "trailing")
_KEY = "timestep_spacing"


@dataclass(frozen=True)
class StepSpacing(Accelerator):
    """Takes the scheduler's timesteps in another way: `trailing` begins at the noisiest one, however few there are."""

    title: ClassVar[str] = "timestep spacing"
    keeps_network: ClassVar[bool] = True

    how: str = option("trailing", 'How the timesteps lie: "leading", "linspace" or "trailing".')

    def __post_init__(self) -> None:
        if self.how not in SPACINGS:
            raise UsageError(f"model.accelerate: spacing:how must be one of {', '.join(SPACINGS)}, got {self.how!r}.")

    def check(self, model: AcceleratedModel) -> None:
        """Checks that the scheduler has such an option, if its configuration is known."""
        found = model.scheduler_config()
        if found and _KEY not in found:
            raise UsageError(
                f"{found.get('_class_name', 'The scheduler')} has no timestep spacing to choose.",
                hint="Fewer steps need no accelerator: --set num_steps=20",
            )

    def apply(self, model: AcceleratedModel) -> None:
        """Replaces the scheduler by one of the same class with this spacing."""
        self.check(model)
        scheduler = model.pipe.scheduler
        made = type(scheduler).from_config(scheduler.config, **{_KEY: self.how})
        model.pipe.register_modules(scheduler=made)
