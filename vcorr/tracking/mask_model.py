"""Makes a model of anything that carries masks, so that the runner serves propagation as it serves any other run.

Shape legend: T frames, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from vcorr.contract.bases import VideoModelBase, with_defaults
from vcorr.contract.errors import PluginError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.protocols import VideoModel
from vcorr.contract.records import Clip, RunSettings, Site
from vcorr.tracking.followed_site import SiteFacts
from vcorr.tracking.mask_carriers import Labels, MaskCarrier

if TYPE_CHECKING:
    from vcorr.capture.recorder import Recorder


class MaskModel(VideoModelBase):
    """A `vcorr.VideoModel` without sites that carries the mask of frame 0 through a clip, at the clip's own size.

    Args:
        carrier: what carries masks.
        facts: returns where the masks come from, as the stored row says it; called after `carry`.
        loaded: the model behind it, which has weights and settings; None for a tracker.
        identity: returns what identifies the files of a tracker, where there is no model.
    """

    steps = 0
    modes = ("renoise",)

    def __init__(
        self,
        carrier: MaskCarrier,
        facts: Callable[[], SiteFacts] = SiteFacts,
        loaded: VideoModel | None = None,
        identity: Callable[[], str] = lambda: "none",
    ) -> None:
        self._carrier, self._find_facts, self._loaded, self._identity = carrier, facts, loaded, identity
        self.has_latents = loaded is not None and with_defaults(loaded, VideoModelBase).has_latents

    @property
    def facts(self) -> SiteFacts:
        """Where the masks come from; read after `carry`."""
        return self._find_facts()

    def sites(self) -> Sequence[Site]:
        """Returns no sites: the sites behind the masks are named in the rows."""
        return ()

    def grid(self, clip: Clip, site: Site | None) -> TokenGrid:
        """Returns the size of the clip, one latent per frame, in the tokens that take labels; raises as the model.

        Raises:
            UsageError: the clip has no video, or the model cannot read it.
        """
        if clip.video is None:
            raise UsageError(f"Clip {clip.id} has no video to carry masks through.", hint="Name data with masks.")
        frames, height, width = clip.video.shape[:3]
        rows, cols = self._carrier.tokens(clip)
        return TokenGrid(frames=frames, rows=rows, cols=cols, stride=(width / cols, height / rows))

    def carry(self, clip: Clip, mask: Labels) -> Labels:
        """Returns the labels (T, H, W) of every frame, from the mask (H, W) of frame 0."""
        return self._carrier.carry(clip, mask)

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
        """Returns the number of forward passes of a network for a clip."""
        return self._carrier.passes(clip)

    def grids_of_pass(self, clip: Clip) -> list[tuple[Site, TokenGrid]]:
        """Returns all sites of the model, each with its grid in one pass; none without sites."""
        if self._loaded is None or not (sites := self._model.sites()):
            return []
        chunk = self._carrier.typical_chunk(clip)
        return [(site, self._model.grid(chunk, site)) for site in sites]

    def run(self, clip: Clip, settings: RunSettings, recorder: Recorder) -> None:
        """Raises PluginError: a mask to start from is needed, see `carry`."""
        raise PluginError("A run of propagation calls carry().")

    @property
    def _model(self) -> Any:
        assert self._loaded is not None
        return self._loaded
