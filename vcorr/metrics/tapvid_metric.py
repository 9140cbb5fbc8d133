"""TAP-Vid's metrics as a `vcorr.TrackMetric` (docs/protocol.md). Shapes: N points, T frames."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.bases import MetricBase
from vcorr.contract.errors import UsageError
from vcorr.contract.option_notes import option
from vcorr.contract.records import Score, Tracks
from vcorr.contract.variants import Switches, Variant, switches_of
from vcorr.metrics.frame_units import PCK_SIDE
from vcorr.metrics.tapvid import COLUMNS, ComparedPairs, QueryMode, measure_squares, score_pairs, select_frames

PRIMARY = "average_pts_within_thresh"
"""TAP-Vid's name of delta_avg, which ranks trackers; it does not depend on predicted visibility."""
JACCARD = "average_jaccard"
OCCLUSION = "occlusion_accuracy"


@dataclass(frozen=True)
class TapVidConfig:
    """Options of `tapvid`."""

    visible_above: float | None = option(
        None,
        "Points are predicted visible where their confidence is larger. null: where the tracker says so.",
        least=0,
        most=1,
    )


class TapVid(MetricBase):
    """TAP-Vid's metrics under its own names, for one clip (arXiv 2211.03726; `vcorr.metrics.tapvid.tapvid`).

    Positions are scaled to a 256x256 frame. In mode "first", the frames after a point's query count; in any other mode
    all frames but the query's own. Points that appear later than frame 0 count as the others. The mean over the rows
    of all clips is TAP-Vid's mean over videos. n is the number of pairs that count, for `pts_within` only those that
    can be seen. variant: with the pooling "everything", only queries in frame 0 count, and every pair is predicted
    visible.
    """

    higher_is_better = True
    columns = COLUMNS
    accuracies = COLUMNS
    primary = PRIMARY
    lower, upper = 0.0, 1.0

    def __init__(self, config: TapVidConfig | None = None, *, variant: Variant = "corrected") -> None:
        self._config = config or TapVidConfig()
        self._switches = switches_of(variant)

    def under(self, variant: Switches) -> TapVid:
        """Returns the metric for another variant."""
        return TapVid(self._config, variant=variant)

    def score_tracks(self, predicted: Tracks, reference: Tracks, size: tuple[int, int]) -> dict[str, Score]:
        """Scores tracks in pixels of a video of `size` (height, width).

        Raises:
            UsageError: the tracks differ in shape.
        """
        shown = show_above(predicted, self._config.visible_above)
        return score_columns(compare_tracks(shown, reference, size, self._switches))


def show_above(predicted: Tracks, threshold: float | None) -> Tracks:
    """Returns tracks that are visible where their confidence is larger; unchanged without a threshold or confidence."""
    if threshold is None or predicted.confidence is None:
        return predicted
    known = np.isfinite(predicted.xy).all(axis=-1)
    return replace(predicted, visible=np.asarray((predicted.confidence > threshold) & known))


def compare_tracks(
    predicted: Tracks, reference: Tracks, size: tuple[int, int], variant: Variant = "corrected"
) -> ComparedPairs:
    """Returns predicted and reference tracks, compared in pixels of a 256x256 frame in float32, as TAP-Vid does.

    Args:
        predicted: the tracks to judge.
        reference: of the same points and frames, with the frames and the mode of the queries.
        size: (height, width) of the video in pixels.
        variant: see `TapVid`.

    Raises:
        UsageError: the tracks differ in shape.
    """
    if predicted.xy.shape != reference.xy.shape:
        raise UsageError(f"tracks: expected the reference's shape {reference.xy.shape}, got {predicted.xy.shape}.")
    mode: QueryMode = "first" if reference.query_mode == "first" else "strided"
    asked = reference.asked_in
    counted = select_frames(asked, reference.visible.shape[1], mode)
    squares = measure_squares(to_small_frame(predicted.xy, size), to_small_frame(reference.xy, size))
    pairs = ComparedPairs(counted, reference.visible, predicted.visible, squares)
    if switches_of(variant).pooling == "everything":
        return replace(pairs, counted=counted & (asked == 0)[:, None], shown=np.ones_like(counted))
    return pairs


def to_small_frame(xy: NDArray[np.floating[Any]], size: tuple[int, int]) -> NDArray[np.float32]:
    """Returns positions (..., 2) of a video of `size` (height, width) in pixels of a 256x256 frame."""
    height, width = size
    scale = np.array([PCK_SIDE / width, PCK_SIDE / height], dtype=np.float32)
    return np.asarray(xy, dtype=np.float32) * scale


def score_columns(pairs: ComparedPairs) -> dict[str, Score]:
    """Returns TAP-Vid's metrics of the pairs that count; NaN with n = 0 where nothing counts."""
    seen, counted = int((pairs.counted & pairs.visible).sum()), int(pairs.counted.sum())
    values = score_pairs(pairs)
    return {name: make_score(values[name], seen if "within" in name else counted) for name in COLUMNS}


def make_score(value: float, n: int) -> Score:
    """Returns a score of n items; n is 0 where the value is NaN."""
    return Score(float(value), 0 if math.isnan(value) else n)
