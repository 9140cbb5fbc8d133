"""The records that travel between the parts: numpy and plain values only, so that importing them costs nothing.

Arrays: N query points, T video frames, F latent frames. Positions are (x, y) raster pixels (docs/conventions.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.rotary import Rotary
from vcorr.contract.variants import DEFAULT_VARIANT, NamedVariant

Mode = Literal["renoise", "generate", "invert"]
"""The words for `vcorr.contract.modes.RunMode`."""
Attention = Literal["full3d", "factorised", "linear", "none"]
Readout = Literal["token", "free"]
QueryMode = Literal["frame", "first", "strided"]
InputClass = Literal["", "256", "full"]
Axes = Literal["bhnd", "bnhd", "bnc"]
"""Order of the axes of queries or keys: b batch, h heads, n tokens, d head width, c = h*d heads side by side."""

BlockAxes = Literal["bnc", "fnc", "fchw"]
"""Order of the axes of a block's output: "bnc" with the rows of the attention call, "fnc" with a row a frame whatever
those are, "fchw" with a map of c channels a frame."""
FactorisedKind = Literal["spatial", "temporal"]
BatchOrder = Literal["branch-major", "interleaved"]

RANDOM = "random"
"""What the identity of random weights begins with, as in "random:SEED", and the word for `--weights`."""

NO_SITE = -1
"""Layer and step of answers that come from no attention site (baselines), and head of a mean over heads.

