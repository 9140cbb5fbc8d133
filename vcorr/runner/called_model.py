"""Calls into the adapter of a model, and checks what it returns."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.bases import VideoModelBase, with_defaults
from vcorr.contract.errors import PluginError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.part_calls import show_value
from vcorr.contract.records import AppliedSettings, Clip, Mode, Queries, RunSettings, Site, Tracks
from vcorr.runner.called import CalledPart, Changes, plain_identity, whole_number
from vcorr.runner.parts import Part

if TYPE_CHECKING:
    from vcorr.capture.recorder import Recorder


class CalledModel(CalledPart):
    """A `vcorr.VideoModel` whose calls name its plugin when they fail.

    All members raise a `PluginError` for what the adapter raises or wrongly returns.

    probe_changes: settings of the process that were changed where probes run, so by the adapter or by a probe.
    """

    def __init__(self, part: Part) -> None:
        super().__init__(part)
        self.probe_changes = Changes()
        self._loaded: tuple[str, str, str] | None = None
        self._sharing = 1

    @property
    def steps(self) -> int:
        """Number of scheduler steps by default; 0 for a model without noise."""
        with self._calling("steps"):
            return whole_number(self._optional.steps, "steps")

    @property
    def needs_image(self) -> bool:
        """Whether sampling starts from an image."""
        with self._calling("needs_image"):
            return bool(self._optional.needs_image)

    @property
    def adds_noise(self) -> bool:
        """Whether the model adds noise to a video; baselines and backbones read it as it is."""
        return bool(self.sites()) and self.steps > 0

    @property
    def has_latents(self) -> bool:
        """Whether probes can read the latents of its denoiser."""
        with self._calling("has_latents"):
            return bool(self._optional.has_latents)

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes that the model runs in."""
        with self._calling("modes"):
            modes = tuple(self._optional.modes)
            unknown = [mode for mode in modes if mode not in get_args(Mode)]
            if unknown:
                known = ", ".join(get_args(Mode))
                raise PluginError(f"modes must name some of {known}; it names {show_value(unknown[0])}.")
            return modes

    def sites(self) -> tuple[Site, ...]:
        """Returns the attention sites, by ascending layer, counted from 0."""
        with self._calling("sites()"):
            sites = tuple(self.made.sites())
            _check_sites(sites)
            return sites

    def grid(self, clip: Clip, site: Site | None) -> TokenGrid:
        """Returns the grid of `site` over `clip`; raises UsageError if the model does not take such a clip."""
        with self._calling("grid()"):
            grid = self.made.grid(clip, site)
            if not isinstance(grid, TokenGrid):
                raise PluginError(f"grid() must return a vcorr.TokenGrid, got {show_value(grid)}.")
            return grid

    def weights_id(self, weights: str) -> str:
        """Returns what identifies the weights. In this call an adapter also learns which sizes the model has.

        Raises:
            MissingError: the weights are not available.
        """
        with self._calling("weights_id()"):
            found = self._optional.weights_id(weights)
            if not isinstance(found, str) or not found:
                raise PluginError(f"weights_id() must return a text, got {show_value(found)}.")
            return found

    def check_makes(self, grid: TokenGrid) -> None:
        """Checks that the model can generate a video of this size; raises UsageError if not."""
        with self._calling("check_makes()"):
            self._optional.check_makes(grid)

    def check_settings(self, settings: RunSettings) -> None:
        """Checks that the model can run with these settings; raises UsageError if not."""
        if settings.guidance is not None and not self._optional.takes_guidance:
            raise UsageError(
                f"{type(self.made).__name__} samples in a way of its own, which no guidance can steer.",
                hint="Leave --guidance out. Models of diffusers pipelines take guidances.",
            )
        if settings.noise_batch > 1 and not self._optional.batches_levels:
            raise UsageError(
                f"{self.name} takes one noise level in a pass, not {settings.noise_batch}.",
                hint="Leave out noise_batch.",
            )
        with self._calling("check_settings()"):
            self._optional.check_settings(settings)

    def check_loading(self, device: str, dtype: str) -> None:
        """Checks what `load` needs besides the weights; raises MissingError or UsageError if it is not there."""
        with self._calling("check_loading()"):
            self._optional.check_loading(device, dtype)

    def check_sharing(self) -> None:
        """Checks that several processes can share each pass of the model; raises UsageError if not."""
        with self._calling("check_sharing()"):
            self._optional.check_sharing()

    def share_passes(self, processes: int) -> None:
        """Lets several processes share each pass of the loaded model, unless an earlier call did."""
        if self._sharing == processes:
            return
        with self._calling("share_passes()"):
            self._optional.share_passes(processes)
        self._sharing = processes

    def guidance_branches(self, settings: RunSettings) -> int:
        """Returns how many guidance branches a step of mode generate computes."""
        with self._calling("guidance_branches()"):
            return whole_number(self._optional.guidance_branches(settings), "guidance_branches()")

    def own_settings(self, settings: RunSettings) -> AppliedSettings:
        """Returns the settings that the model applies by itself."""
        with self._calling("own_settings()"):
            found = self._optional.own_settings(settings)
            if not isinstance(found, AppliedSettings):
                raise PluginError(f"own_settings() must return vcorr.AppliedSettings, got {show_value(found)}.")
            return replace(found, values=plain_identity(found.values, "own_settings()"))

    def load(self, device: str, dtype: str, weights: str) -> None:
        """Loads the weights, unless this call loaded them before; raises MissingError if they are not available."""
        if self._loaded == (device, dtype, weights):
            return
        with self._calling("load()"):
            self.made.load(device, dtype, weights)
        self._loaded, self._sharing = (device, dtype, weights), 1

    def run(self, clip: Clip, settings: RunSettings, recorder: Recorder) -> NDArray[np.uint8] | None:
        """Runs the model on a copy of the clip, and returns what it returned.

        The adapter cannot change what is stored or scored: the recorder has the queries of the clip itself.
        """
        with self.probe_changes.watch(), self.name.calling("run()"):
            found: NDArray[np.uint8] | None = self.made.run(copy_clip(clip), settings, recorder)
            return found

    @property
    def _optional(self) -> VideoModelBase:
        return with_defaults(self.made, VideoModelBase)


def _check_sites(sites: tuple[Any, ...]) -> None:
    for site in sites:
        if not isinstance(site, Site):
            raise PluginError(f"sites() must return vcorr.Site records, got {show_value(site)}.")
    numbers, names = [site.layer for site in sites], [site.name for site in sites]
    if numbers != list(range(len(numbers))):
        raise PluginError(f"Its sites have layers {numbers}; they must count up from 0.")
    if len(set(names)) != len(names):
        raise PluginError("Two of its sites have the same name.")


def copy_clip(clip: Clip) -> Clip:
    """Returns a clip that shares no memory with the given one."""
    queries = Queries(clip.queries.t.copy(), clip.queries.xy.copy())
    video, layers = (None if array is None else array.copy() for array in (clip.video, clip.layers))
    return replace(clip, queries=queries, video=video, tracks=_copy_tracks(clip.tracks), layers=layers)


def _copy_tracks(tracks: Tracks | None) -> Tracks | None:
    if tracks is None:
        return None
    arrays: dict[str, Any] = {
        name: value.copy() for name, value in vars(tracks).items() if isinstance(value, np.ndarray)
    }
    return replace(tracks, **arrays)
