"""Windowed attention as an accelerator: the denoiser's own attention sees nearby frames alone, in every pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vcorr.contract.errors import UsageError
from vcorr.contract.option_notes import option
from vcorr.contract.records import Clip
from vcorr.diffusion.accelerators.accelerator import AcceleratedModel, Accelerator

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vcorr.capture.tap import Tap
    from vcorr.interventions.windowed_attention import AttentionWindow


@dataclass(frozen=True)
class Windowed(Accelerator):
    """Video tokens see the text, and the frames near their own (`vcorr.interventions.windowed_attention`)."""

    title: ClassVar[str] = "windowed attention"
    replaces_attention: ClassVar[bool] = True

    frames: int = option(1, "Latent frames on either side that a token sees; 0 for its own alone.", least=0)
    space: int = option(0, "Rows and columns on either side that it sees; 0 for whole frames.", unit="tokens", least=0)

    def check(self, model: AcceleratedModel) -> None:
        """Checks that every site attends over the whole video."""
        others = [site for site in model.sites() if site.attention != "full3d"]
        if others or not model.sites():
            kind = others[0].attention if others else "no"
            raise UsageError(
                f"windowed needs attention over the whole video; {model.model_card().title} has {kind} attention.",
                hint="Leave it out of model.accelerate.",
            )

    def apply(self, model: AcceleratedModel) -> None:
        """Opens the window in every pass of each denoiser, inside whatever reads or edits attention."""
        for name in model.denoisers:
            _PassWindow(self, model, getattr(model.pipe, name)).install()


class _PassWindow:
    """Opens a tap at the beginning of each pass of a denoiser and closes it at the end.

    So the tap is always the innermost one: a recorder sees the call as the model made it, and the windowed output.
    """

    def __init__(self, options: Windowed, model: AcceleratedModel, denoiser: nn.Module) -> None:
        self._options, self._model, self._denoiser = options, model, denoiser
        self._open: Tap | None = None

    def install(self) -> None:
        """Adds the hooks, for as long as the denoiser lives."""
        self._denoiser.register_forward_pre_hook(self._begin, with_kwargs=True)
        self._denoiser.register_forward_hook(self._end, always_call=True)

    def _begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        from vcorr.capture.tap import Tap

        self._close(RuntimeError)  # torch calls no hook when Ctrl-C ends a pass
        from vcorr.diffusion.borrowed import parameters

        latents = args[0] if args else kwargs[parameters(module)[0]]
        window = self._window(latents)
        tap = Tap(module, [site.name for site in self._model.sites()], window)
        self._open = tap.__enter__()

    def _end(self, module: nn.Module, args: Any, result: Any) -> None:
        self._close(RuntimeError if result is None else None)  # torch passes None after an exception

    def _close(self, kind: type[BaseException] | None) -> None:
        tap, self._open = self._open, None
        if tap is not None:
            tap.__exit__(kind, None, None)

    def _window(self, latents: Tensor) -> AttentionWindow:
        from vcorr.interventions.windowed_attention import AttentionWindow

        grid = self._model.grid(_empty_clip(), None)
        size = grid.rows * grid.cols
        frames = _count_tokens(self._model, latents) // size
        text, options = self._model.layout().text, self._options
        return AttentionWindow(frames, grid.rows, grid.cols, text, options.frames, options.space)


def _count_tokens(model: AcceleratedModel, latents: Tensor) -> int:
    """Returns the number of video tokens in latents as the denoiser gets them."""
    if not model.latent_axes:
        return int(latents.shape[1])  # (B, N, c), packed into tokens
    sizes = dict(zip(model.latent_axes, latents.shape, strict=True))
    each = model.compression_at(None).latents_per_token
    per_axis = (sizes[axis] // count for axis, count in zip("fhw", each, strict=True))
    return int(np.prod(list(per_axis)))


def _empty_clip() -> Clip:
    return Clip("", "", np.zeros((0, 2), np.float32))
