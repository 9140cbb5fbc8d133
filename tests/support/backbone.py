"""A plugin for the tests: an image backbone, which has no noise and sees one frame at a time.

Layer 0 has tokens of 8 pixels, layer 1 of 16; both have the pixels of a token as query and key. It reads a video a few
frames at a time, and every frame has a class token in front.
"""

from __future__ import annotations

from dataclasses import dataclass

import vcorr
from vcorr.contract.records import Factorised

STRIDES = (8, 16)


@dataclass
class BackboneConfig:
    """Options of the model. batch: frames a pass. pixels_off: what the coarse grid covers too little."""

    batch: int = 2
    pixels_off: int = 0


class Backbone:
    """Meets vcorr.VideoModel."""

    steps = 0

    def __init__(self, config: BackboneConfig | None = None) -> None:
        self.config = config or BackboneConfig()
        self.network = None

    def sites(self):
        return tuple(
            vcorr.Site(layer, f"{layer}.attend", 1, "factorised", factorised=Factorised("spatial"), block=str(layer))
            for layer in range(len(STRIDES))
        )

    def grid(self, clip, site):
        if clip.video is None:
            raise vcorr.UsageError("The backbone reads videos.")
        stride = STRIDES[site.layer if site else 0]
        frames, height, width = clip.video.shape[:3]
        off = self.config.pixels_off if stride == STRIDES[1] else 0
        return vcorr.TokenGrid(frames, height // stride, (width - off) // stride, (stride, stride))

    def load(self, device, dtype, weights):
        import torch

        self.network = torch.nn.Sequential(*(_layer(stride) for stride in STRIDES))

    def run(self, clip, settings, recorder):
        import torch

        from vcorr.capture import TokenLayout

        pixels = torch.from_numpy(clip.video).float().div(255).sub(0.5).permute(0, 3, 1, 2)
        layout = TokenLayout("before", text_tokens=1)
        attached = recorder.attach(self.network, self.sites(), layout, lambda site: self.grid(clip, site))
        with torch.no_grad(), attached, recorder.step(*settings.steps):
            for frames in pixels.split(self.config.batch):
                self.network(frames)


def _layer(stride):
    import torch
    from torch import nn

    class Attend(nn.Module):
        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x, x)

    class Layer(nn.Module):
        """Puts out its tokens, and the pixels for the next layer."""

        def __init__(self):
            super().__init__()
            self.attend = Attend()

        def forward(self, inputs):
            pixels = inputs[1] if isinstance(inputs, tuple) else inputs
            patches = nn.functional.unfold(pixels, stride, stride=stride).transpose(1, 2)
            tokens = 40 * nn.functional.normalize(torch.cat([patches[:, :1], patches], dim=1), dim=-1)
            self.attend(tokens[:, None])
            return tokens, pixels

    return Layer()


@vcorr.hookimpl
def vcorr_models():
    """The model."""
    return [
        vcorr.ModelEntry(
            name="backbone",
            summary="Sees frames.",
            factory=f"{__name__}:Backbone",
            config=f"{__name__}:BackboneConfig",
            data="token-slide",
        )
    ]
