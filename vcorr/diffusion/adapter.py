"""Holds `DiffusersVideoModel`, the base class of adapters for diffusers video models.

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
from vcorr.contract.errors import PluginError, UsageError, not_loaded
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.modes import Invert, mode_of
from vcorr.contract.records import AppliedSettings, Attention, Clip, Mode, ModelCard, RunSettings, Site, Unrotated
from vcorr.contract.rotary import Rotary
from vcorr.diffusion.authors import AuthorSettings
from vcorr.diffusion.configs import VIDEO, Configs, folder_configs, packaged_configs, pipeline_configs
from vcorr.diffusion.images import starting_image
from vcorr.diffusion.options import VideoConfig, name_of_shift
from vcorr.diffusion.prompts import PromptEncoding
from vcorr.diffusion.size_checks import check_network, check_size, frames_to_read, grid_of_stills
from vcorr.diffusion.token_layout import Compression, Sizes, attention_sites
from vcorr.diffusion.weights import WeightsSource, locate_weights

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vcorr.capture.captures import TextPlace, TokenLayout
    from vcorr.capture.latent_tokens import LatentReading
    from vcorr.capture.recorder import Recorder
    from vcorr.diffusion.borrowed import Passes
    from vcorr.diffusion.first_passes import FirstPasses
    from vcorr.diffusion.schedule import NoiseSchedule
    from vcorr.diffusion.still_latents import StillLatents

C = TypeVar("C", bound="VideoConfig")


class DiffusersVideoModel(VideoModelBase, Generic[C]):
    """Makes a diffusers video pipeline a `vcorr.VideoModel`.

    In renoise mode it makes one conditional forward pass per step, with arguments borrowed from the pipeline. In
    generate mode it calls the pipeline itself and reads the chosen steps on the way. The pipeline then samples with its
    own scheduler, loop and guidance.

    One class serves a family of models. The sizes of a model are the configurations in the folder that its entry names
    (`vcorr.diffusion.packaged_configs`). `network` and `config_of` read them, before and after loading. A subclass
    declares what the configurations do not say as class attributes: `pipeline_class`, `compression`, `attention`,
    `branches`, and others below if they differ from the default. A model that needs more overrides one of the methods.
    In methods that take a clip or latents, `self.pipe` is the loaded pipeline and `self.device` is where it computes.
    Subclasses import torch and diffusers inside methods only, so that their sites are known without loading anything.
    """

    pipeline_class: ClassVar[str]
    """Class name in diffusers, e.g. "LTXPipeline", or "package.module:Class" for a pipeline of the plugin."""
    saved_as: ClassVar[tuple[str, ...]] = ()
    """Class names that a folder of its weights may carry; `pipeline_class` alone if empty."""
    card: str = ""
    """Model card, "package:path/in/package.yaml". The entry gives it, unless the class serves one model only."""
    configs: str = ""
    """Folder of the configurations, "package:path/in/package". The entry gives it, as it gives `card`."""
    denoiser: ClassVar[str] = "transformer"
    """The pipeline's component whose attention is read."""
    attention: ClassVar[str] = "transformer_blocks.{}.attn1"
    """Path of the attention modules inside the denoiser, with "{}" for the number of the block."""
    attention_kind: ClassVar[Attention] = "full3d"
    """What a token can attend to."""
    block: ClassVar[str] = "transformer_blocks.{}"
    """Path of the modules whose outputs are the hidden states; "" for none."""
    unrotated: ClassVar[Unrotated | None] = None
    """Where queries and keys are before the rotary embedding; None if there is none."""
    text: ClassVar[TextPlace] = "none"
    """Where the text tokens are in the sequence of an attention call."""
    reads_prompt: bool = True
    """Whether the prompt changes anything that is read."""
    branches: ClassVar[tuple[str, ...]] = ("cond",)
    """Guidance branches in the pipeline's batch order; renoise mode runs the conditional branch alone."""
    per_sample: ClassVar[bool] = False
    """Whether each batch row has an attention call of its own, in batch order."""
    passes: ClassVar[tuple[str, ...]] = ()
    """Branches in the order of a step's passes, for pipelines that run one pass per branch and do not label them with
    `denoiser.cache_context`. Empty for all other pipelines."""
    guided_branches: ClassVar[int] = 0
    """Number of guidance branches per step of guided sampling; 0 if `branches` or `passes` have them all. Pipelines
    that label their passes declare it, for the estimate of a dry run."""
    latent_axes: ClassVar[str] = "bcfhw"
    """Order of the axes of the latents that the denoiser takes: batch, channels, frames, height, width. Four letters if
    the frames are the batch rows ("fchw"). "" if the pipeline packs latents into tokens; the adapter then overrides
    `denoiser_input` and `as_latents`."""
    guidance_argument: ClassVar[str] = "guidance_scale"
    """The argument of the pipeline's call for the strength of guidance."""
    embedded_guidance: ClassVar[bool] = False
    """Whether the strength of guidance is an input of the network, so that it also counts in renoise mode. If not,
    renoise mode calls the pipeline without guidance."""
    denoiser_class: ClassVar[str] = ""
    """Class of the denoiser, if its configuration file names another class (a denoiser made of two networks)."""
    frames_argument: ClassVar[str] = "num_frames"
    """The argument of the pipeline's call for the number of video frames."""
    frame_inputs: ClassVar[tuple[str, ...]] = ()
    """Arguments of the denoiser that have one batch row per frame, if the others have one for the whole video."""
    modes: tuple[Mode, ...] = ("renoise", "generate", "invert")
    """The modes it supports. `invert` is left out for an adapter that overrides `encode` but not `decode`, because it
    could not show the video it made. `check_settings` refuses `invert` if the scheduler's steps cannot be undone."""
    _declared_modes: ClassVar[tuple[Mode, ...]] = modes
    needs_image: bool = False
    """Whether sampling starts from an image, frame 0 of the clip's video."""
    steps: int = 50
    """Sampling steps by default."""
    has_latents: bool = True
    """Whether probes can read the latents that the denoiser gets (`latents_in`)."""
    fewest_steps: ClassVar[int] = 1
    """The smallest number of steps that the pipeline makes."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._declared_modes = vars(cls).get("modes", cls._declared_modes)
        cannot_decode = cls.encode is not DiffusersVideoModel.encode and cls.decode is DiffusersVideoModel.decode
        cls.modes = tuple(mode for mode in cls._declared_modes if not (cannot_decode and mode == Invert.name))

    def __init__(self, config: C, card: str = "", configs: str = "") -> None:
        self.device = "cpu"
        self._pipe: Any = None
        self.card, self.configs = card or self.card, configs or self.configs
        self._found: Configs | None = None
        self._borrowed: FirstPasses | None = None
        self._stills: StillLatents | None = None
        self._folder_scheduler: Mapping[str, Any] = {}
        self.config = self._with_video_size(config)
        self._settings = AuthorSettings(config, self.model_card() if self.card else None)
        self.steps = self._settings.steps or self.steps

    # --------------------------------------------------------------------------------------------------- sizes, as data

    def config_of(self, component: str) -> Mapping[str, Any]:
        """Returns the configuration of a component, from the pipeline in use or else from the packaged files.

        It is empty for an unknown component.
        """
        return self._known.get(component, {})

    @property
    def network(self) -> Mapping[str, Any]:
        """The configuration of the denoiser, by diffusers' names."""
        return self.config_of(self.denoiser)

    def take_sizes(self, configs: Configs) -> None:
        """Uses these configurations from now on, and the packaged ones for components that they lack."""
        self._found = {**self._packaged, **configs}

    @property
    def _packaged(self) -> Configs:
        """The packaged configurations, with the changes to the denoiser that the options ask for."""
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
        """How pixels become tokens; a class attribute, or a property if it depends on the configurations."""
        raise _missing_member(self, "compression")

    # ------------------------------------------------------------------------------------- what a subclass may override

    def sites(self) -> Sequence[Site]:
        """Returns the attention modules that can be probed, by ascending layer: by default `attention` per block."""
        count, heads = (self.network.get(name) for name in ("num_layers", "num_attention_heads"))
        if count is None or heads is None:
            raise _missing_member(self, "sites")
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
        """How the rotary embedding rotates the video tokens at the configured size; None if there is none, or if its
        layout is not known.
        """
        return None

    def build(self, seed: int) -> Any:
        """Builds the pipeline with random weights at the sizes of the configurations.

        When it is called, torch's generators are seeded with `seed`, and torch's default device and dtype are the ones
        that the model will run in.
        """
        from vcorr.diffusion.random_weights import pipeline_from_configs

        return pipeline_from_configs(self.pipeline_class, self._packaged, self.stand_ins())

    def stand_ins(self) -> Mapping[str, Any]:
        """Returns the components, by name, that a pipeline with random weights has in addition to the configured ones.

        For example a stand-in for a text encoder.
        """
        return {}

    def grid(self, clip: Clip, site: Site | None) -> TokenGrid:
        """Returns how tokens lie over `clip` at the size in which this model reads it.

        Raises:
            UsageError: the model does not take the configured height, width or frames, or the clip is too short.
        """
        config, pack = self.config, self.compression_at(site)
        allowed, title = self.sizes(site), self.model_card().title
        for name, sizes in allowed.items():
            check_size(name, getattr(config, name), sizes, title)
        if clip.stills:
            return grid_of_stills(clip, (config.height, config.width), pack, allowed["frames"], title)
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

    def setting(self, name: str) -> Any:
        """Returns an option of `AuthorsConfig`, or the authors' value on the card; None if there is neither."""
        return self._settings.value(name)

    @property
    def unused_settings(self) -> frozenset[str]:
        """Names of the authors' settings that other options switch off; by default none."""
        return frozenset()

    def vae_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Returns the dtype of the autoencoder in a run of `dtype`."""
        from vcorr.diffusion.loading import torch_dtype

        name = self.setting("vae_dtype")
        return dtype if name in (None, "model") else torch_dtype(name)

    def check_makes(self, grid: TokenGrid) -> None:
        """Raises UsageError if the model can read, but not generate, videos of that size; by default it never does."""

    def compression_at(self, site: Site | None) -> Compression:
        """Returns how pixels become tokens at a site; sites differ only if the network has several resolutions."""
        return self.compression

    def sizes(self, site: Site | None) -> Mapping[str, Sizes]:
        """Returns the heights, widths and frames that can be read at a site: by default all that divide into tokens."""
        pack = self.compression_at(site)
        side = Sizes(pack.stride, pack.stride)
        return {"height": side, "width": side, "frames": Sizes(pack.least_frames, pack.frame_step)}

    @property
    def encoding(self) -> PromptEncoding | None:
        """How the pipeline encodes prompts; None if the model has no text or encodes it in a way of its own."""
        return None

    def locate(self, weights: str) -> WeightsSource:
        """Finds the source that `--weights` names, without loading it; raises as `vcorr.diffusion.locate_weights`."""
        return locate_weights(weights, self.model_card(), self.saved_as or (self.pipeline_class,))

    def read(self, source: WeightsSource, dtype: torch.dtype) -> Any:
        """Loads the pipeline from the folder that `locate` found, on the CPU."""
        from vcorr.diffusion.loading import load_pipeline

        assert source.folder is not None  # `build` makes random weights
        return load_pipeline(self.pipeline_class, source.folder, dtype, self.vae_dtype(dtype))

    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        """Encodes (T, H, W, 3) uint8 RGB into (1, C, F, h, w), in the units of the denoiser's training."""
        from vcorr.diffusion.latents import encode_video

        return encode_video(self.pipe.vae, video, self.device)

    def encode_clip(self, clip: Clip, video: NDArray[np.uint8]) -> Tensor:
        """Encodes the clip's video, (T, H, W, 3) uint8 RGB, into (1, C, F, h, w).

        If ``clip.stills``, each frame is encoded by itself. The latents of such frames are kept for a while, because
        the clips of a tracker share frames.
        """
        if not clip.stills:
            return self.encode(video)
        from vcorr.diffusion.still_latents import StillLatents

        self._stills = self._stills or StillLatents()
        return self._stills.encode(video, self.encode)

    def decode_clip(self, clip: Clip, latents: Tensor) -> NDArray[np.uint8]:
        """Inverts `encode_clip`, for mode `invert`: (1, C, F, h, w) to the T frames of the clip's video."""
        assert clip.video is not None  # `encode_clip` has read it
        if not clip.stills:
            return self.decode(latents, len(clip.video))
        return np.concatenate([self.decode(each, 1) for each in latents.chunk(len(clip.video), dim=2)])

    def decode(self, latents: Tensor, video_frames: int) -> NDArray[np.uint8]:
        """Inverts `encode`, for mode `invert`: (1, C, F, h, w) to (T, H, W, 3) uint8 RGB, with T `video_frames`."""
        from vcorr.diffusion.latents import decode_video

        return decode_video(self.pipe.vae, latents)

    def noise_levels(self, scheduler: Any) -> NoiseSchedule:
        """Reads the steps and noise levels of the pipeline's scheduler, which the pipeline has just set up."""
        from vcorr.diffusion.schedule import noise_levels

        return noise_levels(scheduler)

    @property
    def denoisers(self) -> tuple[str, ...]:
        """The components of the pipeline whose attention is read: `denoiser`, and others that take turns with it.

        Pipelines name those `transformer_2` and so on, next to `transformer`.
        """
        return (self.denoiser, *sorted(name for name in self._known if name.startswith(f"{self.denoiser}_")))

    def denoiser_at(self, timestep: float) -> str:
        """Returns the component of the pipeline that runs at a timestep: `denoiser`, unless several take turns.

        All of them have sites with the same names; in each step the sites of the component that runs are read.
        """
        return self.denoiser

    def text_limit(self) -> int | None:
        """Returns the largest number of prompt tokens that the text encoder reads; None if it reads any number."""
        encoding = self._encoding
        return None if encoding is None else int(encoding.tokens)

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """Returns the clip's own arguments of the pipeline's call: prompt, image if the model needs one, and guidance.

        The strength of guidance is the one that `setting` returns. Without a text encoder there are stand-ins for the
        embedded prompt. Size, steps, generator and callback are not among the arguments.
        """
        prompt, encoding = self.prompt(clip), self._encoding
        given: Mapping[str, Any] = {"prompt": prompt}
        if not self.reads_prompt:
            given = {}
        elif encoding is not None:
            negative = self.setting("negative_prompt")
            given = encoding.call_inputs(self.pipe, prompt, self.device, self._dtype, negative)
        strength = self.setting("guidance_scale")
        given = given if strength is None else {**given, **self.guidance(strength)}
        return {**given, "image": self.image(clip, grid)} if self.needs_image else given

    def guidance(self, strength: float) -> Mapping[str, float]:
        """Returns the arguments of the pipeline's call for a strength of guidance: by default one."""
        return {self.guidance_argument: strength}

    def fill_template(self, clip: Clip, mode: Mode) -> Clip:
        """Returns the clip with its prompt in the template that counts in a mode, if there is one."""
        return replace(clip, prompt=self._settings.in_template(clip.prompt, mode))

    def image(self, clip: Clip, grid: TokenGrid) -> Any:
        """Returns the image that sampling starts from, frame 0 of the clip's video.

        Raises:
            UsageError: the clip has no video, or one of another size than the grid covers.
        """
        return starting_image(clip, grid, self.model_card().title)

    def denoiser_input(self, latents: Tensor, own: Tensor) -> Tensor:
        """Brings latents into the denoiser's form: axes as in `latent_axes`, with the extra channels of `own`.

        Args:
            latents: (1, C, F, h, w), noisy.
            own: the argument that the pipeline made from its own latents, for one branch. Channels beyond C are a
                condition, such as an image, and stay.

        Raises:
            PluginError: the latents cannot replace `own`.
        """
        from vcorr.diffusion.axes import insert_latents

        return insert_latents(latents, own, self.latent_axes, type(self).__name__)

    def timestep_input(self, timestep: Tensor, own: Any, first: Tensor) -> Any:
        """Brings a timestep into the denoiser's form: replaces `first` by it wherever `own` holds `first`.

        Args:
            timestep: 0-dimensional, from the scheduler.
            own: the argument that the pipeline made from `first`.
            first: the timestep of the step whose pass was borrowed.
        """
        from vcorr.diffusion.borrowed import exchange_timestep

        return exchange_timestep(timestep, own, first)

    def as_latents(self, output: Tensor, latents: Tensor) -> Tensor:
        """Returns the denoiser's output, or its input, as latents, (1, C, F, h, w): the inverse of `denoiser_input`.

        Channels beyond the C of `latents` are dropped.

        Args:
            output: with its axes in the order of `latent_axes`.
            latents: (1, C, F, h, w), for their size.
        """
        from vcorr.diffusion.axes import extract_latents

        return extract_latents(output, latents, self.latent_axes)

    @property
    def latent_channels(self) -> int:
        """Number of channels of the latents, without channels of a condition: by default the autoencoder's, as its
        configuration says.
        """
        vae = self.config_of("vae") or getattr(getattr(self._pipe, "vae", None), "config", {})
        found = next((vae[name] for name in _LATENT_CHANNELS if name in vae), None)
        if found is None:
            raise _missing_member(self, "latent_channels")
        return int(found)

    def latents_in(self, arguments: Mapping[str, Any], latents: str, grid: TokenGrid) -> Tensor:
        """Returns the latents in the arguments of a pass, (1, C, F, h, w): of the conditional branch alone, as the
        denoiser gets them, without channels of a condition.

        Args:
            arguments: of a pass that holds the conditional branch, by name.
            latents: name of the argument that holds the latents.
            grid: of the tokens, as `grid(clip, None)` returns it.
        """
        own = self.branch_inputs(arguments, latents, grid)[latents]
        sizes = (grid.frames, grid.rows, grid.cols)
        each = self.compression_at(None).latents_per_token
        like = own.new_empty(1, self.latent_channels, *(n * side for n, side in zip(sizes, each, strict=True)))
        return self.as_latents(own, like)

    def latent_reading(self, grid: TokenGrid) -> LatentReading:
        """Returns how the latents of a pass become the tokens of `grid`, for `recorder.attach(..., latents=...)`."""
        from vcorr.capture.latent_tokens import LatentReading
        from vcorr.diffusion.borrowed import parameters

        def take(denoiser: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
            names = parameters(getattr(self.pipe, self.denoisers[denoiser]))
            return self.latents_in({**dict(zip(names, args, strict=False)), **kwargs}, names[0], grid)

        return LatentReading(take, grid, self.compression_at(None).latents_per_token)

    def embed(self, prompt: str) -> dict[str, Tensor]:
        """Embeds a prompt: (1, n, c), and its mask, (1, n), by the names of the pipeline's arguments.

        Raises:
            PluginError: the model does not declare its `encoding`.
        """
        encoding = self._encoding
        if encoding is None:
            raise _missing_member(self, "encoding")
        return encoding.embed(self.pipe, prompt, self.device, self._dtype)

    # ---------------------------------------------------------------------------------------------------------- passes

    def schedule(self, num_steps: int, grid: TokenGrid) -> NoiseSchedule:
        """Returns the steps with which the pipeline samples at the size of `grid`, and their noise levels."""
        return self._first_passes.schedule(self, num_steps, grid)

    def borrow(self, clip: Clip, grid: TokenGrid, settings: RunSettings) -> Passes:
        """Returns conditional passes for the chosen steps of a clip, with the arguments the pipeline itself would use.

        It runs the pipeline up to its first pass, once for each denoiser that the steps need.

        Raises:
            UsageError: a step does not exist, or the clip lacks the image that the model starts from.
        """
        return self._first_passes.borrow(self, clip, grid, settings)

    def branch_inputs(self, arguments: Mapping[str, Any], latents: str, grid: TokenGrid, branch: str = "cond") -> Any:
        """Takes the arguments of one guidance branch from a pass that may hold all `branches` in a batch."""
        from vcorr.diffusion.borrowed import rows_of_branch

        rows = 1 if "b" in self.latent_axes or not self.latent_axes else grid.frames
        index, of = self.branches.index(branch), len(self.branches)
        return rows_of_branch(arguments, latents, index, of, rows=rows, per_frame=self.frame_inputs)

    def call(self, clip: Clip, grid: TokenGrid, settings: RunSettings, output_type: str) -> dict[str, Any]:
        """Returns the arguments of the pipeline's call, the same in all modes, so that their random draws agree."""
        from vcorr.diffusion.sampling import sampling_generator

        return {
            **self.call_inputs(self.fill_template(clip, settings.mode), grid),
            "height": round(grid.height),
            "width": round(grid.width),
            self.frames_argument: self.compression.frames_of_stills(grid.frames) if clip.stills else grid.video_frames,
            "num_inference_steps": settings.num_steps,
            "generator": sampling_generator(settings.seed),
            "output_type": output_type,
        }

    # ------------------------------------------------------------------------------------------------------ contract

    def model_card(self) -> ModelCard:
        """Returns the model's card."""
        return load_card(self.card, type(self).__name__)

    def weights_id(self, weights: str) -> str:
        """Returns the identity of the weights: "hub:ID@REVISION", "path:HASH", "embedded:HASH" or "random:SEED".

        "+lora:HASH" follows if low-rank weights are merged in, with several denoisers
        "+lora:transformer=HASH,transformer_2=HASH". This imports neither torch nor diffusers. It raises as `locate`,
        and if a file of low-rank weights cannot be used.
        """
        source = self.locate(weights)
        self._take_sizes_from(source)
        identity = source.identity
        files = self.lora_files()
        if not files:
            return identity
        from vcorr.diffusion.lora_files import lora_identity

        return f"{identity}+lora:{lora_identity(files, len(self.denoisers))}"

    def lora_files(self) -> Mapping[str, str]:
        """Returns the path of the low-rank weights of each denoiser, by its name: `model.lora` for all of them."""
        return {} if self.config.lora is None else dict.fromkeys(self.denoisers, self.config.lora)

    def load(self, device: str, dtype: str, weights: str) -> None:
        """Loads the pipeline; never downloads anything.

        Raises:
            MissingError: the weights or a package are not in reach.
            UsageError: the weights belong to another class or size than the configuration says, or an option does not
                work with this pipeline.
        """
        source = self.locate(weights)
        from vcorr.diffusion.loading import torch_dtype
        from vcorr.diffusion.lora import merge_lora
        from vcorr.diffusion.lora_files import lora_file
        from vcorr.diffusion.options import apply_options, cast_autoencoder, shift_schedule

        kind, files = torch_dtype(dtype), self.lora_files()
        for path in files.values():
            lora_file(path)  # raises for a wrong path before gigabytes are read
        self._take_sizes_from(source)
        self._pipe, self.device = self._load_pipeline(source, kind, device), device
        self._forget()
        shift, vae_dtype = self.setting("flow_shift"), self.vae_dtype(kind)
        try:
            if shift is not None:
                shift_schedule(self._pipe, shift)
            if vae_dtype != kind:
                cast_autoencoder(self._pipe, vae_dtype)
            if self.configs:
                self.take_sizes(pipeline_configs(self._pipe))
            self._expose_attention()
            if files:
                merge_lora(self._pipe, files)
            apply_options(self._pipe, self.config, device)
        except BaseException:
            self._pipe = None
            raise

    def adopt(self, pipe: Any, device: str) -> None:
        """Uses a pipeline that was built elsewhere and is on `device` already; replaces `load`."""
        self._pipe, self.device = pipe, device
        self._forget()
        if self.configs:
            self.take_sizes(pipeline_configs(pipe))
        self._expose_attention()
        pipe.set_progress_bar_config(disable=True)

    @property
    def pipe(self) -> Any:
        """The loaded diffusers pipeline.

        Raises:
            PluginError: nothing is loaded yet.
        """
        if self._pipe is None:
            raise not_loaded(self)
        return self._pipe

    def run(self, clip: Clip, settings: RunSettings, recorder: Recorder) -> NDArray[np.uint8] | None:
        """Runs the model on the clip.

        Renoise mode encodes the clip. For each chosen step it adds the noise of that step and makes one conditional
        forward pass. The noise eps is drawn once per clip, from the seed and the clip's id alone; it is the same at
        every step.

        Generate mode calls the pipeline at the configured size. `settings.seed` itself seeds the generator; a run gives
        every clip a seed of its own, unless its noise is shared. Models that start from an image use frame 0 of the
        clip's video; no other frame is used.

        Invert mode encodes the clip and walks its latents back along the pipeline's own sampler with the conditional
        branch, reading the chosen steps. It then samples again from the noise it reached. How well that reproduces the
        clip goes to `recorder.reconstruction`.

        Returns:
            The sampled video, (T, H, W, 3) uint8, in generate mode; None in the other modes.

        Raises:
            UsageError: the mode or a step does not exist, the prompt is too long, or the clip has another size than
                `grid`.
        """
        from vcorr.diffusion.running import run_mode

        return run_mode(self, clip, settings, recorder)

    def check_settings(self, settings: RunSettings) -> None:
        """Checks that the scheduler makes that many steps, and that mode `invert` can walk back along them.

        Before the pipeline is loaded, only the scheduler's configuration is checked, if there is one.

        Raises:
            UsageError: the scheduler cannot make that number of steps. In mode `invert` also: its steps cannot be
                undone, guidance was asked for, or the adapter does not decode.
        """
        from vcorr.diffusion.schedule import check_step_count

        scheduler, shift = self.scheduler_config(), self.setting("flow_shift")
        check_step_count(scheduler, settings.num_steps, self.fewest_steps)
        if scheduler and shift is not None:
            name_of_shift(scheduler, shift)
        if isinstance(mode_of(settings.mode), Invert):
            from vcorr.diffusion.running import check_invertible

            check_invertible(self, settings)

    def own_settings(self, settings: RunSettings) -> AppliedSettings:
        """Returns the authors' values on the card that count in a run, and where the folder of the weights differs."""
        return self._settings.in_run(settings, self._folder_scheduler, self.unused_settings)

    def scheduler_config(self) -> Mapping[str, Any]:
        """Returns the configuration of the pipeline's scheduler, with its class as `_class_name`.

        Before the pipeline is loaded it comes from the configurations, and is empty if they lack it. An adapter that
        exchanges the scheduler while loading overrides this.
        """
        if self._pipe is None:
            return self.config_of("scheduler")
        scheduler = self._pipe.scheduler
        return {**scheduler.config, "_class_name": type(scheduler).__name__}

    def prompt(self, clip: Clip) -> str:
        """Returns the text that the model gets for a clip.

        Raises:
            UsageError: the text is too long, so that the text encoder would cut it.
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

    def guidance_branches(self, settings: RunSettings) -> int:
        """Returns the guidance branches per step: one without guidance, which is a strength of at most 1."""
        own = self.setting("guidance_scale")
        strength = own if settings.cfg is None else settings.cfg
        if strength is not None and strength <= 1:
            return 1
        return self.guided_branches or max(len(self.branches), len(self.passes))

    def check_loading(self, device: str, dtype: str) -> None:
        """Checks that the options can be applied on this device, and that the packages they need are installed.

        Raises:
            MissingError: a package is not installed.
            UsageError: an option does not work on this device.
        """
        from vcorr.diffusion.lora_files import check_peft
        from vcorr.diffusion.options import check_offload

        if self.lora_files():
            check_peft()
        if self.config.offload:
            check_offload(device)

    @property
    def text_tokens(self) -> int | None:
        """Number of text tokens in an attention call, if it is the same for every prompt; else None.

        The capture compares it with each call.
        """
        return None

    def layout(self) -> TokenLayout:
        """Returns where the text and the guidance branches are in an attention call."""
        from vcorr.capture.captures import TokenLayout

        return TokenLayout(self.text, self.branches, self.text_tokens, per_sample=self.per_sample, passes=self.passes)

    # ---------------------------------------------------------------------------------------------------------- loading

    def _forget(self) -> None:
        """Drops what was computed with an earlier pipeline."""
        self._borrowed = self._stills = None

    def _load_pipeline(self, source: WeightsSource, kind: torch.dtype, device: str) -> Any:
        from vcorr.diffusion.random_weights import random_pipeline

        if source.folder is not None:
            return self.read(source, kind)
        # with offloading the networks take turns on the device, which may be too small for all of them
        device = "cpu" if self.config.offload else device
        return random_pipeline(self.build, source.seed, device, kind, self.denoiser)

    def _take_sizes_from(self, source: WeightsSource) -> None:
        """Reads sizes from the folder of the weights, if they are in a folder that diffusers saved.

        Raises:
            UsageError: options set values of the network, which such weights fix.
        """
        if self.config.network and source.folder is not None:
            given = ", ".join(f"model.network.{name}" for name in self.config.network)
            raise UsageError(f"{given}: weights that are not random bring their own sizes.", hint="Leave it out.")
        if self.configs and source.folder is not None:
            found = folder_configs(source.folder)
            self._folder_scheduler = found.get("scheduler", {})
            self.take_sizes(found)

    def _with_video_size(self, config: C) -> C:
        """Returns the options, with the model's default size of the video where none is given."""
        default = packaged_configs(self.configs, config.size).get(VIDEO, {}) if self.configs else {}
        card = self.model_card() if self.card and not default else None
        if card is not None and card.resolution is not None and card.frames is not None:
            default = {"height": card.resolution[0], "width": card.resolution[1], "frames": card.frames}
        return replace(config, **{name: value for name, value in default.items() if not getattr(config, name)})

    @property
    def _encoding(self) -> PromptEncoding | None:
        return None if self.encoding is None else self.encoding.with_sizes(self.network)

    def _expose_attention(self) -> None:
        from vcorr.diffusion.backend import use_torch_attention
        from vcorr.diffusion.loading import networks

        for network in networks(self.pipe):  # networks that take turns all have the sites
            use_torch_attention(network, [site.name for site in self.sites()])

    @property
    def _first_passes(self) -> FirstPasses:
        from vcorr.diffusion.first_passes import FirstPasses

        self._borrowed = self._borrowed or FirstPasses()
        return self._borrowed

    @property
    def _dtype(self) -> torch.dtype:
        found: torch.dtype = getattr(self.pipe, self.denoiser).dtype
        return found


_LATENT_CHANNELS = ("latent_channels", "z_dim")
"""Names that autoencoders of diffusers use for the number of channels of their latents."""


def _missing_member(model: object, name: str) -> PluginError:
    return PluginError(f"{type(model).__name__} does not declare {name}, which every DiffusersVideoModel has to.")
