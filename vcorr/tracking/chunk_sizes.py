"""Finds out how many frames a model reads in one pass, and fills up chunks that are too short for it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vcorr.contract.bases import VideoModelBase, with_defaults
from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.protocols import VideoModel
from vcorr.contract.records import NO_QUERIES, Clip, Site
from vcorr.tracking.chunk_plans import Chunk
from vcorr.tracking.track_options import TrackOptions

MOST_AT_ONCE = 16
"""Frames of a chunk for networks that read any number of frames, as most image backbones do."""


LENGTHS = (16, 32, 64)
"""Numbers of frames at which a clip is tried that is too short for a model."""


class ChunkSizes:
    """Cuts a clip into the chunks that a model takes.

    Args:
        model: the model.
        site: one of the sites that are read; None for a model or a probe without sites.
        options: of the tracking.
    """

    def __init__(self, model: VideoModel, site: Site | None, options: TrackOptions) -> None:
        self._model, self._site, self._options = model, site, options
        self._filled: dict[int, int] = {}

    @property
    def stills(self) -> bool:
        """Whether the frames of a chunk are encoded one by one."""
        return self._options.latents == "stills"

    def size_for(self, clip: Clip) -> int:
        """Returns the number of frames of a whole chunk of this clip, the frame of the queries included."""
        if self._options.chunk:
            return self._options.chunk
        grid = self._usual_grid(clip)
        usual = grid.frames if self.stills else grid.video_frames
        noisy = with_defaults(self._model, VideoModelBase).steps > 0
        return max(2, usual if noisy else min(usual, MOST_AT_ONCE))

    def take_frames(self, clip: Clip, chunk: Chunk) -> Clip:
        """Returns the frames of a chunk as a clip without queries, filled up with its last frame if it is too short.

        Its id names its frames, so that its noise depends on them, on the clip's id and on the seed alone.

        Raises:
            UsageError: the model takes no chunk of the size that the options ask for.
        """
        assert clip.video is not None  # the tracker has checked it
        frames = (*chunk, *chunk[-1:] * (self._length_of(clip, chunk) - len(chunk)))
        name = f"{clip.id}, frames {','.join(map(str, frames))}"
        video = np.ascontiguousarray(clip.video[list(frames)])
        return Clip(name, self._options.prompt, NO_QUERIES, video, fps=clip.fps, stills=self.stills)

    def grid_for(self, clip: Clip) -> TokenGrid:
        """Returns the token grid of a chunk of this clip; raises as `take_frames`."""
        assert clip.video is not None  # the tracker has checked it
        size = min(self.size_for(clip), max(2, len(clip.video)))
        return self._model.grid(self._outline_of(clip, self._length_of(clip, tuple(range(size)))), self._site)

    def _usual_grid(self, clip: Clip) -> TokenGrid:
        """Returns the grid of a video of the model's own length; of the clip, for models that have none.

        A clip that is too short for the model is filled up with its last frame. Raises as the model for other sizes.
        """
        refused: UsageError | None = None
        for each in self._lengthen(clip):
            try:
                return self._model.grid(each, self._site)
            except UsageError as error:
                refused = error
        assert refused is not None  # there is at least one try
        raise refused

    @staticmethod
    def _lengthen(clip: Clip) -> Iterator[Clip]:
        """Yields the clips to try: one without a video, the clip, and longer ones, each made when it is asked for.

        Most models have a length of their own and take the first one. The others are copies of a whole video.
        """
        yield Clip(clip.id, "", NO_QUERIES)
        if clip.video is None:
            return
        yield Clip(clip.id, "", NO_QUERIES, clip.video, fps=clip.fps)
        for length in (length for length in LENGTHS if length > len(clip.video)):
            shown = np.minimum(np.arange(length), len(clip.video) - 1)
            yield Clip(clip.id, "", NO_QUERIES, clip.video[shown], fps=clip.fps)

    def _length_of(self, clip: Clip, chunk: Chunk) -> int:
        """Returns the length to which a chunk is filled up: its own, or else the length of a whole chunk."""
        if len(chunk) not in self._filled:
            self._filled[len(chunk)] = self._find_length(clip, len(chunk))
        return self._filled[len(chunk)]

    def _find_length(self, clip: Clip, own: int) -> int:
        whole = max(self.size_for(clip), own)
        for length in (own, whole):
            try:
                grid = self._model.grid(self._outline_of(clip, length), self._site)
            except UsageError:
                if length == whole:
                    raise
                continue
            if grid.video_frames == length:
                self._check_stills(grid)
                return length
        raise UsageError(
            f"track.chunk={whole}: the model reads {grid.video_frames} of so many frames in a pass.",
            hint=f"For example --set track.chunk={grid.video_frames}",
        )

    def _outline_of(self, clip: Clip, length: int) -> Clip:
        """Returns a clip like a chunk of this length, whose frames are all one frame: a grid depends on sizes alone.

        The frames are not copied: copying 13 frames of 480x720 pixels takes the host 2 ms.
        """
        assert clip.video is not None  # the tracker has checked it
        video = np.broadcast_to(clip.video[:1], (length, *clip.video.shape[1:]))
        return Clip(clip.id, self._options.prompt, NO_QUERIES, video, fps=clip.fps, stills=self.stills)

    def _check_stills(self, grid: TokenGrid) -> None:
        """Checks that a model whose frames are read one by one gives each of them a latent frame."""
        if self.stills and grid.frames != grid.video_frames:
            raise UsageError(
                f"The model gives {grid.video_frames} frames {grid.frames} latents: it reads no frame by itself.",
                hint="Read a chunk as a video: --set track.latents=video",
            )
