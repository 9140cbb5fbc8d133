"""Protocols of the objects that the factories of entries make: the members that each must have.

Optional members and their defaults are in base classes, such as `vcorr.ProbeBase`, that a plugin may inherit from.
Importing this module imports neither torch nor any model; tensor types are named for the type checker only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.geometry import TokenGrid
from vcorr.contract.guidance_protocols import Guidance
from vcorr.contract.probe_protocols import Positions, Probe, Rows, VariantProbe
from vcorr.contract.records import Clip, Queries, RowsPrediction, RunSettings, Score, Site, Tracks
from vcorr.contract.video_tracks import VideoTracks

__all__ = [
    "Dataset",
    "Guidance",
    "MaskMetric",
    "Metric",
    "Page",
    "Positions",
    "Probe",
    "RowMetric",
    "Rows",
    "TrackMetric",
    "Tracker",
    "VariantProbe",
    "VideoMetric",
    "VideoModel",
]

if TYPE_CHECKING:
    from vcorr.capture.recorder import Recorder


@runtime_checkable
class VideoModel(Protocol):
    """A model adapter: describes the layout of one model as data, and runs the model under a recorder.

    Optional members, such as the number of steps: `vcorr.VideoModelBase`.
    """

    def sites(self) -> Sequence[Site]:
        """Returns the attention modules that can be probed, by ascending layer, without loading anything."""
        ...

    def grid(self, clip: Clip, site: Site | None) -> TokenGrid:
        """Returns the grid of the tokens of `site` over `clip`, as this model would read the clip.

        The runner resizes and cuts the clip to the grid's height, width and video_frames. `site` is None for a model
        without sites. If ``clip.stills``, the grid has T latent frames for the T frames of the video, one each.

        Raises:
            UsageError: the model cannot take such a clip; the message says which sizes it takes, or that it encodes no
                frame by itself.
        """
        ...

    def load(self, device: str, dtype: str, weights: str) -> None:
        """Loads the weights: "hub" (the card's pinned revision), "random" (seeded) or a path. Downloads nothing.

        Raises:
            MissingError: the weights or a package are not in reach; the message says how to get them.
        """
        ...

    def run(self, clip: Clip, settings: RunSettings, recorder: Recorder) -> NDArray[np.uint8] | None:
        """Runs the model on the clip, with every chosen step inside ``recorder.step(...)``.

        Returns:
            The generated video, (T, H, W, 3) uint8, in mode generate; None in the other modes.
        """
        ...


@runtime_checkable
class Metric(Protocol):
    """A score of predicted tracks against reference tracks, in numpy alone: no model, no torch.

    Optional member, `under` for other variants: `vcorr.MetricBase`.
    """

    higher_is_better: bool

    def score(self, tracks: NDArray[np.floating[Any]], reference: Tracks, grid: TokenGrid) -> Mapping[str, Score]:
        """Returns scores by column name, for predicted tracks (N, T, 2) pixels against `reference`.

        grid: the token grid that the tracks were read from.
        """
        ...


@runtime_checkable
class RowMetric(Protocol):
    """A score of attention summaries, in numpy alone.

    A metric has one of `score_rows`, `Metric.score`, `score_tracks`, `score_masks` and `score_video`.

    Optional member, `under` for other variants: `vcorr.MetricBase`.
    """

    higher_is_better: bool

    def score_rows(self, rows: RowsPrediction, reference: Tracks, grid: TokenGrid) -> Mapping[str, Score]:
        """Returns scores by column name, for the attention summary of one site and the points of `reference`."""
        ...


@runtime_checkable
class TrackMetric(Protocol):
    """A score of tracks with their visibility and confidence, in numpy alone, for runs whose task is tracking.

    Its entry says ``task="tracking"``. Optional members, such as the accuracies: `vcorr.MetricBase`.
    """

    higher_is_better: bool

    def score_tracks(self, predicted: Tracks, reference: Tracks, size: tuple[int, int]) -> Mapping[str, Score]:
        """Returns scores by column name, for predicted tracks and the reference of the same N points and T frames.

        size: (height, width) of the video, in whose pixels all positions are. `reference.query_frame` and
        `reference.query_mode` say where the queries are. `predicted.confidence` is None if the tracker gives none.
        """
        ...


@runtime_checkable
class MaskMetric(Protocol):
    """A score of masks that were carried through a clip, in numpy alone, for runs whose task is propagation.

    Its entry says ``task="propagation"``. Optional members, such as the accuracies: `vcorr.MetricBase`.
    """

    higher_is_better: bool

    def score_masks(self, predicted: NDArray[np.uint8], reference: NDArray[np.uint8]) -> Mapping[str, Score]:
        """Returns scores by column name, for labels (T, H, W) and reference labels of the same frames.

        The mask of frame 0 was given; 0 is the background. Pixels with the label 255 in the reference do not count.
        Besides the columns of the metric, `NAME@object:LABEL` is the score of one object.
        """
        ...


@runtime_checkable
class VideoMetric(Protocol):
    """A score of a generated video, without a reference, for runs whose task is generation.

    Its entry says ``task="generation"``. It needs neither the model that made the video nor the tracker. Optional
    members, such as the columns: `vcorr.MetricBase`.
    """

    higher_is_better: bool

    def score_video(self, video: NDArray[np.uint8], tracks: VideoTracks) -> Mapping[str, Score]:
        """Returns scores by column name, for a video (T, H, W, 3) uint8 RGB and its tracks in the video's pixels.

        `tracks.forward` starts at a grid of points in frame 0. `tracks.backward` follows its ends back.
        """
        ...


@runtime_checkable
class Dataset(Protocol):
    """Clips by id. Every row of the tables says the `split`.

    Optional members, such as what identifies its files: `vcorr.DatasetBase`.
    """

    split: str

    def ids(self) -> Sequence[str]:
        """Returns the ids of all clips, in order, without loading a clip."""
        ...

    def clip(self, clip_id: str) -> Clip:
        """Returns the clip with this id; the same data at every call."""
        ...


@runtime_checkable
class Tracker(Protocol):
    """A point tracker: follows query points, each in a frame of its own, through a video.

    Optional member, what identifies its files: `vcorr.TrackerBase`.
    """

    def track(self, video: NDArray[np.uint8], queries: Queries) -> Tracks:
        """Returns the track of every query in all frames, before and after the query's own.

        video: (T, H, W, 3) uint8. In the tracks, the position [n, queries.t[n]] is query n itself.
        """
        ...


@runtime_checkable
class Page(Protocol):
    """A page of the board."""

    def render(self, board: Any) -> str:
        """Returns the HTML of the page's body. `board` has the board's data, such as its runs."""
        ...
