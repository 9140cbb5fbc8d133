"""What probes do and answer, as protocols; `vcorr.contract.protocols` has them too.

They stand apart because the recorder asks probes, and the protocol of models names the recorder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from vcorr.contract.variants import PredictionKind, Switches

if TYPE_CHECKING:
    from torch import Tensor

    from vcorr.capture.captures import Capture
    from vcorr.functional.query_points import QueryPoints


@runtime_checkable
class Rows(Protocol):
    """Attention rows of N query points over F latent frames, reduced; `vcorr.functional.AttentionRows` is one.

    The fields and their shapes are those of `vcorr.contract.records.RowsPrediction`, as tensors.
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
    """Where N query points are at F latent times, with what a probe knows about that answer.

    xy: (N, F, 2) pixels, [:, j] the query for the latent frame j that covers the query's frame. visible: (N, F) bool,
    True where the point can be seen. confidence: (N, F) in [0, 1], how sure the answer is. None where the probe does
    not say.
    """

    xy: Tensor
    visible: Tensor | None = None
    confidence: Tensor | None = None


@runtime_checkable
class Probe(Protocol):
    """A descriptor: reduces the tensors of one attention call to positions or rows, inside the forward pass.

    A probe like this answers in the variant `corrected` alone; one that answers in others as well is a `VariantProbe`.
    Optional members, such as its read-out: `vcorr.ProbeBase`.
    """

    needs: frozenset[str]
    """What it reads: "q", "k", "v", "out" of the call; "q_unrotated", "k_unrotated", the same before the rotary
    embedding; "q_position", "k_position", the same of positions alone; "hidden", the output of the block; "mask",
    which text tokens are real. See `vcorr.capture.Capture`.
    """

    def read(self, capture: Capture, queries: QueryPoints) -> Mapping[int, Tensor | Positions | Rows]:
        """Per head (-1 = the mean over heads) either `Positions` or `Rows`.

        A tensor means positions alone, (N, F, 2) pixels with [:, 0] the query.

        `queries`: the query points of one frame. ``queries.xy``, (N, 2) float32 pixels inside the grid, is on the CPU
        whatever the device of the capture, so that looking at it waits for nothing; ``queries.frame`` is the video
        frame they are in, and ``capture.grid.latent_at(queries.frame)`` the latent. The functions of
        `vcorr.functional` take them as they are. A clip whose queries are in several frames is asked about once per
        frame. Called without gradients and outside autocast.
        """
        ...


@runtime_checkable
class VariantProbe(Probe, Protocol):
    """A probe that answers under any variant, under several from one reading of a site (docs/switches.md).

    ``answers`` is "positions" or "rows", and so says which switches change its answers:
    `vcorr.contract.variants.READ_WITH`. `vcorr.VariantProbeBase` derives `read` from `read_each`.
    """

    answers: PredictionKind

    def read_each(
        self, capture: Capture, queries: QueryPoints, variants: Sequence[Switches]
    ) -> Sequence[Mapping[int, Tensor | Positions | Rows]]:
        """What `read` answers, once for each of the variants and in their order."""
        ...
