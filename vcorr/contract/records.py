"""The records that pass between the parts: numpy and plain values only, so that they are cheap to import.

Shapes: N query points, T video frames, F latent frames. Positions are (x, y) raster pixels (docs/conventions.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.option_notes import option
from vcorr.contract.part_calls import show_value
from vcorr.contract.rotary import Rotary
from vcorr.contract.variants import DEFAULT_VARIANT, NamedVariant

Mode = Literal["renoise", "generate", "invert"]
"""Names of the modes of a run (`vcorr.contract.modes`)."""
Attention = Literal["full3d", "factorised", "linear", "none"]
"""Kind of attention: over all video tokens; over space or time alone; linear; no attention at all."""
Readout = Literal["token", "free"]
"""Which positions can be predicted: the query moved by whole tokens, or any position."""
QueryMode = Literal["frame", "first", "strided"]
InputClass = Literal["", "256", "full"]
Axes = Literal["bhnd", "bnhd", "bnc"]
"""Order of the axes of queries or keys: b batch, h heads, n tokens, d head width, c = h*d channels of all heads."""

BlockAxes = Literal["bnc", "fnc", "fchw", "fhwc"]
"""Order of the axes of a block's output.

"bnc": the batch rows of the attention call. "fnc": one batch row per frame, whatever the batch rows of the attention
call are. "fchw": one map of c channels per frame. "fhwc": the same, with the channels last.
"""
FactorisedKind = Literal["spatial", "temporal"]
BatchOrder = Literal["branch-major", "interleaved"]

RANDOM = "random"
"""The value of `--weights` for random weights, and the beginning of their identity, "random:SEED"."""

NO_SITE = -1
"""Layer and step of predictions that come from no attention site, as in baselines.

The step is also -1 for models without noise, which have no steps.
"""
HEAD_MEAN = -1
"""Head of the mean over heads."""


def is_random(weights: str) -> bool:
    """Returns whether an identity of weights, or a value of `--weights`, means random weights.

    Results of random weights are marked and never reach a board.
    """
    return weights.partition(":")[0] == RANDOM


@dataclass(frozen=True)
class Unrotated:
    """Says where queries and keys can be read before the rotary embedding turns them.

    q, k: paths, inside the attention module, of the submodules that put them out. These are the query-key norms if the
    norm comes before the embedding, else the projections. Their outputs may hold the video tokens alone or the whole
    sequence of the attention call.
    axes: order of the axes of these outputs.
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
    order: order of the batch rows of several guidance branches. "branch-major": all batch rows of one branch, then all
    of the next. "interleaved": the batch rows of all branches for one frame (or position), then for the next.

    Raises:
        UsageError: kind or order has another value than these.
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

    Args:
        layer: number of the module in the order of execution, from 0.
        name: path of the module inside the denoiser.
        heads: number of attention heads; 0 if unknown before loading.
        attention: kind of attention, which decides what a token can see. "none" for a place whose hidden state can be
            read, but no attention: a layer of a convolutional network, or attention that the tap cannot see. Its name
            is free, because no module of this name is tapped.
        block: path, inside the denoiser, of the module whose output is the hidden state after this attention; "" if
            there is none to read.
        block_output: index of the tensor with the video tokens, if the block puts out several tensors.
        unrotated: where q and k can be read before the rotary embedding; None if there is no such embedding, or they
            cannot be read before it.
        factorised: how spatial or temporal attention lays out its tokens; None if one batch row holds the whole video.
        block_axes: order of the axes of the block's output.
        rotary: how the rotary embedding turns the video tokens; None if there is no such embedding, or its layout is
            unknown.
        unread: for a site without attention, why none is read, such as "SwinLayer attends within windows"; the error
            for probes of attention says it.

    Raises:
        UsageError: the values contradict each other.
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
    unread: str = ""

    def __post_init__(self) -> None:
        if self.factorised is not None and self.attention == "full3d":
            raise UsageError(
                f"Site {self.name}: {self.factorised.kind} attention is not full3d attention.",
                hint='Use Site(..., attention="factorised", factorised=...).',
            )
        if self.block_axes not in get_args(BlockAxes):
            raise UsageError(f"Site: block_axes must be one of {get_args(BlockAxes)}, got {self.block_axes!r}.")


def _check_arrays(where: str, **values: Any) -> None:
    for name, value in values.items():
        if not isinstance(value, np.ndarray):
            raise UsageError(f"{where}: {name} must be a numpy array, got {type(value).__name__}.")
        if isinstance(value, np.ma.MaskedArray | np.matrix):  # the mask would be lost; a matrix never has one axis
            raise UsageError(f"{where}: {name} must be a plain numpy array, got {type(value).__name__}.")


