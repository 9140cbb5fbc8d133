"""Measures how well the autoencoder reconstructs videos of the validation split."""

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKLCogVideoX
from torch import Tensor

from vcorr_tiny.networks import TinyConfig
from vcorr_tiny.sprites.draws import seed_of
from vcorr_tiny.sprites.levels import LEVELS
from vcorr_tiny.sprites.pictures import Pictures
from vcorr_tiny.sprites.scenes import Scenes
from vcorr_tiny.training.run import Run
from vcorr_tiny.training.vae import reconstruct


@dataclass(frozen=True)
class Kind:
    """A kind of validation videos: a level, and whether pictures are its textures."""

    level: str
    pictures: Pictures | None = None


def kinds(pictures: Pictures | None) -> dict[str, Kind]:
    """Returns the kinds that are measured: ``easy``, ``hard``, and ``pictures``, the level clean with pictures.

    The pictures are the ones of training; only the scenes are held out.
    """
    drawn = {name: Kind(name) for name in ("easy", "hard")}
    return drawn | ({"pictures": Kind("clean", pictures)} if pictures else {})


def validation_scenes(config: TinyConfig, device: torch.device, kind: Kind, count: int, batch: int = 0) -> Scenes:
    """Draws ``count`` scenes of the validation split as one batch; batches have seeds of their own."""
    generator = torch.Generator(device).manual_seed(seed_of("validation", batch))
    level = LEVELS[kind.level]
    return Scenes(count, generator, config.size, config.frames, level=level, pictures=kind.pictures)


@dataclass(frozen=True)
class Reconstruction:
    """PSNR in dB over all frames and over first frames, mean over videos."""

    psnr: float
    psnr_first: float


@dataclass(frozen=True)
class VaeQuality:
    """Reconstruction per kind of validation videos; standard deviation and mean of the latents of all of them."""

    kinds: dict[str, Reconstruction]
    latent_std: float
    latent_mean: float


@torch.no_grad()
def quality(run: Run, vae: AutoencoderKLCogVideoX, count: int, pictures: Pictures | None = None) -> VaeQuality:
    """Measures ``vae`` on ``count`` validation videos of each kind."""
    latents, found = [], {}
    for name, kind in kinds(pictures).items():
        parts = torch.split(validation_scenes(run.config, run.device, kind, count).render(), 8)
        errors = torch.cat([(reconstruct(vae, part) - part).square() for part in parts])
        latents += [vae.encode(part.to(vae.dtype)).latent_dist.mean.float() for part in parts]
        found[name] = Reconstruction(_psnr(errors), _psnr(errors[:, :, :1]))
    values = torch.cat(latents)
    return VaeQuality(found, float(values.std()), float(values.mean()))


def _psnr(squared: Tensor) -> float:
    """Returns the mean over videos of the PSNR, from squared errors (n, 3, T, S, S) of values in [-1, 1]."""
    return float(10 * torch.log10(4 / squared.mean(dim=(1, 2, 3, 4))).mean())
