"""Trains the video autoencoder, which is stage one.

Legend: n videos, C latent channels, T frames, F latent frames, S image side. Videos are (n, 3, T, S, S) in [-1, 1].
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from diffusers import AutoencoderKLCogVideoX
from torch import Tensor

from vcorr_tiny.networks import build_vae, read_channels
from vcorr_tiny.training.mixture import Mixture
from vcorr_tiny.training.optim import Optimiser, gradients_of
from vcorr_tiny.training.run import VAE_DATA, Budget, Pace, Run


@dataclass(frozen=True)
class VaeSettings:
    """Options of the autoencoder stage."""

    batch: int = 24
    """Videos per step of all ranks while training on crops; half as many while training on whole frames."""
    chunks: int = 3
    """Chunks of a rank's batch, each with a level and a kind of texture of its own."""
    crops: int = 2
    """Half-size crops per video."""
    whole_share: float = 0.2
    """Share of the stage, at its end, that trains on whole frames."""
    muon_rate: float = 4e-3
    adamw_rate: float = 2e-3
    decoder_rate: float = 0.4
    """Factor on both rates while a finished decoder is trained alone: the full rate would first undo much of it."""
    warmup: int = 50
    kl_weight: float = 3e-5
    l1_weight: float = 0.25
    edge_weight: float = 0.25
    """Weight of the absolute error of differences between neighbouring pixels, mean over both axes.

    It is the weight of the absolute error itself. An error that is smooth in space, as of a slow change of light, then
    pays almost nothing more. An error that changes sign from one pixel to the next, as at a blurred outline, pays up to
    three times as much.
    """
    log_every: int = 50
    clips: int = 32
    """Validation clips of each kind that measure the finished autoencoder."""


class VaeTrainer:
    """Trains the autoencoder to reconstruct rendered videos, new ones at every step; or its decoder alone.

    start: weights of a finished autoencoder. Its encoder then stays as it is, and its decoder is trained on from the
    means of the latents, which are what the pipeline decodes.

    On a GPU, forward and backward run in a bfloat16 copy, and the optimiser updates float32 master weights. The group
    norms, which autocast would run in float32, then need half the memory traffic.
    """

    def __init__(
        self,
        run: Run,
        budget: Budget,
        mixture: Mixture,
        settings: VaeSettings | None = None,
        start: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.run, self.budget, self.mixture, self.settings = run, budget, mixture, settings or VaeSettings()
        self.decoder_only = start is not None
        torch.manual_seed(run.seed)
        self.vae = (build_vae(run.config) if start is None else _frozen_encoder(run, start)).to(run.device).train()
        masters = run.working_dtype == torch.float32
        self.worker = self.vae if masters else copy.deepcopy(self.vae).to(run.working_dtype)
        named = {name: p for name, p in self.vae.named_parameters() if p.requires_grad}
        kernels = [name for name, p in named.items() if p.ndim >= 4 and "conv_in" not in name]
        kernels = [name for name in kernels if "decoder.conv_out" not in name]
        self.optimiser = Optimiser(named, kernels, betas=(0.9, 0.95))

    def train(self) -> bool:
        """Trains until the budget or the invocation ends; returns whether the stage is finished."""
        sums, since = torch.zeros(4, device=self.run.device), 0
        pace = Pace(self.run, self.budget)
        while pace.goes_on():
            sums += self.step()
            since += 1
            self.budget.done += 1
            if self.budget.done % self.settings.log_every == 0:
                self._log(sums / since)
                sums.zero_()
                since = 0
        return self.budget.finished

    def step(self) -> Tensor:
        """Makes one optimiser step; returns squared, absolute and edge error of this rank and KL divergence, (4,)."""
        settings = self.settings
        terms = self.backward()
        self._hand_over_gradients()
        self.run.ranks.average(gradients_of(self.optimiser.named.values()))
        rate = self._rate()
        self.optimiser.step(settings.muon_rate * rate, settings.adamw_rate * rate)
        self._refresh_worker()
        return terms

    def backward(self) -> Tensor:
        """Computes the gradients of this rank's batch; returns what ``step`` returns."""
        settings = self.settings
        generator = self.run.generator(VAE_DATA, self.budget.done)
        videos = self._batch(generator)
        latents, divergence = self._means(videos) if self.decoder_only else self._latents(videos, generator)
        output = self.worker.decode(latents.to(self.worker.dtype)).sample.float()
        error = output - videos
        squared, absolute, edges = error.square().mean(), error.abs().mean(), edge_error(error)
        loss = squared + settings.l1_weight * absolute + settings.edge_weight * edges
        (loss + settings.kl_weight * divergence).backward()
        return torch.stack([squared, absolute, edges, divergence]).detach()

    def _latents(self, videos: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws latents from the posterior; returns them and their KL divergence."""
        posterior = self.worker.encode(videos.to(self.worker.dtype)).latent_dist
        mean, log_variance = posterior.mean.float(), posterior.logvar.float()
        spread = torch.randn(mean.shape, generator=generator, device=mean.device)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
        return mean + spread * torch.exp(0.5 * log_variance), divergence

    @torch.no_grad()
    def _means(self, videos: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the means of the latents, and 0: without a gradient of the encoder, no divergence counts."""
        mean = self.worker.encode(videos.to(self.worker.dtype)).latent_dist.mean.float()
        return mean, mean.new_zeros(())

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
        share = self.run.ranks.share(settings.batch)
        with torch.no_grad():
            videos = self.mixture.videos(max(1, share // 2) if whole else share, generator, settings.chunks)
        if whole:
            return videos
        side = size // 2
        # Slices need the corners as Python numbers; with a CPU generator they do not have to wait for the device.
        places = torch.Generator().manual_seed(generator.initial_seed())
        corners = torch.randint(0, size - side + 1, (settings.crops, 2), generator=places).tolist()
        return torch.cat([videos[..., top : top + side, left : left + side] for top, left in corners])

    def _rate(self) -> float:
        """Returns the factor of the learning rate: a warm-up, then a cosine down to 2 %; lower for a decoder alone."""
        peak = self.settings.decoder_rate if self.decoder_only else 1.0
        cosine = 0.5 + 0.5 * math.cos(math.pi * self.budget.progress)
        return peak * min(1.0, (self.budget.done + 1) / self.settings.warmup) * (0.02 + 0.98 * cosine)

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
        squared, absolute, edges, divergence = means.tolist()
        self.run.log.write(
            "vae",
            step=self.budget.done,
            seconds=self.budget.spent,
            mse=squared,
            l1=absolute,
            edges=edges,
            kl=divergence,
            psnr=10 * math.log10(4 / squared),
            rate=self._rate(),
        )


def _frozen_encoder(run: Run, weights: Mapping[str, Tensor]) -> AutoencoderKLCogVideoX:
    """Returns an autoencoder with the given weights, whose encoder takes no gradients."""
    vae = build_vae(replace(run.config, vae_channels=read_channels(weights)))
    vae.load_state_dict(weights)
    vae.encoder.requires_grad_(False)
    return vae


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


def edge_error(error: Tensor) -> Tensor:
    """Returns the mean absolute difference of ``error`` (…, S, S) between neighbouring pixels, mean over both axes.

    It equals the absolute error of the differences, because differences are linear.
    """
    return (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) / 2
