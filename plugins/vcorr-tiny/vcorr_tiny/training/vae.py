"""Trains the video autoencoder, which is stage one.

Legend: n videos, C latent channels, T frames, F latent frames, S image side. Videos are (n, 3, T, S, S) in [-1, 1].
"""

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKLCogVideoX
from torch import Tensor
from torch.nn import functional

from vcorr_tiny.networks import build_vae
from vcorr_tiny.sprites.draws import seed_of
from vcorr_tiny.sprites.scenes import Scenes
from vcorr_tiny.training.optim import Optimiser
from vcorr_tiny.training.run import VAE_DATA, Budget, Run


@dataclass(frozen=True)
class VaeSettings:
    """Options of the autoencoder stage."""

    batch: int = 24
    """Videos per step while training on crops; half as many while training on whole frames."""
    crops: int = 2
    """Half-size crops per video."""
    whole_share: float = 0.2
    """Share of the stage, at its end, that trains on whole frames."""
    muon_rate: float = 4e-3
    adamw_rate: float = 2e-3
    warmup: int = 50
    kl_weight: float = 3e-5
    l1_weight: float = 0.25
    log_every: int = 50


@dataclass(frozen=True)
class VaeQuality:
    """Reconstruction of held-out videos: PSNR in dB over all frames and over first frames; statistics of latents."""

    psnr: float
    psnr_first: float
    latent_std: float
    latent_mean: float


