"""Trains the diffusion transformer and its text encoder on latents of rendered videos, which is stage two.

Legend: B videos per step, F latent frames, C latent channels, h and w latent sides, L caption tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel
from torch import Tensor, nn
from transformers import T5EncoderModel

from vcorr_tiny.networks import TinyConfig, build_scheduler, build_text_encoder, build_transformer, rotary_tables
from vcorr_tiny.sprites.words import CAPTION_TOKENS, END, TOKENS
from vcorr_tiny.training.attention import choose_attention
from vcorr_tiny.training.given_frames import draw_given, mean_of_noisy
from vcorr_tiny.training.mixture import PLAIN, Mixture
from vcorr_tiny.training.optim import Optimiser, gradients_of
from vcorr_tiny.training.run import DIT_DATA, DIT_NOISE, Budget, Pace, Run
from vcorr_tiny.training.vae import encode, under

NOISE_BINS = 10
"""Number of equal parts of the range of timesteps for which the loss is logged separately."""

FOCUS = (0.4, 0.9)
"""Part of the range of timesteps in which samples get their outlines: textures come later, the layout before."""


@dataclass(frozen=True)
class DitSettings:
    """Options of the transformer stage."""

    batch: int = 128
    """Videos per step of all ranks."""
    pool: int = 12288
    """Encoded videos of all ranks from which batches are drawn."""
    fresh: int = 16
    """Videos of a chunk, which have one level; a new chunk replaces the oldest one of a rank's pool."""
    refill_every: int = 4
    """Steps between two new chunks: rendering and encoding one costs about half a step."""
    rate: float = 1e-3
    warmup: int = 200
    decay_share: float = 0.22
    """Share of the stage, at its end, in which the rate falls linearly to 2 %."""
    average: float = 0.9985
    """Decay of the moving average of the weights; the average is the final model."""
    caption_drop: float = 0.12
    focus: float = 0.0
    """Share of the timesteps that are drawn in FOCUS alone, in [0, 1); the others are uniform over the range."""
    plain: float = PLAIN
    """Share of videos without faults."""
    given: float = 0.5
    """Share of videos of which one or two latent frames have no noise (see `given_frames`)."""
    compile: bool = True
    log_every: int = 50


