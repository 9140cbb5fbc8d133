"""The probe `attention`: where the attention of the query points goes, reduced inside the pass (docs/protocol.md).

Axes: H heads, F x h x w video tokens, n text tokens, d head width, N query points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from vcorr.contract.probe_protocols import Rows
from vcorr.contract.variants import PredictionKind, Switches
from vcorr.probes import tensor_functions as on_tensors
from vcorr.probes.matching_probes import take_heads
from vcorr.probes.probe_base import BuiltinProbe
from vcorr.probes.probe_options import ProbeConfig, refuse

if TYPE_CHECKING:
    from torch import Tensor

    from vcorr.capture.captures import Capture
    from vcorr.functional.attention import AttentionRows, TokenWeights
    from vcorr.functional.query_points import QueryPoints


class Attention(BuiltinProbe):
    """`attention`: summaries of the query points' attention to the other frames, to their own frame, and to the text.

    A summary holds the peak and the sum of the attention weights of each segment. It leaves out padding that the model
    masks. The confidence and attention scores are computed from these summaries.

    Raises:
        UsageError: an option has a value that this probe does not take.
    """

    name: ClassVar[str] = "attention"
    needs = frozenset({"q", "k", "mask"})
    answers: PredictionKind = "rows"

    def __init__(self, config: ProbeConfig | None = None) -> None:
        super().__init__(config)
        hint = "It summarises the model's own attention, and matches nothing."
        refuse(bool(self._config.radius), self.name, "radius", hint)
        refuse(not self._config.rotary, self.name, "rotary", hint)
        refuse(not self._config.symmetric, self.name, "symmetric", hint)

    def read_each(
        self, capture: Capture, queries: Tensor | QueryPoints, variants: Sequence[Switches]
    ) -> Sequence[Mapping[int, Rows]]:
        """Returns an attention summary per head under each variant; see `vcorr.VariantProbe`.

        Raises:
            UsageError: a chosen head does not exist.
        """
        capture = self._divide_heads(capture, variants)
        heads: dict[int, tuple[int, ...] | None] = {self._heads.column: self._heads.chosen or None}
        if self._heads.each:
            heads.update({head: (head,) for head in range(capture.q.shape[0])})
        points = on_tensors.query_points(queries)
        return [
            {column: self._summarise(capture, points, variant, chosen) for column, chosen in heads.items()}
            for variant in variants
        ]

    def _summarise(
        self, capture: Capture, points: QueryPoints, variant: Switches, heads: tuple[int, ...] | None
    ) -> AttentionRows:
        """Returns the summary of the query points' attention, averaged over the chosen heads; None for all heads."""
        q, k, text = _take_scaled(capture, heads)
        tokens = on_tensors.locate_rows(capture.grid, points, q.device, variant=variant)
        return on_tensors.attention_token_rows(
            q,
            k,
            text,
            capture.grid,
            tokens,
            variant=variant,
            key_mask=capture.key_mask,
            sums=capture.sums_of(q, k),
            share=capture.share,
        )

    def _weigh(
        self, capture: Capture, points: QueryPoints, variant: Switches, heads: tuple[int, ...] | None
    ) -> TokenWeights:
        """Returns the attention weights of the query tokens, averaged over the chosen heads; None for all heads."""
        q, k, text = _take_scaled(capture, heads)
        tokens = on_tensors.locate_rows(capture.grid, points, q.device, variant=variant)
        return on_tensors.weigh_tokens(
            q, k, text, capture.grid, tokens, variant=variant, key_mask=capture.key_mask, share=capture.share
        )


def _take_scaled(capture: Capture, heads: tuple[int, ...] | None) -> tuple[Tensor, Tensor, Tensor]:
    """Returns q, k and the keys of the text of the chosen heads, for products that are scaled by 1/sqrt(d)."""
    q, k, text = capture.q, capture.k, capture.k_text
    if heads is not None:
        q, k, text = (take_heads(tensor, heads) for tensor in (q, k, text))
    factor = 1.0 if capture.scale is None else capture.scale * math.sqrt(q.shape[-1])
    return (q if math.isclose(factor, 1.0, rel_tol=1e-6) else q.float() * factor), k, text
