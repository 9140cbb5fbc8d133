"""The probe `attention`: where the attention of the query points goes, reduced inside the pass (docs/protocol.md).

Axes: H heads, F x h x w video tokens, n text tokens, d head width, N query points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from vcorr.capture.captures import Capture
from vcorr.contract.variants import PredictionKind, Switches
from vcorr.functional import AttentionRows, QueryPoints, attention_rows
from vcorr.functional.query_points import query_points
from vcorr.probes.matching_probes import take_heads
from vcorr.probes.probe_base import BuiltinProbe
from vcorr.probes.probe_options import ProbeConfig, refuse


class Attention(BuiltinProbe):
    """`attention`: summaries of the query points' attention to the other frames, to their own frame, and to the text.

    A summary holds the peak and the sum of the attention weights of each segment. It leaves out padding that the model
    masks. The confidence and attention scores are computed from these summaries.

    Raises:
        UsageError: an option has a value that this probe does not take.
    """

    needs = frozenset({"q", "k", "mask"})
    answers: PredictionKind = "rows"

    def __init__(self, config: ProbeConfig | None = None) -> None:
        super().__init__(config)
        hint = "It summarises the model's own attention, and matches nothing."
        refuse(bool(self._config.radius), "attention", "radius", hint)
        refuse(not self._config.rotary, "attention", "rotary", hint)
        refuse(not self._config.symmetric, "attention", "symmetric", hint)

    def read_each(
        self, capture: Capture, queries: Tensor | QueryPoints, variants: Sequence[Switches]
    ) -> list[dict[int, AttentionRows]]:
        """Returns an attention summary per head under each variant; see `vcorr.VariantProbe`.

        Raises:
            UsageError: a chosen head does not exist.
        """
        heads: dict[int, tuple[int, ...] | None] = {self._heads.column: self._heads.chosen or None}
        if self._heads.each:
            heads.update({head: (head,) for head in range(capture.q.shape[0])})
        points = query_points(queries)
        return [
            {column: _summarise(capture, points, together, variant) for column, together in heads.items()}
            for variant in variants
        ]


def _summarise(
    capture: Capture, points: QueryPoints, heads: tuple[int, ...] | None, variant: Switches
) -> AttentionRows:
    q, k, text = capture.q, capture.k, capture.k_text
    if heads is not None:
        q, k, text = (take_heads(tensor, heads) for tensor in (q, k, text))
    factor = 1.0 if capture.scale is None else capture.scale * math.sqrt(q.shape[-1])
    if not math.isclose(factor, 1.0, rel_tol=1e-6):
        q = q.float() * factor  # because `attention_rows` scales by 1/sqrt(d)
    return attention_rows(q, k, text, capture.grid, points, variant=variant, key_mask=capture.key_mask)
