"""Makes a model of anything that follows points, so that the runner serves tracking as it serves any other run.

Shapes: N query points, T video frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import PluginError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.protocols import Tracker, VideoModel
from vcorr.contract.records import Clip, Queries, RunSettings, Site, Tracks
from vcorr.contract.variants import NamedVariant
from vcorr.metrics.timemap import to_frames
from vcorr.tracking.followed_site import DIRECT, SiteFacts
from vcorr.tracking.siteless_model import SitelessModel

if TYPE_CHECKING:
    from vcorr.capture.recorder import Recorder


class Follower(Protocol):
    """Follows the queries of a clip that has the size of `grid`. `CorrespondenceTracker` is one."""

    @property
    def facts(self) -> Any:
        """Where the tracks come from: an object with the fields of `SiteFacts`; read after `follow`."""

    def grid(self, clip: Clip) -> TokenGrid:
        """Returns the size at which it reads the clip: as many latents and video frames as the clip has frames.

        Raises:
            UsageError: it cannot read a video of this size.
        """
        ...

    def follow(self, clip: Clip, settings: RunSettings) -> Tracks:
        """Returns the tracks of the clip's queries in every frame, in pixels of `grid`."""
        ...

    def passes(self, frames: int, queries: Queries, clip: Clip | None = None) -> int:
        """Returns how many forward passes of a network it needs; 0 without a network."""
        ...

    def typical_chunk(self, clip: Clip) -> Clip:
        """Returns the clip as one pass of the network reads it; the clip itself without a network."""
        ...


class TrackerModel(SitelessModel):
    """A `vcorr.VideoModel` without sites that predicts a track of every query in every frame.

    Args:
        followers: what follows the points, by the variant under which it does. There is one prediction from each.
        probe: name of the probe behind the tracks; `DIRECT` for none.
        loaded: the model behind it, which has weights and settings; None for a tracker.
        identity: returns what identifies the files of a tracker, where there is no model.
    """

    def __init__(
        self,
        followers: Mapping[NamedVariant, Follower],
        probe: str = DIRECT,
        loaded: VideoModel | None = None,
        identity: Callable[[], str] = lambda: "none",
    ) -> None:
        super().__init__(loaded, identity)
        self._followers, self._probe = dict(followers), probe

    def grid(self, clip: Clip, site: Site | None) -> TokenGrid:
        """Returns the size at which the points are followed, one latent per frame; raises UsageError as the model."""
        if clip.video is None:
            raise UsageError(
                f"Clip {clip.id} has no video to follow points in.", hint="Tracking needs data with video."
            )
        return self._any.grid(clip)

    def passes(self, clip: Clip) -> int:
        """Returns the number of forward passes for a clip, under all variants together."""
        assert clip.video is not None
        frames = len(clip.video)
        return sum(follower.passes(frames, clip.queries, clip) for follower in self._followers.values())

    def typical_chunk(self, clip: Clip) -> Clip:
        """Returns the clip as one pass of the network reads it; the clip itself without a network."""
        return self._any.typical_chunk(clip)

    def run(self, clip: Clip, settings: RunSettings, recorder: Recorder) -> None:
        """Follows the queries under each variant and records their tracks, without a confidence where there is none."""
        for variant, follower in self._followers.items():
            tracks, facts = follower.follow(clip, settings), follower.facts
            recorder.answer(
                tracks.xy,
                self.grid(clip, None),
                name=facts.layer_name,
                readout="free",
                attention=facts.attention,
                visible=tracks.visible,
                confidence=tracks.confidence,
                probe=self._probe,
                layer=facts.layer,
                step=facts.step,
                head=facts.head,
                noise=facts.noise,
                variant=variant,
            )

    @property
    def _any(self) -> Follower:
        return next(iter(self._followers.values()))


@dataclass(frozen=True)
class PlainTracker:
    """Follows points with a tracker, at the video's own size."""

    tracker: Tracker
    facts = SiteFacts()

    def grid(self, clip: Clip) -> TokenGrid:
        """Returns one token per pixel: a tracker has no tokens."""
        assert clip.video is not None
        frames, height, width = clip.video.shape[:3]
        return TokenGrid(frames=frames, rows=height, cols=width, stride=(1, 1))

    def follow(self, clip: Clip, settings: RunSettings) -> Tracks:
        """Returns what the tracker finds."""
        assert clip.video is not None
        return self.tracker.track(clip.video, clip.queries)

    def passes(self, frames: int, queries: Queries, clip: Clip | None = None) -> int:
        """Returns 0: what a tracker computes is not known."""
        return 0

    def typical_chunk(self, clip: Clip) -> Clip:
        """Returns the clip itself."""
        return clip


@dataclass(frozen=True)
class DirectModel:
    """Follows points with a model without attention sites, such as a baseline: everything counts as visible."""

    model: VideoModel
    facts = SiteFacts()

    def grid(self, clip: Clip) -> TokenGrid:
        """Returns the model's token size, with one latent per frame."""
        own = self.model.grid(clip, None)
        return TokenGrid(frames=own.video_frames, rows=own.rows, cols=own.cols, stride=own.stride)

    def follow(self, clip: Clip, settings: RunSettings) -> Tracks:
        """Returns the model's positions, brought from its latents to every frame.

        Raises:
            PluginError: the model predicted nothing, or several things.
        """
        from vcorr.capture.recorder import Recorder

        recorder = Recorder({}, clip.queries)
        self.model.run(clip, settings, recorder)
        if len(recorder.predictions) != 1:
            raise PluginError(f"A model without sites makes one prediction, got {len(recorder.predictions)}.")
        found = recorder.predictions[0]
        xy = to_frames(found.xy, found.grid, clip.queries.xy, query_frame=clip.queries.t).astype(np.float32)
        return Tracks(xy, _everything(xy), found.probe)

    def passes(self, frames: int, queries: Queries, clip: Clip | None = None) -> int:
        """Returns 0: there is no network."""
        return 0

    def typical_chunk(self, clip: Clip) -> Clip:
        """Returns the clip itself."""
        return clip


def _everything(xy: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.ones(xy.shape[:2], dtype=np.bool_)
