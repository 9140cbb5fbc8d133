"""Makes a model of anything that carries masks, so that the runner serves propagation as it serves any other run.

Shape legend: T frames, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vcorr.contract.errors import PluginError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.protocols import VideoModel
from vcorr.contract.records import Clip, RunSettings, Site
from vcorr.tracking.followed_site import SiteFacts
from vcorr.tracking.mask_carriers import Labels, MaskCarrier
from vcorr.tracking.siteless_model import SitelessModel

if TYPE_CHECKING:
    from vcorr.capture.recorder import Recorder


class MaskModel(SitelessModel):
    """A `vcorr.VideoModel` without sites that carries the mask of frame 0 through a clip, at the clip's own size.

    Args:
        carrier: what carries masks.
        facts: returns where the masks come from, as the stored row says it; called after `carry`.
        loaded: the model behind it, which has weights and settings; None for a tracker.
        identity: returns what identifies the files of a tracker, where there is no model.
    """

    def __init__(
        self,
        carrier: MaskCarrier,
        facts: Callable[[], SiteFacts] = SiteFacts,
        loaded: VideoModel | None = None,
        identity: Callable[[], str] = lambda: "none",
    ) -> None:
        super().__init__(loaded, identity)
        self._carrier, self._find_facts = carrier, facts

    @property
    def facts(self) -> SiteFacts:
        """Where the masks come from; read after `carry`."""
        return self._find_facts()

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

    def passes(self, clip: Clip) -> int:
        """Returns the number of forward passes of a network for a clip."""
        return self._carrier.passes(clip)

    def typical_chunk(self, clip: Clip) -> Clip:
        """Returns the clip as one pass of the network reads it; the clip itself without a network."""
        return self._carrier.typical_chunk(clip)

    def run(self, clip: Clip, settings: RunSettings, recorder: Recorder) -> None:
        """Raises PluginError: a mask to start from is needed, see `carry`."""
        raise PluginError("A run of propagation calls carry().")
