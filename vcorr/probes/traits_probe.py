"""The probe `head-traits`: the attention summary of a head, with cheap traits that others use to find heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from vcorr.contract.records import HEAD_MEAN
from vcorr.contract.variants import Switches
from vcorr.probes import tensor_functions as on_tensors
from vcorr.probes.attention_probe import Attention

if TYPE_CHECKING:
    from torch import Tensor

    from vcorr.capture.captures import Capture
    from vcorr.functional.attention import TokenWeights
    from vcorr.functional.query_points import QueryPoints


class TraitRows(NamedTuple):
    """An attention summary, with the traits of the head: (N, K) float32 as `vcorr.functional.head_traits` returns them.

    The other fields are as in `vcorr.functional.AttentionRows`.
    """

    peak_cross: Tensor
    peak_self: Tensor
    peak_text: Tensor
    sum_cross: Tensor
    sum_self: Tensor
    sum_text: Tensor
    traits: Tensor


class HeadTraits(Attention):
    """`head-traits`: what `attention` returns, and the traits of each head, from the same attention weights.

    The metric `head_traits` scores them. Traits have neither floor nor ceiling, since no value is right.

    Raises:
        UsageError: an option has a value that this probe does not take.
    """

    name = "head-traits"

    def read_each(
        self, capture: Capture, queries: Tensor | QueryPoints, variants: Sequence[Switches]
    ) -> list[Mapping[int, TraitRows]]:
        """Returns an attention summary with traits per head under each variant; see `vcorr.VariantProbe`.

        Raises:
            UsageError: a chosen head does not exist.
        """
        points, capture = on_tensors.query_points(queries), self._divide_heads(capture, variants)
        return [self._read(capture, points, variant) for variant in variants]

    def _read(self, capture: Capture, points: QueryPoints, variant: Switches) -> dict[int, TraitRows]:
        if not self._heads.each:
            weights = self._weigh(capture, points, variant, self._heads.chosen or None)
            return {self._heads.column: _describe(weights)}
        heads = capture.q.shape[0]
        found: dict[int, TraitRows] = {}
        total: TokenWeights | None = None
        for head in range(heads):  # one head at a time, because the weights of a head are large
            weights = self._weigh(capture, points, variant, (head,))
            found[head] = _describe(weights)
            total = weights if total is None else total.add(weights)
        return {HEAD_MEAN: _describe(total.divide(heads)), **found} if total is not None else found


def _describe(weights: TokenWeights) -> TraitRows:
    return TraitRows(*weights.summarise(), on_tensors.traits_of(weights))