class VaeTrainer:
    """Trains the autoencoder to reconstruct rendered videos, new ones at every step.

    On a GPU, forward and backward run in a bfloat16 copy, and the optimiser updates float32 master weights. The group
    norms, which autocast would run in float32, then need half the memory traffic.
    """

    def __init__(self, run: Run, budget: Budget, settings: VaeSettings | None = None) -> None:
        self.run, self.budget, self.settings = run, budget, settings or VaeSettings()
        torch.manual_seed(run.seed)
        self.vae = build_vae(run.config).to(run.device).train()
        masters = run.working_dtype == torch.float32
        self.worker = self.vae if masters else copy.deepcopy(self.vae).to(run.working_dtype)
        named = dict(self.vae.named_parameters())
        kernels = [name for name, p in named.items() if p.ndim >= 4 and "conv_in" not in name]
        kernels = [name for name in kernels if "decoder.conv_out" not in name]
        self.optimiser = Optimiser(named, kernels, betas=(0.9, 0.95))

    def train(self) -> bool:
        """Trains until the budget or the invocation ends; returns whether the stage is finished."""
        sums, since = torch.zeros(3, device=self.run.device), 0
        while not self.budget.finished and not self.run.out_of_time:
            began = time.monotonic()
            sums += self.step()
            since += 1
            self.budget.done += 1
            if self.budget.done % self.settings.log_every == 0:
                self._log(sums / since)
                sums.zero_()
                since = 0
            self.budget.spent += time.monotonic() - began
        return self.budget.finished

    def step(self) -> Tensor:
        """Makes one optimiser step; returns squared error, absolute error and KL divergence, (3,)."""
        settings = self.settings
        generator = self.run.generator(VAE_DATA, self.budget.done)
        videos = self._batch(generator)
        posterior = self.worker.encode(videos.to(self.worker.dtype)).latent_dist
        mean, log_variance = posterior.mean.float(), posterior.logvar.float()
        spread = torch.randn(mean.shape, generator=generator, device=mean.device)
        latents = mean + spread * torch.exp(0.5 * log_variance)
        output = self.worker.decode(latents.to(self.worker.dtype)).sample.float()
        squared, absolute = functional.mse_loss(output, videos), functional.l1_loss(output, videos)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
        loss = squared + settings.l1_weight * absolute + settings.kl_weight * divergence
        loss.backward()
        self._hand_over_gradients()
        rate = self._rate()
        self.optimiser.step(settings.muon_rate * rate, settings.adamw_rate * rate)
        self._refresh_worker()
        return torch.stack([squared, absolute, divergence]).detach()

    def state(self) -> dict[str, Tensor]:
        """Returns all tensors that are needed to continue exactly from here."""
        tensors = {f"vae/{name}": value for name, value in self.vae.state_dict().items()}
        return tensors | {f"vae-optimiser/{name}": value for name, value in self.optimiser.state().items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores the tensors that ``state`` returned."""
        self.vae.load_state_dict(under("vae/", tensors))
        self.optimiser.restore(under("vae-optimiser/", tensors))
        self._refresh_worker()

    def _batch(self, generator: torch.Generator) -> Tensor:
        """Renders videos; returns random half-size crops of them, or at the end of the stage whole videos."""
        settings, size = self.settings, self.run.config.size
        whole = self.budget.progress >= 1 - settings.whole_share
        count = max(1, settings.batch // 2) if whole else settings.batch
        with torch.no_grad():
            videos = Scenes(count, generator, size, self.run.config.frames).render()
        if whole:
            return videos
        side = size // 2
        # Slices need the corners as Python numbers; with a CPU generator they do not have to wait for the device.
        places = torch.Generator().manual_seed(generator.initial_seed())
        corners = torch.randint(0, size - side + 1, (settings.crops, 2), generator=places).tolist()
        return torch.cat([videos[..., top : top + side, left : left + side] for top, left in corners])

    def _rate(self) -> float:
        """Returns the factor of the learning rate: a warm-up, then a cosine down to 2 %."""
        cosine = 0.5 + 0.5 * math.cos(math.pi * self.budget.progress)
        return min(1.0, (self.budget.done + 1) / self.settings.warmup) * (0.02 + 0.98 * cosine)

    def _hand_over_gradients(self) -> None:
        if self.worker is not self.vae:
            for master, worker in zip(self.vae.parameters(), self.worker.parameters(), strict=True):
                master.grad = None if worker.grad is None else worker.grad.float()
                worker.grad = None

    @torch.no_grad()
    def _refresh_worker(self) -> None:
        if self.worker is not self.vae:
            torch._foreach_copy_(list(self.worker.parameters()), list(self.vae.parameters()))

    def _log(self, means: Tensor) -> None:
        squared, absolute, divergence = means.tolist()
        self.run.log.write(
            "vae",
            step=self.budget.done,
            seconds=self.budget.spent,
            mse=squared,
            l1=absolute,
            kl=divergence,
            psnr=10 * math.log10(4 / squared),
            rate=self._rate(),
        )


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors whose names start with ``prefix``, by their names without it."""
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


@torch.no_grad()
def encode(vae: AutoencoderKLCogVideoX, videos: Tensor) -> Tensor:
    """Returns the scaled means of the latents, (n, F, C, h, w) float32, as the transformer reads them."""
    latents: Tensor = vae.encode(videos.to(vae.dtype)).latent_dist.mean.float()
    scaling: float = vae.config.scaling_factor
    return latents.transpose(1, 2) * scaling


@torch.no_grad()
def reconstruct(vae: AutoencoderKLCogVideoX, videos: Tensor) -> Tensor:
    """Encodes videos, decodes the means of the latents, and returns float32 in [-1, 1]."""
    latents = vae.encode(videos.to(vae.dtype)).latent_dist.mean
    output: Tensor = vae.decode(latents).sample
    return output.float().clamp(-1, 1)


def validation_videos(run: Run, count: int) -> tuple[Scenes, Tensor]:
    """Draws ``count`` scenes of the validation split as one batch; returns them and their videos."""
    generator = torch.Generator(run.device).manual_seed(seed_of("validation", 0))
    scenes = Scenes(count, generator, run.config.size, run.config.frames)
    return scenes, scenes.render()


@torch.no_grad()
def quality(run: Run, vae: AutoencoderKLCogVideoX, count: int = 32) -> VaeQuality:
    """Measures how well ``vae`` reconstructs validation videos; PSNR is the mean over videos."""
    _, videos = validation_videos(run, count)
    errors, latents = [], []
    for batch in torch.split(videos, 8):
        errors.append((reconstruct(vae, batch) - batch).square().mean(dim=(1, 3, 4)))
        latents.append(vae.encode(batch.to(vae.dtype)).latent_dist.mean.float())
    squared, values = torch.cat(errors), torch.cat(latents)
    psnr, first = (10 * torch.log10(4 / error).mean() for error in (squared.mean(1), squared[:, 0]))
    return VaeQuality(float(psnr), float(first), float(values.std()), float(values.mean()))
