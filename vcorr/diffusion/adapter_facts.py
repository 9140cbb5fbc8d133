"""What a diffusers adapter is made of: its declared attributes, its configurations, its options, its pipeline."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from vcorr.contract.bases import VideoModelBase
from vcorr.contract.cards import load_card, read_card_layers
from vcorr.contract.errors import PluginError, not_loaded
from vcorr.contract.records import Attention, Mode, ModelCard, Unrotated
from vcorr.diffusion.accelerators.accelerator_names import read_accelerators
from vcorr.diffusion.authors import AuthorSettings
from vcorr.diffusion.configs import VIDEO, Configs, packaged_configs
from vcorr.diffusion.options import VideoConfig
from vcorr.diffusion.size_checks import check_network
from vcorr.diffusion.token_layout import Compression

if TYPE_CHECKING:
    import torch

    from vcorr.capture.captures import TextPlace
    from vcorr.diffusion.first_passes import FirstPasses
    from vcorr.diffusion.kept_inputs import KeptInputs
    from vcorr.diffusion.still_latents import StillLatents

C = TypeVar("C", bound="VideoConfig")


class AdapterFacts(VideoModelBase, Generic[C]):
    """The facts of an adapter, on which the parts of `DiffusersVideoModel` build."""

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
    joins_rows: ClassVar[bool] = True
    """Whether the perturbed prediction of a guidance shares the blocks before the first perturbed layer with the
    conditional branch. False for networks in which a block gets more than the output of the block before, such as
    UNets; their perturbed prediction is a whole pass."""
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
    batches_levels: bool = True
    """Whether batch rows of the denoiser may have different noise levels, without influence on each other. False also
    for a network that takes one timestep for all of them, and, without being declared, under `per_sample`."""
    takes_guidance: bool = True
    """Whether a guidance can steer its sampling."""
    has_latents: bool = True
    """Whether probes can read the latents that the denoiser gets (`latents_in`)."""
    fewest_steps: ClassVar[int] = 1
    """The smallest number of steps that the pipeline makes."""

    def __init__(self, config: C, card: str = "", configs: str = "") -> None:
        self.device = "cpu"
        self._pipe: Any = None
        self.card, self.configs = card or self.card, configs or self.configs
        self._found: Configs | None = None
        self._borrowed: FirstPasses | None = None
        self._stills: StillLatents | None = None
        self._kept: KeptInputs | None = None
        self._loaded: tuple[str, Hashable] | None = None
        self._folder_scheduler: Mapping[str, Any] = {}
        self.config = self._with_video_size(config)
        self.accelerators = read_accelerators(config.accelerate)
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
        raise missing_member(self, "compression")

    # ------------------------------------------------------------------------------------- what a subclass may override

    def setting(self, name: str) -> Any:
        """Returns an option of `AuthorsConfig`, or the authors' value on the card; None if there is neither."""
        return self._settings.value(name)

    @property
    def unused_settings(self) -> frozenset[str]:
        """Names of the authors' settings that other options switch off; by default none."""
        return frozenset()

    @property
    def denoisers(self) -> tuple[str, ...]:
        """The components of the pipeline whose attention is read: `denoiser`, and others that take turns with it.

        Pipelines name those `transformer_2` and so on, next to `transformer`.
        """
        return (self.denoiser, *sorted(name for name in self._known if name.startswith(f"{self.denoiser}_")))

    # --------------------------------------------------------------------------------------------------------- contract

    def model_card(self) -> ModelCard:
        """Returns the model's card."""
        return load_card(self.card, type(self).__name__)

    @property
    def guidance_layers(self) -> tuple[int, ...]:
        """The layers that a guidance perturbs by default, ascending, as the card names them; empty if it names none."""
        return read_card_layers(self.model_card()) if self.card else ()

    @property
    def pipe(self) -> Any:
        """The loaded diffusers pipeline.

        Raises:
            PluginError: nothing is loaded yet.
        """
        if self._pipe is None:
            raise not_loaded(self)
        return self._pipe

    @property
    def kept_inputs(self) -> KeptInputs:
        """The embeddings of prompts and the latents of videos that are kept until another pipeline is loaded."""
        from vcorr.diffusion.kept_inputs import KeptInputs

        self._kept = self._kept or KeptInputs()
        return self._kept

    def _with_video_size(self, config: C) -> C:
        """Returns the options, with the model's default size of the video where none is given."""
        default = packaged_configs(self.configs, config.size).get(VIDEO, {}) if self.configs else {}
        card = self.model_card() if self.card and not default else None
        if card is not None and card.resolution is not None and card.frames is not None:
            default = {"height": card.resolution[0], "width": card.resolution[1], "frames": card.frames}
        return replace(config, **{name: value for name, value in default.items() if not getattr(config, name)})

    @property
    def _dtype(self) -> torch.dtype:
        found: torch.dtype = getattr(self.pipe, self.denoiser).dtype
        return found


def missing_member(model: object, name: str) -> PluginError:
    """Returns the error for a subclass that lacks a member."""
    return PluginError(f"{type(model).__name__} does not declare {name}, which every DiffusersVideoModel has to.")
