"""The base of adapters for diffusers video models.

Shape legend: T video frames, H x W pixels, C latent channels, F x h x w latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from vcorr.cards import load_card
from vcorr.diffusion.weights import WeightsSource, locate_weights
from vcorr.errors import PluginError, UsageError
from vcorr.geometry import TokenGrid, latent_frames
from vcorr.records import Attention, Clip, ModelCard, RunSettings, Site

if TYPE_CHECKING:
    from torch import Tensor

    from vcorr.capture.recorder import Recorder
    from vcorr.capture.records import TextPlace
    from vcorr.diffusion.schedule import NoiseSchedule

PromptUse = Literal["caption", "empty"]

C = TypeVar("C", bound="VideoConfig")


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """Options every video diffusion model has (`--set model.KEY=VALUE`).

    height, width: pixels the model reads; clips are resized to it. frames: the most video frames it reads; a shorter
    clip is read as far as its frames fill whole latents. prompt: "caption" gives the clip's own text, "empty" none.
    """

    height: int
    width: int
    frames: int
    prompt: PromptUse = "caption"


@dataclass(frozen=True)
class Compression:
    """How pixels become tokens.

    spatial, temporal: of the autoencoder, pixels and frames a latent covers. patch, temporal_patch: latents a token
    covers in space and in time. causal: whether the first latent holds the first frame alone.
    """

    spatial: int = 8
    temporal: int = 4
    patch: int = 2
    temporal_patch: int = 1
    causal: bool = True

    @property
    def stride(self) -> int:
        """Pixels a token covers, in x and in y."""
        return self.spatial * self.patch

    @property
    def temporal_ratio(self) -> int:
        """Frames a token covers."""
        return self.temporal * self.temporal_patch


class DiffusersVideoModel(Generic[C]):
    """A diffusers video pipeline as a `vcorr.protocols.VideoModel`: renoise mode, one conditional forward pass a step.

    A subclass says, as class attributes, `pipeline_class`, `card`, `text` and `branches` (see
    `vcorr.capture.records.TokenLayout`) and, where they differ, `denoiser` and `steps`; and has these methods:

    - `sites()`: the attention modules, from the configuration alone (`attention_sites` helps);
    - `compression`: a `Compression`;
    - `build(seed)`: the pipeline with random weights, seeded by the base class, on the CPU in float32;
    - `condition(prompt, grid)`: what all steps of a clip share, text embeddings and rotary tables for instance;
    - `inputs(latents, timestep, condition)`: the keyword arguments of the denoiser.

    Where a model is unlike most, it also overrides `grid`, `encode`, `schedule`, `locate` or `loaded_sizes`. Inside
    `condition`, `encode`, `schedule` and `inputs`, the loaded pipeline is `self.pipe`; `self.device` is where it is.
    Subclasses import torch and diffusers inside methods only, so that their sites are known without loading anything.
    """

    pipeline_class: ClassVar[str]
    """Class name in diffusers, e.g. "LTXPipeline"."""
    card: ClassVar[str]
    """Model card, "package:path/in/package.yaml"."""
    denoiser: ClassVar[str] = "transformer"
    """The pipeline's component whose attention is read."""
    text: ClassVar[TextPlace] = "none"
    """Where text tokens stand in the sequence that attention sees."""
    branches: ClassVar[tuple[str, ...]] = ("cond",)
    """Guidance branches in the order the pipeline batches them; renoise mode runs the conditional one alone."""
    steps: int = 50
    """Sampling steps by default."""

    def __init__(self, config: C) -> None:
        self.config = config
        self.device = "cpu"
        self._pipe: Any = None

    # ------------------------------------------------------------------------------------------ what a subclass answers

    def sites(self) -> Sequence[Site]:
        """The attention modules that can be probed, by ascending layer."""
        raise _unanswered(self, "sites")

    @property
    def compression(self) -> Compression:
        """How pixels become tokens."""
        raise _unanswered(self, "compression")

    def build(self, seed: int) -> Any:
        """The pipeline with random weights, on the CPU in float32; torch's generator is already seeded with `seed`."""
        raise _unanswered(self, "build")

    def condition(self, prompt: str, grid: TokenGrid) -> Any:
        """What every step of a clip is conditioned on; handed to `inputs` as it is."""
        raise _unanswered(self, "condition")

    def inputs(self, latents: Tensor, timestep: Tensor, condition: Any) -> Mapping[str, Any]:
        """Keyword arguments of one conditional forward pass, as the pipeline itself would make them.

        latents: (1, C, F, h, w), noisy. timestep: 0-dimensional, as the scheduler gives it.
        """
        raise _unanswered(self, "inputs")

    # ------------------------------------------------------------------------------------- what a subclass may override

    def grid(self, clip: Clip, site: Site | None) -> TokenGrid:
        """How tokens lie over `clip` at the size this model reads it.

        Raises:
            UsageError: height, width or frames do not divide into tokens, or the clip is too short for two latents.
        """
        config, pack = self.config, self.compression
        for name in ("height", "width"):
            _check_divides(name, getattr(config, name), pack.stride)
        frames = self._frames(clip)
        return TokenGrid(
            frames=latent_frames(frames, pack.temporal_ratio, causal=pack.causal),
            rows=config.height // pack.stride,
            cols=config.width // pack.stride,
            stride=(pack.stride, pack.stride),
            video_frames=frames,
            temporal_ratio=pack.temporal_ratio,
            causal=pack.causal,
        )

    def locate(self, weights: str) -> WeightsSource:
        """The source that `--weights` names, found without loading it; raises as `vcorr.diffusion.locate_weights`."""
        return locate_weights(weights, self.model_card(), self.pipeline_class)

    def loaded_sizes(self) -> Mapping[str, Any]:
        """Sizes of the loaded pipeline by the name of the option that has to agree with them."""
        return {}

    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        """(T, H, W, 3) uint8 RGB to (1, C, F, h, w), in the units the denoiser was trained with."""
        from vcorr.diffusion.latents import encode_video

        return encode_video(self.pipe.vae, video)

    def schedule(self, num_steps: int, grid: TokenGrid) -> NoiseSchedule:
        """The scheduler's steps and their noise levels."""
        from vcorr.diffusion.schedule import noise_schedule

        return noise_schedule(self.pipe.scheduler, num_steps, self.device)

    # ------------------------------------------------------------------------------------------------------ contract

    def model_card(self) -> ModelCard:
        """The model's card."""
        return load_card(self.card, type(self).__name__)

    def weights_id(self, weights: str) -> str:
        """What identifies the weights: "hub:ID@REVISION", "path:HASH", "embedded:HASH" or "random:SEED".

        Imports neither torch nor diffusers. Raises as `locate`.
        """
        return self.locate(weights).identity

    def load(self, device: str, dtype: str, weights: str) -> None:
        """Loads the pipeline. Never downloads.

        Raises:
            MissingError: the weights or a package are not in reach.
            UsageError: the weights are of another kind or size than the configuration says.
        """
        source = self.locate(weights)
        from vcorr.diffusion.loading import cast_pipeline, load_pipeline, seeded, torch_dtype

        kind = torch_dtype(dtype)
        if source.folder is None:
            with seeded(source.seed):
                pipe = self.build(source.seed)
            cast_pipeline(pipe, kind)
        else:
            pipe = load_pipeline(self.pipeline_class, source.folder, kind)
        self._pipe, self.device = pipe, device
        try:
            self._check_sizes(weights)
            pipe.to(device)
        except BaseException:
            self._pipe = None
            raise

    @property
    def pipe(self) -> Any:
        """The loaded diffusers pipeline.

        Raises:
            PluginError: nothing is loaded yet.
        """
        if self._pipe is None:
            raise PluginError(f"{type(self).__name__} was used before its weights were loaded: call load(...) first.")
        return self._pipe

    def run(self, clip: Clip, settings: RunSettings, recorder: Recorder) -> None:
        """Encodes the clip, adds the noise of each chosen step, and makes one conditional forward pass a step.

        The noise eps is drawn once a clip, from the seed and the clip's id alone, and is the same at every step.

        Raises:
            UsageError: another mode than renoise, a step that does not exist, or a clip of another size than `grid`.
        """
        import torch

        from vcorr.capture.records import TokenLayout
        from vcorr.diffusion.latents import clip_noise

        grid, video = self._checked(clip, settings)
        module = getattr(self.pipe, self.denoiser)
        with torch.no_grad():
            schedule = self.schedule(settings.num_steps, grid)
            for step in settings.steps:
                schedule.check(step)
            latents = self.encode(video)
            epsilon = clip_noise(latents.shape, settings.seed, clip.id).to(latents.device)
            condition = self.condition(clip.prompt if self.config.prompt == "caption" else "", grid)
            with recorder.attach(module, self.sites(), TokenLayout(self.text, self.branches), grid):
                for step in settings.steps:
                    noisy = schedule.add_noise(latents, epsilon, step)
                    with recorder.step(step, noise=float(schedule.noise[step])):
                        module(**self.inputs(noisy, schedule.timesteps[step], condition))

    def _frames(self, clip: Clip) -> int:
        """Frames to read: as configured, or as many of a shorter clip as fill whole latents."""
        pack, frames = self.compression, self.config.frames
        latent_frames(frames, pack.temporal_ratio, causal=pack.causal)  # refuses an option that does not divide
        if clip.video is None or len(clip.video) >= frames:
            return frames
        lead, ratio = int(pack.causal), pack.temporal_ratio
        fits = (len(clip.video) - lead) // ratio * ratio + lead
        least = ratio + lead if pack.causal else 2 * ratio
        if fits < least:
            raise UsageError(
                f"Clip {clip.id} has {len(clip.video)} frames; {self.model_card().title} needs at least {least} to "
                "have a latent to match to."
            )
        return fits

    def _checked(self, clip: Clip, settings: RunSettings) -> tuple[TokenGrid, NDArray[np.uint8]]:
        if settings.mode != "renoise":
            raise UsageError(
                f"Mode {settings.mode!r} is not available for this model yet.",
                hint="Use --mode renoise, on data with video.",
            )
        grid = self.grid(clip, None)
        if clip.video is None:
            raise UsageError(
                f"Clip {clip.id} has no video to add noise to.", hint="Renoise mode needs data with video."
            )
        expected = (grid.video_frames, round(grid.height), round(grid.width))
        if clip.video.shape[:3] != expected:
            raise UsageError(
                f"Clip {clip.id} is {_size(clip.video.shape)}; the model reads {_size(expected)}.",
                hint="vcorr.stages.fit.fit_clip(clip, model.grid(clip, None)) brings it to that size.",
            )
        return grid, clip.video

    def _check_sizes(self, weights: str) -> None:
        known = {field.name for field in fields(self.config)}
        wrong = {
            name: value
            for name, value in self.loaded_sizes().items()
            if name in known and getattr(self.config, name) != value
        }
        if wrong:
            found = ", ".join(f"{k}={v!r} (configured: {getattr(self.config, k)!r})" for k, v in wrong.items())
            options = " ".join(f"--set model.{k}={_option(v)}" for k, v in wrong.items())
            raise UsageError(f"--weights {weights!r} has other sizes than configured: {found}.", hint=f"Add: {options}")


def attention_sites(pattern: str, count: int, heads: int, attention: Attention = "full3d") -> tuple[Site, ...]:
    """Sites 0 to `count` - 1, each named `pattern` with its number in place of "{}", e.g. "blocks.{}.attn1"."""
    return tuple(Site(layer, pattern.format(layer), heads, attention) for layer in range(count))


def _check_divides(name: str, pixels: int, stride: int) -> None:
    if pixels < 1 or pixels % stride:
        below = max(pixels // stride, 1) * stride
        raise UsageError(
            f"model.{name}={pixels} does not divide into tokens of {stride} pixels.",
            hint=f"Multiples of {stride} do, for example {below} or {below + stride}.",
        )


def _size(shape: Sequence[int]) -> str:
    frames, height, width = shape[:3]
    return f"{frames} frames of {height}x{width} pixels"


def _option(value: Any) -> str:
    return f"'[{','.join(map(str, value))}]'" if isinstance(value, (tuple, list)) else str(value).lower()


def _unanswered(model: object, name: str) -> PluginError:
    return PluginError(f"{type(model).__name__} does not say its {name}, which every DiffusersVideoModel has to.")
