"""Makes a model and a probe a point tracker: chunks of frames, one pass each, and the correlations of their layers.

Shapes: T frames of a clip, H x W pixels, N query points, U distinct query tokens, F latent frames of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.bases import ProbeBase, with_defaults
from vcorr.contract.errors import NumericalError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.modes import mode_of
from vcorr.contract.probe_protocols import Probe
from vcorr.contract.protocols import VideoModel
from vcorr.contract.records import NO_QUERIES, Clip, Queries, RunSettings, Site, Tracks
from vcorr.contract.variants import Variant, switches_of
from vcorr.data.video_sizes import resize_video
from vcorr.functional.query_points import QueryPoints
from vcorr.functional.token_costs import join_costs
from vcorr.metrics.timemap import to_frames
from vcorr.tracking.chunk_plans import Chunk, plan_chunks
from vcorr.tracking.chunk_sizes import ChunkSizes
from vcorr.tracking.cost_reader import ChunkCosts, read_chunk, takes_costs
from vcorr.tracking.followed_site import ReadAt, SiteFacts
from vcorr.tracking.frame_reader import Followed, FrameRead, FrameReader, Piece
from vcorr.tracking.track_options import TrackOptions

VERSION = 1
"""Raised with every change of the code that may move tracks."""


class CorrespondenceTracker:
    """Follows points by what a model's tokens match: a `vcorr.Tracker` made of a model, a probe, layers and a step.

    The clip is cut into chunks. Each begins with the frame of the queries, and the model makes one pass over it,
    whatever the number of queries. There is one set of passes for every frame that has queries. The correlations of a
    frame are averaged over layers, or their logits add up, and averaged over all chunks that hold it.

    Args:
        model: a loaded model.
        probe: says which tensors match, and how (`vcorr.ProbeBase.take_costs`).
        layers: of the sites; empty for a probe that reads no site.
        settings: mode, the one step, seed.
        options: chunks, latents, visibility.
        variant: read-out, scale and rounding of the correlation (docs/switches.md).

    Raises:
        UsageError: the probe cannot track, a layer does not exist, or the settings name more than one step.
    """

    def __init__(
        self,
        model: VideoModel,
        probe: Probe,
        layers: tuple[int, ...],
        settings: RunSettings,
        options: TrackOptions | None = None,
        *,
        variant: Variant = "corrected",
    ) -> None:
        self.model, self.probe, self.layers, self.settings = model, probe, tuple(layers), settings
        self.options, self.variant = options or TrackOptions(), switches_of(variant)
        self._sites = _choose_sites(model, probe, self.layers)
        _check_settings(settings)
        self._sizes = ChunkSizes(model, self._sites[0] if self._sites else None, self.options)
        self._read_at = ReadAt()

    # ----------------------------------------------------------------------------------------------------------- facts

    @property
    def facts(self) -> SiteFacts:
        """Where the tracks come from; noise level and head are known after the first pass."""
        return SiteFacts.of(self._sites, self.settings, self.probe, self._read_at)

    def grid(self, clip: Clip) -> TokenGrid:
        """Returns the grid of the tracks of a clip: one latent frame per video frame, and the model's tokens.

        Raises:
            UsageError: the clip has no video, or the model takes no such clip.
        """
        frames = len(_video_of(clip))
        chunk = self._sizes.grid_for(clip)
        return TokenGrid(frames, chunk.rows, chunk.cols, chunk.stride, frames)

    def passes(self, frames: int, queries: Queries, clip: Clip | None = None) -> int:
        """Returns the number of passes of the denoiser for a clip of `frames` frames.

        clip: any clip of the data; needed for models whose number of frames per pass depends on the clip.
        """
        size = self._sizes.size_for(clip or Clip("length", "", NO_QUERIES))
        chunks = sum(len(self._plan(frames, frame, size)) for frame, _ in queries.by_frame())
        return chunks * max(1, mode_of(self.settings.mode).passes(self.settings))

    def typical_chunk(self, clip: Clip) -> Clip:
        """Returns a clip of the frames of one pass, as the model reads it; for estimates of time and memory."""
        frames = len(_video_of(clip))
        return self._sizes.take_frames(clip, tuple(range(min(frames, self._sizes.size_for(clip)))))

    # -------------------------------------------------------------------------------------------------------- tracking

    def track(self, video: NDArray[np.uint8], queries: Queries) -> Tracks:
        """Returns the track of every query in all frames; see `vcorr.Tracker`.

        The video is resized to the size that the model reads, and the tracks back to the size of the video.
        """
        clip = Clip("video", "", NO_QUERIES, video)
        grid = self.grid(clip)
        height, width = round(grid.height), round(grid.width)
        scale = np.array([width / video.shape[2], height / video.shape[1]], np.float32)
        fitted = replace(clip, video=resize_video(video, height, width), queries=Queries(queries.t, queries.xy * scale))
        tracks = self.follow(fitted)
        xy = tracks.xy / scale
        xy[np.arange(len(queries)), queries.t] = queries.xy
        return replace(tracks, xy=xy)

    def follow(self, clip: Clip, settings: RunSettings | None = None) -> Tracks:
        """Returns the tracks of the clip's queries in its own pixels, with visibility and confidence.

        Args:
            clip: its video has the size of `grid`.
            settings: in place of the tracker's own, such as another seed.

        Raises:
            UsageError: the clip has another size, or a query is outside the frame.
            NumericalError: the model returned NaN.
        """
        video, grid, asked = _video_of(clip), self.grid(clip), settings or self.settings
        _check_size(clip, video, grid)
        grid.check_inside(clip.queries.xy)
        if self.options.add_noise is False:
            asked = replace(asked, add_noise=False)
        shape = (len(clip.queries), len(video))
        xy = np.repeat(clip.queries.xy[:, None], shape[1], axis=1)
        confidence = np.ones(shape, np.float32)
        for frame, index in clip.queries.by_frame():
            if len(video) > 1:
                found = self._follow_frame(clip, frame, clip.queries.xy[index], asked)
                xy[index], confidence[index] = found.xy, found.confidence
        visible = confidence > self.options.least_confidence
        visible[np.arange(len(xy)), clip.queries.t] = True
        name = f"{self.facts.probe}-tracker"
        return Tracks(xy, visible, name, VERSION, confidence=confidence, query_frame=clip.queries.t)

    def _follow_frame(self, clip: Clip, frame: int, points: NDArray[np.float32], settings: RunSettings) -> Followed:
        """Follows the queries of one frame, (N, 2) pixels, through all frames."""
        video = _video_of(clip)
        chunks = self._plan(len(video), frame, self._sizes.size_for(clip))
        queries = QueryPoints(points)
        passes = ((chunk, self._read(self._sizes.take_frames(clip, chunk), settings)) for chunk in chunks)
        if self._sizes.stills:
            found = self._read_stills(passes, chunks, queries, frame, len(video))
        else:
            found = self._read_videos(passes, queries, len(video))
        if not (np.isfinite(found.xy).all() and np.isfinite(found.confidence).all()):
            raise NumericalError(
                f"Clip {clip.id}: the correlations of its tokens hold NaN or infinity.",
                hint="The model probably overflowed: try --dtype bfloat16 or float32.",
            )
        found.xy[:, frame], found.confidence[:, frame] = points, 1
        return Followed(found.xy, found.confidence.clip(0, 1))

    def _plan(self, frames: int, query_frame: int, size: int) -> list[Chunk]:
        return plan_chunks(
            frames, query_frame, size, self.options.order, directions_apart=self.options.latents == "video"
        )

    def _read(self, chunk: Clip, settings: RunSettings) -> ChunkCosts:
        found = read_chunk(self.model, chunk, settings, self.probe, self.layers, self.variant)
        self._read_at = ReadAt(found.noise, found.costs[0].head)
        joins = self.options.combine == "logits" and len(found.costs) > 1
        return replace(found, costs=[join_costs(found.costs)]) if joins else found

    def _reader(self, queries: QueryPoints, chunk: ChunkCosts) -> FrameReader:
        return FrameReader(queries, chunk.grid, chunk.costs[0], self.variant, self.options.visibility)

    def _read_stills(
        self,
        passes: Iterator[tuple[Chunk, ChunkCosts]],
        chunks: Sequence[Chunk],
        queries: QueryPoints,
        query_frame: int,
        frames: int,
    ) -> Followed:
        """Reads chunks with one latent per frame. A frame is read when all its chunks have come."""
        last = {frame: number for number, chunk in enumerate(chunks) for frame in chunk}
        waiting: dict[int, list[Piece]] = {}
        order, reads = [query_frame], list[FrameRead]()
        reader: FrameReader | None = None
        for number, (chunk, found) in enumerate(passes):
            reader = reader or self._reader(queries, found)
            for latent, frame in enumerate(chunk[1:], start=1):
                waiting.setdefault(frame, []).append(Piece(found.costs, latent))
            done = sorted((f for f in chunk[1:] if last[f] == number), key=lambda frame: len(waiting[frame]))
            if done:
                order += done
                reads.append(reader.read([waiting.pop(frame) for frame in done]))
        assert reader is not None  # a clip of several frames has a chunk
        placed, back = reader.place(reads), np.argsort(order)
        return Followed(placed.xy[:, back], placed.confidence[:, back])

    def _read_videos(self, passes: Iterator[tuple[Chunk, ChunkCosts]], queries: QueryPoints, frames: int) -> Followed:
        """Reads chunks that were encoded as videos. A frame in several chunks gets the mean of its positions."""
        xy = np.zeros((len(queries), frames, 2))
        confidence = np.zeros((len(queries), frames))
        times = np.zeros(frames)
        reader: FrameReader | None = None
        for chunk, found in passes:
            grid = found.grid
            if reader is None or reader.grid != grid:
                reader = self._reader(queries, found)
            placed = reader.place([reader.read([[Piece(found.costs, j)] for j in range(1, grid.frames)])])
            where = to_frames(placed.xy, grid, queries.xy.numpy(), variant=self.variant)[:, : len(chunk)]
            how_sure = (placed.confidence @ grid.time_weights().T)[:, : len(chunk)]
            here = list(chunk)
            xy[:, here] += where
            confidence[:, here] += how_sure
            times[here] += 1
        return Followed((xy / times[:, None]).astype(np.float32), (confidence / times).astype(np.float32))


def _choose_sites(model: VideoModel, probe: Probe, layers: tuple[int, ...]) -> list[Site]:
    """Returns the sites to read, by ascending layer."""
    takes_costs(probe)
    sites = {site.layer: site for site in model.sites()}
    unknown = [layer for layer in layers if layer not in sites]
    if unknown:
        raise UsageError(
            f"The model has no layer {unknown[0]}.",
            hint=f"It has {len(sites)} layers" + (f", 0 to {len(sites) - 1}." if sites else "."),
        )
    optional = with_defaults(probe, ProbeBase)
    if optional.answers_per_site(2) > 1:
        raise UsageError(
            "The probe makes one prediction per head; a tracker needs one.",
            hint="Choose heads, as in --set probe.heads=0,3, or leave the option out.",
        )
    if not layers and optional.answers_per_site(2):
        raise UsageError("A tracker of this probe needs at least one layer.", hint="For example --layers 8")
    chosen = [sites[layer] for layer in sorted(set(layers))]
    optional.check_sites(chosen)
    return chosen


def _check_settings(settings: RunSettings) -> None:
    if mode_of(settings.mode).makes_video:
        raise UsageError("Tracking reads videos and generates none.", hint="Take --mode renoise or --mode invert.")
    if len(settings.steps) > 1:
        raise UsageError(
            f"A tracker reads one step; {len(settings.steps)} were chosen.", hint="For example --steps last"
        )


def _video_of(clip: Clip) -> NDArray[np.uint8]:
    if clip.video is None:
        raise UsageError(f"Clip {clip.id} has no video to track points in.", hint="Choose data with videos.")
    return clip.video


def _check_size(clip: Clip, video: NDArray[np.uint8], grid: TokenGrid) -> None:
    size = (round(grid.height), round(grid.width))
    if video.shape[1:3] != size:
        raise UsageError(
            f"Clip {clip.id} has {video.shape[1]}x{video.shape[2]} pixels; the model reads {size[0]}x{size[1]}.",
            hint="vcorr.fit_clip(clip, tracker.grid(clip)) brings it to that size.",
        )