class LatentPool:
    """A rank's ring of encoded videos, of which every k-th step replaces one chunk; k is ``refill_every``.

    Before step s it holds as many chunks as fit, from chunk ceil(s / k) on, and every chunk is drawn from its own seed.
    The pool therefore depends on the step only, and a resumed run reads the same videos as an uninterrupted one.
    """

    def __init__(
        self, run: Run, settings: DitSettings, vae: AutoencoderKLCogVideoX, mixture: Mixture, step: int
    ) -> None:
        config = run.config
        self.run, self.vae, self.mixture = run, vae, mixture
        self.fresh, self.every = settings.fresh, settings.refill_every
        self.chunks = max(1, run.ranks.share(settings.pool) // settings.fresh)
        count, side = self.chunks * settings.fresh, config.latent_size
        shape = (count, config.latent_frames, config.latent_channels, side, side)
        self.latents = torch.empty(shape, dtype=run.working_dtype, device=run.device)
        self.token_ids = torch.zeros((count, CAPTION_TOKENS), dtype=torch.int64, device=run.device)
        oldest = -(-step // self.every)
        for chunk in range(oldest, oldest + self.chunks):
            self._fill(chunk)

    def advance(self, step: int) -> None:
        """Replaces the oldest chunk if it is time; step ``step`` calls this before it draws."""
        if step % self.every == 0:
            self._fill(step // self.every + self.chunks)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws random latents (count, F, C, h, w) float32 and their token ids (count, L)."""
        chosen = torch.randint(0, len(self.latents), (count,), generator=generator, device=self.run.device)
        return self.latents[chosen].float(), self.token_ids[chosen]

    @torch.no_grad()
    def _fill(self, chunk: int) -> None:
        place = chunk % self.chunks * self.fresh
        scenes = self.mixture.scenes(self.fresh, self.run.generator(DIT_DATA, chunk))
        self.latents[place : place + self.fresh] = encode(self.vae, scenes.render()).to(self.latents.dtype)
        self.token_ids[place : place + self.fresh] = scenes.token_ids()


class Denoiser(nn.Module):
    """Transformer and text encoder together, from token ids to the predicted velocity."""

    def __init__(self, config: TinyConfig, zero_gates: bool = True) -> None:
        super().__init__()
        self.transformer: CogVideoXTransformer3DModel = build_transformer(config, zero_gates)
        self.text_encoder: T5EncoderModel = build_text_encoder(config)

    def forward(self, noisy: Tensor, token_ids: Tensor, timestep: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """Predicts the velocity (B, F, C, h, w) of noisy latents of the same shape at timesteps (B,)."""
        text = self.text_encoder(token_ids)[0]
        output: Tensor = self.transformer(
            hidden_states=noisy,
            encoder_hidden_states=text,
            timestep=timestep,
            image_rotary_emb=rotary,
            return_dict=False,
        )[0]
        return output


@dataclass(frozen=True)
class Noiser:
    """Variance-preserving noise: z_t = sqrt(a)·z + sqrt(1 - a)·e, velocity sqrt(a)·e - sqrt(1 - a)·z."""

    signal: Tensor
    """The scheduler's cumulative alphas a, (1000,)."""

    def __call__(self, latents: Tensor, noise: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """Returns noisy latents and velocity, each shaped as ``latents``, at timesteps (B,)."""
        kept = self.signal[timestep].view(-1, 1, 1, 1, 1)
        noisy = kept.sqrt() * latents + (1 - kept).sqrt() * noise
        return noisy, kept.sqrt() * noise - (1 - kept).sqrt() * latents


def focus_on(part: tuple[float, float], share: float, places: Tensor) -> Tensor:
    """Moves uniform places in [0, 1) so that a share of them, in addition to the uniform rest, lies in ``part``.

    It is the inverse of the distribution's cumulative function, so stratified places stay stratified.
    """
    if share == 0:
        return places
    begin, end = part
    slow, fast = 1 - share, 1 - share + share / (end - begin)  # densities outside and inside of the part
    first, second = begin * slow, begin * slow + (end - begin) * fast
    inside = begin + (places - first) / fast
    after = end + (places - second) / slow
    return torch.where(places < first, places / slow, torch.where(places < second, inside, after))


def make_noiser(device: torch.device) -> Noiser:
    """Returns the noiser with the noise levels of the pipeline."""
    return Noiser(build_scheduler().alphas_cumprod.float().to(device))


def empty_caption(device: torch.device) -> Tensor:
    """Returns the token ids (L,) of the empty prompt."""
    ids = torch.zeros(CAPTION_TOKENS, dtype=torch.int64, device=device)
    ids[0] = TOKENS[END]
    return ids


class DitTrainer:
    """Trains the denoiser and keeps a moving average of its weights."""

    def __init__(self, run: Run, budget: Budget, settings: DitSettings | None = None) -> None:
        self.run, self.budget, self.settings = run, budget, settings or DitSettings()
        torch.manual_seed(run.seed + 1)
        self.model = Denoiser(run.config).to(run.device).train()
        self.named = dict(self.model.named_parameters())
        self.average = {name: p.detach().clone() for name, p in self.named.items()}
        inside = [name for name in self.named if ".attn1.to_" in name or ".ff.net." in name]
        matrices = [name for name in inside if name.startswith("transformer.") and self.named[name].ndim == 2]
        self.optimiser = Optimiser(self.named, matrices, betas=(0.9, 0.97))
        self.noiser = make_noiser(run.device)
        self.rotary = rotary_tables(run.config, run.device)
        self.empty = empty_caption(run.device)
        self.stopped = False
        if self.settings.compile and run.device.type == "cuda":
            choose_attention(run, run.ranks.share(self.settings.batch))
            torch._dynamo.config.cache_size_limit = 64
            for block in self.model.transformer.transformer_blocks:
                block.compile()

    def train(self, pool: LatentPool, pause_every: int = 0) -> bool:
        """Trains until the budget or the invocation ends, or a pause begins; returns whether the stage is finished.

        pause_every: also return after each step that is a multiple of it, so that the caller can measure the model.
        """
        sums = torch.zeros((2, NOISE_BINS), device=self.run.device)
        pace = Pace(self.run, self.budget)
        while pace.goes_on():
            sums += self.step(pool)
            self.budget.done += 1
            if self.budget.done % self.settings.log_every == 0:
                self._log(sums)
                sums.zero_()
            if pause_every and self.budget.done % pause_every == 0:
                pace.tally()
                break
        self.stopped = pace.stopped
        return self.budget.finished

    def step(self, pool: LatentPool) -> Tensor:
        """Makes one optimiser step; returns what ``backward`` returns."""
        sums = self.backward(pool)
        self.run.ranks.average(gradients_of(self.named.values()))
        rate = self.settings.rate * self.rate()
        self.optimiser.step(rate, rate)
        self._average()
        return sums

    def backward(self, pool: LatentPool) -> Tensor:
        """Computes the gradients of this rank's batch; returns sums of its squared velocity errors and their counts.

        Both are per bin, (2, bins). A bin is a part of the range of timesteps, the cleanest first.
        """
        generator = self.run.generator(DIT_NOISE, self.budget.done)
        pool.advance(self.budget.done)
        latents, token_ids = pool.draw(self.run.ranks.share(self.settings.batch), generator)
        timestep = self._timesteps(len(latents), generator)
        noise = torch.randn(latents.shape, generator=generator, device=latents.device)
        drops = torch.rand(len(latents), generator=generator, device=latents.device)
        token_ids = torch.where((drops < self.settings.caption_drop)[:, None], self.empty, token_ids)
        noisy, velocity = self.noiser(latents, noise, timestep)
        given = draw_given(len(latents), latents.shape[1], self.settings.given, generator)
        noisy = torch.where(given[:, :, None, None, None], latents, noisy)
        with self.run.autocast():
            predicted = self.model(noisy, token_ids, timestep, self.rotary)
        errors = mean_of_noisy((predicted.float() - velocity).square().mean(dim=(2, 3, 4)), given)
        errors.mean().backward()
        return self._bin(errors.detach(), timestep)

    def _timesteps(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws stratified timesteps, (count,): each in a part of the range of its own, also over all ranks.

        They vary the loss less than independent ones.
        """
        ranks, device = self.run.ranks, self.run.device
        jitter = torch.rand(count, generator=generator, device=device)
        parts = torch.arange(count, device=device) * ranks.count + ranks.rank
        places = (parts + jitter) / (count * ranks.count)
        places = focus_on(FOCUS, self.settings.focus, places)
        return (places * len(self.noiser.signal)).long().clamp(max=len(self.noiser.signal) - 1)

    def copy_average(self) -> Denoiser:
        """Returns an uncompiled copy with the averaged weights, for evaluation.

        Compiled blocks would not call the attention processors that the evaluation sets.
        """
        copy = Denoiser(self.run.config).to(self.run.device).eval()
        copy.load_state_dict(self.average, strict=False)
        return copy.requires_grad_(False)

    def state(self) -> dict[str, Tensor]:
        """Returns all tensors that are needed to continue exactly from here, with the same autoencoder."""
        tensors = {f"dit/{name}": p.detach() for name, p in self.named.items()}
        tensors |= {f"average/{name}": value for name, value in self.average.items()}
        return tensors | {f"dit-optimiser/{name}": value for name, value in self.optimiser.state().items()}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores the tensors that ``state`` returned.

        A compact checkpoint has averages alone: the weights start from them, and the moments at 0.
        """
        averages = under("average/", tensors)
        weights = under("dit/", tensors) or averages
        for name, parameter in self.named.items():
            parameter.copy_(weights[name])
            self.average[name].copy_(averages[name])
        self.optimiser.restore(under("dit-optimiser/", tensors))

    @torch.no_grad()
    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Replaces the random weights by the weights of a finished model."""
        for name, parameter in self.named.items():
            parameter.copy_(weights[name])
            self.average[name].copy_(weights[name])

    def rate(self) -> float:
        """Returns the factor of the learning rate: a warm-up, a plateau and a linear fall."""
        left = (1 - self.budget.progress) / self.settings.decay_share
        return min(1.0, (self.budget.done + 1) / self.settings.warmup, max(0.02, left))

    @torch.no_grad()
    def _average(self) -> None:
        done = self.budget.done + 1
        decay = min(self.settings.average, (1 + done) / (20 + done))
        torch._foreach_lerp_(list(self.average.values()), list(self.named.values()), 1 - decay)

    def _bin(self, errors: Tensor, timestep: Tensor) -> Tensor:
        bins = timestep * NOISE_BINS // len(self.noiser.signal)
        values = torch.stack([errors, torch.ones_like(errors)])
        return torch.zeros((2, NOISE_BINS), device=errors.device).index_add_(1, bins, values)

    def _log(self, sums: Tensor) -> None:
        errors, counts = sums.unbind(0)
        by_noise = (errors / counts.clamp(min=1)).tolist()
        self.run.log.write(
            "dit",
            step=self.budget.done,
            seconds=self.budget.spent,
            loss=float(errors.sum() / counts.sum()),
            by_noise=[round(value, 4) for value in by_noise],
            rate=self.settings.rate * self.rate(),
        )
