"""Adapts the embedded model and its untrained twin, with the adapter of the large CogVideoX models."""

from __future__ import annotations

import json
from typing import Any

from vcorr_cogvideox.model import CogVideoX

from vcorr import MissingError, UsageError, is_random
from vcorr.diffusion import WeightsSource, check_pipeline_folder, folder_identity, random_seed
from vcorr_tiny import seeds
from vcorr_tiny.network_folder import card_reference, configs_reference, find_networks


class Tiny(CogVideoX):
    """The embedded model: `--weights hub` is the pipeline folder inside this package, `seed:N` a training seed.

    `VCORR_TINY_NETWORKS` names a folder of other networks (`vcorr_tiny.network_folder`).
    """

    card = card_reference()
    configs = configs_reference()

    def locate(self, weights: str) -> WeightsSource:
        """Returns the packaged folder for "hub" and for its own training seed, and a folder for every other seed.

        It treats random weights and paths as the base class does.

        Raises:
            MissingError: the packaged weights are not there, or this installation lacks the network of the seed.
            UsageError: there is no such seed; see also `vcorr.diffusion.locate_weights`.
        """
        seed = seeds.read_seed(weights) if weights.startswith(seeds.PREFIX) else None
        if weights != "hub" and seed is None:
            return super().locate(weights)
        networks = find_networks()
        if not networks.pipeline.is_dir():
            raise _without_weights()
        if seed not in (None, networks.facts.shipped):
            folder = seeds.find_pipeline(seed)
            return WeightsSource("embedded", f"embedded:seed-{seed}:{folder_identity(folder)}", folder)
        check_pipeline_folder(networks.pipeline, self.pipeline_class)
        return WeightsSource("embedded", f"embedded:{folder_identity(networks.pipeline)}", networks.pipeline)

    def build(self, seed: int) -> Any:
        """Returns a pipeline with random networks, text encoder included.

        The gates of the blocks are random too: with zero gates, as in training, no attention would change the output.
        """
        from vcorr_tiny.networks import TinyConfig, build_pipeline

        config = self.config
        if config.height != config.width:
            raise UsageError(
                f"Random weights of this model are built for square videos, not {config.height}x{config.width} pixels.",
                hint="Give model.height and model.width the same value.",
            )
        channels = _read_channels() or TinyConfig.vae_channels
        return build_pipeline(TinyConfig(size=config.height, frames=config.frames, vae_channels=channels), seed)


class TinyUntrained(Tiny):
    """`tiny` with an untrained denoiser and text encoder, drawn from seed 0 or the seed in `--weights random:SEED`.

    The autoencoder is the trained one. A random one would give the denoiser other latents and, at the same step, more
    noise: a comparison with `tiny` would then compare two inputs, not two networks.
    """

    card = "vcorr_tiny:cards/tiny-untrained.yaml"

    def locate(self, weights: str) -> WeightsSource:
        """Returns the source of the random weights; its identity names the seed and the trained autoencoder.

        Raises:
            UsageError: `weights` is a path or a training seed; this model has no trained denoiser to load.
            MissingError: the packaged autoencoder is not there.
        """
        if weights != "hub" and not is_random(weights):
            raise UsageError(
                f"--weights {weights!r}: this model is untrained by definition.",
                hint="Leave --weights out, choose a seed with --weights random:SEED, or take --model tiny.",
            )
        seed = 0 if weights == "hub" else random_seed(weights)
        autoencoder = find_networks().pipeline / "vae"
        if not autoencoder.is_dir():
            raise _without_weights()
        return WeightsSource("random", f"random:{seed}+vae:{folder_identity(autoencoder)}", seed=seed)

    def build(self, seed: int) -> Any:
        """Returns a pipeline of random networks and the trained autoencoder."""
        from diffusers import AutoencoderKLCogVideoX

        pipe = super().build(seed)
        folder = find_networks().pipeline / "vae"
        vae = AutoencoderKLCogVideoX.from_pretrained(folder, local_files_only=True)
        pipe.register_modules(vae=vae.eval())
        return pipe


def _read_channels() -> tuple[int, ...]:
    """Returns the channel widths of the packaged autoencoder; empty if there is none.

    Random networks have the sizes of the packaged ones. The random denoiser also depends on them, because it is drawn
    after the autoencoder.
    """
    path = find_networks().pipeline / "vae" / "config.json"
    if not path.is_file():
        return ()
    widths: list[int] = json.loads(path.read_text(encoding="utf-8"))["block_out_channels"]
    return tuple(widths)


def _without_weights() -> MissingError:
    return MissingError(
        "This installation of vcorr-tiny comes without its weights.",
        hint="Install it again, or train them: python -m vcorr_tiny.train --help",
    )