@dataclass(frozen=True, eq=False)
class Queries:
    """N query points, each in a frame of its own.

    t: (N,) int32, the video frame of each point, from 0.
    xy: (N, 2) float32, the point in that frame in raster pixels (x, y).

    Other number types are converted, if every t is a whole number. Two sets are equal if all their numbers are equal.

    Raises:
        UsageError: a shape or a type does not fit, a position is not finite, or a frame is negative or no whole number.
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
        """Returns queries for points (N, 2) pixels (x, y) that are all in video frame `frame`."""
        return cls(np.full(len(xy), frame, dtype=np.int32), xy)

    @classmethod
    def of(cls, points: Queries | NDArray[Any]) -> Queries:
        """Returns queries from an array: (N, 2) pixels (x, y) in frame 0, or (N, 3) as (t, x, y).

        `Queries` are returned as they are.

        Raises:
            UsageError: the array has another shape or type, or a point is not finite or not in a frame.
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
        """Returns the queries with these indices, or where a mask (N,) is True."""
        return Queries(self.t[chosen], self.xy[chosen])

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, Queries) and np.array_equal(self.t, other.t) and np.array_equal(self.xy, other.xy)
        return bool(same)

    __hash__ = None  # type: ignore[assignment]  # the arrays are mutable

    def by_frame(self) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """Yields each frame that has queries, in ascending order, with the indices of its queries."""
        for frame in np.unique(self.t):
            yield int(frame), np.flatnonzero(self.t == frame)


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


UNKNOWN_LAYER = -1
"""The layer of a point whose layer is not known."""


@dataclass(frozen=True)
class Tracks:
    """The positions of N query points in all T video frames.

    Args:
        xy: (N, T, 2) float32 pixels (x, y). In a query's own frame, the query itself.
        visible: (N, T) bool, True where the point can be seen.
        tracker: name of the tracker; "exact" for tracks that are known by construction.
        version: version of the tracker.
        licence: licence of a dataset's tracks. For tracks from a tracker of the run, its entry says the licence.
        boundary: (N,) float32, distance in pixels from the point to the nearest boundary between layers (object,
            background) in the query's frame. NaN where it is not known, infinite where there is no boundary; None if it
            is known for no point.
        layer: (N,) int32, the layer of each point in the query's frame: 0 the background, k > 0 the k-th thing in front
            of it, counted from the back, -1 where it is not known; None if it is known for no point.
        confidence: (N, T) float32 in [0, 1], how sure the tracker is; None if it does not say.
        query_frame: (N,) int, the frame of each point's query, which metrics need; None if all queries are in frame 0.
            Trackers and datasets may leave it out: the score stage sets it from the clip's queries.
        query_mode: how the frames of the queries were chosen, as in `Clip`; set by the score stage as well.

    Raises:
        UsageError: a shape, a type or a value does not fit; the message names the field.
    """

    xy: NDArray[np.float32]
    visible: NDArray[np.bool_]
    tracker: str
    version: int = 1
    licence: str = ""
    boundary: NDArray[np.float32] | None = None
    confidence: NDArray[np.float32] | None = None
    query_frame: NDArray[np.int32] | None = None
    layer: NDArray[np.int32] | None = None
    query_mode: QueryMode = "frame"

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
        self._check_whole("query_frame", self.query_frame)
        self._check_whole("layer", self.layer)
        frames = self.query_frame
        if frames is not None and ((frames < 0) | (frames >= self.xy.shape[1])).any():
            raise UsageError(f"Tracks: query_frame names a frame that the {self.xy.shape[1]} frames do not have.")
        if self.layer is not None and (self.layer < UNKNOWN_LAYER).any():
            raise UsageError(
                f"Tracks: layer is {self.layer.min()} for a point; layers count from 0, and {UNKNOWN_LAYER} means that "
                "it is not known."
            )
        if self.query_mode not in get_args(QueryMode):
            raise UsageError(f"Tracks: query_mode must be one of {get_args(QueryMode)}, got {self.query_mode!r}.")

    def _check_whole(self, name: str, values: Any) -> None:
        """Checks that there is one whole number for each point."""
        if values is None:
            return
        _check_arrays("Tracks", **{name: values})
        if values.shape != self.xy.shape[:1] or values.dtype.kind not in "iu":
            raise UsageError(
                f"Tracks: {name} must be int32 of shape {self.xy.shape[:1]}, got {values.dtype} {values.shape}."
            )

    @property
    def asked_in(self) -> NDArray[np.int64]:
        """The frame of each point's query, (N,)."""
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


DEFAULT_FPS = 8.0


