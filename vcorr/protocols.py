"""What the objects behind the entries must do: the required members, as protocols.

Optional members and their defaults are in `vcorr.bases`, as classes a plugin may inherit from.

Importing this module imports neither torch nor any model; tensor types are named for the type checker only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vcorr.geometry import TokenGrid
from vcorr.records import Clip, Queries, RowsPrediction, RunSettings, Score, Site, Tracks
from vcorr.variants import PredictionKind, Switches

if TYPE_CHECKING:
    from torch import Tensor

    from vcorr.capture.recorder import Recorder
    from vcorr.capture.records import Capture
    from vcorr.functional.queries import QueryPoints


@runtime_checkable
class VideoModel(Protocol):
    """An adapter: it knows one model, describes its layout as data and runs it under a recorder.

    Optional members, such as the number of steps: `vcorr.VideoModelBase`.
    """

    def sites(self) -> Sequence[Site]:
        """The attention modules that can be probed, by ascending layer; known without loading anything."""
        ...

    def grid(self, clip: Clip, site: Site | None) -> TokenGrid:
        """How the tokens of `site` lie over `clip` as this model would read it.

        The grid's height, width and video_frames are the size the model takes: the runner resizes and cuts the clip to
        it. `site` is None for models without sites.

        Raises:
            UsageError: the model cannot take such a clip; the message says which sizes it takes.
        """
        ...

    def load(self, device: str, dtype: str, weights: str) -> None:
        """Loads the weights: "hub" (the card's pinned revision), "random" (seeded), or a path. Never downloads.

        Raises:
            MissingError: the weights or a package are not in reach; the message says how to get them.
        """
        ...

    def run(self, clip: Clip, settings: RunSettings, recorder: Recorder) -> NDArray[np.uint8] | None:
        """Runs the model on the clip, every chosen step inside ``recorder.step(...)``.

        Returns:
            The generated video, (T, H, W, 3) uint8, in generate mode; None in renoise mode.
        """
        ...


@runtime_checkable
class Rows(Protocol):
    """Attention rows of N query points over F latent frames, reduced; `vcorr.functional.AttentionRows` is one.

    The fields and their shapes are those of `vcorr.records.RowsPrediction`, as tensors.
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

    ``answers`` is "positions" or "rows", and so says which switches change its answers: `vcorr.variants.READ_WITH`.
    `vcorr.VariantProbeBase` derives `read` from `read_each`.
    """

    answers: PredictionKind

    def read_each(
        self, capture: Capture, queries: QueryPoints, variants: Sequence[Switches]
    ) -> Sequence[Mapping[int, Tensor | Positions | Rows]]:
        """What `read` answers, once for each of the variants and in their order."""
        ...


@runtime_checkable
class Metric(Protocol):
    """A score of predicted tracks against a reference; numpy only, no model, no torch.

    Optional member, `under` for other variants: `vcorr.MetricBase`.
    """

    higher_is_better: bool

    def score(self, tracks: NDArray[np.floating[Any]], reference: Tracks, grid: TokenGrid) -> Mapping[str, Score]:
        """One score a column: tracks (N, T, 2) pixels against `reference`, on the grid the tracks were read from."""
        ...


@runtime_checkable
class RowMetric(Protocol):
    """A score of attention rows; numpy only. A metric has either this method or `Metric.score`.

    Optional member, `under` for other variants: `vcorr.MetricBase`.
    """

    higher_is_better: bool

    def score_rows(self, rows: RowsPrediction, reference: Tracks, grid: TokenGrid) -> Mapping[str, Score]:
        """One score a column, of the rows of one site for the points of `reference`."""
        ...


@runtime_checkable
class Dataset(Protocol):
    """Clips by id. `split` goes into every row.

    Optional members, what identifies its files and notes on clips: `vcorr.DatasetBase`.
    """

    split: str

    def ids(self) -> Sequence[str]:
        """The ids of all clips, in order, without loading any."""
        ...

    def clip(self, clip_id: str) -> Clip:
        """The clip of that id; the same one every time."""
        ...


@runtime_checkable
class Tracker(Protocol):
    """A point tracker: video (T, H, W, 3) uint8 and queries, N pixels each in a frame of its own, to tracks.

    Optional member, what identifies its files: `vcorr.TrackerBase`.
    """

    def track(self, video: NDArray[np.uint8], queries: Queries) -> Tracks:
        """Tracks of every query over every frame, before and after its own; [n, queries.t[n]] is query n."""
        ...


@runtime_checkable
class Page(Protocol):
    """A page of the board."""

    def render(self, board: Any) -> str:
        """The HTML of the page's body."""
        ...
