"""Where the tokens of a diffusers adapter are: its sites, its grid, the sizes it reads, text and guidance branches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Clip, Site
from vcorr.contract.rotary import Rotary
from vcorr.diffusion.adapter_facts import AdapterFacts, C, missing_member
from vcorr.diffusion.size_checks import check_size, frames_to_read, grid_of_stills
from vcorr.diffusion.token_layout import Compression, Sizes, attention_sites

if TYPE_CHECKING:
    from vcorr.capture.captures import TokenLayout


class AdapterLayout(AdapterFacts[C]):
    """The part of `DiffusersVideoModel` that says where tokens are in a video and in an attention call."""

    # ------------------------------------------------------------------------------------- what a subclass may override

    def sites(self) -> Sequence[Site]:
        """Returns the attention modules that can be probed, by ascending layer: by default `attention` per block."""
        count, heads = (self.network.get(name) for name in ("num_layers", "num_attention_heads"))
        if count is None or heads is None:
            raise missing_member(self, "sites")
        return attention_sites(
            self.attention,
            count,
            heads,
            self.attention_kind,
            block=self.block,
            unrotated=self.unrotated,
            rotary=self.rotary,
        )

    @property
    def rotary(self) -> Rotary | None:
        """How the rotary embedding rotates the video tokens at the configured size; None if there is none, or if its
        layout is not known.
        """
        return None

    def grid(self, clip: Clip, site: Site | None) -> TokenGrid:
        """Returns how tokens lie over `clip` at the size in which this model reads it.

        Raises:
            UsageError: the model does not take the configured height, width or frames, or the clip is too short.
        """
        config, pack = self.config, self.compression_at(site)
        allowed, title = self.sizes(site), self.model_card().title
        for name, sizes in allowed.items():
            check_size(name, getattr(config, name), sizes, title)
        if clip.stills:
            return grid_of_stills(clip, (config.height, config.width), pack, allowed["frames"], title)
        frames = frames_to_read(clip, config.frames, allowed["frames"], title)
        tokens, spans = pack.time(frames)
        return TokenGrid(
            frames=tokens,
            rows=config.height // pack.stride,
            cols=config.width // pack.stride,
            stride=(pack.stride, pack.stride),
            video_frames=frames,
            temporal_ratio=pack.temporal_ratio,
            causal=pack.causal,
            spans=spans,
        )

    def check_makes(self, grid: TokenGrid) -> None:
        """Raises UsageError if the model can read, but not generate, videos of that size; by default it never does."""

    def compression_at(self, site: Site | None) -> Compression:
        """Returns how pixels become tokens at a site; sites differ only if the network has several resolutions."""
        return self.compression

    def sizes(self, site: Site | None) -> Mapping[str, Sizes]:
        """Returns the heights, widths and frames that can be read at a site: by default all that divide into tokens."""
        pack = self.compression_at(site)
        side = Sizes(pack.stride, pack.stride)
        return {"height": side, "width": side, "frames": Sizes(pack.least_frames, pack.frame_step)}

    # --------------------------------------------------------------------------------------------------------- contract

    @property
    def text_tokens(self) -> int | None:
        """Number of text tokens in an attention call, if it is the same for every prompt; else None.

        The capture compares it with each call.
        """
        return None

    def layout(self) -> TokenLayout:
        """Returns where the text and the guidance branches are in an attention call."""
        from vcorr.capture.captures import TokenLayout

        return TokenLayout(self.text, self.branches, self.text_tokens, per_sample=self.per_sample, passes=self.passes)
