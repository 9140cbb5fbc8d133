"""Converts between pixels, tokens and latent time (docs/conventions.md). No other module computes with a stride.

Pixels are continuous raster coordinates, x to the right and y down. (0, 0) is the outer corner of the first pixel, so
pixel centres lie at +0.5 and an image spans [0, W] x [0, H]. Frames count from 0.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vcorr.contract.errors import UsageError

Span = tuple[int, int]

ROUNDING = 1 + 2.0**-24
"""Factor by which a position may exceed the right or lower edge: the rounding of one float32.

22 tokens of 480/22 pixels are a little less than 480, and 0.3 in float32 is a little more than three times 0.1.
"""


FARTHEST = 10
"""A position may be so many widths or heights outside the frame. One beyond is a mistake in units, not motion."""


@dataclass(frozen=True)
class TokenGrid:
    """Maps the F x h x w video tokens of one attention site to the pixels and frames of one video.

    Token (j, r, c) of stride (sx, sy) covers the pixels [c*sx, (c+1)*sx) x [r*sy, (r+1)*sy) in the frames of latent j.
    Those frames follow from `temporal_ratio` (m) and `causal`. If causal, latent 0 is frame 0 and latent j >= 1 covers
    the frames m(j-1)+1 to mj. If not, latent j covers the frames mj to mj+m-1. For any other map, give `spans`; they
    then take the place of `temporal_ratio` and `causal`.

    Args:
        frames: F, number of latent frames.
        rows: h, number of token rows.
        cols: w, number of token columns.
        stride: (sx, sy), pixels per token in x and in y: spatial compression of the VAE times patch size.
        video_frames: T, number of video frames; None to derive it from the time map.
        temporal_ratio: m, video frames per latent: temporal compression of the VAE times temporal patch.
        causal: whether the first latent covers the first frame alone.
        spans: (first, last) video frame of every latent, both inclusive, in order and without overlap.

    Raises:
        UsageError: the numbers contradict each other (the message says which).
    """

    frames: int
    rows: int
    cols: int
    stride: tuple[float, float]
    video_frames: int = None  # type: ignore[assignment]  # derived in __post_init__, an int afterwards
    temporal_ratio: int = 1
    causal: bool = True
    spans: tuple[Span, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("frames", "rows", "cols", "temporal_ratio"):
            object.__setattr__(self, name, _positive_int(name, getattr(self, name)))
        object.__setattr__(self, "stride", _stride(self.stride))
        if self.spans is not None:
            object.__setattr__(self, "spans", _spans(self.spans, self.frames))
        expected = self._count_video_frames()
        if cast("int | None", self.video_frames) is None:
            object.__setattr__(self, "video_frames", expected)
        object.__setattr__(self, "video_frames", _positive_int("video_frames", self.video_frames))
        self._check_video_frames(expected)

    # ---------------------------------------------------------------------------------------------------------- space

    @property
    def height(self) -> float:
        """H, the pixels that the tokens cover in y."""
        return self.rows * self.stride[1]

    @property
    def width(self) -> float:
        """W, the pixels that the tokens cover in x."""
        return self.cols * self.stride[0]

    @property
    def tokens_per_frame(self) -> int:
        """Number of tokens per latent frame, h * w."""
        return self.rows * self.cols

    @property
    def tokens(self) -> int:
        """Number of tokens of the whole clip, F * h * w."""
        return self.frames * self.tokens_per_frame

    @cached_property
    def centres(self) -> NDArray[np.float32]:
        """Token centres of one latent frame, (h*w, 2) pixels (x, y), row-major."""
        rows, cols = np.divmod(np.arange(self.tokens_per_frame), self.cols)
        return self.token_centres(rows, cols)

    def token_centres(self, rows: ArrayLike, cols: ArrayLike) -> NDArray[np.float32]:
        """Returns the centres of the tokens (row, col), (..., 2) pixels (x, y)."""
        sx, sy = self.stride
        x = (np.asarray(cols, dtype=np.float64) + 0.5) * sx
        y = (np.asarray(rows, dtype=np.float64) + 0.5) * sy
        return np.stack(np.broadcast_arrays(x, y), axis=-1).astype(np.float32)

    def tokens_at(self, xy: ArrayLike) -> NDArray[np.int64]:
        """Returns the row-major index r*w + c, (...), of the token under each pixel position.

        Args:
            xy: (..., 2) pixels (x, y) inside the frame. The right and lower edges belong to the last token.

        Raises:
            UsageError: a position is not finite or outside [0, W] x [0, H].
        """
        points = self.check_inside(xy)
        sx, sy = self.stride
        cols = np.minimum(np.floor(points[..., 0] / sx), self.cols - 1).astype(np.int64)
        rows = np.minimum(np.floor(points[..., 1] / sy), self.rows - 1).astype(np.int64)
        return np.asarray(rows * self.cols + cols)

    def in_strides(self, offsets: ArrayLike) -> NDArray[np.float64]:
        """Converts offsets (..., 2) from pixels (dx, dy) to token strides (dx / sx, dy / sy), float64."""
        return np.asarray(np.asarray(offsets, dtype=np.float64) / np.asarray(self.stride))

    def coarser(self, factor: int) -> TokenGrid:
        """Returns the grid whose tokens are `factor` times as wide and high, over the same pixels and frames.

        Raises:
            UsageError: `factor` does not divide the rows or the columns.
        """
        if self.rows % factor or self.cols % factor:
            raise UsageError(f"{self.rows} x {self.cols} tokens do not divide into tokens {factor} times as large.")
        sx, sy = self.stride
        stride = (sx * factor, sy * factor)
        return replace(self, rows=self.rows // factor, cols=self.cols // factor, stride=stride)

    def check_inside(self, xy: ArrayLike) -> NDArray[np.float64]:
        """Checks that every position, (..., 2) pixels (x, y), is finite and inside the frame; returns them as float64.

        Raises:
            UsageError: a position is not, or the shape is another one.
        """
        points = np.asarray(xy, dtype=np.float64)
        if points.ndim == 0 or points.shape[-1] != 2:
            raise UsageError(f"Positions must have shape (..., 2) with (x, y) last, got {points.shape}.")
        edge = np.array([self.width, self.height]) * ROUNDING
        inside = ((points >= 0) & (points <= edge)).all(-1)
        if not inside.all():  # includes NaN, which compares false
            bad = points[~inside][0]
            raise UsageError(
                f"{int((~inside).sum())} of {inside.size} positions lie outside the frame, the first at "
                f"(x={bad[0]:g}, y={bad[1]:g}).",
                hint=f"Queries are raster pixels in [0, {self.width:g}] x [0, {self.height:g}].",
            )
        return points

    # ----------------------------------------------------------------------------------------------------------- time

    @cached_property
    def time_spans(self) -> NDArray[np.int64]:
        """First and last video frame (inclusive) that each latent covers, (F, 2)."""
        if self.spans is not None:
            return np.asarray(self.spans, dtype=np.int64)
        first = np.arange(self.frames) * self.temporal_ratio
        last = first + self.temporal_ratio - 1
        if self.causal:
            first, last = first - self.temporal_ratio + 1, last - self.temporal_ratio + 1
            first[0] = last[0] = 0
        return np.stack([first, last], axis=1)

    @cached_property
    def latent_times(self) -> NDArray[np.float64]:
        """Time of each latent in video frames, (F,): the middle of its span."""
        return np.asarray(self.time_spans.mean(axis=1))

    def latent_at(self, frame: int) -> int:
        """Returns the latent that covers video frame `frame`.

        Raises:
            UsageError: no latent covers it.
        """
        return int(self.latents_at(frame))

    def latents_at(self, frames: ArrayLike) -> NDArray[np.int64]:
        """Returns the latent that covers each video frame: (...) frame numbers to (...) latents.

        Raises:
            UsageError: no latent covers one of them.
        """
        asked = np.asarray(frames, dtype=np.int64)
        first, last = self.time_spans.T
        latents = np.searchsorted(last, asked)  # the first latent that ends at the frame or later
        found = (asked >= 0) & (latents < self.frames)
        found &= first[np.minimum(latents, self.frames - 1)] <= asked
        if not found.all():
            missing = int(asked[~found].flat[0])
            raise UsageError(f"No latent covers frame {missing} of this {self.video_frames}-frame grid.")
        return latents

    def time_weights(self, video_frames: int | None = None) -> NDArray[np.float64]:
        """Returns the (T, F) matrix that interpolates values at latent times to video frames.

        The interpolation is linear between the latents' times; before the first and after the last, their values are
        repeated. Each of the T sums over latents is 1. T is `video_frames`, by default the grid's own number.
        """
        frames = self.video_frames if video_frames is None else _positive_int("video_frames", video_frames)
        position = np.interp(np.arange(frames), self.latent_times, np.arange(self.frames))
        return np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(self.frames)[None]))

    # ---------------------------------------------------------------------------------------------------------- plain

    def to_dict(self) -> dict[str, Any]:
        """Returns the grid as plain values for JSON; `from_dict` is the inverse."""
        return {
            "frames": self.frames,
            "rows": self.rows,
            "cols": self.cols,
            "stride": list(self.stride),
            "video_frames": self.video_frames,
            "temporal_ratio": self.temporal_ratio,
            "causal": self.causal,
            "spans": None if self.spans is None else [list(span) for span in self.spans],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TokenGrid:
        """Returns the grid that `to_dict` described.

        Raises:
            UsageError: keys are missing or unknown, or the numbers contradict each other.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise UsageError(f"Not a token grid: {error}.") from error

    def _count_video_frames(self) -> int:
        if self.spans is not None:
            return int(self.spans[-1][1]) + 1
        if self.causal:
            return self.temporal_ratio * (self.frames - 1) + 1
        return self.temporal_ratio * self.frames

    def _check_video_frames(self, expected: int) -> None:
        if self.spans is not None:
            if self.video_frames < expected:
                raise UsageError(
                    f"The spans reach frame {expected - 1}, but the video has only {self.video_frames} frames."
                )
        elif self.video_frames != expected:
            kind = "causal" if self.causal else "non-causal"
            raise UsageError(
                f"{self.video_frames} video frames do not fit {self.frames} {kind} latents of {self.temporal_ratio} "
                f"frames: they make {expected}.",
                hint="Change video_frames, frames, temporal_ratio or causal, or give the spans of the latents.",
            )