The step is also -1 for models without noise, which have no steps.
"""
HEAD_MEAN = -1


def is_random(weights: str) -> bool:
    """Returns whether an identity of weights, or a value of `--weights`, names random ones.

    Results of random weights are marked and never reach a board.
    """
    return weights.partition(":")[0] == RANDOM


@dataclass(frozen=True)
class Unrotated:
    """Where queries and keys can be read before the rotary embedding turns them.

    q, k: submodules of the attention module, as paths inside it, whose outputs they are: the query-key norm where it
    comes before the embedding, else the projections. axes: of these outputs. They may hold the video tokens alone or
    the whole sequence of the attention call.
    """

    q: str = "norm_q"
    k: str = "norm_k"
    axes: Axes = "bhnd"

    def __post_init__(self) -> None:
        if self.axes not in ("bhnd", "bnhd", "bnc"):
            raise UsageError(f"Unrotated: axes must be 'bhnd', 'bnhd' or 'bnc', got {self.axes!r}.")


@dataclass(frozen=True)
class Factorised:
    """Attention over space alone or over time alone, and how it spreads the tokens of a video over the batch.

    kind: "spatial", attention within a frame: a batch row holds the h*w tokens of one frame. "temporal", attention
    along time at one position: a batch row holds the F tokens of that position, one of each latent frame.
    order: of the rows of a batch with several guidance branches. "branch-major": all rows of one branch, then all rows
    of the next. "interleaved": the rows of one frame (or position) for all branches, then the rows of the next.

    Raises:
        UsageError: kind or order is another word.
    """

    kind: FactorisedKind
    order: BatchOrder = "branch-major"

    def __post_init__(self) -> None:
        if self.kind not in get_args(FactorisedKind):
            raise UsageError(f"Factorised: kind must be 'spatial' or 'temporal', got {self.kind!r}.")
        if self.order not in get_args(BatchOrder):
            raise UsageError(f"Factorised: order must be 'branch-major' or 'interleaved', got {self.order!r}.")


@dataclass(frozen=True)
class Site:
    """One attention module of a model.

    `layer` counts from 0 in the order of execution, `name` is the module's path inside the denoiser, `heads` the number
    of its attention heads (0 when unknown before loading), `attention` what its tokens can see. `factorised` says how
    attention over space or time alone lays out its tokens; None where one row of the batch holds the whole video.

    `block` is the path, inside the denoiser, of the module whose output is the hidden state after this attention (""
    when there is none to read); where it puts out several tensors, `block_output` is the index of the one with the
    video tokens, and `block_axes` says which axes that has. `unrotated` says where q and k are before the rotary
    embedding; None when there is none, or it cannot be undone. `rotary` says how that embedding turns the video tokens;
    None when there is none, or its layout is not known.
    """

    layer: int
    name: str
    heads: int = 0
    attention: Attention = "full3d"
    block: str = ""
    block_output: int = 0
    unrotated: Unrotated | None = None
    factorised: Factorised | None = None
    block_axes: BlockAxes = "bnc"
    rotary: Rotary | None = None

    def __post_init__(self) -> None:
        if self.factorised is not None and self.attention == "full3d":
            raise UsageError(
                f"Site {self.name}: {self.factorised.kind} attention is not full3d attention.",
                hint='Say Site(..., attention="factorised", factorised=...).',
            )
        if self.block_axes not in ("bnc", "fnc", "fchw"):
            raise UsageError(f"Site: block_axes must be 'bnc', 'fnc' or 'fchw', got {self.block_axes!r}.")


def _check_arrays(where: str, **values: Any) -> None:
    for name, value in values.items():
        if not isinstance(value, np.ndarray):
            raise UsageError(f"{where}: {name} must be a numpy array, got {type(value).__name__}.")


@dataclass(frozen=True, eq=False)
class Queries:
    """Query points, each in a frame of its own.

    t: (N,) int32 video frames, counted from 0. xy: (N, 2) float32 raster pixels in that frame. Whole numbers of other
    types are converted; two sets are equal when all their numbers are.

    Raises:
        UsageError: a shape or a type does not fit, a position is not finite, or a frame is negative.
    """

    t: NDArray[np.int32]
    xy: NDArray[np.float32]

    def __post_init__(self) -> None:
        _check_arrays("Queries", t=self.t, xy=self.xy)
        _check_points("queries", self.xy)
        if self.t.shape != self.xy.shape[:1]:
            raise UsageError(f"queries must have one frame each: t has shape {self.t.shape}, xy {self.xy.shape}.")
        object.__setattr__(self, "t", _whole_frames(self.t))
        object.__setattr__(self, "xy", np.asarray(self.xy, dtype=np.float32))

    @classmethod
    def at(cls, xy: NDArray[Any], frame: int = 0) -> Queries:
        """Points (N, 2) pixels that are all in one frame."""
        return cls(np.full(len(xy), frame, dtype=np.int32), xy)

    @classmethod
    def of(cls, points: Queries | NDArray[Any]) -> Queries:
        """Queries from an array: (N, 2) pixels (x, y) in frame 0, or (N, 3) rows of (t, x, y); queries unchanged.

        Raises:
            UsageError: the array has another shape or type, or a row is not a finite place in a frame.
        """
        if isinstance(points, Queries):
            return points
        if not isinstance(points, np.ndarray):
            raise UsageError(f"queries must be a numpy array, got {type(points).__name__}.")
        _check_points("queries", points, widths=(2, 3))
        return cls(points[:, 0], points[:, 1:]) if points.shape[1] == 3 else cls.at(points)

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, chosen: NDArray[Any] | slice) -> Queries:
        """The queries of these indices, or where a mask (N,) is True."""
        return Queries(self.t[chosen], self.xy[chosen])

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, Queries) and np.array_equal(self.t, other.t) and np.array_equal(self.xy, other.xy)
        return bool(same)

    __hash__ = None  # type: ignore[assignment]  # arrays can be written to

    def by_frame(self) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """Each frame that holds queries, ascending, with the indices of its queries."""
        for frame in np.unique(self.t):
            yield int(frame), np.flatnonzero(self.t == frame)

    def in_first_frame(self, who: str) -> NDArray[np.float32]:
        """(N, 2) pixels, for `who` can only answer queries in frame 0.

        Raises:
            UsageError: a query is in another frame.
        """
        later = np.flatnonzero(self.t)
        if len(later):
            raise UsageError(
                f"{who} answers queries in frame 0 only; {len(later)} of {len(self)} are in other frames, the first in "
                f"frame {self.t[later[0]]}.",
                hint="Leave out the queries of other frames.",
            )
        return self.xy


def _check_points(name: str, points: NDArray[Any], widths: tuple[int, ...] = (2,)) -> None:
    if points.ndim != 2 or points.shape[1] not in widths:
        wanted = " or ".join(f"(N, {width})" for width in widths)
        raise UsageError(f"{name} must have shape {wanted}, got {points.shape}.")
    if points.dtype.kind not in "fiu":
        raise UsageError(f"{name} must be finite numbers, got {points.dtype}.")
    wrong = int((~np.isfinite(points)).any(axis=1).sum())
    if wrong:
        raise UsageError(f"{name} must be finite numbers, got NaN or infinity for {wrong} of {len(points)}.")


def _whole_frames(t: NDArray[Any]) -> NDArray[np.int32]:
    if t.dtype.kind not in "fiu" or (t != np.floor(t)).any() or (t < 0).any():
        raise UsageError(f"frames of queries must be whole numbers of at least 0, got {t.dtype} {t[:3].tolist()}.")
    return np.asarray(t, dtype=np.int32)


@dataclass(frozen=True)
class Tracks:
    """Where the query points are in every frame.

    xy: (N, T, 2) float32 pixels; in a query's own frame, the query itself. visible: (N, T) bool, True where the point
    can be seen. tracker: who says so ("exact" for tracks known by construction). version: of that tracker. licence:
    what a dataset says its tracks come under; that of a tracker in the run is its entry's.
    boundary: (N,) float32 pixels in the query's frame from the point to the nearest boundary between layers (object,
    background); NaN where it is not known, infinite where there is none. None where nobody knows.
    confidence: (N, T) float32 in [0, 1], how sure the tracker is of its answer; None where it does not say.
    query_frame: (N,) int, the frame of each point's query, which metrics need; None where all are in frame 0. The score
    stage fills it in from the clip's queries: trackers and datasets need not.
    """

    xy: NDArray[np.float32]
    visible: NDArray[np.bool_]
    tracker: str
    version: int = 1
    licence: str = ""
    boundary: NDArray[np.float32] | None = None
    confidence: NDArray[np.float32] | None = None
    query_frame: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        _check_arrays("Tracks", xy=self.xy, visible=self.visible)
        if self.xy.ndim != 3 or self.xy.shape[-1] != 2:
            raise UsageError(f"Tracks: xy must have shape (N, T, 2), got {self.xy.shape}.")
        if self.xy.dtype.kind not in "fiu":
            raise UsageError(f"Tracks: xy must be float32, got {self.xy.dtype}.")
        if self.visible.shape != self.xy.shape[:2] or self.visible.dtype != np.bool_:
            raise UsageError(
                f"Tracks: visible must be bool of shape {self.xy.shape[:2]}, got {self.visible.dtype} "
                f"{self.visible.shape}."
            )
        if not np.isfinite(self.xy[self.visible]).all():
            raise UsageError("Tracks: xy is NaN or infinite at a visible point.")
        if self.boundary is not None and self.boundary.shape != self.xy.shape[:1]:
            raise UsageError(f"Tracks: boundary must have shape {self.xy.shape[:1]}, got {self.boundary.shape}.")
        if self.boundary is not None and (self.boundary < 0).any():
            raise UsageError("Tracks: boundary is a distance and cannot be negative.")
        _check_confidence("Tracks", self.confidence, self.xy.shape[:2])
        self._check_query_frame()

    def _check_query_frame(self) -> None:
        frames = self.query_frame
        if frames is None:
            return
        if frames.shape != self.xy.shape[:1] or frames.dtype.kind not in "iu":
            raise UsageError(
                f"Tracks: query_frame must be int32 of shape {self.xy.shape[:1]}, got {frames.dtype} {frames.shape}."
            )
        if ((frames < 0) | (frames >= self.xy.shape[1])).any():
            raise UsageError(f"Tracks: query_frame names a frame that the {self.xy.shape[1]} frames do not have.")

    @property
    def asked_in(self) -> NDArray[np.int64]:
        """(N,): the frame of each point's query."""
        known = np.zeros(len(self.xy), np.int64) if self.query_frame is None else self.query_frame
        return known.astype(np.int64)


