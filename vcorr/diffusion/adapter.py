"""The base of adapters for diffusers video models.

Shape legend: T video frames, H x W pixels, C latent channels, F x h x w latents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from vcorr.bases import VideoModelBase
from vcorr.cards import load_card
from vcorr.diffusion.checks import check_loaded, check_size, frames_to_read, size_in_words
from vcorr.diffusion.layout import Compression, Sizes
from vcorr.diffusion.text import PromptEncoding
from vcorr.diffusion.weights import WeightsSource, locate_weights
from vcorr.errors import PluginError, UsageError
from vcorr.geometry import TokenGrid
from vcorr.modes import mode_of
from vcorr.records import Clip, ModelCard, RunSettings, Site

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vcorr.capture.recorder import Recorder
    from vcorr.capture.records import TextPlace, TokenLayout
    from vcorr.diffusion.schedule import NoiseSchedule

PromptUse = Literal["caption", "empty"]

C = TypeVar("C", bound="VideoConfig")


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """Options every video diffusion model has (`--set model.KEY=VALUE`).

    height, width: pixels the model reads or makes; clips are resized to it. frames: the most video frames it reads, and
    those it makes; a shorter clip is read as far as its frames fill whole latents. prompt: "caption" gives the clip's
    own text, "empty" none. lora: path of a safetensors file with low-rank weights, merged in when the model is loaded.
    offload: networks stay in CPU memory and come to the GPU only while they run. vae_tiling: the autoencoder works tile
    by tile, which takes less memory and changes pixels slightly; vae_slicing: item by item of its batch, which changes
    nothing and helps autoencoders of images, whose batch is the frames.
    """

    height: int
    width: int
    frames: int
    prompt: PromptUse = "caption"
    lora: str | None = None
    offload: bool = False
    vae_tiling: bool = False
    vae_slicing: bool = False


class DiffusersVideoModel(VideoModelBase, Generic[C]):
    """A diffusers video pipeline as a `vcorr.protocols.VideoModel`.

    In renoise mode it makes one conditional forward pass a step; in generate mode it calls the pipeline itself, which
    samples with its own scheduler, loop and guidance, and reads the chosen steps on the way.

    A subclass says, as class attributes, `pipeline_class`, `card`, `text` and `branches` (see
    `vcorr.capture.records.TokenLayout`) and, where they differ, `denoiser` and `steps`; and has these methods:

    - `sites()`: the attention modules, from the configuration alone (`attention_sites` helps);
    - `compression`: a `Compression`;
    - `build(seed)`: the pipeline with random weights, on torch's default device and dtype, seeded by the base class;
    - `condition(prompt, grid)`: what all steps of a clip share, text embeddings and rotary tables for instance;
    - `inputs(latents, timestep, condition)`: the keyword arguments of the denoiser.

    One whose pipeline takes `prompt_embeds` also says its `encoding`, and uses `embed` in `condition`. Where a model is
    unlike most, it also overrides `grid`, `compression_at`, `denoiser_at`, `sizes`, `encode`, `schedule`, `locate`,
    `read`, `loaded_sizes`, `text_limit`, `clip_condition` or `call_inputs`. Inside the methods that are called with a
    clip or with latents, the loaded pipeline is `self.pipe`; `self.device` is where it computes.
    Subclasses import torch and diffusers inside methods only, so that their sites are known without loading anything.
    """

    pipeline_class: ClassVar[str]
    """Class name in diffusers, e.g. "LTXPipeline", or "package.module:Class" of a pipeline of the plugin's own."""
    saved_as: ClassVar[tuple[str, ...]] = ()
    """Class names that a folder of its weights may carry; `pipeline_class` alone when empty."""
    card: ClassVar[str]
    """Model card, "package:path/in/package.yaml"."""
    denoiser: ClassVar[str] = "transformer"
    """The pipeline's component whose attention is read."""
    text: ClassVar[TextPlace] = "none"
    """Where text tokens stand in the sequence that attention sees."""
    branches: ClassVar[tuple[str, ...]] = ("cond",)
    """Guidance branches in the order the pipeline batches them; renoise mode runs the conditional one alone."""
    per_sample: ClassVar[bool] = False
    """Whether every row of the batch is attended to in a call of its own, in their order."""
    passes: ClassVar[tuple[str, ...]] = ()
    """Branches in the order of a step's passes, for pipelines that run one pass a branch and do not label them with
    `denoiser.cache_context`; those that do, and those that batch or have no guidance, leave it empty."""
    guidance_argument: ClassVar[str] = "guidance_scale"
    """What the pipeline's call names the strength of guidance."""
    frames_argument: ClassVar[str] = "num_frames"
    """What the pipeline's call names the number of video frames."""
    frame_inputs: ClassVar[tuple[str, ...]] = ()
    """Those of `inputs` that have a row for every frame, where the others have one for the whole video."""
    needs_image: bool = False
    """Whether sampling starts from an image, frame 0 of the clip's video."""
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
        """The pipeline with random weights, as plain constructors make it: torch's generators are already seeded with
        `seed`, and its default device and dtype are those the model will run on.
        """
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
            UsageError: the model does not take the configured height, width or frames, or the clip is too short.
        """
        config, pack = self.config, self.compression_at(site)
        allowed, title = self.sizes(site), self.model_card().title
        for name, sizes in allowed.items():
            check_size(name, getattr(config, name), sizes, title)
        frames = frames_to_read(clip, config.frames, allowed["frames"], title)
        tokens, spans = pack.time(frames)
        return TokenGrid(
            frames=tokens,
            rows=config.height // pack.stride,
            cols=config.width // pack.stride,
            stride=(pack.stride, pack.stride),
            video_frames=frames,
            temporal_ratio=pack.temporal_ratio,
            causal=pack.causal,
            spans=spans,
        )

    def check_makes(self, grid: TokenGrid) -> None:
        """Raises UsageError where the model reads videos of that size and cannot make any; none, unless overridden."""

    def compression_at(self, site: Site | None) -> Compression:
        """How pixels become tokens at a site; at all of them alike unless the network has several resolutions."""
        return self.compression

    def sizes(self, site: Site | None) -> Mapping[str, Sizes]:
        """The height, width and frames that can be read at a site; whatever divides into tokens, unless overridden."""
        pack = self.compression_at(site)
        side = Sizes(pack.stride, pack.stride)
        return {"height": side, "width": side, "frames": Sizes(pack.least_frames, pack.frame_step)}

    @property
    def encoding(self) -> PromptEncoding | None:
        """How the pipeline encodes prompts; None when the model has no text, or does it in a way of its own."""
        return None

    def locate(self, weights: str) -> WeightsSource:
        """The source that `--weights` names, found without loading it; raises as `vcorr.diffusion.locate_weights`."""
        return locate_weights(weights, self.model_card(), self.saved_as or (self.pipeline_class,))

    def read(self, source: WeightsSource, dtype: torch.dtype) -> Any:
        """The pipeline whose weights lie in the folder that `locate` found, on the CPU."""
        from vcorr.diffusion.loading import load_pipeline

        assert source.folder is not None  # random weights are built
        return load_pipeline(self.pipeline_class, source.folder, dtype)

    def loaded_sizes(self) -> Mapping[str, Any]:
        """Sizes of the loaded pipeline by the name of the option that has to agree with them.

        They are the options that the denoiser's own configuration has by the same name, e.g. `num_layers`.
        """
        found = getattr(self.pipe, self.denoiser).config
        return {field.name: _plain(found[field.name]) for field in fields(self.config) if field.name in found}

    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        """(T, H, W, 3) uint8 RGB to (1, C, F, h, w), in the units the denoiser was trained with."""
        from vcorr.diffusion.latents import encode_video

        return encode_video(self.pipe.vae, video, self.device)

    def schedule(self, num_steps: int, grid: TokenGrid) -> NoiseSchedule:
        """The scheduler's steps and their noise levels."""
        from vcorr.diffusion.schedule import noise_schedule

        return noise_schedule(self.pipe.scheduler, num_steps, self.device)

    @property
    def denoisers(self) -> tuple[str, ...]:
        """The components of the pipeline whose attention is read: `denoiser`, unless several take turns."""
        return (self.denoiser,)

    def denoiser_at(self, timestep: float) -> str:
        """The component of the pipeline that runs at a timestep: `denoiser`, unless several take turns.

        They have the same sites; those of a step are the sites of the component that runs in it.
        """
        return self.denoiser

    def text_limit(self) -> int | None:
        """The most tokens of a prompt the text encoder reads; None when it reads any number."""
        return None if self.encoding is None else self.encoding.tokens

    def clip_condition(self, clip: Clip, grid: TokenGrid, seed: int) -> Any:
        """What every step of renoise mode is conditioned on: `condition` of the prompt, unless the clip gives more."""
        return self.condition(self.prompt(clip), grid)

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """Arguments of the pipeline's call in generate mode beside size, steps, generator, guidance and callback."""
        prompt = self.prompt(clip)
        if self.encoding is None:
            return {"prompt": prompt}
        return self.encoding.call_inputs(self.pipe, prompt, self.device, self._dtype)

    def embed(self, prompt: str) -> dict[str, Tensor]:
        """The prompt's embedding, (1, n, c), and mask, (1, n), by the names the pipeline's call has for them.

        Raises:
            PluginError: the model does not say its `encoding`.
        """
        if self.encoding is None:
            raise _unanswered(self, "encoding")
        return self.encoding.embed(self.pipe, prompt, self.device, self._dtype)

    # ------------------------------------------------------------------------------------------------------ contract

    def model_card(self) -> ModelCard:
        """The model's card."""
        return load_card(self.card, type(self).__name__)

    def weights_id(self, weights: str) -> str:
        """What identifies the weights: "hub:ID@REVISION", "path:HASH", "embedded:HASH" or "random:SEED".

        "+lora:HASH" follows where low-rank weights are merged in. Imports neither torch nor diffusers. Raises as
        `locate`, and when the file of `model.lora` cannot be used.
        """
        identity = self.locate(weights).identity
        if self.config.lora is None:
            return identity
        from vcorr.diffusion.options import lora_identity

        return f"{identity}+lora:{lora_identity(self.config.lora)}"

    def load(self, device: str, dtype: str, weights: str) -> None:
        """Loads the pipeline. Never downloads.

        Raises:
            MissingError: the weights or a package are not in reach.
            UsageError: the weights are of another kind or size than the configuration says, or an option cannot be had.
        """
        source = self.locate(weights)
        from vcorr.diffusion.loading import torch_dtype
        from vcorr.diffusion.options import lora_file, place

        kind = torch_dtype(dtype)
        if self.config.lora is not None:
            lora_file(self.config.lora)  # a wrong path is told before gigabytes are read
        self._pipe, self.device = self._loaded(source, kind, device), device
        try:
            check_loaded(self.config, self.loaded_sizes(), weights)
            self._prepare()
            place(self._pipe, device, offload=self.config.offload)
        except BaseException:
            self._pipe = None
            raise

    def adopt(self, pipe: Any, device: str) -> None:
        """Uses a pipeline that was built elsewhere and is on `device` already, in place of `load`."""
        self._pipe, self.device = pipe, device
        self._let_attention_be_seen()
        pipe.set_progress_bar_config(disable=True)

    @property
    def pipe(self) -> Any:
        """The loaded diffusers pipeline.

        Raises:
            PluginError: nothing is loaded yet.
        """
        if self._pipe is None:
            raise PluginError(f"{type(self).__name__} was used before its weights were loaded: call load(...) first.")
        return self._pipe

    def run(self, clip: Clip, settings: RunSettings, recorder: Recorder) -> NDArray[np.uint8] | None:
        """Runs the model on the clip.

        Renoise mode encodes the clip, adds the noise of each chosen step, and makes one conditional forward pass for
        it; the noise eps is drawn once a clip, from the seed and the clip's id alone, and is the same at every step.

        Generate mode calls the pipeline at the configured size, with a generator seeded with `settings.seed` itself,
        whatever the clip; of a clip's video only frame 0 is looked at, by models that start from an image.

        Returns:
            The sampled video, (T, H, W, 3) uint8, in generate mode; None in renoise mode.

        Raises:
            UsageError: an unknown mode, a step that does not exist, a prompt that is too long, or a clip of another
                size than `grid`.
        """
        if mode_of(settings.mode).makes_video:
            return self._generate(clip, settings, recorder)
        self._renoise(clip, settings, recorder)
        return None

    def prompt(self, clip: Clip) -> str:
        """The text the model is given for a clip.

        Raises:
            UsageError: the text encoder would cut it.
        """
        prompt = clip.prompt if self.config.prompt == "caption" else ""
        tokenizer, limit = getattr(self.pipe, "tokenizer", None), self.text_limit()
        if tokenizer is None or limit is None:
            return prompt
        count = len(tokenizer(prompt, verbose=False).input_ids)
        if count > limit:
            raise UsageError(
                f"The prompt of clip {clip.id} has {count} tokens; {self.model_card().title} reads {limit}.",
                hint="Shorten it, or leave it out: --set model.prompt=empty",
            )
        return prompt

    # -------------------------------------------------------------------------------------------------------- the modes

    def _renoise(self, clip: Clip, settings: RunSettings, recorder: Recorder) -> None:
        import torch

        from vcorr.diffusion.latents import clip_noise

        grid, video = self._checked(clip)
        with torch.no_grad():
            schedule = self._schedule(settings, grid)
            condition = self.clip_condition(clip, grid, settings.seed)
            latents = self.encode(video)
            epsilon = clip_noise(latents.shape, settings.seed, clip.id).to(latents.device)
            denoisers = self._denoisers(schedule)
            for _, stretch in groupby(settings.steps, key=lambda step: id(denoisers[step])):
                steps = list(stretch)
                module = denoisers[steps[0]]
                with recorder.attach(module, self.sites(), self.layout(), partial(self.grid, clip)):
                    for step in steps:
                        noisy = schedule.add_noise(latents, epsilon, step)
                        with recorder.step(step, noise=float(schedule.noise[step])):
                            module(**self.inputs(noisy, schedule.timesteps[step], condition))
        self.pipe.maybe_free_model_hooks()

    def _generate(self, clip: Clip, settings: RunSettings, recorder: Recorder) -> NDArray[np.uint8]:
        import torch

        from vcorr.diffusion.loading import seeded
        from vcorr.diffusion.sampling import SamplingWatch, frames_of, sampling_generator

        made = replace(clip, video=None, tracks=None)
        grid = self.grid(made, None)
        self.check_makes(grid)
        schedule = self._schedule(settings, grid)
        noise = {step: float(schedule.noise[step]) for step in settings.steps}
        modules = [getattr(self.pipe, name) for name in self.denoisers]
        # a pipeline that draws from torch's own generator, against its promise, repeats as well
        with torch.no_grad(), seeded(settings.seed, self.device):
            call = {
                **self.call_inputs(clip, grid),
                "height": round(grid.height),
                "width": round(grid.width),
                self.frames_argument: grid.video_frames,
                "num_inference_steps": settings.num_steps,
                "generator": sampling_generator(settings.seed),
                "output_type": "np",
                **self._guidance(settings),
            }
            with (
                recorder.attach(modules, self.sites(), self.layout(), partial(self.grid, made)),
                SamplingWatch(recorder, noise) as watch,
                watch.told_by(self.pipe) as told,
            ):
                output = self.pipe(**call, **told)
        watch.check(schedule.timesteps)
        return frames_of(output, grid)

    def _schedule(self, settings: RunSettings, grid: TokenGrid) -> NoiseSchedule:
        schedule = self.schedule(settings.num_steps, grid)
        for step in settings.steps:
            schedule.check(step)
        return schedule

    def _denoisers(self, schedule: NoiseSchedule) -> list[torch.nn.Module]:
        """The module that runs at each step."""
        return [getattr(self.pipe, self.denoiser_at(float(timestep))) for timestep in schedule.timesteps]

    def layout(self) -> TokenLayout:
        """Where text and guidance branches are in a call of attention."""
        from vcorr.capture.records import TokenLayout

        return TokenLayout(self.text, self.branches, per_sample=self.per_sample, passes=self.passes)

    def _guidance(self, settings: RunSettings) -> Mapping[str, float]:
        strength = settings.cfg
        if strength is None:
            return {}
        if not (math.isfinite(strength) and strength >= 0):
            raise UsageError(f"Guidance must be a number of at least 0, got {strength}.", hint="1 means none.")
        return {self.guidance_argument: strength}

    # ---------------------------------------------------------------------------------------------------------- loading

    def _loaded(self, source: WeightsSource, kind: torch.dtype, device: str) -> Any:
        from vcorr.diffusion.random_weights import random_pipeline

        if source.folder is not None:
            return self.read(source, kind)
        # networks that take turns on a device need not fit into it together
        return random_pipeline(self.build, source.seed, "cpu" if self.config.offload else device, kind)

    def _prepare(self) -> None:
        from vcorr.diffusion.options import merge_lora, slice_autoencoder, tile_autoencoder

        self.pipe.set_progress_bar_config(disable=True)
        self._let_attention_be_seen()
        if self.config.lora is not None:
            merge_lora(self.pipe, self.config.lora)
        if self.config.vae_tiling:
            tile_autoencoder(self.pipe)
        if self.config.vae_slicing:
            slice_autoencoder(self.pipe)

    def _let_attention_be_seen(self) -> None:
        from vcorr.diffusion.backend import use_torch_attention
        from vcorr.diffusion.loading import networks

        for network in networks(self.pipe):  # several may have the sites, and take turns
            use_torch_attention(network, [site.name for site in self.sites()])

    @property
    def _dtype(self) -> torch.dtype:
        found: torch.dtype = getattr(self.pipe, self.denoiser).dtype
        return found

    # ----------------------------------------------------------------------------------------------------------- checks

    def _checked(self, clip: Clip) -> tuple[TokenGrid, NDArray[np.uint8]]:
        grid = self.grid(clip, None)
        if clip.video is None:
            raise UsageError(
                f"Clip {clip.id} has no video to add noise to.", hint="Renoise mode needs data with video."
            )
        expected = (grid.video_frames, round(grid.height), round(grid.width))
        if clip.video.shape[:3] != expected:
            raise UsageError(
                f"Clip {clip.id} is {size_in_words(clip.video.shape)}; the model reads {size_in_words(expected)}.",
                hint="vcorr.stages.fit.fit_clip(clip, model.grid(clip, None)) brings it to that size.",
            )
        return grid, clip.video


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _unanswered(model: object, name: str) -> PluginError:
    return PluginError(f"{type(model).__name__} does not say its {name}, which every DiffusersVideoModel has to.")
