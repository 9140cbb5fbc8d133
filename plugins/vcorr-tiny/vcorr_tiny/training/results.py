"""Makes what a finished training leaves: its evaluation, picture sheets and the pipeline folder."""

import copy
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXPipeline
from torch import Tensor

from vcorr_tiny.networks import assemble
from vcorr_tiny.sprites.clips import to_frames
from vcorr_tiny.sprites.levels import LEVELS
from vcorr_tiny.sprites.pictures import Pictures
from vcorr_tiny.sprites.words import CAPTION_TOKENS
from vcorr_tiny.training.dit import Denoiser
from vcorr_tiny.training.matching import measure
from vcorr_tiny.training.quality import Kind, kinds, quality, validation_scenes
from vcorr_tiny.training.run import Run
from vcorr_tiny.training.sheets import sheet
from vcorr_tiny.training.vae import reconstruct

SHARD_SIZE = "14MB"
"""Largest file of the pipeline folder."""
INTERIM_TIMESTEPS = (100, 450, 850)
PROMPTS = (
    "red striped disk right . camera static",
    "blue checked square up . yellow dotted star left . camera static",
    "green rough triangle still . camera pans-right",
    "white plain hexagon down . camera zooms-in",
    "purple dotted blob left . orange striped disk right . camera pans-down",
    "cyan rough square right . camera static",
)
GUIDANCE = 2.0
"""Guidance scale of the samples; a larger one oversaturates the colours."""


@dataclass(frozen=True)
class Finished:
    """A trained model: its run, its autoencoder, its averaged denoiser, and the pictures of its training if any."""

    run: Run
    vae: AutoencoderKLCogVideoX
    model: Denoiser
    pictures: Pictures | None = None

    def pipeline(self, dtype: torch.dtype) -> CogVideoXPipeline:
        """Returns a pipeline of copies of the networks in ``dtype``."""
        networks = self.vae, self.model.transformer, self.model.text_encoder
        return assemble(*(copy.deepcopy(network).to(dtype) for network in networks))


def interim(model: Finished, count: int) -> dict[str, object]:
    """Measures matching on ``count`` clips of each kind with drawn textures at few timesteps, as during training."""
    run, vae, chosen = model.run, model.vae, kinds(None)
    return {name: measure(run, vae, model.model, count, INTERIM_TIMESTEPS, kind=kind) for name, kind in chosen.items()}


def evaluate(model: Finished, clips: int, levels: bool = False) -> dict[str, object]:
    """Measures reconstruction and matching per kind of clips; on easy clips also without captions and untrained.

    levels: also measure matching on each of the other levels.
    """
    run, vae, few = model.run, model.vae, min(clips, 32)
    torch.manual_seed(run.seed + 2)
    twin = Denoiser(run.config, zero_gates=False).to(run.device).eval()
    found = {name: measure(run, vae, model.model, clips, kind=kind) for name, kind in kinds(model.pictures).items()}
    results: dict[str, object] = {
        "reconstruction": asdict(quality(run, vae, few, model.pictures)),
        "matching": found,
        "matching_without_captions": {"easy": measure(run, vae, model.model, few, captions=False)},
        "matching_untrained": {"easy": measure(run, vae, twin, few)},
    }
    if levels:
        others = [name for name in LEVELS if name not in found]
        more = {name: measure(run, vae, model.model, few, kind=Kind(name)) for name in others}
        results["matching_levels"] = more
    run.log.write("evaluation", **results)
    return results


def export(model: Finished, folder: Path, denoiser_only: bool = False) -> None:
    """Writes the pipeline folder, in bfloat16 except for the small text encoder.

    By default diffusers loads every file in float32, and transformers loads in the dtype of the file. Only a
    float32 text encoder gives a pipeline with one dtype.

    denoiser_only: write ``transformer`` and ``text_encoder`` alone, for a model that shares its autoencoder.
    """
    pipeline = model.pipeline(torch.bfloat16)
    pipeline.text_encoder.float()
    if not denoiser_only:
        pipeline.save_pretrained(folder, max_shard_size=SHARD_SIZE)
        return
    pipeline.transformer.save_pretrained(folder / "transformer", max_shard_size=SHARD_SIZE)
    pipeline.text_encoder.save_pretrained(folder / "text_encoder", max_shard_size=SHARD_SIZE)


def export_vae(vae: AutoencoderKLCogVideoX, folder: Path) -> None:
    """Writes the autoencoder as the folder ``vae`` of a pipeline, in bfloat16."""
    copy.deepcopy(vae).to(torch.bfloat16).save_pretrained(folder / "vae", max_shard_size=SHARD_SIZE)


@torch.no_grad()
def draw_samples(model: Finished, path: Path, sample_steps: int) -> None:
    """Saves a sheet of sampled videos; after a training with pictures, also of two captions of such clips."""
    prompts, chosen = list(PROMPTS), kinds(model.pictures)
    if "pictures" in chosen:
        prompts += validation_scenes(model.run.config, model.run.device, chosen["pictures"], 2).captions()
    sheet(path, _sample(model, prompts, sample_steps), prompts, columns=5, across=2)


@torch.no_grad()
def draw_data(run: Run, folder: Path) -> None:
    """Saves tiny-data.png, eight easy clips, and tiny-levels.png, one clip of each level."""
    easy = validation_scenes(run.config, run.device, Kind("easy"), 8)
    sheet(folder / "tiny-data.png", _frames(easy.render()), easy.captions(), columns=5, across=2)
    levels = [validation_scenes(run.config, run.device, Kind(name), 1).render() for name in LEVELS]
    sheet(folder / "tiny-levels.png", _frames(torch.cat(levels)), list(LEVELS), columns=5, across=2)


@torch.no_grad()
def draw_reconstructions(run: Run, vae: AutoencoderKLCogVideoX, pictures: Pictures | None, path: Path) -> None:
    """Saves a sheet of two clips of each kind and their reconstructions."""
    videos, titles = [], []
    for name, kind in kinds(pictures).items():
        originals = validation_scenes(run.config, run.device, kind, 2).render()
        for pair in zip(originals, reconstruct(vae, originals), strict=True):
            videos += _frames(torch.stack(pair))
            titles += [name, "reconstructed"]
    sheet(path, videos, titles, columns=5, across=2)


def _frames(videos: Tensor) -> list[Tensor]:
    return [to_frames(video) for video in videos]


def _sample(model: Finished, prompts: list[str], steps: int) -> list[Tensor]:
    """Generates videos, each uint8 (T, H, W, 3)."""
    run, config = model.run, model.run.config
    pipeline = model.pipeline(run.working_dtype).to(run.device)
    pipeline.set_progress_bar_config(disable=True)
    output = pipeline(
        prompts,
        height=config.size,
        width=config.size,
        num_frames=config.frames,
        num_inference_steps=steps,
        guidance_scale=GUIDANCE,
        generator=torch.Generator("cpu").manual_seed(run.seed + 3),
        max_sequence_length=CAPTION_TOKENS,
        output_type="pt",
    )
    return _frames(output.frames.transpose(1, 2) * 2 - 1)
