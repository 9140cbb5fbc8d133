"""The modes of a run: what a model does with a clip. One class per mode; no torch.

Specs and tables hold the name of a mode (`RunSettings.mode`). Code that depends on the mode asks its object; `mode_of`
finds it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from vcorr.contract.errors import UsageError, unknown_name
from vcorr.contract.records import Clip, Mode, RunSettings

LEAST_ROUND_TRIP = 20.0
"""Least PSNR in dB of the round trip in mode `invert`; a clip below it is not scored.

The round trip samples the video again from its own inverted latents (`Reconstruction.sampler`).
"""


class RunMode(ABC):
    """What depends on the mode of a run."""

    name: ClassVar[Mode]
    makes_video: ClassVar[bool] = False
    """Whether the model makes the video, which is then stored and tracked. If False, it reads the clip's video."""
    encodes: ClassVar[int] = 0
    """How many videos the autoencoder encodes per clip, if the model has one."""
    decodes: ClassVar[int] = 0
    """How many videos the autoencoder decodes per clip, if the model has one."""

    def check_video(self, clip: Clip | None) -> None:
        """Checks that a clip has what the mode needs. None is a clip that could not be loaded, and passes.

        Raises:
            UsageError: the mode needs a video and the clip has none.
        """
        if not has_video(clip):
            raise UsageError(
                f"--mode {self.name} needs videos, and this data has prompts or images only.", hint="Leave --mode out."
            )

    def input_of(self, clip: Clip, *, needs_image: bool) -> Clip:
        """Returns the part of a dataset's clip that the model gets.

        needs_image: whether sampling starts from an image, which is frame 0 of the clip's video.
        """
        return clip

    def size_source(self, clip: Clip) -> Clip:
        """Returns the part of a clip that decides the size at which the model runs."""
        return clip

    def has_tracks(self, clip: Clip | None) -> bool:
        """Returns whether the reference tracks are the clip's own; True for a clip that could not be loaded (None)."""
        return clip is None or clip.tracks is not None

    @abstractmethod
    def passes(self, settings: RunSettings) -> int:
        """Returns how often the denoiser runs per clip, for the estimate of a dry run.

        In mode generate each of these runs may compute several guidance branches (`guidance_branches` of the model).
        """


class Renoise(RunMode):
    """Adds the noise of a step to a real video: one forward pass per step."""

    name = "renoise"
    encodes = 1

    def passes(self, settings: RunSettings) -> int:
        """Returns one pass per chosen step."""
        return len(settings.steps)


class Generate(RunMode):
    """Samples a video from noise with the model's own pipeline, and reads the chosen steps on the way."""

    name = "generate"
    makes_video = True
    decodes = 1

    def check_video(self, clip: Clip | None) -> None:
        """Accepts any clip: a prompt is enough."""

    def input_of(self, clip: Clip, *, needs_image: bool) -> Clip:
        """Returns the clip without tracks, and without the video unless sampling starts from its first frame."""
        return clip.with_video(clip.video if needs_image else None)

    def size_source(self, clip: Clip) -> Clip:
        """Returns the clip without its video: a generated video has the model's own size."""
        return clip.with_video(None)

    def has_tracks(self, clip: Clip | None) -> bool:
        """Returns False: the video is new."""
        return False

    def passes(self, settings: RunSettings) -> int:
        """Returns one pass per step of the sampler, whether the step is chosen or not."""
        return settings.num_steps


class Invert(RunMode):
    """Walks a real video back along the model's own sampler, reads the chosen steps on the way, and samples again."""

    name = "invert"
    encodes = 1
    decodes = 2  # the round trip, and the encoded clip that it is compared with

    def passes(self, settings: RunSettings) -> int:
        """Returns one pass at the clean latents, two per step towards noise and one per step back.

        The steps back measure the error of the round trip.
        """
        return 3 * settings.num_steps + 1


MODES: tuple[RunMode, ...] = (Renoise(), Generate(), Invert())


def mode_of(word: str) -> RunMode:
    """Returns the mode of this name.

    Raises:
        UsageError: there is no mode of this name.
    """
    for mode in MODES:
        if mode.name == word:
            return mode
    raise unknown_name("mode", str(word), [mode.name for mode in MODES])


def choose_mode(word: str | None, first: Clip | None) -> RunMode:
    """Returns the mode named `word`; for None, `renoise` if the data have videos, else `generate`.

    first: the first clip; None if it could not be loaded.

    Raises:
        UsageError: there is no mode of this name, or the mode cannot use the data.
    """
    mode = mode_of(word or ("renoise" if has_video(first) else "generate"))
    mode.check_video(first)
    return mode


def has_video(clip: Clip | None) -> bool:
    """Returns whether a clip has a video of at least two frames; True for a clip that could not be loaded (None)."""
    return clip is None or (clip.video is not None and len(clip.video) > 1)
