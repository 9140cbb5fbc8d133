"""The modes of a run: what a model does with a clip. One class for each, looked up once by its word; no torch.

Specs and tables hold the word (`RunSettings.mode`); whoever has to act on it asks the object.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar

from vcorr.contract.errors import UsageError, unknown_name
from vcorr.contract.records import Clip, Mode, RunSettings

LEAST_ROUND_TRIP = 20.0
"""dB: a video that comes back with less than this from its own inverted latents is not scored in mode `invert`."""


class RunMode(ABC):
    """What depends on the mode of a run, for every part that has to know."""

    name: ClassVar[Mode]
    makes_video: ClassVar[bool] = False
    """Whether the model makes the video, which then is kept and tracked; else it reads the clip's own."""

    def check_video(self, clip: Clip | None) -> None:
        """Checks that a clip has what the mode needs; None for a clip that could not be loaded.

        Raises:
            UsageError: it has no video.
        """
        if not has_video(clip):
            raise UsageError(
                f"--mode {self.name} needs videos, and this data has prompts or images only.", hint="Leave --mode out."
            )

    def given(self, clip: Clip, *, needs_image: bool) -> Clip:
        """What of a dataset's clip the model is given. needs_image: whether sampling starts from its frame 0."""
        return clip

    def sized(self, clip: Clip) -> Clip:
        """The clip as far as it decides the size at which the model runs."""
        return clip

    def has_tracks(self, clip: Clip | None) -> bool:
        """Whether a clip's own tracks are the reference; None for a clip that could not be loaded."""
        return clip is None or clip.tracks is not None

    @abstractmethod
    def passes(self, settings: RunSettings) -> int:
        """Forward passes of the denoiser per clip, for the estimate of a dry run."""


class Renoise(RunMode):
    """Adds the noise of a step to a real video: one forward pass per step."""

    name = "renoise"

    def passes(self, settings: RunSettings) -> int:
        """One per chosen step."""
        return len(settings.steps)


class Generate(RunMode):
    """Samples a video from noise, with the model's own pipeline, and reads the chosen steps on the way."""

    name = "generate"
    makes_video = True

    def check_video(self, clip: Clip | None) -> None:
        """Passes: a prompt is enough."""

    def given(self, clip: Clip, *, needs_image: bool) -> Clip:
        """The prompt, and the video where its first frame is what sampling starts from."""
        return replace(clip, video=clip.video if needs_image else None, tracks=None)

    def sized(self, clip: Clip) -> Clip:
        """Without its video: what a model makes has its own size, whatever the video is like that gives an image."""
        return replace(clip, video=None, tracks=None)

    def has_tracks(self, clip: Clip | None) -> bool:
        """Never: the video is new."""
        return False

    def passes(self, settings: RunSettings) -> int:
        """One per step of the sampler, chosen or not."""
        return settings.num_steps


class Invert(RunMode):
    """Walks a real video back along the model's own sampler, reads the chosen steps on the way, and samples again."""

    name = "invert"

    def passes(self, settings: RunSettings) -> int:
        """One at the clean latents, two per step up, and one per step down again for the error of the round trip."""
        return 3 * settings.num_steps + 1


MODES: tuple[RunMode, ...] = (Renoise(), Generate(), Invert())


def mode_of(word: str) -> RunMode:
    """The mode of a spec's word.

    Raises:
        UsageError: there is none of that name.
    """
    for mode in MODES:
        if mode.name == word:
            return mode
    raise unknown_name("mode", str(word), [mode.name for mode in MODES])


def chosen_mode(word: str | None, first: Clip | None) -> RunMode:
    """The mode that was named, else renoise where there is a video to add noise to, else generate.

    first: the first clip; None where it could not be loaded.

    Raises:
        UsageError: an unknown word, or data that the mode cannot use.
    """
    mode = mode_of(word or ("renoise" if has_video(first) else "generate"))
    mode.check_video(first)
    return mode


def has_video(clip: Clip | None) -> bool:
    """Whether a clip has a video, one frame being an image; taken to be so for one that could not be loaded (None)."""
    return clip is None or (clip.video is not None and len(clip.video) > 1)
