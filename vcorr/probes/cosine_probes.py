"""Holds the probes that match unit vectors: `feature-cos`, `feature-cos-token`, `hidden-cos` (docs/protocol.md).

The attention output and the hidden state have no scale of their own: a factor on them changes what `feature-fair` and
`hidden-fair` predict. So these probes compare by cosine, with a temperature in place of 1/sqrt(d). All else is as in
`qk`: the softmax per target frame, both directions, the mean over heads, and the read-out. DIFT (arXiv 2306.03881)
compares features of a diffusion model by cosine. The temperature 0.07 is the one of contrastive features of videos
(CRW, arXiv 2006.14613).

Axes: H heads, F x h x w video tokens, d head width, c width of the hidden state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from vcorr.contract.probe_protocols import TokenCosts
from vcorr.contract.records import HEAD_MEAN
from vcorr.contract.variants import Switches
from vcorr.probes import tensor_functions as on_tensors
from vcorr.probes.heads import Heads
from vcorr.probes.matching_probes import SoftmaxMatch, take_heads
from vcorr.probes.probe_options import CosineConfig, refuse

if TYPE_CHECKING:
    from torch import Tensor

    from vcorr.capture.captures import Capture
    from vcorr.functional.query_points import QueryPoints
    from vcorr.probes.matching_probes import ByHead

TOGETHER = Heads("mean")


class CosineMatch(SoftmaxMatch):
    """Matches unit vectors of a tensor with themselves, in float32. The scale is 1/temperature under every variant.

    Raises:
        UsageError: an option has a value that this probe does not take.
    """

    left, right = "out", "out"

    def __init__(self, config: CosineConfig | None = None) -> None:
        super().__init__(config)
        self._cosine_scale = (config or CosineConfig()).scale

    def _scale(self, capture: Capture, variant: Switches) -> float | None:
        return self._cosine_scale

    def _tensor(self, capture: Capture, part: str) -> Tensor:
        return on_tensors.unit_vectors(super()._tensor(capture, part))

    def _match_token(
        self, token: Tensor, capture: Capture, points: QueryPoints, variants: Sequence[Switches]
    ) -> list[Tensor]:
        """Matches tokens that are one vector each, (F, h, w, c); returns (N, F, 2) per variant."""
        vectors = on_tensors.unit_vectors(token)[None]
        return self._match(vectors, vectors, capture, points, variants, TOGETHER)

    def _token_costs(self, token: Tensor, capture: Capture, variant: Switches, head: int) -> TokenCosts:
        """Returns tokens that are one vector each, (F, h, w, c), and how they match."""
        vectors = on_tensors.unit_vectors(token)[None]
        costs = on_tensors.MatchedTokens.of(
            vectors,
            vectors,
            scale=self._scale(capture, variant),
            symmetric=self._config.symmetric,
            variant=variant,
            radius=self._config.radius,
        )
        return replace(costs, head=head)


class FeatureCosine(CosineMatch):
    """`feature-cos`: unit vectors of the attention output of each head match themselves; mean over heads."""

    name = "feature-cos"


class FeatureCosineToken(CosineMatch):
    """`feature-cos-token`: the attention output of all heads side by side is one unit vector per token.

    Chosen heads are side by side as well. Under heads "each", each head has its own prediction from its unit vectors.
    """

    name = "feature-cos-token"

    def read_each(self, capture: Capture, queries: Tensor | QueryPoints, variants: Sequence[Switches]) -> list[ByHead]:
        """Predicts positions per head under each variant; see `vcorr.VariantProbe`.

        Raises:
            UsageError: a chosen head does not exist.
        """
        points, chosen = on_tensors.query_points(queries), self._heads.chosen
        out = take_heads(capture.out, chosen) if chosen else capture.out
        found: list[ByHead] = [
            {self._heads.column: xy} for xy in self._match_token(on_tensors.join_heads(out), capture, points, variants)
        ]
        if self._heads.each:
            vectors = on_tensors.unit_vectors(out)
            matched = self._match(vectors, vectors, capture, points, variants, self._heads)
            for answer, xy in zip(found, matched, strict=True):
                answer.update(enumerate(xy[:-1]))  # the last one is the mean over heads, as in `feature-cos`
        return found

    def take_costs(self, capture: Capture, variant: Switches) -> TokenCosts:
        """Returns the vectors of the tokens and how they match; see `vcorr.ProbeBase`.

        Raises:
            UsageError: a chosen head does not exist.
        """
        out = take_heads(capture.out, self._heads.chosen) if self._heads.chosen else capture.out
        return self._token_costs(on_tensors.join_heads(out), capture, variant, self._heads.column)


class HiddenCosine(CosineMatch):
    """`hidden-cos`: the output of the block is one unit vector per token, and matches itself. It has no heads.

    Raises:
        UsageError: an option has a value that this probe does not take.
    """

    name, left, right = "hidden-cos", "hidden", "hidden"

    def __init__(self, config: CosineConfig | None = None) -> None:
        super().__init__(config)
        refuse(
            bool(self._heads.chosen),
            "hidden-cos",
            "heads",
            "'hidden-fair' has it: it cuts the channels into one slice per head.",
        )

    def answers_per_site(self, heads: int) -> int:
        """Returns 1, because the hidden state has no heads."""
        return 1

    def read_each(self, capture: Capture, queries: Tensor | QueryPoints, variants: Sequence[Switches]) -> list[ByHead]:
        """Predicts positions under each variant; see `vcorr.VariantProbe`."""
        found = self._match_token(capture.hidden, capture, on_tensors.query_points(queries), variants)
        return [{HEAD_MEAN: xy} for xy in found]

    def take_costs(self, capture: Capture, variant: Switches) -> TokenCosts:
        """Returns the vectors of the tokens and how they match; see `vcorr.ProbeBase`."""
        return self._token_costs(capture.hidden, capture, variant, HEAD_MEAN)
