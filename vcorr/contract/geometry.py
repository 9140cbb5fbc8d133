"""The one place that knows geometry: pixels, tokens and latent time (docs/conventions.md).

Pixels are continuous raster coordinates (x right, y down): (0, 0) is the outer corner of the first pixel, pixel centres
lie at +0.5, an image spans [0, W] x [0, H]. Frames are counted from 0. Nothing outside this module computes with a
stride.
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
"""A position on the right or lower edge may be off by the rounding of one float32: 22 tokens of 480/22 pixels are a
little less than 480, and 0.3 in float32 is a little more than three times 0.1."""


@dataclass(frozen=True)
class TokenGrid:
    """The F x h x w video tokens of one attention site, laid over the pixels and frames of one video.

    Token (j, r, c) of stride (sx, sy) covers [c*sx, (c+1)*sx) x [r*sy, (r+1)*sy) in the frames of latent j. Which
    frames those are follows from `temporal_ratio` (m) and `causal`: causal, latent 0 is frame 0 and latent j >= 1
    covers frames m(j-1)+1 .. mj; not causal, latent j covers mj .. mj+m-1. Any other map is given as `spans`, one
    inclusive (first, last) frame pair a latent, which then takes the place of both.

    Args:
        frames: F, the number of latent frames.
        rows: h, token rows.
        cols: w, token columns.
        stride: (sx, sy), pixels a token covers in x and in y: spatial VAE compression times patch size.
        video_frames: T, frames of the video; derived from the time map when None.
        temporal_ratio: m, frames a latent covers: temporal VAE compression times temporal patch.
        causal: whether the first latent covers the first frame alone.
        spans: explicit (first, last) frames of every latent, in order and without overlap.

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
        expected = self._expected_video_frames()
        if cast("int | None", self.video_frames) is None:
            object.__setattr__(self, "video_frames", expected)
        object.__setattr__(self, "video_frames", _positive_int("video_frames", self.video_frames))
        self._check_video_frames(expected)

    # ---------------------------------------------------------------------------------------------------------- space

    @property
    def height(self) -> float:
        """H, pixels the tokens cover in y."""
        return self.rows * self.stride[1]

    @property
    def width(self) -> float:
        """W, pixels the tokens cover in x."""
        return self.cols * self.stride[0]

    @property
    def tokens_per_frame(self) -> int:
        """Tokens of one latent frame, h * w."""
        return self.rows * self.cols

    @property
    def tokens(self) -> int:
        """Tokens of the whole clip, F * h * w."""
        return self.frames * self.tokens_per_frame

    @cached_property
    def centres(self) -> NDArray[np.float32]:
        """Token centres of one latent frame, (h*w, 2) pixels (x, y), row-major."""
        rows, cols = np.divmod(np.arange(self.tokens_per_frame), self.cols)
        return self.token_centres(rows, cols)

    def token_centres(self, rows: ArrayLike, cols: ArrayLike) -> NDArray[np.float32]:
        """Centres of the tokens (row, col), (..., 2) pixels (x, y)."""
        sx, sy = self.stride
        x = (np.asarray(cols, dtype=np.float64) + 0.5) * sx
        y = (np.asarray(rows, dtype=np.float64) + 0.5) * sy
        return np.stack(np.broadcast_arrays(x, y), axis=-1).astype(np.float32)

    def tokens_at(self, xy: ArrayLike) -> NDArray[np.int64]:
        """Row-major index r*w + c of the token under each pixel position.

        Args:
            xy: (..., 2) pixels (x, y) inside the frame. The right and lower edge belong to the last token.

        Raises:
            UsageError: a position is not finite or outside [0, W] x [0, H].
        """
        points = self.check_inside(xy)
        sx, sy = self.stride
        cols = np.minimum(np.floor(points[..., 0] / sx), self.cols - 1).astype(np.int64)
        rows = np.minimum(np.floor(points[..., 1] / sy), self.rows - 1).astype(np.int64)
        return np.asarray(rows * self.cols + cols)

    def in_strides(self, offsets: ArrayLike) -> NDArray[np.float64]:
        """Pixel offsets in token strides: (..., 2) pixels (dx, dy) to (..., 2) as (dx / sx, dy / sy), float64."""
        return np.asarray(np.asarray(offsets, dtype=np.float64) / np.asarray(self.stride))

    def coarser(self, factor: int) -> TokenGrid:
        """The grid with tokens `factor` times as wide and high, over the same pixels and frames.

        Raises:
            UsageError: they do not divide.
        """
        if self.rows % factor or self.cols % factor:
            raise UsageError(f"{self.rows} x {self.cols} tokens do not divide into tokens {factor} times as large.")
        sx, sy = self.stride
        stride = (sx * factor, sy * factor)
        return replace(self, rows=self.rows // factor, cols=self.cols // factor, stride=stride)

    def check_inside(self, xy: ArrayLike) -> NDArray[np.float64]:
        """`xy` as float64, (..., 2), after checking that every position is finite and inside the frame."""
        points = np.asarray(xy, dtype=np.float64)
        if points.ndim == 0 or points.shape[-1] != 2:
            raise UsageError(f"Positions must have shape (..., 2) with (x, y) last, got {points.shape}.")
        edge = np.array([self.width, self.height]) * ROUNDING
        inside = ((points >= 0) & (points <= edge)).all(-1)
        if not inside.all():  # NaN compares false, so it ends here as well
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
        """(F, 2): first and last frame (inclusive) that each latent covers."""
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
        """(F,): the frame time each latent is centred at, the middle of its span."""
        return np.asarray(self.time_spans.mean(axis=1))

    def latent_at(self, frame: int) -> int:
        """The latent that covers `frame`.

        Raises:
            UsageError: no latent covers it.
        """
        return int(self.latents_at(frame))

    def latents_at(self, frames: ArrayLike) -> NDArray[np.int64]:
        """The latent that covers each frame: (...) frame numbers to (...) latents.

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
        """(T, F): row t holds the weights that bring values at latent times to frame t.

        Linear between the latents' centres, held before the first and after the last; every row sums to 1.
        """
        frames = self.video_frames if video_frames is None else _positive_int("video_frames", video_frames)
        position = np.interp(np.arange(frames), self.latent_times, np.arange(self.frames))
        return np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(self.frames)[None]))

    # ---------------------------------------------------------------------------------------------------------- plain

    def to_dict(self) -> dict[str, Any]:
        """The grid as plain JSON-ready values; `from_dict` is its inverse."""
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
        """The grid `to_dict` described.

        Raises:
            UsageError: keys are missing or unknown, or the numbers contradict each other.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise UsageError(f"Not a token grid: {error}.") from error

    def _expected_video_frames(self) -> int:
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
    """Checks that an argument called `grid` is one.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(grid, TokenGrid):
        raise UsageError(f"grid: expected a vcorr.TokenGrid, got {type(grid).__name__}.")


def is_positive(value: Any) -> bool:
    """Whether an argument is a number greater than 0 that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return False
    try:
        return 0 < float(value) < math.inf
    except OverflowError:  # an integer
        return False


def latent_frames(video_frames: int, temporal_ratio: int, *, causal: bool = True) -> int:
    """F, the latents that `video_frames` frames make.

    Raises:
        UsageError: the frame count does not divide; the message names the nearest ones that do.
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
    # bool is an int to Python, and a float may be whole: both are mistakes here
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
