"""What a model at its sites and a tracker share where a run treats them as a model that predicts directly."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from vcorr.contract.bases import VideoModelBase, with_defaults
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.protocols import VideoModel
from vcorr.contract.records import Clip, RunSettings, Site


class SitelessModel(VideoModelBase):
    """A `vcorr.VideoModel` without sites, with a tracker or another model behind it.

    Args:
        loaded: the model behind it, which has weights and settings; None for a tracker.
        identity: returns what identifies the files of a tracker, where there is no model.
    """

    steps = 0
    modes = ("renoise",)

    def __init__(self, loaded: VideoModel | None, identity: Callable[[], str]) -> None:
        self._loaded, self._identity = loaded, identity
        self.has_latents = loaded is not None and with_defaults(loaded, VideoModelBase).has_latents

    def sites(self) -> Sequence[Site]:
        """Returns no sites: the sites behind the predictions are named in the rows."""
        return ()

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

    def grids_of_pass(self, clip: Clip) -> list[tuple[Site, TokenGrid]]:
        """Returns all sites of the model, each with its grid in one pass; none without sites."""
        if self._loaded is None or not (sites := self._model.sites()):
            return []
        chunk = self.typical_chunk(clip)
        return [(site, self._model.grid(chunk, site)) for site in sites]

    @abstractmethod
    def typical_chunk(self, clip: Clip) -> Clip:
        """Returns the clip as one pass of the network reads it; the clip itself without a network."""

    @property
    def _model(self) -> Any:
        assert self._loaded is not None
        return self._loaded