@dataclass(frozen=True)
class Clip:
    """One item of a dataset: a video or a prompt, query points and, if known, their tracks.

    Args:
        id: unique within the dataset.
        prompt: text for models that read a prompt.
        queries: the points to follow. An array is converted: (N, 2) float32 pixels (x, y) in frame 0, or (N, 3) as
            (t, x, y), pixels in frame t.
        video: (T, H, W, 3) uint8 RGB; None if the clip is a prompt alone.
        tracks: reference tracks of the queries in the video; None if there are none.
        fps: frames per second of the video; 0 if they are not known.
        query_side: for a clip without a video and with empty queries, the number of points along one side of a regular
            grid; the grid is laid over frame 0 of the generated video. 0 if the queries are given.
        query_mode: how the frames of the queries were chosen: "frame", by the dataset; "first", the first frame in
            which the point is visible; "strided", every fifth frame in which it is visible.
        input_class: for benchmarks that tell sizes apart, "256" for frames of at most 256x256 pixels and "full" for
            larger ones; else "".
        layers: (T, H, W) uint8, the index of the topmost layer at each pixel centre of the video: 0 the background,
            k > 0 the k-th thing from the back, as in `Tracks.layer`; None if it is not known.
        stills: whether a model reads each frame of `video` by itself, as an image: every frame then has a latent frame
            of its own. The grid of such a clip has T latent frames. Trackers make such clips (docs/tracking.md).

    Raises:
        UsageError: a field contradicts itself or another; the message names the clip and the field.
    """

    id: str
    prompt: str
    queries: Queries
    video: NDArray[np.uint8] | None = None
    tracks: Tracks | None = None
    fps: float = DEFAULT_FPS
    query_side: int = 0
    query_mode: QueryMode = "frame"
    input_class: InputClass = ""
    layers: NDArray[np.uint8] | None = None
    stills: bool = False

    if TYPE_CHECKING:  # `queries` takes more types than the attribute has after conversion

        def __init__(
            self,
            id: str,  # noqa: A002
            prompt: str,
            queries: Queries | NDArray[Any],
            video: NDArray[np.uint8] | None = None,
            tracks: Tracks | None = None,
            fps: float = DEFAULT_FPS,
            query_side: int = 0,
            query_mode: QueryMode = "frame",
            input_class: InputClass = "",
            layers: NDArray[np.uint8] | None = None,
            stills: bool = False,
        ) -> None: ...

    def __post_init__(self) -> None:
        self._check_plain()
        object.__setattr__(self, "queries", self._convert(self.queries))
        if self.query_side < 0 or (self.query_side and len(self.queries)):
            raise UsageError(f"Clip {self.id}: query_side is for clips without queries, and at least 0.")
        for name, known in (("query_mode", get_args(QueryMode)), ("input_class", get_args(InputClass))):
            if getattr(self, name) not in known:
                raise UsageError(f"Clip {self.id}: {name} must be one of {known}, got {getattr(self, name)!r}.")
        if self.video is not None:
            self._check_video(self.video)
        if self.layers is not None:
            self._check_layers(self.layers)

    @property
    def playback_fps(self) -> float:
        """Frames per second at which files of the clip's videos play: `fps`, or 8 if it is not known."""
        return self.fps or DEFAULT_FPS

    def _check_plain(self) -> None:
        for name in ("id", "prompt"):
            if not isinstance(getattr(self, name), str):
                raise UsageError(f"Clip: {name} must be a text, got {show_value(getattr(self, name))}.")
        if any("\ud800" <= letter <= "\udfff" for letter in self.prompt):
            raise UsageError(f"Clip: prompt holds half a character, which is no text: {show_value(self.prompt)}.")
        fps: Any = self.fps
        if not (isinstance(fps, Real) and 0 <= float(fps) < math.inf):
            raise UsageError(f"Clip {self.id}: fps must be a number of at least 0, got {show_value(self.fps)}.")

    def _convert(self, queries: Any) -> Queries:
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

    def _check_layers(self, layers: Any) -> None:
        _check_arrays(f"Clip {self.id}", layers=layers)
        if layers.ndim != 3 or layers.dtype != np.uint8:
            raise UsageError(
                f"Clip {self.id}: layers must be uint8 of shape (T, H, W), got {layers.dtype} {layers.shape}."
            )
        if self.video is not None and layers.shape != self.video.shape[:3]:
            raise UsageError(
                f"Clip {self.id}: layers must have the frames and size of the video, {self.video.shape[:3]}, got "
                f"{layers.shape}."
            )

    def with_video(self, video: NDArray[np.uint8] | None) -> Clip:
        """Returns the clip with another video, or with none; without tracks and layers, which the old video had."""
        return replace(self, video=video, tracks=None, layers=None)

    def with_queries(self, queries: Queries | NDArray[Any]) -> Clip:
        """Returns the clip with other query points and no tracks; `queries` as in the class."""
        return replace(self, queries=Queries.of(queries), tracks=None, query_side=0, query_mode="frame")


