"""The records of a run: what is asked of a model, what it applies by itself, and how well an inversion restores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from vcorr.contract.option_notes import option

if TYPE_CHECKING:
    from vcorr.contract.guidance_protocols import Guidance

Mode = Literal["renoise", "generate", "invert"]
"""Names of the modes of a run (`vcorr.contract.modes`)."""

RANDOM = "random"
"""The value of `--weights` for random weights, and the beginning of their identity, "random:SEED"."""


def is_random(weights: str) -> bool:
    """Returns whether an identity of weights, or a value of `--weights`, means random weights.

    Results of random weights are marked and never reach a board.
    """
    return weights.partition(":")[0] == RANDOM


@dataclass(frozen=True)
class RunSettings:
    """What a model adapter does with a clip.

    Args:
        mode: "renoise": encode the clip's video, add the noise of each chosen step, and run one forward pass per step.
            "generate": sample from noise. "invert": walk the clip's video back along the sampler. See
            `vcorr.contract.modes`.
        steps: 0-based indices into the scheduler's timesteps, ascending; step 0 is the noisiest.
        num_steps: number of timesteps of the scheduler.
        seed: seed of the noise. The same seed and clip give the same noise, whatever the other settings are. In mode
            generate a run gives every clip a seed of its own, unless its noise is shared (docs/protocol.md).
        cfg: strength of classifier-free guidance in mode generate, 1 for none; None for the pipeline's default.
        add_noise: False in mode renoise: the denoiser gets the timestep of a step, and latents without its noise. The
            published code of DiffTrack tracks TAP-Vid videos so. At the default it is no part of fingerprints.
        guidance: steers sampling in mode generate, in addition to classifier-free guidance; None for none. It is no
            part of the settings in fingerprints, because its entry and its options identify it.
        keep_latents: latents of a video are kept in files between runs. This changes no number, and is no part of
            fingerprints.
        noise_batch: the most steps whose noise levels share a forward pass in mode renoise, as rows of its batch. More
            than 1 can change the rounding. At the default it is no part of fingerprints.
    """

    mode: Mode = "renoise"
    steps: tuple[int, ...] = (0,)
    num_steps: int = 1
    seed: int = 42
    cfg: float | None = None
    add_noise: bool = option(True, "False: latents without the noise of the step.", later=True)
    guidance: Guidance | None = option(None, "Steers sampling in mode generate.", later=True)
    keep_latents: bool = option(False, "Latents are kept in files between runs.", later=True)
    noise_batch: int = option(1, "Steps that share a pass in mode renoise.", least=1, later=True)


@dataclass(frozen=True)
class AppliedSettings:
    """Settings that a model applies in a run although neither the options nor the folder of its weights ask for them.

    values: by the name of the option; part of the fingerprint of predictions. notes: sentences for the user.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reconstruction:
    """How well a model restores a video from its inverted latents: three values of PSNR in dB.

    sampler: restored video against the autoencoder's own reconstruction: the error of inversion and sampling alone.
    video: restored video against the original.
    autoencoder: the autoencoder's reconstruction against the original, the most that `video` can reach.
    """

    sampler: float
    video: float
    autoencoder: float
