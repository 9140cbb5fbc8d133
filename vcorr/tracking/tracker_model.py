"""Makes a model of anything that follows points, so that the runner serves tracking as it serves any other run.

Shapes: N query points, T video frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.bases import VideoModelBase, with_defaults
from vcorr.contract.errors import PluginError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.protocols import Tracker, VideoModel
from vcorr.contract.records import Clip, Queries, RunSettings, Site, Tracks
from vcorr.contract.variants import NamedVariant
from vcorr.metrics.timemap import to_frames
from vcorr.tracking.followed_site import DIRECT, SiteFacts

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


class TrackerModel(VideoModelBase):
    """A `vcorr.VideoModel` without sites that predicts a track of every query in every frame.

    Args:
        followers: what follows the points, by the variant under which it does. There is one prediction from each.
        probe: name of the probe behind the tracks; `DIRECT` for none.
        loaded: the model behind it, which has weights and settings; None for a tracker.
        identity: returns what identifies the files of a tracker, where there is no model.
    """

    steps = 0
    modes = ("renoise",)

    def __init__(
        self,
        followers: Mapping[NamedVariant, Follower],
        probe: str = DIRECT,
        loaded: VideoModel | None = None,
        identity: Callable[[], str] = lambda: "none",
    ) -> None:
        self._followers, self._probe = dict(followers), probe
        self._loaded, self._identity = loaded, identity
        self.has_latents = loaded is not None and with_defaults(loaded, VideoModelBase).has_latents

    def sites(self) -> Sequence[Site]:
        """Returns no sites: the sites behind the tracks are named in the rows."""
        return ()

    def grid(self, clip: Clip, site: Site | None) -> TokenGrid:
        """Returns the size at which the points are followed, one latent per frame; raises UsageError as the model."""
        if clip.video is None:
            raise UsageError(
                f"Clip {clip.id} has no video to follow points in.", hint="Tracking needs data with video."
            )
        return self._any.grid(clip)

    def weights_id(self, weights: str) -> str:
        """Returns the identity of the weights of the model, or of the files of the tracker."""
        return self._identity() if self._loaded is None else str(self._model.weights_id(weights))

    def check_settings(self, settings: RunSettings) -> None:
        """Checks the settings with the model; a tracker has none."""
        if self._loaded is not None:
            self._model.check_settings(settings)

    def load(self, device: str, dtype: str, weights: str) -> None:
        """Loads the model; a tracker loads its weights by itself."""
        if self._loaded is not None:
            self._model.load(device, dtype, weights)

    def passes(self, clip: Clip) -> int:
        """Returns the number of forward passes for a clip, under all variants together."""
        assert clip.video is not None
        frames = len(clip.video)
        return sum(follower.passes(frames, clip.queries, clip) for follower in self._followers.values())

    def grids_of_pass(self, clip: Clip) -> list[tuple[Site, TokenGrid]]:
        """Returns all sites of the model, each with its grid in one pass; none without sites."""
        if self._loaded is None:
            return []
        chunk = self._any.typical_chunk(clip)
        return [(site, self._model.grid(chunk, site)) for site in self._model.sites()]

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

    @property
    def _model(self) -> Any:
        assert self._loaded is not None
        return self._loaded


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
