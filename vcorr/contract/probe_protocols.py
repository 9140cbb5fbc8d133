"""Protocols of probes and of what they predict; `vcorr.contract.protocols` exports them too.

They have a module of their own because the recorder uses probes, and the protocol of models names the recorder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from vcorr.contract.variants import PredictionKind, Switches

if TYPE_CHECKING:
    from torch import Tensor, device

    from vcorr.capture.captures import Capture
    from vcorr.functional.query_points import QueryPoints


@runtime_checkable
class Rows(Protocol):
    """The attention summary of N query points over F latent frames; `vcorr.functional.AttentionRows` is one.

    The fields have the names, shapes and meaning of `vcorr.RowsPrediction`, as tensors. An object that has a tensor
    `traits` as well brings the traits of the head, (N, K).
    """

    @property
    def peak_cross(self) -> Tensor:
        """(N, F - 1)."""
        ...

    @property
    def peak_self(self) -> Tensor:
        """(N,)."""
        ...

    @property
    def peak_text(self) -> Tensor:
        """(N,)."""
        ...

    @property
    def sum_cross(self) -> Tensor:
        """(N,)."""
        ...

    @property
    def sum_self(self) -> Tensor:
        """(N,)."""
        ...

    @property
    def sum_text(self) -> Tensor:
        """(N,)."""
        ...


@dataclass(frozen=True, eq=False)
class Positions:
    """Predicted positions of N query points at F latent times, with visibility and confidence.

    xy: (N, F, 2) pixels (x, y). For the latent frame j that covers the query's frame, [:, j] is the query.
    visible: (N, F) bool, True where the point can be seen; None if the probe does not say.
    confidence: (N, F) in [0, 1], how sure the probe is; None if it does not say.
    """

    xy: Tensor
    visible: Tensor | None = None
    confidence: Tensor | None = None


@runtime_checkable
class TokenCosts(Protocol):
    """What a probe matches at one site and how it compares tokens, from which a tracker reads positions.

    `vcorr.functional.MatchedTokens` and `vcorr.functional.NearestTokens` are such objects.
    """

    @property
    def radius(self) -> int:
        """Of the read-out, in tokens: 0 takes the best token."""
        ...

    @property
    def head(self) -> int:
        """The value of the column `head`: -1 for several heads."""
        ...

    @property
    def device(self) -> device:
        """Where it computes."""
        ...

    def keep(self) -> TokenCosts:
        """Returns a copy that shares no memory with the model, which overwrites its own."""
        ...

    def rows(self, tokens: Tensor, *, source: int, target: int) -> Tensor:
        """Returns the correlation of tokens of one latent frame with all tokens of another one, (U, P) in [0, 1].

        Args:
            tokens: (U,) int64, row-major indices of tokens of latent frame `source`.
            source: the latent frame of these tokens.
            target: the latent frame of the P tokens to compare with.
        """
        ...


@runtime_checkable
class Probe(Protocol):
    """A descriptor: reduces the tensors of one attention call to positions or attention summaries.

    It does so inside the forward pass. A plain probe predicts under the variant `corrected` alone; a probe for other
    variants is a `VariantProbe`. Optional members, such as the read-out: `vcorr.ProbeBase`.
    """

    needs: frozenset[str]
    """Names of the tensors that the probe reads, fields of `vcorr.capture.Capture`.

    "q", "k", "v", "out": of the attention call. "q_unrotated", "k_unrotated": before the rotary embedding.
    "q_position", "k_position": from the rotary embedding alone. "hidden": the output of the block. "mask": which text
    tokens are real.
    """

    def read(self, capture: Capture, queries: QueryPoints) -> Mapping[int, Tensor | Positions | Rows]:
        """Returns a prediction per head (-1 = the mean over heads): `Positions`, a tensor or `Rows`.

        A tensor means positions alone, (N, F, 2) pixels (x, y), as `Positions.xy`. Called without gradients and outside
        autocast.

        Args:
            capture: the tensors of one attention call that `needs` names, and the token grid.
            queries: the query points of one video frame; for queries in several frames, `read` is called once per
                frame. The functions of `vcorr.functional` take them unchanged. ``queries.xy``, (N, 2) float32 pixels
                inside the grid, is always on the CPU, so reading it waits for no device. ``queries.frame`` is the video
                frame, ``capture.grid.latent_at(queries.frame)`` the latent that covers it.
        """
        ...


@runtime_checkable
class VariantProbe(Probe, Protocol):
    """A probe that predicts under any variant, and under several from one reading of a site (docs/switches.md).

    ``answers`` is "positions" or "rows" and decides which switches change the prediction
    (docs/switches.md). `vcorr.VariantProbeBase` derives `read` from `read_each`.
    """

    answers: PredictionKind

    def read_each(
        self, capture: Capture, queries: QueryPoints, variants: Sequence[Switches]
    ) -> Sequence[Mapping[int, Tensor | Positions | Rows]]:
        """Returns what `read` returns, once per variant and in the order of `variants`."""
        ...
