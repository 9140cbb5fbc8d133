"""A plugin for the tests: pictures that slide by whole tokens, and a model whose attention sees exactly that.

Layer 0 has the pixels of a token as query and key, so it matches perfectly; layer 1 sees only where the token is, so it
says that nothing moves. With `--set data.fail=ID` that clip cannot be loaded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import vcorr

STRIDE, SIDE, FRAMES, SHIFT = 8, 64, 5, 8


@dataclass
class ModelConfig:
    """Options of the model. sharpness: of its attention. pause: seconds to wait in every clip."""

    sharpness: float = 40.0
    marker: str = ""


class SlidingModel:
    """Meets vcorr.VideoModel."""

    steps = 10

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.network = None

    def sites(self):
        return (vcorr.Site(0, "see.attend", 2), vcorr.Site(1, "stay.attend", 2))

    def grid(self, clip, site):
        frames, height, width = (FRAMES, SIDE, SIDE) if clip.video is None else clip.video.shape[:3]
        return vcorr.TokenGrid(frames=frames, rows=height // STRIDE, cols=width // STRIDE, stride=(STRIDE, STRIDE))

    def load(self, device, dtype, weights):
        if weights == "missing":
            raise vcorr.MissingError("The weights are not here.", hint="Fetch them.")
        self.network = _network(self.config.sharpness)

    def run(self, clip, settings, recorder):
        import torch

        from vcorr.capture.captures import TokenLayout

        if self.config.marker:
            with open(self.config.marker, "a", encoding="utf-8") as file:
                file.write(clip.id + "\n")
        generating = settings.mode == "generate"
        video = slide(settings.seed)[0] if generating else clip.video
        grid = self.grid(clip, None)
        pixels = torch.from_numpy(video).float().div(255).sub(0.5)
        with torch.no_grad(), recorder.attach(self.network, self.sites(), TokenLayout(), grid):
            for step in settings.steps:
                with recorder.step(step, noise=1 - (step + 1) / settings.num_steps):
                    self.network(pixels)
        return video if generating else None


def _network(sharpness):
    import torch
    from torch import nn

    class Attend(nn.Module):
        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x, x)

    class See(nn.Module):
        def __init__(self):
            super().__init__()
            self.attend = Attend()

        def forward(self, pixels):
            t, h, w, _ = pixels.shape
            tokens = pixels.reshape(t, h // STRIDE, STRIDE, w // STRIDE, STRIDE, 3).transpose(2, 3)
            flat = nn.functional.normalize(tokens.reshape(t * (h // STRIDE) * (w // STRIDE), -1), dim=-1)
            x = (flat * sharpness).expand(1, 2, -1, -1).contiguous()
            return self.attend(x)

    class Stay(nn.Module):
        def __init__(self):
            super().__init__()
            self.attend = Attend()

        def forward(self, pixels):
            t, h, w, _ = pixels.shape
            places = (h // STRIDE) * (w // STRIDE)
            x = (torch.eye(places).repeat(t, 1) * sharpness).expand(1, 2, -1, -1).contiguous()
            return self.attend(x)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.see, self.stay = See(), Stay()

        def forward(self, pixels):
            return self.see(pixels).sum() + self.stay(pixels).sum()

    return Network()


def slide(seed):
    """A picture that slides right by one token a frame: (T, H, W, 3) uint8, and the picture."""
    wide = SIDE + SHIFT * FRAMES
    picture = np.random.default_rng(seed).integers(0, 256, (SIDE, wide, 3), dtype=np.uint8)
    starts = [SHIFT * (FRAMES - 1 - t) for t in range(FRAMES)]
    return np.stack([picture[:, s : s + SIDE] for s in starts]), picture


@dataclass
class DataConfig:
    """Options of the dataset. moved: pixels by which the reference of the first point is off, after frame 0."""

    clips: int = 4
    fail: str = ""
    moved: float = 0.0


class SlidingData:
    """Meets vcorr.Dataset: every picture slides right by one token a frame."""

    split = "test"

    def __init__(self, config: DataConfig) -> None:
        self.config = config

    def ids(self):
        return tuple(f"slide-{i}" for i in range(self.config.clips))

    def clip(self, clip_id):
        if clip_id == self.config.fail:
            raise ValueError(f"{clip_id} is broken")
        video = slide(int(clip_id.split("-")[1]))[0]
        ys, xs = np.meshgrid(np.arange(4.5, SIDE, 12), np.arange(3.5, SIDE - SHIFT * (FRAMES - 1), 7))
        queries = np.stack([xs.ravel(), ys.ravel()], axis=-1).astype(np.float32)
        xy = queries[:, None] + np.arange(FRAMES, dtype=np.float32)[None, :, None] * np.float32([SHIFT, 0])
        xy[0, 1:, 1] += self.config.moved
        tracks = vcorr.Tracks(xy, np.ones(xy.shape[:2], dtype=bool), tracker="exact")
        return vcorr.Clip(id=clip_id, prompt="a sliding picture", queries=queries, video=video, tracks=tracks)


def entries_of(kind: type, *classes: type) -> list:
    """Returns entries of classes that a test derives from those here, under their names in lowercase.

    kind: vcorr.ModelEntry or vcorr.DatasetEntry.
    """
    config = f"{__name__}:{'ModelConfig' if kind is vcorr.ModelEntry else 'DataConfig'}"
    return [
        kind(name=c.__name__.lower(), summary=".", factory=f"{c.__module__}:{c.__name__}", config=config)
        for c in classes
    ]


@vcorr.hookimpl
def vcorr_models():
    """The model."""
    return [
        vcorr.ModelEntry(
            name="sliding-model",
            summary="Sees whole-token motion.",
            factory=f"{__name__}:SlidingModel",
            config=f"{__name__}:ModelConfig",
            data="token-slide",
        )
    ]


@vcorr.hookimpl
def vcorr_datasets():
    """The dataset."""
    yield vcorr.DatasetEntry(
        name="token-slide",
        summary="Sliding pictures.",
        factory=f"{__name__}:SlidingData",
        config=f"{__name__}:DataConfig",
    )
