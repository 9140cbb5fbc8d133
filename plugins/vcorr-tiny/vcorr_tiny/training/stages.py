"""Runs both stages of a training, with their checkpoints."""

import math
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXPipeline
from torch import Tensor

from vcorr import UsageError
from vcorr_tiny.networks import build_vae, read_channels
from vcorr_tiny.sprites.pictures import Pictures
from vcorr_tiny.training.dit import DitSettings, DitTrainer, LatentPool
from vcorr_tiny.training.mixture import Mixture, dit_shares, vae_shares
from vcorr_tiny.training.parts import Facts, find_parts, load_parts, save_parts
from vcorr_tiny.training.quality import quality
from vcorr_tiny.training.results import Finished, interim
from vcorr_tiny.training.run import Budget, Run
from vcorr_tiny.training.vae import VaeSettings, VaeTrainer, under


class Training:
    """The state of a run: the budget of each stage, the finished autoencoder if there is one, and the trainers.

    pictures: textures of half of the videos, if given.
    """

    def __init__(self, run: Run, state: Path, pictures: Pictures | None = None) -> None:
        self.run, self.state, self.pictures = run, state, pictures
        self.finish_by = math.inf
        """Value of `time.monotonic()` by which the stages end: their budgets are shortened."""
        self.vae_budget, self.dit_budget = Budget(), Budget()
        self.vae_settings, self.dit_settings = VaeSettings(), DitSettings()
        self.vae: AutoencoderKLCogVideoX | None = None
        self.shared_vae = False
        self.tuned: AutoencoderKLCogVideoX | None = None
        self.saved: dict[str, Tensor] = {}
        self.beginning: dict[str, Tensor] = {}
        self.vae_trainer: VaeTrainer | None = None
        self.dit_trainer: DitTrainer | None = None

    @property
    def has_checkpoint(self) -> bool:
        """Whether the state folder holds a checkpoint."""
        return _is_checkpoint(self.state)

    @property
    def has_denoiser(self) -> bool:
        """Whether a denoiser was trained; a run of the autoencoder alone has none."""
        return self.dit_budget.done > 0

    def start_from(self, folder: Path) -> None:
        """Starts from a finished pipeline: continues to train its denoiser, with its autoencoder or a shared one.

        Raises:
            UsageError: the folder is no pipeline.
        """
        if not (folder / "model_index.json").is_file():
            raise UsageError(
                f"{folder} is no pipeline folder.", hint="It must hold a model_index.json, as `pipe` does."
            )
        pipeline = CogVideoXPipeline.from_pretrained(folder)
        if not self.shared_vae:
            self.vae = self._finish_vae(pipeline.vae.state_dict(), pipeline.vae.config.scaling_factor)
        for part in ("transformer", "text_encoder"):
            weights = getattr(pipeline, part).state_dict()
            self.beginning |= {f"{part}.{name}": value for name, value in weights.items()}
        self.run.log.write("started-from", scaling=pipeline.vae.config.scaling_factor)

    def share_vae(self, folder: Path) -> None:
        """Takes the finished autoencoder of a pipeline folder or of a checkpoint, and trains a new denoiser with it.

        Raises:
            UsageError: the folder holds no finished autoencoder.
        """
        if _is_checkpoint(folder):
            tensors, facts = load_parts(folder, self.run.device)
            if not facts["scaling"]:
                raise UsageError(f"The autoencoder in {folder} is not finished.", hint=_TRAIN_VAE)
            weights, scaling = under("vae/", tensors), facts["scaling"]
        elif not (folder / "vae" / "config.json").is_file():
            raise UsageError(f"{folder} holds neither a checkpoint nor a pipeline.", hint=_TRAIN_VAE)
        else:
            vae = AutoencoderKLCogVideoX.from_pretrained(folder, subfolder="vae")
            weights, scaling = vae.state_dict(), vae.config.scaling_factor
        self.vae, self.shared_vae = self._finish_vae(weights, scaling), True
        self.run.log.write("shares-autoencoder", scaling=scaling)

    def tune_decoder(self, folder: Path) -> None:
        """Trains the decoder of a finished autoencoder on; its encoder and scaling stay, and so do all latents."""
        self.share_vae(folder)
        self.tuned, self.vae, self.shared_vae = self.vae, None, False

    def resume(self) -> None:
        """Restores the checkpoint in the state folder, if there is one."""
        if not self.has_checkpoint:
            return
        self.saved, facts = load_parts(self.state, self.run.device)
        self.vae_budget.done, self.vae_budget.spent = int(facts["vae_steps"]), facts["vae_seconds"]
        self.dit_budget.done, self.dit_budget.spent = int(facts["dit_steps"]), facts["dit_seconds"]
        if facts.get("shortened") and math.isfinite(self.finish_by):
            self.dit_budget.seconds = self.dit_budget.spent
        self._check_pictures(facts.get("pictures", 0))
        if facts["scaling"] and not self.shared_vae:
            self.vae = self._finish_vae(under("vae/", self.saved), facts["scaling"])
        elif facts["dit_steps"] and self.vae is None:
            raise UsageError(
                f"{self.state} was saved without its autoencoder.", hint="Name the folder that has it with --vae."
            )
        self.run.log.write("resumed", **facts)

    def _check_pictures(self, count: float) -> None:
        """Raises UsageError if a stopped training would go on with other pictures; their number stands for them."""
        given = len(self.pictures.names) if self.pictures else 0
        if not (self.vae_budget.finished and self.dit_budget.finished) and count != given:
            raise UsageError(
                f"{self.state} was trained with {count:.0f} pictures, and now there are {given}.",
                hint="Name the same file with --pictures.",
            )

    def train(self, measure_every: int = 0, measure_clips: int = 32) -> bool:
        """Trains the unfinished stages; returns whether both are finished."""
        if self.vae is None and not self._train_vae():
            return False
        return self._train_dit(measure_every, measure_clips)

    def save(self, folder: Path, compact: bool = False) -> None:
        """Saves a checkpoint; only rank 0 writes.

        compact: save averages alone in bfloat16, from which a later run can start: no weights and no moments of the
        denoiser's optimiser, and no autoencoder that other models share.
        """
        if not self.run.ranks.first:
            return
        tensors = self._vae_tensors(compact)
        if self.dit_trainer is not None:
            tensors |= self.dit_trainer.state()
        elif self.dit_budget.done:
            tensors |= {name: value for name, value in self.saved.items() if not name.startswith("vae")}
        if compact:
            kept = {name: value for name, value in tensors.items() if not name.startswith(_LEFT_OUT)}
            tensors = {name: value.to(torch.bfloat16) for name, value in kept.items()}
        save_parts(folder, tensors, self._facts(compact))

    def autoencoder(self) -> AutoencoderKLCogVideoX:
        """Returns the finished autoencoder.

        Raises:
            UsageError: there is none yet.
        """
        if self.vae is None:
            raise UsageError(f"{self.state} holds no finished autoencoder.", hint=_TRAIN_VAE)
        return self.vae

    def take_model(self) -> Finished:
        """Returns the averaged model of this invocation, or else of the checkpoint.

        Raises:
            UsageError: there is none yet.
        """
        if not self.has_denoiser:
            raise UsageError(
                f"{self.state} holds no trained denoiser.",
                hint="Train one first: python -m vcorr_tiny.train run --out FOLDER --vae FOLDER --dit-steps STEPS",
            )
        if self.dit_trainer is None:
            trainer = DitTrainer(self.run, self.dit_budget, DitSettings(compile=False))
            trainer.restore(self.saved)
            self.dit_trainer = trainer
        return Finished(self.run, self.autoencoder(), self.dit_trainer.copy_average(), self.pictures)

    def _train_vae(self) -> bool:
        run = self.run
        mixture = Mixture(run.config, vae_shares(), self.pictures)
        start = self.tuned.state_dict() if self.tuned is not None else None
        trainer = VaeTrainer(run, self.vae_budget, mixture, self.vae_settings, start)
        if self.saved:
            trainer.restore(self.saved)
        self.vae_trainer = trainer
        self._shorten(self.vae_budget)
        if not trainer.train():
            return False
        vae = self._finish_vae(trainer.vae.state_dict(), 1.0)
        found = quality(run, vae, self.vae_settings.clips, self.pictures)
        # The pipeline scales latents to unit variance, so the transformer is trained on such latents. Rank 0 tells
        # the factor, because two devices may round a measurement differently.
        (scaling,) = run.ranks.broadcast([round(1 / found.latent_std, 5)])
        scaling = self.tuned.config.scaling_factor if self.tuned is not None else scaling
        vae.register_to_config(scaling_factor=scaling)
        self.vae = vae
        run.log.write("vae-quality", step=self.vae_budget.done, **asdict(found))
        self.save(self.state)
        return True

    def _finish_vae(self, weights: dict[str, Tensor], scaling: float) -> AutoencoderKLCogVideoX:
        """Returns the autoencoder rounded to bfloat16, as it is shipped, so that training uses the final latents."""
        vae = build_vae(replace(self.run.config, vae_channels=read_channels(weights)))
        vae.load_state_dict(weights)
        vae.register_to_config(scaling_factor=scaling)
        vae = vae.to(torch.bfloat16).to(self.run.device, self.run.working_dtype)
        return vae.eval().requires_grad_(False)

    def _train_dit(self, measure_every: int, measure_clips: int) -> bool:
        run, budget = self.run, self.dit_budget
        if budget.finished or run.must_stop:
            return budget.finished
        trainer = self.dit_trainer = self._make_trainer()
        mixture = Mixture(run.config, dit_shares(self.dit_settings.plain), self.pictures)
        pool = LatentPool(run, self.dit_settings, self.autoencoder(), mixture, budget.done)
        run.log.write("pool", videos=len(pool.latents) * run.ranks.count)
        self._shorten(budget)
        while not trainer.train(pool, measure_every) and not trainer.stopped:
            if run.ranks.first:
                found = interim(self.take_model(), measure_clips)
                run.log.write("matching", step=budget.done, seconds=budget.spent, **found)
            self.save(self.state)
            self._shorten(budget)
        return budget.finished

    def _shorten(self, budget: Budget) -> None:
        """Shortens a budget so that it ends in time. The learning rate falls to its end by then."""
        if math.isinf(self.finish_by):
            return
        (left,) = self.run.ranks.broadcast([max(self.finish_by - time.monotonic(), 1.0)])
        budget.seconds = min(budget.seconds or math.inf, budget.spent + left)

    def _make_trainer(self) -> DitTrainer:
        """Returns the trainer of the denoiser, as the checkpoint or the given pipeline left it, or with new weights."""
        trainer = DitTrainer(self.run, self.dit_budget, self.dit_settings)
        if self.dit_budget.done:
            trainer.restore(self.saved)
        elif self.beginning:
            trainer.start_from(self.beginning)
        self.saved, self.beginning = {}, {}
        return trainer

    def _vae_tensors(self, compact: bool) -> dict[str, Tensor]:
        """Returns the tensors of the autoencoder that belong in a checkpoint."""
        if self.vae is not None:
            kept = {} if compact and self.shared_vae else self.vae.state_dict()
            return {f"vae/{name}": value for name, value in kept.items()}
        return self.vae_trainer.state() if self.vae_trainer is not None else {}

    def _facts(self, compact: bool) -> Facts:
        held = self.vae is not None and not (compact and self.shared_vae)
        return {
            "vae_steps": self.vae_budget.done,
            "vae_seconds": self.vae_budget.spent,
            "dit_steps": self.dit_budget.done,
            "dit_seconds": self.dit_budget.spent,
            "pictures": len(self.pictures.names) if self.pictures else 0,
            "shortened": self.dit_budget.finished and self.dit_budget.done < self.dit_budget.steps,
            "scaling": self.vae.config.scaling_factor if self.vae is not None and held else 0.0,
        }


_TRAIN_VAE = "Train one first: python -m vcorr_tiny.train run --out FOLDER --vae-seconds SECONDS"
_LEFT_OUT = ("vae-optimiser/", "dit/", "dit-optimiser/")


def _is_checkpoint(folder: Path) -> bool:
    return bool(find_parts(folder)) or any(folder.glob("part-*.safetensors"))
