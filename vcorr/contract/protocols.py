"""What the objects behind the entries must do: the required members, as protocols.

Optional members and their defaults are in `vcorr.contract.bases`, as classes a plugin may inherit from.

Importing this module imports neither torch nor any model; tensor types are named for the type checker only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.geometry import TokenGrid
from vcorr.contract.probe_protocols import Positions, Probe, Rows, VariantProbe
from vcorr.contract.records import Clip, Queries, RowsPrediction, RunSettings, Score, Site, Tracks

__all__ = [
    "Dataset",
    "Metric",
    "Page",
    "Positions",
    "Probe",
    "RowMetric",
    "Rows",
    "Tracker",
    "VariantProbe",
    "VideoModel",
]

if TYPE_CHECKING:
    from vcorr.capture.recorder import Recorder


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
