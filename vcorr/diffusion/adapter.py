"""The base of adapters for diffusers video models.

Shape legend: T video frames, H x W pixels, C latent channels, F x h x w latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.bases import VideoModelBase
from vcorr.contract.cards import load_card
from vcorr.contract.errors import PluginError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.modes import Invert, mode_of
from vcorr.contract.records import Attention, Clip, Mode, ModelCard, RunSettings, Site, Unrotated
from vcorr.contract.rotary import Rotary
from vcorr.diffusion.configs import VIDEO, Configs, folder_configs, packaged_configs, pipeline_configs
from vcorr.diffusion.images import starting_image
from vcorr.diffusion.options import VideoConfig
from vcorr.diffusion.prompts import PromptEncoding
from vcorr.diffusion.size_checks import check_network, check_size, frames_to_read
from vcorr.diffusion.token_layout import Compression, Sizes, attention_sites
from vcorr.diffusion.weights import WeightsSource, locate_weights

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vcorr.capture.captures import TextPlace, TokenLayout
    from vcorr.capture.recorder import Recorder
    from vcorr.diffusion.borrowed import FirstPass, Passes
    from vcorr.diffusion.schedule import NoiseSchedule

C = TypeVar("C", bound="VideoConfig")


class DiffusersVideoModel(VideoModelBase, Generic[C]):
    """A diffusers video pipeline as a `vcorr.VideoModel`.

    In renoise mode it makes one conditional forward pass a step, with arguments borrowed from the pipeline; in generate
    mode it calls the pipeline itself, which samples with its own scheduler, loop and guidance, and reads the chosen
    steps on the way.

    One class serves a family. The sizes of a model are the configurations in the folder that its entry names
    (`vcorr.diffusion.packaged_configs`); `network` and `config_of` read them, before and after loading. A subclass says
    as class attributes what the configurations do not: `pipeline_class`, `compression`, `attention`, `branches`, and
    those below that differ. Where a model is unlike most, it overrides one of the methods. Inside those that are called
    with a clip or with latents, the loaded pipeline is `self.pipe`; `self.device` is where it computes.
    Subclasses import torch and diffusers inside methods only, so that their sites are known without loading anything.
    """

    pipeline_class: ClassVar[str]
    """Class name in diffusers, e.g. "LTXPipeline", or "package.module:Class" of a pipeline of the plugin's own."""
    saved_as: ClassVar[tuple[str, ...]] = ()
    """Class names that a folder of its weights may carry; `pipeline_class` alone when empty."""
    card: str = ""
    """Model card, "package:path/in/package.yaml"; that of the entry, unless the class is for one model alone."""
    configs: str = ""
    """Folder of the configurations, "package:path/in/package"; that of the entry, as `card`."""
    denoiser: ClassVar[str] = "transformer"
    """The pipeline's component whose attention is read."""
    attention: ClassVar[str] = "transformer_blocks.{}.attn1"
    """Path of the attention modules inside the denoiser, "{}" in place of the number of the block."""
    attention_kind: ClassVar[Attention] = "full3d"
    """What its tokens can see."""
    block: ClassVar[str] = "transformer_blocks.{}"
    """Path of the modules that put out the hidden states; "" for none."""
    unrotated: ClassVar[Unrotated | None] = None
    """Where queries and keys are before the rotary embedding; None where there is none."""
    text: ClassVar[TextPlace] = "none"
    """Where text tokens stand in the sequence that attention sees."""
    reads_prompt: bool = True
    """Whether the prompt changes anything that is read."""
    branches: ClassVar[tuple[str, ...]] = ("cond",)
    """Guidance branches in the order the pipeline batches them; renoise mode runs the conditional one alone."""
    per_sample: ClassVar[bool] = False
    """Whether every row of the batch is attended to in a call of its own, in their order."""
    passes: ClassVar[tuple[str, ...]] = ()
    """Branches in the order of a step's passes, for pipelines that run one pass a branch and do not label them with
    `denoiser.cache_context`; those that do, and those that batch or have no guidance, leave it empty."""
    latent_axes: ClassVar[str] = "bcfhw"
    """Order of the axes of the latents that the denoiser takes: batch, channels, frames, height, width, in any order;
    four letters where frames are the rows of the batch ("fchw"); "" where the shape says nothing, because the pipeline
    packs latents into tokens: then `denoiser_input` and `as_latents` are overridden."""
    guidance_argument: ClassVar[str] = "guidance_scale"
    """What the pipeline's call names the strength of guidance."""
    embedded_guidance: ClassVar[bool] = False
    """Whether the strength of guidance is an input of the network, so that it counts in renoise mode as well; else the
    pipeline is asked for no guidance there."""
    denoiser_class: ClassVar[str] = ""
    """Class of the denoiser, where it is another than its configuration file names, as one made of two networks is."""
    frames_argument: ClassVar[str] = "num_frames"
    """What the pipeline's call names the number of video frames."""
    frame_inputs: ClassVar[tuple[str, ...]] = ()
    """Arguments of the denoiser that have a row per frame, where the others have one for the whole video."""
    modes: tuple[Mode, ...] = ("renoise", "generate", "invert")
    """The modes it knows. An adapter with an `encode` of its own and no `decode` does not know `invert`, which has to
    show what it made; `check_settings` refuses `invert` where the scheduler cannot be walked back."""
    _said_modes: ClassVar[tuple[Mode, ...]] = modes
    needs_image: bool = False
    """Whether sampling starts from an image, frame 0 of the clip's video."""
    steps: int = 50
    """Sampling steps by default."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._said_modes = vars(cls).get("modes", cls._said_modes)
        blind = cls.encode is not DiffusersVideoModel.encode and cls.decode is DiffusersVideoModel.decode
        cls.modes = tuple(mode for mode in cls._said_modes if not (blind and mode == Invert.name))

    def __init__(self, config: C, card: str = "", configs: str = "") -> None:
        self.device = "cpu"
        self._pipe: Any = None
        self.card, self.configs = card or self.card, configs or self.configs
        self._found: Configs | None = None
        self._schedules: dict[tuple[int, TokenGrid], NoiseSchedule] = {}
        self.config = self._with_video_size(config)

    # --------------------------------------------------------------------------------------------------- sizes, as data

    def config_of(self, component: str) -> Mapping[str, Any]:
        """The configuration of a component: of the pipeline in use, where there is one, else of the packaged files.

        Empty where nothing is known of it.
        """
        return self._known.get(component, {})

    @property
    def network(self) -> Mapping[str, Any]:
        """The configuration of the denoiser, by diffusers' names."""
        return self.config_of(self.denoiser)

    def take_sizes(self, configs: Configs) -> None:
        """Goes by these configurations from now on, those of a pipeline that is there; by the packaged ones for
        components that are not among them.
        """
        self._found = {**self._packaged, **configs}

    @property
    def _packaged(self) -> Configs:
        """The configurations of the packaged files, with the options that change the denoiser's."""
        if not self.configs:
            return {}
        found, changes = packaged_configs(self.configs, self.config.size), self.config.network
        if not changes:
            return found
        check_network(changes, found[self.denoiser])
        return {name: {**each, **changes} if name.startswith(self.denoiser) else each for name, each in found.items()}

    @property
    def _known(self) -> Configs:
        return self._packaged if self._found is None else self._found

    @property
    def compression(self) -> Compression:
        """How pixels become tokens; a class attribute, or a property where the configurations decide it."""
        raise _unanswered(self, "compression")

    # ------------------------------------------------------------------------------------- what a subclass may override

    def sites(self) -> Sequence[Site]:
        """The attention modules that can be probed, by ascending layer: by default `attention`, one per block."""
        count, heads = (self.network.get(name) for name in ("num_layers", "num_attention_heads"))
        if count is None or heads is None:
            raise _unanswered(self, "sites")
        return attention_sites(
            self.attention,
            count,
            heads,
            self.attention_kind,
            block=self.block,
            unrotated=self.unrotated,
            rotary=self.rotary,
        )

    @property
    def rotary(self) -> Rotary | None:
        """How the rotary embedding turns the video tokens at the configured size; None where there is none, or where
        its layout is not known.
        """
        return None

    def build(self, seed: int) -> Any:
        """The pipeline with random weights at the sizes of the configurations: torch's generators are already seeded
        with `seed`, and its default device and dtype are those the model will run on.
        """
        from vcorr.diffusion.random_weights import pipeline_from_configs

        return pipeline_from_configs(self.pipeline_class, self._packaged, self.stand_ins())

    def stand_ins(self) -> Mapping[str, Any]:
        """Components that random weights come with beside those of the configurations, by name."""
        return {}

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

    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        """(T, H, W, 3) uint8 RGB to (1, C, F, h, w), in the units the denoiser was trained with."""
        from vcorr.diffusion.latents import encode_video

        return encode_video(self.pipe.vae, video, self.device)

    def decode(self, latents: Tensor, video_frames: int) -> NDArray[np.uint8]:
        """The inverse of `encode`, for mode `invert`: (1, C, F, h, w) to (T, H, W, 3) uint8 RGB, T `video_frames`."""
        from vcorr.diffusion.latents import decode_video

        return decode_video(self.pipe.vae, latents)

    def noise_levels(self, scheduler: Any) -> NoiseSchedule:
        """The steps and noise levels of the pipeline's scheduler, which the pipeline has just set up."""
        from vcorr.diffusion.schedule import noise_levels

        return noise_levels(scheduler)

    @property
    def denoisers(self) -> tuple[str, ...]:
        """The components of the pipeline whose attention is read: `denoiser`, and those that take turns with it, which
        pipelines call `transformer_2` beside `transformer`.
        """
        return (self.denoiser, *sorted(name for name in self._known if name.startswith(f"{self.denoiser}_")))

    def denoiser_at(self, timestep: float) -> str:
        """The component of the pipeline that runs at a timestep: `denoiser`, unless several take turns.

        They have the same sites; those of a step are the sites of the component that runs in it.
        """
        return self.denoiser

    def text_limit(self) -> int | None:
        """The most tokens of a prompt the text encoder reads; None when it reads any number."""
        encoding = self._encoding
        return None if encoding is None else int(encoding.tokens)

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """Arguments of the pipeline's call beside size, steps, generator, guidance and callback, in both modes: the
        prompt, or its stand-ins without a text encoder; the image, where the model starts from one.
        """
        prompt, encoding = self.prompt(clip), self._encoding
        given: Mapping[str, Any] = {"prompt": prompt}
        if not self.reads_prompt:
            given = {}
        elif encoding is not None:
            given = encoding.call_inputs(self.pipe, prompt, self.device, self._dtype)
        return {**given, "image": self.image(clip, grid)} if self.needs_image else given

    def image(self, clip: Clip, grid: TokenGrid) -> Any:
        """The image that sampling starts from, frame 0 of the clip's video.

        Raises:
            UsageError: the clip has no video, or one of another size than the grid covers.
        """
        return starting_image(clip, grid, self.model_card().title)

    def denoiser_input(self, latents: Tensor, own: Tensor) -> Tensor:
        """Latents as the denoiser takes them: axes in the order of `latent_axes`, with the further channels of `own`.

        Args:
            latents: (1, C, F, h, w), noisy.
            own: the argument that the pipeline made of its own latents, for one branch. Channels beyond C are a
                condition, on an image for instance, and stay.

        Raises:
            PluginError: the latents cannot be put in the place of `own`.
        """
        from vcorr.diffusion.axes import put_in_place

        return put_in_place(latents, own, self.latent_axes, type(self).__name__)

    def timestep_input(self, timestep: Tensor, own: Any, first: Tensor) -> Any:
        """A timestep as the denoiser takes it: in place of the first one wherever `own` has that.

        Args:
            timestep: 0-dimensional, as the scheduler has it.
            own: the argument that the pipeline made of `first`.
            first: the timestep of the step whose pass was borrowed.
        """
        from vcorr.diffusion.borrowed import exchanged_timestep

        return exchanged_timestep(timestep, own, first)

    def as_latents(self, output: Tensor, latents: Tensor) -> Tensor:
        """The denoiser's output, or its input, as latents, (1, C, F, h, w): undoes `denoiser_input`, and leaves out
        channels beyond those of `latents`.

        Args:
            output: with its axes in the order of `latent_axes`.
            latents: (1, C, F, h, w), for their size.
        """
        from vcorr.diffusion.axes import taken_back

        return taken_back(output, latents, self.latent_axes)

    def embed(self, prompt: str) -> dict[str, Tensor]:
        """The prompt's embedding, (1, n, c), and mask, (1, n), by the names the pipeline's call has for them.

        Raises:
            PluginError: the model does not say its `encoding`.
        """
        encoding = self._encoding
        if encoding is None:
            raise _unanswered(self, "encoding")
        return encoding.embed(self.pipe, prompt, self.device, self._dtype)

    # ---------------------------------------------------------------------------------------------------------- passes

    def schedule(self, num_steps: int, grid: TokenGrid) -> NoiseSchedule:
        """The steps the pipeline samples with at the size of `grid`, and their noise levels."""
        if (num_steps, grid) not in self._schedules:
            blank = None if not self.needs_image else _blank(grid)
            clip = Clip("schedule", "", np.zeros((0, 2), np.float32), blank)
            first = self._borrowed(clip, grid, RunSettings(steps=(), num_steps=num_steps), 0)
            self._schedules[num_steps, grid] = first.schedule
        return self._schedules[num_steps, grid]

    def borrow(self, clip: Clip, grid: TokenGrid, settings: RunSettings) -> Passes:
        """Conditional passes for the chosen steps of a clip, with the arguments that the pipeline itself would make.

        The pipeline is run up to its first pass, once for each denoiser that the steps need.

        Raises:
            UsageError: a step that does not exist, or a clip without an image where the model starts from one.
        """
        from vcorr.diffusion.borrowed import Passes

        first = self._borrowed(clip, grid, settings, 0)
        schedule = first.schedule
        for step in settings.steps:
            schedule.check(step)
        names = [self.denoiser_at(float(timestep)) for timestep in schedule.timesteps]
        needed = dict.fromkeys(names[step] for step in settings.steps)
        found = {
            name: first if name == first.denoiser else self._borrowed(clip, grid, settings, names.index(name))
            for name in needed
        }
        return Passes(schedule, names, {name: getattr(self.pipe, name) for name in found}, found, self)

    def _borrowed(self, clip: Clip, grid: TokenGrid, settings: RunSettings, start: int) -> FirstPass:
        import torch

        from vcorr.diffusion.borrowed import Call, first_pass
        from vcorr.diffusion.loading import seeded

        unguided = {} if self.embedded_guidance else {self.guidance_argument: 1.0}
        with torch.no_grad(), seeded(settings.seed, self.device):
            arguments = {**self.call(clip, grid, settings, "latent"), **unguided}
            call = Call(arguments, self.denoisers, self.layout(), self.noise_levels)
            first = first_pass(self.pipe, call, start)
        return replace(first, arguments=self.branch_inputs(first.arguments, first.latents, grid))

    def branch_inputs(self, arguments: Mapping[str, Any], latents: str, grid: TokenGrid, branch: str = "cond") -> Any:
        """Arguments of one guidance branch of a pass of the pipeline that may hold all `branches` in a batch."""
        from vcorr.diffusion.borrowed import rows_of_branch

        rows = 1 if "b" in self.latent_axes or not self.latent_axes else grid.frames
        index, of = self.branches.index(branch), len(self.branches)
        return rows_of_branch(arguments, latents, index, of, rows=rows, per_frame=self.frame_inputs)

    def call(self, clip: Clip, grid: TokenGrid, settings: RunSettings, output_type: str) -> dict[str, Any]:
        """Arguments of the pipeline's call: the same in both modes, so that both draw and read alike."""
        from vcorr.diffusion.sampling import sampling_generator

        return {
            **self.call_inputs(clip, grid),
            "height": round(grid.height),
            "width": round(grid.width),
            self.frames_argument: grid.video_frames,
            "num_inference_steps": settings.num_steps,
            "generator": sampling_generator(settings.seed),
            "output_type": output_type,
        }

    # ------------------------------------------------------------------------------------------------------ contract

    def model_card(self) -> ModelCard:
        """The model's card."""
        return load_card(self.card, type(self).__name__)

    def weights_id(self, weights: str) -> str:
        """What identifies the weights: "hub:ID@REVISION", "path:HASH", "embedded:HASH" or "random:SEED".

        "+lora:HASH" follows where low-rank weights are merged in. Imports neither torch nor diffusers. Raises as
        `locate`, and when the file of `model.lora` cannot be used.
        """
        source = self.locate(weights)
        self._go_by(source)
        identity = source.identity
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
        from vcorr.diffusion.options import apply_options, lora_file

        kind = torch_dtype(dtype)
        if self.config.lora is not None:
            lora_file(self.config.lora)  # a wrong path is told before gigabytes are read
        self._go_by(source)
        self._pipe, self.device = self._loaded(source, kind, device), device
        self._schedules.clear()
        try:
            if self.configs:
                self.take_sizes(pipeline_configs(self._pipe))
            self._let_attention_be_seen()
            apply_options(self._pipe, self.config, device)
        except BaseException:
            self._pipe = None
            raise

    def adopt(self, pipe: Any, device: str) -> None:
        """Uses a pipeline that was built elsewhere and is on `device` already, in place of `load`."""
        self._pipe, self.device = pipe, device
        self._schedules.clear()
        if self.configs:
            self.take_sizes(pipeline_configs(pipe))
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

        Invert mode encodes the clip, walks its latents back along the pipeline's own sampler with the conditional
        prediction, which is read at the chosen steps, and samples again from the noise that it reached; how well that
        gives the clip again goes to `recorder.reconstruction`.

        Returns:
            The sampled video, (T, H, W, 3) uint8, in generate mode; None in the others.

        Raises:
            UsageError: an unknown mode, a step that does not exist, a prompt that is too long, or a clip of another
                size than `grid`.
        """
        from vcorr.diffusion.running import run_mode

        return run_mode(self, clip, settings, recorder)

    def check_settings(self, settings: RunSettings) -> None:
        """Checks that the scheduler makes that many steps, and that mode `invert` can walk back along them.

        Before the pipeline is loaded, the configurations decide as far as they tell.

        Raises:
            UsageError: the scheduler makes fewer steps. In mode `invert` also: its steps cannot be undone, guidance was
                asked for, or the adapter does not decode.
        """
        from vcorr.diffusion.schedule import check_step_count

        check_step_count(self.scheduler_config(), settings.num_steps)
        if isinstance(mode_of(settings.mode), Invert):
            from vcorr.diffusion.running import check_invertible

            check_invertible(self, settings)

    def scheduler_config(self) -> Mapping[str, Any]:
        """The configuration of the scheduler that the pipeline samples with, its class as `_class_name`.

        Before the pipeline is loaded that of the configurations; empty where they do not tell. An adapter that
        exchanges the scheduler while it loads overrides this.
        """
        if self._pipe is None:
            return self.config_of("scheduler")
        scheduler = self._pipe.scheduler
        return {**scheduler.config, "_class_name": type(scheduler).__name__}

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

    @property
    def text_tokens(self) -> int | None:
        """How many text tokens the sequence of attention holds, where that is the same for every prompt: compared with
        what comes. None where it is not.
        """
        return None

    def layout(self) -> TokenLayout:
        """Where text and guidance branches are in a call of attention."""
        from vcorr.capture.captures import TokenLayout

        return TokenLayout(self.text, self.branches, self.text_tokens, per_sample=self.per_sample, passes=self.passes)

    # ---------------------------------------------------------------------------------------------------------- loading

    def _loaded(self, source: WeightsSource, kind: torch.dtype, device: str) -> Any:
        from vcorr.diffusion.random_weights import random_pipeline

        if source.folder is not None:
            return self.read(source, kind)
        # networks that take turns on a device need not fit into it together
        device = "cpu" if self.config.offload else device
        return random_pipeline(self.build, source.seed, device, kind, self.denoiser)

    def _go_by(self, source: WeightsSource) -> None:
        """Reads sizes from the folder of the weights, where they lie in one as diffusers saves pipelines.

        Raises:
            UsageError: values of the network were given, which such weights bring along.
        """
        if self.config.network and source.folder is not None:
            given = ", ".join(f"model.network.{name}" for name in self.config.network)
            raise UsageError(f"{given}: weights that are not random bring their own sizes.", hint="Leave it out.")
        if self.configs and source.folder is not None:
            self.take_sizes(folder_configs(source.folder))

    def _with_video_size(self, config: C) -> C:
        """The options with the size of the video filled in where it is not given."""
        usual = packaged_configs(self.configs, config.size).get(VIDEO, {}) if self.configs else {}
        card = self.model_card() if self.card and not usual else None
        if card is not None and card.resolution is not None and card.frames is not None:
            usual = {"height": card.resolution[0], "width": card.resolution[1], "frames": card.frames}
        return replace(config, **{name: value for name, value in usual.items() if not getattr(config, name)})

    @property
    def _encoding(self) -> PromptEncoding | None:
        return None if self.encoding is None else self.encoding.sized(self.network)

    def _let_attention_be_seen(self) -> None:
        from vcorr.diffusion.backend import use_torch_attention
        from vcorr.diffusion.loading import networks

        for network in networks(self.pipe):  # several may have the sites, and take turns
            use_torch_attention(network, [site.name for site in self.sites()])

    @property
    def _dtype(self) -> torch.dtype:
        found: torch.dtype = getattr(self.pipe, self.denoiser).dtype
        return found


def _blank(grid: TokenGrid) -> NDArray[np.uint8]:
    """A black image of the grid's size, (1, H, W, 3), where it does not matter which."""
    return np.zeros((1, round(grid.height), round(grid.width), 3), np.uint8)


def _unanswered(model: object, name: str) -> PluginError:
    return PluginError(f"{type(model).__name__} does not say its {name}, which every DiffusersVideoModel has to.")
