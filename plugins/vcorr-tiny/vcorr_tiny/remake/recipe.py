"""What a remake trains: the options that decide its networks, and the words of each training."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from vcorr import UsageError
from vcorr.store.atomic_files import write_text
from vcorr_tiny.network_folder import PACKAGED, SEEDS

RECIPE = "recipe.json"
VAE, DECODER, NETWORKS, RUNS, COPIES = "vae", "decoder", "networks", "runs", "copies"
"""Folders of a remake, next to one per seed."""
_SMALL = "--small --dit-batch 4 --pool 6 --fresh 2 --clips 2 --measure-clips 2 --vae-batch 2 --sample-steps 0"
_LARGE = "--log-every 200 --measure-every 1000"
"""Options of trainings: of the small model of the tests, and of the real one."""


@dataclass(frozen=True)
class Recipe:
    """What decides the networks.

    steps: of each seed's transformer. vae: folder of the autoencoder that all seeds share, unless one is trained for
    vae_seconds or vae_steps. decoder_seconds, decoder_steps: how long its decoder is trained on; 0 for not at all.
    pictures: safetensors file of textures; "" for none. plain: share of videos without faults. given: share of videos
    with frames without noise; None for what the trainer does without the option. small: whether it is the small
    model of the tests.
    """

    steps: int
    vae: str = str(PACKAGED[0])
    vae_seconds: float = 0.0
    vae_steps: int = 0
    decoder_seconds: float = 0.0
    decoder_steps: int = 0
    pictures: str = ""
    plain: float | None = None
    given: float | None = None
    small: bool = False

    @property
    def trains_vae(self) -> bool:
        """Whether the autoencoder is trained."""
        return bool(self.vae_seconds or self.vae_steps)

    @property
    def tunes_decoder(self) -> bool:
        """Whether the decoder is trained on."""
        return bool(self.decoder_seconds or self.decoder_steps)

    def keep(self, out: Path) -> None:
        """Writes the recipe into the folder of a remake, or checks that it is the one that is there.

        Raises:
            UsageError: the folder was begun with another recipe.
        """
        path, text = out / RECIPE, json.dumps(asdict(self), indent=1) + "\n"
        out.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            raise UsageError(f"{out} was begun with other options; {path} has them.", hint="Choose another --out.")
        write_text(path, text)

    def find_vae(self, out: Path) -> Path:
        """Returns the folder of the autoencoder that all seeds share."""
        return out / VAE / "state" if self.trains_vae else Path(self.vae)

    def list_trainings(self, out: Path) -> dict[str, list[str]]:
        """Returns the words of the trainings that can run side by side, by the names of their folders."""
        shared = ["--vae", str(self.find_vae(out))]
        shares = {"--plain": self.plain, "--given": self.given}
        drawn = [word for name, share in shares.items() if share is not None for word in (name, str(share))]
        seeds = {name_seed(n): [*shared, "--seed", str(n), "--dit-steps", str(self.steps), *drawn] for n in SEEDS}
        budget = ["--vae-seconds", str(self.decoder_seconds), "--vae-steps", str(self.decoder_steps)]
        decoder = {DECODER: [*shared, "--decoder-only", *budget]} if self.tunes_decoder else {}
        return {name: self._command(out / name, words) for name, words in {**seeds, **decoder}.items()}

    def train_vae(self, out: Path) -> list[str]:
        """Returns the words of the training of the autoencoder."""
        budget = ["--vae-seconds", str(self.vae_seconds), "--vae-steps", str(self.vae_steps)]
        return self._command(out / VAE, budget)

    def _command(self, folder: Path, words: list[str]) -> list[str]:
        pictures = ["--pictures", self.pictures] if self.pictures else []
        options = (_SMALL if self.small else _LARGE).split()
        return ["vcorr_tiny.train", "run", "--out", str(folder), *words, *pictures, *options]


def name_seed(seed: int) -> str:
    """Returns the name of the folder of a seed's training."""
    return f"seed-{seed}"


def is_finished(folder: Path) -> bool:
    """Returns whether the training in a folder came to its end."""
    log = folder / "log.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    return bool(lines) and '"kind": "finished"' in lines[-1]
