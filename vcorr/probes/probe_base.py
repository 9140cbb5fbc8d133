"""Holds the base class of the built-in probes: their options, and the checks of the options against sites."""

from __future__ import annotations

from collections.abc import Sequence

from vcorr.contract.bases import VariantProbeBase
from vcorr.contract.records import Site
from vcorr.probes.probe_options import ProbeConfig


class BuiltinProbe(VariantProbeBase):
    """A probe with the options of `ProbeConfig`."""

    needs: frozenset[str]

    def __init__(self, config: ProbeConfig | None = None) -> None:
        self._config = config or ProbeConfig()
        self._heads = self._config.head_choice

    def check_sites(self, sites: Sequence[Site]) -> None:
        """Checks the chosen heads against the sites; see `vcorr.ProbeBase`.

        Raises:
            UsageError: a site has fewer heads.
        """
        self._heads.check_sites(sites)

    def answers_per_site(self, heads: int) -> int:
        """Returns 1, plus the number of heads under heads "each"."""
        return self._heads.count(heads)