def _check_confidence(where: str, confidence: NDArray[np.float32] | None, shape: tuple[int, ...]) -> None:
    if confidence is None:
        return
    if confidence.shape != shape or confidence.dtype.kind != "f":
        raise UsageError(
            f"{where}: confidence must be float32 of shape {shape}, got {confidence.dtype} {confidence.shape}."
        )
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise UsageError(f"{where}: confidence must be in [0, 1].")


@dataclass(frozen=True)
class Clip:
    """One item of a dataset: a video or a prompt, query points, and, where known, their tracks.

    video: (T, H, W, 3) uint8 RGB, or None for prompt-only items. queries: the points to follow; an array is converted,
    (N, 2) float32 pixels in frame 0 or (N, 3) rows of (t, x, y), pixels in frame t.
    query_side: points along one side of the regular grid laid over frame 0 of what the model makes, for clips without a
    video of their own, whose queries then are empty; 0 when the queries are given. `vcorr.data.place_queries` lays
    it.
    query_mode: how the frames of the queries were chosen: "frame", by the dataset; "first", the first frame in which
    the point is visible; "strided", every fifth frame in which it is. input_class: "256" for frames of at most 256x256
    pixels and "full" for larger ones, in benchmarks that tell them apart; else "".

    Raises:
        UsageError: a field contradicts itself or another; the message names the clip and the field.
    """

    id: str
    prompt: str
    queries: Queries
    video: NDArray[np.uint8] | None = None
    tracks: Tracks | None = None
    fps: float = 8.0
    query_side: int = 0
    query_mode: QueryMode = "frame"
    input_class: InputClass = ""

    if TYPE_CHECKING:  # the type of `queries` after conversion is narrower than the types it is made from

        def __init__(
            self,
            id: str,  # noqa: A002
            prompt: str,
            queries: Queries | NDArray[Any],
            video: NDArray[np.uint8] | None = None,
            tracks: Tracks | None = None,
            fps: float = 8.0,
            query_side: int = 0,
            query_mode: QueryMode = "frame",
            input_class: InputClass = "",
        ) -> None: ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "queries", self._converted(self.queries))
        if self.query_side < 0 or (self.query_side and len(self.queries)):
            raise UsageError(f"Clip {self.id}: query_side is for clips without queries, and at least 0.")
        for name, known in (("query_mode", get_args(QueryMode)), ("input_class", get_args(InputClass))):
            if getattr(self, name) not in known:
                raise UsageError(f"Clip {self.id}: {name} must be one of {known}, got {getattr(self, name)!r}.")
        if self.video is not None:
            self._check_video(self.video)

    def _converted(self, queries: Any) -> Queries:
        try:
            return Queries.of(queries)
        except UsageError as error:
            raise UsageError(f"Clip {self.id}: {error.message}", hint=error.hint) from error

    def _check_video(self, video: Any) -> None:
        _check_arrays(f"Clip {self.id}", video=video)
        if video.ndim != 4 or video.shape[3] != 3 or video.dtype != np.uint8:
            raise UsageError(
                f"Clip {self.id}: video must be uint8 of shape (T, H, W, 3), got {video.dtype} {video.shape}."
            )
        late = self.queries.t[self.queries.t >= len(video)]
        if len(late):
            raise UsageError(
                f"Clip {self.id}: queries must be in a frame of the video; it has {len(video)}, counted from 0, and "
                f"{len(late)} queries are later, the first in frame {late[0]}."
            )
        expected = (len(self.queries), len(video), 2)
        if self.tracks is not None and self.tracks.xy.shape != expected:
            raise UsageError(
                f"Clip {self.id}: tracks have shape {self.tracks.xy.shape}; {expected[0]} queries and "
                f"{expected[1]} frames need {expected}."
            )

    def with_queries(self, queries: Queries | NDArray[Any]) -> Clip:
        """The clip with other query points, as `queries` takes them, and no tracks."""
        return replace(self, queries=Queries.of(queries), tracks=None, query_side=0, query_mode="frame")