@dataclass(frozen=True)
class RunSettings:
    """What a model adapter does with a clip.

    Args:
        mode: "renoise": encode the clip's video, add the noise of each chosen step, and run one forward pass per step.
            "generate": sample from noise. "invert": walk the clip's video back along the sampler. See
            `vcorr.contract.modes`.
        steps: 0-based indices into the scheduler's timesteps, ascending; step 0 is the noisiest.
        num_steps: number of timesteps of the scheduler.
        seed: seed of the noise. The same seed and clip give the same noise, whatever the other settings are. In mode
            generate a run gives every clip a seed of its own, unless its noise is shared (docs/protocol.md).
        cfg: strength of classifier-free guidance in mode generate, 1 for none; None for the pipeline's default.
        add_noise: False in mode renoise: the denoiser gets the timestep of a step, and latents without its noise. The
            published code of DiffTrack tracks TAP-Vid videos so. At the default it is no part of fingerprints.
    """

    mode: Mode = "renoise"
    steps: tuple[int, ...] = (0,)
    num_steps: int = 1
    seed: int = 42
    cfg: float | None = None
    add_noise: bool = option(True, "False: latents without the noise of the step.", later=True)


@dataclass(frozen=True)
class AppliedSettings:
    """Settings that a model applies in a run although neither the options nor the folder of its weights ask for them.

    values: by the name of the option; part of the fingerprint of predictions. notes: sentences for the user.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reconstruction:
    """How well a model restores a video from its inverted latents: three values of PSNR in dB.

    sampler: restored video against the autoencoder's own reconstruction: the error of inversion and sampling alone.
    video: restored video against the original.
    autoencoder: the autoencoder's reconstruction against the original, the most that `video` can reach.
    """

    sampler: float
    video: float
    autoencoder: float


@dataclass(frozen=True)
class Prediction:
    """The positions that one probe predicts at one site, for N query points at F latent times.

    Args:
        probe: name of the probe.
        xy: (N, F, 2) float32 pixels (x, y). For the latent frame j that covers the query's frame, [:, j] is the query.
        grid: token grid of the site.
        layer: -1 if the prediction comes from no attention site; so for `step` (docs/results-format.md).
        layer_name: path of the attention module; "" if there is none.
        step: 0-based index into the scheduler's timesteps.
        head: -1 for the mean over heads.
        noise: noise level of the step, sigma / (alpha + sigma) in [0, 1]; NaN for a model without noise.
        attention: kind of attention at the site.
        readout: "token" if the query can move by whole tokens alone: its position is query + centre(y) - centre(x), in
            float32, with x its own token and y any token. "free" if any position is possible. It decides the ceiling.
        variant: variant under which the positions were read. It changes nothing where there is no attention site.
        visible: (N, F) bool, True where the point can be seen; None if the probe does not say.
        confidence: (N, F) float32 in [0, 1], how sure the probe is; None if it does not say.
        noise_frames: (F,) noise level of each latent frame; None if all have the same. If given, `noise` is the mean
            over the target latents.
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
    """The attention summary of one probe at one site: how N query points' tokens spread their attention.

    The attention of a token is a softmax over all tokens of the sequence, text and video, averaged over heads. So all
    values are in [0, 1], and the three sums add up to 1. The query latent is the latent frame that covers the query's
    frame. The other fields are as in `Prediction`.

    Args:
        peak_cross: (N, F - 1) float32, the largest attention to a token of each latent frame but the query latent.
        peak_self: (N,) float32, the largest attention to a token of the query latent.
        peak_text: (N,) float32, the largest attention to a text token; NaN if there is no text.
        sum_cross: (N,) float32, the attention to all latent frames but the query latent.
        sum_self: (N,) float32, the attention to the query latent.
        sum_text: (N,) float32, the attention to all text tokens; NaN if there is no text.
        traits: (N, K) float32 in [0, 1], what `vcorr.functional.head_traits` returns, NaN where a trait does not exist.
            None if the probe gives no traits.
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
    traits: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Score:
    """The value of a metric for one clip and site.

    value: NaN if nothing could be scored. n: number of scored items, such as pairs of a point and a frame.
    """

    value: float
    n: int


@dataclass(frozen=True)
class ModelCard:
    """Facts about a model from its YAML card (docs/model-cards.md explains every field)."""

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
