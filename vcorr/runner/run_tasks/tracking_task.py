"""Tracking: points are followed through every frame (`vcorr track`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vcorr.contract.protocols import Probe
from vcorr.contract.tasks import TRACKING
from vcorr.runner.followed import SiteChoice, follow
from vcorr.runner.parts import Part
from vcorr.runner.run_tasks.one_site_task import OneSiteTask
from vcorr.runner.spec import RunSpec
from vcorr.runner.tracking import Tracking, check_reads_videos, refuse_propagating


class TrackingTask(OneSiteTask):
    """Follows all queries, against tracks that the data bring."""

    name = TRACKING
    command = "track"
    own_flags = ("tracker", "task", "preset", "from_run")
    needs_tracks = True

    def check_words(self, spec: RunSpec) -> None:
        """Refuses what propagation has alone, and modes that make videos."""
        refuse_propagating(spec)
        check_reads_videos(spec)

    def choose_acting(
        self, spec: RunSpec, model: Part, probes: Mapping[str, Probe], parts: Sequence[Part], asked: SiteChoice
    ) -> tuple[Part, Tracking]:
        """Returns what follows the points, and how; raises as `followed.follow`."""
        return follow(spec, model, probes, parts, asked)
