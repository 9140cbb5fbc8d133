"""What a tapped attention call hands to the probes.

Shape legend: B batch, H heads, N tokens of the whole sequence, F x h x w video tokens, n text tokens, d head width, c
width of the hidden state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast

from vcorr.contract.errors import CaptureError, PluginError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Site

if TYPE_CHECKING:  # a layout is data an adapter declares without loading torch
    from torch import Tensor

    Part = Tensor | Callable[[], Tensor] | None

TextPlace = Literal["before", "after", "none"]


@dataclass(frozen=True)
class TokenLayout:
    """How a model lays out the tokens of its attention calls and its guidance branches, as data.

    text: where text tokens stand in the sequence relative to the video tokens ("none": the sequence is video only).
    branches: the guidance branches in batch order when the batch holds more than one, e.g. ("uncond", "cond"); "cond"
    must be among them and is the one that is read. A batch of one is the conditional branch itself.
    text_tokens: how many text tokens stand there, for models that always have the same number (the class token and the
    registers of an image backbone); None for whatever is left of the sequence.
    per_sample: each row of the batch is attended to in a call of its own, in their order, as in models whose rows
    differ in length; `branches` then says which call is read.
    passes: the branches of a step in the order of its passes, where each branch is a pass of its own that the model
    does not label with ``denoiser.cache_context("cond")``; empty where it does, and where one pass holds all branches.

    Where attention is factorised (`Site.factorised`), this is said of each row that holds a frame; rows that hold a
    place never hold text.
    """

    text: TextPlace = "none"
    branches: tuple[str, ...] = ("cond",)
    text_tokens: int | None = None
    per_sample: bool = False
    passes: tuple[str, ...] = ()


class Capture:
    """One attention call of the conditional branch, text set apart, exactly as the model computed with it.

    site: the attention module. grid: how its video tokens lie over the video. step: 0-based index of the scheduler's
    timestep. noise: sigma / (alpha + sigma), NaN without noise. scale: of the dot products inside the softmax; None
    means 1/sqrt(d).

    Its tensors are made when they are first read, once for all probes. Each is given as a tensor, as a function that
    makes it, or as None; reading one that is None is an error. A probe that keeps the capture keeps the model's tensors
    with it; what the model has written over by then is refused, and so is everything under `torch.inference_mode`,
    where nobody can tell.

    Args:
        site: the attention module.
        grid: of its video tokens.
        step: 0-based index of the scheduler's timestep.
        noise: sigma / (alpha + sigma) of the step, NaN without noise.
        q: (H, F, h, w, d), after query-key norm and rotary embedding.
        k: keys, likewise.
        v: values, of the same shape.
        out: the attention output before its output projection, of the same shape.
        k_text: (H, n, d), keys of the text tokens (n may be 0); of the first frame, where every frame has its own.
        hidden: (F, h, w, c), the output of the block the attention is in.
        q_unrotated: q before the rotary embedding, of q's shape.
        k_unrotated: k before the rotary embedding.
        q_position: what q would be if all video tokens had the same content, its mean: the rotary embedding alone.
        k_position: likewise for k.
        key_mask: (n,) bool, True where a text token is real and not padding; None when the model masks nothing.
        scale: of the dot products inside the softmax; None means 1/sqrt(d).
    """

    def __init__(
        self,
        site: Site,
        grid: TokenGrid,
        step: int,
        noise: float,
        *,
        q: Part = None,
        k: Part = None,
        v: Part = None,
        out: Part = None,
        k_text: Part = None,
        hidden: Part = None,
        q_unrotated: Part = None,
        k_unrotated: Part = None,
        q_position: Part = None,
        k_position: Part = None,
        key_mask: Tensor | Callable[[], Tensor | None] | None = None,
        scale: float | None = None,
    ) -> None:
        self.site, self.grid, self.step, self.noise, self.scale = site, grid, step, noise, scale
        self._parts: dict[str, Any] = {
            "q": q,
            "k": k,
            "v": v,
            "out": out,
            "k_text": k_text,
            "hidden": hidden,
            "q_unrotated": q_unrotated,
            "k_unrotated": k_unrotated,
            "q_position": q_position,
            "k_position": k_position,
            "key_mask": key_mask,
        }
        self._versions: dict[str, int] = {}
        self._allowed: frozenset[str] | None = None
        self._later = False

    @property
    def q(self) -> Tensor:
        """(H, F, h, w, d), after query-key norm and rotary embedding."""
        return self._part("q")

    @property
    def k(self) -> Tensor:
        """(H, F, h, w, d), after query-key norm and rotary embedding."""
        return self._part("k")

    @property
    def v(self) -> Tensor:
        """(H, F, h, w, d)."""
        return self._part("v")

    @property
    def out(self) -> Tensor:
        """(H, F, h, w, d), the attention output before its output projection."""
        return self._part("out")

    @property
    def k_text(self) -> Tensor:
        """(H, n, d), keys of the text tokens; n may be 0."""
        return self._part("k_text")

    @property
    def hidden(self) -> Tensor:
        """(F, h, w, c), the output of the block the attention is in."""
        return self._part("hidden")

    @property
    def q_unrotated(self) -> Tensor:
        """(H, F, h, w, d), q before the rotary embedding."""
        return self._part("q_unrotated")

    @property
    def k_unrotated(self) -> Tensor:
        """(H, F, h, w, d), k before the rotary embedding."""
        return self._part("k_unrotated")

    @property
    def q_position(self) -> Tensor:
        """(H, F, h, w, d), q of positions alone."""
        return self._part("q_position")

    @property
    def k_position(self) -> Tensor:
        """(H, F, h, w, d), k of positions alone."""
        return self._part("k_position")

    @property
    def key_mask(self) -> Tensor | None:
        """(n,) bool, True where a text token is real; None when the model masks nothing."""
        self._check_allowed("mask", "key_mask")
        return self._made_part("key_mask")

    def replace(self, **changes: Any) -> Capture:
        """The capture with some of its arguments changed; parts that were made stay made."""
        own = {"site": self.site, "grid": self.grid, "step": self.step, "noise": self.noise, "scale": self.scale}
        changed = Capture(**{**own, **self._parts, **changes})
        changed._versions.update({name: seen for name, seen in self._versions.items() if name not in changes})
        return changed

    def restricted(self, needs: frozenset[str]) -> Capture:
        """The same capture for a probe that declared `needs`: reading something else is an error."""
        own = self.replace()
        own._parts, own._versions, own._allowed = self._parts, self._versions, needs
        return own

    def watch_writes(self) -> None:
        """From now on `written` reports writes into the tensors; what the model has written over cannot be read."""
        for name, part in self._made():
            if self._versions.setdefault(name, version_of(part)) != version_of(part):
                self._parts[name] = partial(_refuse, self.site, name)

    def written(self) -> str | None:
        """The name of a tensor that was written into since `watch_writes`, or since it was made; None if there is none.

        Writes into tensors of `torch.inference_mode`, which keep no count, are not found.
        """
        return next((name for name, part in self._made() if self._changed(name, part)), None)

    def leave(self) -> None:
        """From now on a part can be read only as long as it is known that nobody has written over it."""
        self._later = True

    def _part(self, name: str) -> Tensor:
        self._check_allowed("k" if name == "k_text" else name, name)
        part = self._made_part(name)
        if part is None:
            raise _not_captured(self.site, name, name)
        return part

    def _made_part(self, name: str) -> Tensor | None:
        part = self._parts[name]
        if callable(part) and not _is_tensor(part):
            part = self._parts[name] = part()
            if part is not None:
                self._versions[name] = version_of(part)
        if self._later and part is not None and (part.is_inference() or self._changed(name, part)):
            _refuse(self.site, name)
        return cast("Tensor | None", part)

    def _changed(self, name: str, part: Tensor) -> bool:
        return self._versions.get(name, -1) != version_of(part)

    def _check_allowed(self, need: str, name: str) -> None:
        if self._allowed is not None and need not in self._allowed:
            raise _not_captured(self.site, need, name)

    def _made(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, part) for name, part in self._parts.items() if _is_tensor(part))


def _not_captured(site: Site, need: str, name: str) -> PluginError:
    return PluginError(
        f"{name} of {site.name} was read, but it was not captured.",
        hint=f"A probe lists all that it reads: needs = frozenset({{{need!r}, ...}}).",
    )


def _refuse(site: Site, name: str) -> NoReturn:
    raise overwritten(site.name, name)


def overwritten(site: str, name: str) -> CaptureError:
    """What is raised where a tensor is asked for that the model may have written over."""
    return CaptureError(
        f"{name} of {site} cannot be read any more: the model has written over it, or under torch.inference_mode may "
        "have, without a trace.",
        hint="Read it in the probe's read(), and keep a clone. A probe that needs 'hidden' is asked after the block: "
        "read attention in another one.",
    )


def _is_tensor(part: Any) -> bool:
    return hasattr(part, "is_inference")


def version_of(tensor: Tensor) -> int:
    """How often a tensor was written into; views share the count of what they are views of."""
    return 0 if tensor.is_inference() else tensor._version