@dataclass(frozen=True)
class RunSettings:
    """What a model adapter is asked to do with a clip.

    mode: "renoise" (encode the clip's video, add the noise of each chosen step, one forward pass a step), "generate"
    (sample from noise), or "invert" (walk the clip's video back along the sampler); `vcorr.contract.modes` has each.
    steps: 0-based indices into the scheduler's `num_steps` timesteps, ascending; 0 is the noisiest.
    seed: of the noise; the same seed and clip give the same noise whatever else is chosen. In generate mode every clip
    is sampled with the same seed. cfg: strength of classifier-free guidance in generate mode, 1 for none; None for the
    pipeline's own default.
    """

    mode: Mode = "renoise"
    steps: tuple[int, ...] = (0,)
    num_steps: int = 1
    seed: int = 42
    cfg: float | None = None


@dataclass(frozen=True)
class Reconstruction:
    """How well a model makes a video again from the latents that inverting it led to: three ratios in dB (`psnr`).

    sampler: against what the autoencoder alone makes of the video, so that it is the error of inverting and sampling.
    video: against the video itself. autoencoder: of the autoencoder alone, the most that `video` can reach.
    """

    sampler: float
    video: float
    autoencoder: float


@dataclass(frozen=True)
class Prediction:
    """What one probe answered at one site: where each query point is at every latent time.

    xy: (N, F, 2) float32 pixels, [:, j] the query for the latent frame j that covers the query's frame.
    visible: (N, F) bool, True where the point can be seen; confidence: (N, F) float32 in [0, 1], how sure the answer
    is; None where the probe does not say. noise_frames: (F,) noise of each latent frame where they differ, else None;
    noise then is the mean over the target latents. layer, step, head: -1 where they do not apply
    (docs/results-format.md). noise: sigma / (alpha + sigma) in [0, 1] of the step, NaN without noise. readout: "token"
    when only whole-token motions can be answered (the ceiling then is the token oracle), "free" when any position can.
    variant: under which the positions were read; answers that come from no attention site depend on none.
    """

    probe: str
    xy: NDArray[np.float32]
    grid: TokenGrid
    layer: int = NO_SITE
    layer_name: str = ""
    step: int = NO_SITE
    head: int = HEAD_MEAN
    noise: float = float("nan")
    attention: Attention = "none"
    readout: Readout = "token"
    variant: NamedVariant = DEFAULT_VARIANT
    visible: NDArray[np.bool_] | None = None
    confidence: NDArray[np.float32] | None = None
    noise_frames: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class RowsPrediction:
    """What one probe read of one site's attention: where the rows of the query points' tokens put their weight.

    A row is the softmax over all tokens of the sequence, text and video, in the mean over heads, so everything is in
    [0, 1]; sum_cross + sum_self + sum_text = 1. N query points, F latent frames:

    peak_cross: (N, F - 1) float32, the largest weight on a token of each later latent frame. peak_self, peak_text: (N,)
    the largest on a token of the first latent frame, and of the text. sum_cross, sum_self, sum_text: (N,) the weight on
    all later frames, on the first, and on the text together. Text is NaN where the sequence holds none.
    layer, layer_name, step, head, noise, attention, variant, noise_frames: as in `Prediction`.
    """

    probe: str
    peak_cross: NDArray[np.float32]
    peak_self: NDArray[np.float32]
    peak_text: NDArray[np.float32]
    sum_cross: NDArray[np.float32]
    sum_self: NDArray[np.float32]
    sum_text: NDArray[np.float32]
    grid: TokenGrid
    layer: int = NO_SITE
    layer_name: str = ""
    step: int = NO_SITE
    head: int = HEAD_MEAN
    noise: float = float("nan")
    attention: Attention = "none"
    variant: NamedVariant = DEFAULT_VARIANT
    noise_frames: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Score:
    """A metric's value for one clip and site. `value` is NaN when nothing could be scored; n counts what was."""

    value: float
    n: int


@dataclass(frozen=True)
class ModelCard:
    """Facts about a model, read from its YAML card (docs/model-cards.md lists every field)."""

    name: str
    title: str
    summary: str
    attention: Attention
    licence: str
    hub_id: str | None = None
    revision: str | None = None
    download_gb: float | None = None
    parameters: int | None = None
    resolution: tuple[int, int] | None = None
    frames: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
