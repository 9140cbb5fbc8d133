"""Makes rows of tables: one choice of sites per row, by one metric, and every other metric at the same sites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vcorr.contract.records import NO_SITE
from vcorr.stats.intervals import Bounded
from vcorr.stats.series import Series
from vcorr.stats.summary import BestSite, ReportedSite, SiteSummary, best_site


@dataclass(frozen=True)
class SiteRow:
    """A probe at the sites that one metric chose.

    best: the choice. chosen_by: the metric that chose. cells: the metrics at these sites, by column. scores: score,
    floor and ceiling per clip of each metric, higher being better. attention: the kinds of attention at the sites.
    """

    best: BestSite
    cells: Mapping[str, SiteSummary]
    scores: Mapping[str, Bounded]
    attention: tuple[str, ...]

    @property
    def sites(self) -> tuple[ReportedSite, ...]:
        """The chosen sites: one, or both if the halves chose different ones."""
        return self.best.sites

    @property
    def chosen_by(self) -> str:
        """The metric that chose the sites."""
        return str(self.best.key["metric"])

    @property
    def has_sites(self) -> bool:
        """Whether the predictions come from a layer or a step; baselines have neither."""
        return any(site.layer != NO_SITE or site.step != NO_SITE for site in self.sites)

    @property
    def has_choice(self) -> bool:
        """Whether there was more than one site."""
        return len(self.best.fit.sites) > 1

    @property
    def site_texts(self) -> tuple[str, ...]:
        """The sites as people write them."""
        return tuple(f"step {site.step}" if site.layer == NO_SITE else site.site for site in self.sites)

    @property
    def choice_text(self) -> str:
        """How the sites were chosen, in sentences."""
        if not self.has_choice:
            return "Only one site, so nothing is chosen."
        found = " and ".join(self.site_texts)
        if not self.best.fit.held_out:
            how = f"{found}, of {self.best.candidates} sites."
        elif self.best.fit.differs:
            how = f"The halves chose {found} among {self.best.candidates} sites, each reported on the other half."
        elif None in self.best.fit.chosen:
            how = f"One half chose {found} among {self.best.candidates} sites, reported on the other half."
        else:
            how = f"Both halves chose {found} among {self.best.candidates} sites, each reported on the other half."
        return " ".join([how, *self.best.notes])


def make_row(chooser: Series, columns: Mapping[str, Series]) -> SiteRow | None:
    """Returns the row of a series of one kind of heads; None if no half of its clips can choose a site.

    chooser: the metric that chooses, on the clips to report. columns: the metrics of the row, by name; sites and clips
    are matched by their ids.
    """
    best = best_site(chooser)
    if best is None:
        return None
    chosen = {(site.layer, site.step, site.head) for site in best.sites}
    kinds = {x["attention"] for x in chooser.sites if (x["layer"], x["step"], x["head"]) in chosen}
    return SiteRow(
        best=best,
        cells={name: best.report(s) for name, s in columns.items()},
        scores={name: _make_rising(best.fit.report(s), s) for name, s in columns.items()},
        attention=tuple(sorted(kinds)),
    )


def _make_rising(scores: Bounded, s: Series) -> Bounded:
    """Returns scores with the sign that makes higher better."""
    return Bounded(*(-np.asarray(part) for part in scores)) if s.lower_is_better else scores
