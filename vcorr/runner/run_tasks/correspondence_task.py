"""Correspondence: what attention at every site says about where points are (`vcorr run`)."""

from __future__ import annotations

from vcorr.contract.tasks import CORRESPONDENCE
from vcorr.runner.run_tasks.run_task import RunTask
from vcorr.runner.spec import RunSpec
from vcorr.runner.tracking import refuse_propagating, refuse_tracking


class CorrespondenceTask(RunTask):
    """Reads all sites and steps that were asked for."""

    name = CORRESPONDENCE
    asks_probes = True

    def check_words(self, spec: RunSpec) -> None:
        """Refuses what tracking or propagation have alone."""
        refuse_propagating(spec)
        refuse_tracking(spec, ("preset", "from_run"))