def check_grid(grid: object) -> None:
    """Checks that the argument `grid` is a `TokenGrid`.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(grid, TokenGrid):
        raise UsageError(f"grid: expected a vcorr.TokenGrid, got {type(grid).__name__}.")


def is_positive(value: Any) -> bool:
    """Returns whether a value is a number greater than 0 that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return False
    try:
        return 0 < float(value) < math.inf
    except OverflowError:  # an integer that is too large for a float
        return False


def latent_frames(video_frames: int, temporal_ratio: int, *, causal: bool = True) -> int:
    """Returns F, the number of latents of `video_frames` video frames.

    Raises:
        UsageError: the number of frames does not divide into latents; the message names the nearest numbers that do.
    """
    lead = 1 if causal else 0
    latents, rest = divmod(video_frames - lead, temporal_ratio)
    total = latents + lead
    if rest or total < 1:
        below = max(latents, 0 if causal else 1) * temporal_ratio + lead
        above = below + temporal_ratio
        raise UsageError(
            f"{video_frames} frames do not divide into latents of {temporal_ratio} frames.",
            hint=f"The nearest counts that do are {below} and {above}.",
        )
    return total


def _positive_int(name: str, value: Any) -> int:
    # Python takes True for 1, and a float may be a whole number; both are mistakes here
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise UsageError(f"TokenGrid: {name} must be a whole number of at least 1, got {value!r}.")
    return int(value)


def _stride(value: Any) -> tuple[float, float]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise UsageError(f"TokenGrid: stride must be a pair (sx, sy) of pixels, got {value!r}.")
    if not all(is_positive(pixels) for pixels in value):
        raise UsageError(f"TokenGrid: stride must be a pair of positive pixel counts, got {value!r}.")
    return float(value[0]), float(value[1])


def _spans(value: Any, frames: int) -> tuple[Span, ...]:
    try:
        spans = tuple((operator.index(first), operator.index(last)) for first, last in value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"TokenGrid: spans must be (first, last) frame pairs, got {value!r}.") from error
    if len(spans) != frames:
        raise UsageError(f"TokenGrid: {len(spans)} spans were given for {frames} latent frames.")
    ends = [-1]
    for first, last in spans:
        if not ends[-1] < first <= last:
            raise UsageError(
                f"TokenGrid: spans must run forward without overlap from frame 0 on, got ({first}, {last}) after frame "
                f"{ends[-1]}."
            )
        ends.append(last)
    return spans
