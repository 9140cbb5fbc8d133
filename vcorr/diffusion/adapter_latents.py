"""How a diffusers adapter turns videos into latents, and latents into what its denoiser takes and gives.

Shape legend: T video frames, H x W pixels, C latent channels, F x h x w latents.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Clip
from vcorr.diffusion.adapter_facts import C, missing_member
from vcorr.diffusion.adapter_layout import AdapterLayout

if TYPE_CHECKING:
    from torch import Tensor

    from vcorr.capture.latent_tokens import LatentReading
    from vcorr.diffusion.latent_files import LatentFiles

_LATENT_CHANNELS = ("latent_channels", "z_dim")
"""Names that autoencoders of diffusers use for the number of channels of their latents."""


def _packages_of(adapter: type) -> set[str]:
    """Returns the packages that an adapter's class and its bases are from, besides vcorr itself and Python's own."""
    found = {base.__module__.partition(".")[0] for base in adapter.__mro__}
    return found - {"vcorr"} - sys.stdlib_module_names


class AdapterLatents(AdapterLayout[C]):
    """The part of `DiffusersVideoModel` that encodes videos and brings latents into the denoiser's form."""

    # ------------------------------------------------------------------------------------- what a subclass may override

    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        """Encodes (T, H, W, 3) uint8 RGB into (1, C, F, h, w), in the units of the denoiser's training."""
        from vcorr.diffusion.latents import encode_video

        return encode_video(self.pipe.vae, video, self.device)

    def encode_clip(self, clip: Clip, video: NDArray[np.uint8]) -> Tensor:
        """Encodes the clip's video, (T, H, W, 3) uint8 RGB, into (1, C, F, h, w).

        If ``clip.stills``, each frame is encoded by itself. The latents of videos and of such frames are kept for a
        while: several runs of a process read the same clips, and the clips of a tracker share frames.
        """
        if not clip.stills:
            return self.kept_inputs.latents(self.pipe, self.device, video, self.encode)
        from vcorr.diffusion.kept_inputs import latents_state
        from vcorr.diffusion.still_latents import StillLatents

        self._stills = self._stills or StillLatents()
        return self._stills.encode(video, self.encode, latents_state(self.pipe))

    def latent_files(self) -> LatentFiles | None:
        """Returns the files that keep latents between runs.

        None if the weights are random or were not loaded by `load`, or if the autoencoder's were changed since. None
        also if the adapter's code is in no file.
        """
        from vcorr.diffusion.kept_inputs import autoencoder_writes
        from vcorr.diffusion.latent_files import LatentFiles, device_facts, hash_code
        from vcorr.store.home import home_folder

        if self._loaded is None or autoencoder_writes(self.pipe) != self._loaded[1]:
            return None
        code = {name: hash_code(name) for name in _packages_of(type(self))}
        if None in code.values():
            return None
        adapter = f"{type(self).__module__}.{type(self).__qualname__}"
        facts = {"weights": self._loaded[0], "adapter": adapter, "code": code, "device": device_facts(self.device)}
        return LatentFiles(home_folder() / "latents", facts)

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
            raise missing_member(self, "latent_channels")
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

    # ----------------------------------------------------------------------------------------------------------- passes

    def branch_inputs(self, arguments: Mapping[str, Any], latents: str, grid: TokenGrid, branch: str = "cond") -> Any:
        """Takes the arguments of one guidance branch from a pass that may hold all `branches` in a batch."""
        from vcorr.diffusion.borrowed import rows_of_branch

        rows = 1 if "b" in self.latent_axes or not self.latent_axes else grid.frames
        index, of = self.branches.index(branch), len(self.branches)
        return rows_of_branch(arguments, latents, index, of, rows=rows, per_frame=self.frame_inputs)
