"""Measures correspondence in the attention of a denoiser, on held-out videos with exact tracks.

This is a short measurement for training; it shares no code with the benchmark in which the weights are used. Queries
are the token centres of frame 0. The reference of latent frame j >= 1 is the mean of the exact track over the four
frames that it covers. A point counts where it is visible in all four of them and in frame 0.

Legend: n videos, F latent frames, J = F - 1 target frames, P tokens per frame, H heads, d head width, L text tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKLCogVideoX
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor
from torch.nn import functional

from vcorr_tiny.networks import TinyConfig, rotary_tables
from vcorr_tiny.sprites.scenes import Scenes
from vcorr_tiny.training.dit import Denoiser, empty_caption, make_noiser
from vcorr_tiny.training.quality import Kind, validation_scenes
from vcorr_tiny.training.run import Run
from vcorr_tiny.training.vae import encode

TIMESTEPS = (20, 100, 250, 450, 650, 850, 980)
NOISE_SEED = 0
"""Seed of the noise: the same for each model, so that losses of two models differ by the models alone."""
EASY = Kind("easy")


@dataclass(frozen=True)
class ReferenceTracks:
    """Exact tracks of the token centres of frame 0: xy (n, J, P, 2) pixels; valid and moving (n, J, P) bool.

    moving: valid, and moved by more than one token stride.
    """

    xy: Tensor
    valid: Tensor
    moving: Tensor


@dataclass(frozen=True)
class Hits:
    """Share of the points that are matched within a threshold, mean over videos.

    half_stride: of all valid points, within half a stride. moving: of the moving points, within one stride.
    """

    half_stride: float
    moving: float


class Tap:
    """An attention processor that computes what diffusers' CogVideoX processor does, and keeps the matches.

    query_key, feature: the matched tokens, (n, J, P), by queries and keys and by attention outputs, mean over heads.
    heads: the matched tokens, (H, n, J, P), by queries and keys of each head alone.
    """

    def __init__(self, config: TinyConfig) -> None:
        self.config = config
        self.query_key = torch.empty(0)
        self.heads = torch.empty(0)
        self.feature = torch.empty(0)

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Computes attention over text and video tokens, as diffusers does; CogVideoX uses no masks."""
        length = encoder_hidden_states.shape[1]
        both = torch.cat([encoder_hidden_states, hidden_states], 1)
        shape = (both.shape[0], -1, attn.heads, self.config.head_dim)
        query, key, value = (to(both).view(shape).transpose(1, 2) for to in (attn.to_q, attn.to_k, attn.to_v))
        query, key = (
            torch.cat([x[:, :, :length], apply_rotary_emb(x[:, :, length:], image_rotary_emb)], 2).to(value.dtype)
            for x in (attn.norm_q(query), attn.norm_k(key))
        )
        output = functional.scaled_dot_product_attention(query, key, value)
        self.query_key, self.heads = self._matches(query[:, :, length:], key[:, :, length:])
        self.feature, _ = self._matches(output[:, :, length:], output[:, :, length:])
        joined = output.transpose(1, 2).flatten(2)
        joined = attn.to_out[1](attn.to_out[0](joined))
        return joined[:, length:], joined[:, :length]

    def _matches(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the best token in each later frame by the mean over heads, (n, J, P), and by each head, (H, n, J, P).

        The weight of a match is its softmax over a frame, in both directions, mean of the two.
        """
        frames, tokens = self.config.latent_frames, self.config.grid**2
        queries, keys = (x.float().reshape(*x.shape[:2], frames, tokens, -1) for x in (query, key))
        scale = self.config.head_dim**-0.5
        together, alone = [], []
        for frame in range(1, frames):
            there = torch.softmax(queries[:, :, 0] @ keys[:, :, frame].mT * scale, -1)
            back = torch.softmax(queries[:, :, frame] @ keys[:, :, 0].mT * scale, -1)
            both = there + back.mT
            together.append(both.mean(1).argmax(-1))
            alone.append(both.argmax(-1).transpose(0, 1))
        return torch.stack(together, 1), torch.stack(alone, 2)


def token_centres(config: TinyConfig, device: torch.device) -> Tensor:
    """Returns the token centres in pixels, (P, 2), row by row."""
    axis = (torch.arange(config.grid, device=device) + 0.5) * config.stride
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)


def reference_of(config: TinyConfig, scenes: Scenes) -> ReferenceTracks:
    """Returns the exact tracks of the token centres of frame 0."""
    centres = token_centres(config, scenes.device)
    tracks = scenes.tracks(centres)
    spans = [slice(4 * frame - 3, 4 * frame + 1) for frame in range(1, config.latent_frames)]
    xy = torch.stack([tracks.xy[:, :, span].mean(2) for span in spans], 1)
    valid = torch.stack([tracks.visible[:, :, span].all(2) for span in spans], 1) & tracks.visible[:, None, :, 0]
    moving = valid & ((xy - centres).norm(dim=-1) > config.stride)
    return ReferenceTracks(xy, valid, moving)


def hits(config: TinyConfig, tokens: Tensor, reference: ReferenceTracks) -> Hits:
    """Scores the matched tokens (n, J, P)."""
    distance = (token_centres(config, tokens.device)[tokens] - reference.xy).norm(dim=-1)
    near = _share(distance < config.stride / 2, reference.valid)
    return Hits(near, _share(distance < config.stride, reference.moving))


def _share(hit: Tensor, among: Tensor) -> float:
    """Returns the mean over videos of the share of points that hit, without videos that have no such points."""
    counts = among.sum((1, 2))
    shares = (hit & among).sum((1, 2)) / counts
    return float(shares[counts > 0].mean())


def baselines(config: TinyConfig, videos: Tensor, reference: ReferenceTracks) -> dict[str, Hits]:
    """Scores standing still, the nearest token to the reference, and the most similar patch (squared distance)."""
    count, tokens, stride = len(videos), config.grid**2, config.stride
    still = torch.arange(tokens, device=videos.device).expand(count, config.latent_frames - 1, tokens)
    distance = torch.cdist(reference.xy.reshape(-1, 2), token_centres(config, videos.device))
    patches = functional.unfold(videos.transpose(1, 2).flatten(0, 1), stride, stride=stride).mT
    patches = patches.reshape(count, config.frames, *patches.shape[1:])
    middles = range(3, config.frames, 4)
    nearest = torch.stack([torch.cdist(patches[:, 0], patches[:, frame]).argmin(-1) for frame in middles], 1)
    matched = {"zero_motion": still, "oracle": distance.argmin(-1).view(still.shape), "pixels": nearest}
    return {name: hits(config, tokens_of, reference) for name, tokens_of in matched.items()}


@torch.no_grad()
def measure(
    run: Run,
    vae: AutoencoderKLCogVideoX,
    model: Denoiser,
    count: int = 32,
    timesteps: Sequence[int] = TIMESTEPS,
    captions: bool = True,
    kind: Kind = EASY,
) -> dict[str, object]:
    """Measures matching per layer and timestep on ``count`` validation videos; ``model`` must not be compiled.

    Returns ``query_key`` and ``feature`` (skill at half a stride, all valid points) and ``moving`` (share of query-key
    hits within one stride, moving points), each {timestep: one value per layer}; ``heads`` and ``heads_moving``, the
    same by queries and keys of single heads, {timestep: one list per layer}; ``loss``, {timestep: value}; and
    ``baselines``. Skill is (score - zero motion) / (oracle - zero motion).
    """
    taps = [Tap(run.config) for _ in model.transformer.transformer_blocks]
    for block, tap in zip(model.transformer.transformer_blocks, taps, strict=True):
        block.attn1.set_processor(tap)
    generator = torch.Generator(run.device).manual_seed(NOISE_SEED)
    sums: dict[str, Tensor] = {}
    for number, size in enumerate(_batches(count, 32)):
        # Batch 0 of the split measures the autoencoder's quality.
        scenes = validation_scenes(run.config, run.device, kind, size, 1 + number)
        for name, value in _measure_batch(run, vae, model, taps, scenes, generator, timesteps, captions).items():
            sums[name] = sums.get(name, torch.zeros_like(value)) + value * size
    return _summary({name: value / count for name, value in sums.items()}, timesteps)


def _batches(count: int, size: int) -> list[int]:
    return [min(size, count - start) for start in range(0, count, size)]


def _measure_batch(
    run: Run,
    vae: AutoencoderKLCogVideoX,
    model: Denoiser,
    taps: list[Tap],
    scenes: Scenes,
    generator: torch.Generator,
    timesteps: Sequence[int],
    captions: bool,
) -> dict[str, Tensor]:
    """Returns the mean scores of one batch: tables (timesteps, layers), for heads (…, H), and baselines (2,)."""
    config, size = run.config, scenes.count
    videos, reference = scenes.render(), reference_of(config, scenes)
    latents = encode(vae, videos)
    token_ids = scenes.token_ids() if captions else empty_caption(run.device).expand(size, -1)
    noiser, rotary = make_noiser(run.device), rotary_tables(config, run.device)
    tables: list[dict[str, list[object]]] = []
    for value in timesteps:
        timestep = torch.full((size,), value, device=run.device)
        noise = torch.randn(latents.shape, generator=generator, device=run.device)
        noisy, velocity = noiser(latents, noise, timestep)
        with run.autocast():
            predicted = model(noisy, token_ids, timestep, rotary)
        loss = float((predicted.float() - velocity).square().mean())
        tables.append(_scores(config, taps, reference) | {"loss": [loss]})
    floors = baselines(config, videos, reference)
    means = {name: torch.tensor([table[name] for table in tables]) for name in tables[0]}
    return means | {f"baseline/{name}": torch.tensor([s.half_stride, s.moving]) for name, s in floors.items()}


def _scores(config: TinyConfig, taps: list[Tap], reference: ReferenceTracks) -> dict[str, list[object]]:
    """Returns the scores that the taps found, one entry per layer; for single heads a list per layer."""
    query_key = [hits(config, tap.query_key, reference) for tap in taps]
    heads = [[hits(config, head, reference) for head in tap.heads] for tap in taps]
    return {
        "query_key": [score.half_stride for score in query_key],
        "moving": [score.moving for score in query_key],
        "feature": [hits(config, tap.feature, reference).half_stride for tap in taps],
        "heads": [[score.half_stride for score in layer] for layer in heads],
        "heads_moving": [[score.moving for score in layer] for layer in heads],
    }


def _summary(means: dict[str, Tensor], timesteps: Sequence[int]) -> dict[str, object]:
    """Converts the means of all batches to the dictionary that `measure` returns."""
    floor, ceiling = means["baseline/zero_motion"][0], means["baseline/oracle"][0]

    def table(values: Tensor) -> dict[str, object]:
        rounded = (values.double() * 1e4).round() / 1e4
        return {str(t): row for t, row in zip(timesteps, rounded.tolist(), strict=True)}

    def skill(values: Tensor) -> Tensor:
        return (values - floor) / (ceiling - floor)

    names = [name.removeprefix("baseline/") for name in means if name.startswith("baseline/")]
    return {
        "query_key": table(skill(means["query_key"])),
        "feature": table(skill(means["feature"])),
        "moving": table(means["moving"]),
        "heads": table(skill(means["heads"])),
        "heads_moving": table(means["heads_moving"]),
        "loss": {str(t): value for t, (value,) in zip(timesteps, means["loss"].tolist(), strict=True)},
        "baselines": {
            name: {"half_stride": float(half), "skill": float(skill(half)), "moving": float(moving)}
            for name, (half, moving) in ((name, means[f"baseline/{name}"]) for name in names)
        },
    }
