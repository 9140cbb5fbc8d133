"""Holds the base class of the built-in probes: their options, and the checks of the options against sites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vcorr.contract.bases import VariantProbeBase
from vcorr.contract.records import Site
from vcorr.contract.variants import Switches
from vcorr.probes.probe_options import ProbeConfig

if TYPE_CHECKING:
    from vcorr.capture.captures import Capture


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

    def _divide_heads(self, capture: Capture, variants: Sequence[Switches]) -> Capture:
        """Returns the capture with the heads of this process, if the processes that share the pass can add up heads.

        They cannot, and every process then reads all heads, where a prediction is made from chosen heads or from each
        head. A second softmax makes ties, which only the rounding of one process decides.
        """
        second = self.answers == "positions" and any(variant.second_softmax for variant in variants)
        return capture if second or self._heads.choice != "mean" else capture.own_heads
