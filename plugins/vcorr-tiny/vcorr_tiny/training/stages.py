"""Runs a whole training: both stages, their checkpoints, the evaluation and the pipeline folder."""

import copy
from dataclasses import asdict
from pathlib import Path

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXPipeline
from torch import Tensor

from vcorr_tiny.networks import assemble, build_vae
from vcorr_tiny.sprites.clips import frames_of, scene, to_frames
from vcorr_tiny.sprites.words import CAPTION_TOKENS
from vcorr_tiny.training.dit import Denoiser, DitSettings, DitTrainer, LatentPool
from vcorr_tiny.training.matching import measure
from vcorr_tiny.training.parts import Facts, load_parts, save_parts
from vcorr_tiny.training.run import Budget, Run
from vcorr_tiny.training.sheets import sheet
from vcorr_tiny.training.vae import VaeSettings, VaeTrainer, quality, reconstruct, under, validation_videos

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


class Training:
    """The state of a run: the budget of each stage, the finished autoencoder if there is one, and the trainers."""

    def __init__(self, run: Run, state: Path) -> None:
        self.run, self.state = run, state
        self.vae_budget, self.dit_budget = Budget(), Budget()
        self.vae_settings, self.dit_settings = VaeSettings(), DitSettings()
        self.vae: AutoencoderKLCogVideoX | None = None
        self.saved: dict[str, Tensor] = {}
        self.beginning: dict[str, Tensor] = {}
        self.vae_trainer: VaeTrainer | None = None
        self.dit_trainer: DitTrainer | None = None

    @property
    def has_checkpoint(self) -> bool:
        """Whether the state folder holds a checkpoint."""
        return any(self.state.glob("part-*.safetensors"))

    def start_from(self, folder: Path) -> None:
        """Starts from a finished pipeline: keeps its autoencoder and continues to train its denoiser."""
        pipeline = CogVideoXPipeline.from_pretrained(folder)
        self.vae = self._finish_vae(pipeline.vae.state_dict(), pipeline.vae.config.scaling_factor)
        for part in ("transformer", "text_encoder"):
            weights = getattr(pipeline, part).state_dict()
            self.beginning |= {f"{part}.{name}": value for name, value in weights.items()}
        self.run.log.write("started-from", scaling=pipeline.vae.config.scaling_factor)

    def resume(self) -> None:
        """Restores the checkpoint in the state folder, if there is one."""
        if not self.has_checkpoint:
            return
        self.saved, facts = load_parts(self.state, self.run.device)
        self.vae_budget.done, self.vae_budget.spent = int(facts["vae_steps"]), facts["vae_seconds"]
        self.dit_budget.done, self.dit_budget.spent = int(facts["dit_steps"]), facts["dit_seconds"]
        if facts["scaling"]:
            self.vae = self._finish_vae(under("vae/", self.saved), facts["scaling"])
        self.run.log.write("resumed", **facts)

    def train(self, measure_every: int = 0, measure_clips: int = 32) -> bool:
        """Trains the unfinished stages; returns whether both are finished."""
        if self.vae is None and not self._train_vae():
            return False
        return self._train_dit(measure_every, measure_clips)

    def save(self, folder: Path, compact: bool = False) -> None:
        """Saves a checkpoint; ``compact`` saves weights and averages in bfloat16, without the optimisers' moments."""
        tensors: dict[str, Tensor] = {}
        if self.vae is not None:
            tensors |= {f"vae/{name}": value for name, value in self.vae.state_dict().items()}
        elif self.vae_trainer is not None:
            tensors |= self.vae_trainer.state()
        if self.dit_trainer is not None:
            tensors |= self.dit_trainer.state()
        if compact:
            kept = {name: value for name, value in tensors.items() if "optimiser/" not in name}
            tensors = {name: value.to(torch.bfloat16) for name, value in kept.items()}
        save_parts(folder, tensors, self._facts())

    def evaluate(self, clips: int) -> dict[str, object]:
        """Measures reconstruction and matching of the finished model, also without captions and untrained."""
        run, vae, model = self.run, self._vae(), self._denoiser()
        torch.manual_seed(run.seed + 2)
        twin = Denoiser(run.config, zero_gates=False).to(run.device).eval()
        results: dict[str, object] = {
            "reconstruction": asdict(quality(run, vae)),
            "matching": measure(run, vae, model, clips),
            "matching_without_captions": measure(run, vae, model, min(clips, 32), captions=False),
            "matching_untrained": measure(run, vae, twin, min(clips, 32)),
        }
        run.log.write("evaluation", **results)
        return results

    def export(self, folder: Path) -> None:
        """Writes the pipeline folder, in bfloat16 except for the small text encoder.

        By default diffusers loads every file in float32, and transformers loads in the dtype of the file. Only a
        float32 text encoder gives a pipeline with one dtype.
        """
        pipeline = self._pipeline(torch.bfloat16)
        pipeline.text_encoder.float()
        pipeline.save_pretrained(folder, max_shard_size=SHARD_SIZE)

    @torch.no_grad()
    def draw_sheets(self, folder: Path, sample_steps: int) -> None:
        """Saves tiny-data.png, tiny-vae.png and tiny-samples.png."""
        config, vae = self.run.config, self._vae()
        data = [scene("validation", index, config.size, config.frames) for index in range(8)]
        captions = [scenes.captions()[0] for scenes in data]
        sheet(folder / "tiny-data.png", [frames_of(scenes) for scenes in data], captions, columns=5, across=2)
        scenes, videos = validation_videos(self.run, 4)
        pairs = [video for pair in zip(videos, reconstruct(vae, videos), strict=True) for video in pair]
        titles = [title for caption in scenes.captions() for title in (caption, "reconstructed")]
        sheet(folder / "tiny-vae.png", [to_frames(video) for video in pairs], titles, columns=5, across=2)
        samples = self._sample(list(PROMPTS), sample_steps)
        sheet(folder / "tiny-samples.png", samples, PROMPTS, columns=5, across=2)

    def _sample(self, prompts: list[str], steps: int) -> list[Tensor]:
        """Generates videos, each uint8 (T, H, W, 3)."""
        config = self.run.config
        pipeline = self._pipeline(self.run.working_dtype).to(self.run.device)
        pipeline.set_progress_bar_config(disable=True)
        output = pipeline(
            prompts,
            height=config.size,
            width=config.size,
            num_frames=config.frames,
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            generator=torch.Generator("cpu").manual_seed(self.run.seed + 3),
            max_sequence_length=CAPTION_TOKENS,
            output_type="pt",
        )
        return [to_frames(video.transpose(0, 1) * 2 - 1) for video in output.frames]

    def _train_vae(self) -> bool:
        trainer = VaeTrainer(self.run, self.vae_budget, self.vae_settings)
        if self.saved:
            trainer.restore(self.saved)
        self.vae_trainer = trainer
        if not trainer.train():
            return False
        self.vae = self._finish_vae(trainer.vae.state_dict(), 1.0)
        found = quality(self.run, self.vae)
        # The pipeline scales latents to unit variance, so the transformer is trained on such latents.
        self.vae.register_to_config(scaling_factor=round(1 / found.latent_std, 5))
        self.run.log.write("vae-quality", step=self.vae_budget.done, **asdict(found))
        self.save(self.state)
        return True

    def _finish_vae(self, weights: dict[str, Tensor], scaling: float) -> AutoencoderKLCogVideoX:
        """Returns the autoencoder rounded to bfloat16, as it is shipped, so that training uses the final latents."""
        vae = build_vae(self.run.config)
        vae.load_state_dict(weights)
        vae.register_to_config(scaling_factor=scaling)
        vae = vae.to(torch.bfloat16).to(self.run.device, self.run.working_dtype)
        return vae.eval().requires_grad_(False)

    def _train_dit(self, measure_every: int, measure_clips: int) -> bool:
        run, budget = self.run, self.dit_budget
        trainer = DitTrainer(run, budget, self.dit_settings)
        if budget.done:
            trainer.restore(self.saved)
        elif self.beginning:
            trainer.start_from(self.beginning)
        self.saved, self.beginning = {}, {}
        self.dit_trainer = trainer
        if budget.finished or run.out_of_time:
            return budget.finished
        pool = LatentPool(run, self.dit_settings, self._vae(), budget.done)
        run.log.write("pool", videos=len(pool.latents))
        while not trainer.train(pool, measure_every) and not run.out_of_time:
            found = measure(run, self._vae(), trainer.copy_average(), measure_clips, INTERIM_TIMESTEPS)
            run.log.write("matching", step=budget.done, seconds=budget.spent, **found)
            self.save(self.state)
        return budget.finished

    def _vae(self) -> AutoencoderKLCogVideoX:
        if self.vae is None:
            raise ValueError(f"{self.state} holds no finished autoencoder: train it with `run` first")
        return self.vae

    def _denoiser(self) -> Denoiser:
        """Returns the averaged denoiser of this invocation, or else of the checkpoint."""
        if self.dit_trainer is None:
            trainer = DitTrainer(self.run, self.dit_budget, DitSettings(compile=False))
            trainer.restore(self.saved)
            self.dit_trainer = trainer
        return self.dit_trainer.copy_average()

    def _pipeline(self, dtype: torch.dtype) -> CogVideoXPipeline:
        model, vae = self._denoiser(), copy.deepcopy(self._vae())
        networks = vae, model.transformer, model.text_encoder
        return assemble(*(network.to(dtype) for network in networks))

    def _facts(self) -> Facts:
        return {
            "vae_steps": self.vae_budget.done,
            "vae_seconds": self.vae_budget.spent,
            "dit_steps": self.dit_budget.done,
            "dit_seconds": self.dit_budget.spent,
            "scaling": self.vae.config.scaling_factor if self.vae is not None else 0.0,
        }
