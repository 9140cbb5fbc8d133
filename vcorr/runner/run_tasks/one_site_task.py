"""What tracking and propagation share: a tracker, or a model at one site that was chosen before."""

from __future__ import annotations

from typing import Any

from vcorr.contract.records import ModelCard
from vcorr.plugins.registry import Registry
from vcorr.runner.called_model import CalledModel
from vcorr.runner.cost import COST_KEY, cost_of
from vcorr.runner.followed import find_followed
from vcorr.runner.parts import Part
from vcorr.runner.plan import Plan
from vcorr.runner.predict import Predicted
from vcorr.runner.run_tasks.clip_stages import ClipStages
from vcorr.runner.run_tasks.run_task import RunTask
from vcorr.runner.spec import RunSpec
from vcorr.runner.tracking_site import SitedSpec, fill_site
from vcorr.store.rundir import RunDirectory


class OneSiteTask(RunTask):
    """Measures a tracker, or a model at one site."""

    stages = f"{__name__}:OneSiteStages"

    def find_measured(self, spec: RunSpec, registry: Registry) -> Part:
        """Returns the model or the tracker that the spec names; raises as `find_followed`."""
        return find_followed(spec, registry)

    def fill_site(self, spec: RunSpec, model: CalledModel, card: ModelCard | None, weights: str) -> SitedSpec:
        """Returns the spec with the one site that is read; raises as `tracking_site.fill_site`."""
        return fill_site(spec, model.sites(), model.steps, card, weights)


class OneSiteStages(ClipStages):
    """Stores with each clip what it cost."""

    def keep_files(self, plan: Plan, run: RunDirectory, predicted: Predicted) -> dict[str, Any]:
        """Returns what the clip cost; stores no file."""
        return {COST_KEY: cost_of(predicted, plan.hardware.device)}
