"""What a probe gets to read of one attention call, and how a model lays out its tokens.

Shape legend: H heads, F x h x w video tokens, n text tokens, d head width, c width of the hidden state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast

from vcorr.contract.errors import CaptureError, PluginError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Site
from vcorr.functional.head_shares import WHOLE, HeadShare
from vcorr.functional.shared_sums import SharedSums

if TYPE_CHECKING:  # adapters declare a layout without loading torch
    from torch import Tensor

    Part = Tensor | Callable[[], Tensor] | None

TextPlace = Literal["before", "after", "none"]


@dataclass(frozen=True)
class TokenLayout:
    """How a model lays out the tokens of its attention calls and its guidance branches, as data.

    text: where the text tokens are in the sequence, relative to the video tokens; "none" if there are no text tokens.
    branches: the guidance branches of a batch, in batch order, e.g. ("uncond", "cond"). "cond" must be among them; it
    is the branch that is read. A batch of one is always the conditional branch.
    text_tokens: the number of text tokens, for models where it never changes (the class token and the registers of an
    image backbone). None: all tokens that are not video tokens.
    per_sample: whether each batch row has an attention call of its own, in batch order, as in models with prompts of
    different lengths. `branches` then gives the order of the calls.
    passes: for models that run each branch as a pass of its own without a label (``denoiser.cache_context("cond")``):
    the branches in the order of the passes of a step. Empty for all other models.

    Under spatial attention (`Site.factorised`), the layout describes the sequence of one frame. The sequences of
    temporal attention never hold text.
    """

    text: TextPlace = "none"
    branches: tuple[str, ...] = ("cond",)
    text_tokens: int | None = None
    per_sample: bool = False
    passes: tuple[str, ...] = ()


class Capture:
    """One attention call of the conditional branch, exactly as the model computed it, with the text tokens apart.

    site: the attention module. grid: how its video tokens lie over the video. step: 0-based index of the scheduler's
    timestep. noise: sigma / (alpha + sigma), NaN without noise. scale: of the dot products inside the softmax; None
    means 1/sqrt(d).

    If several processes share the pass, its tensors are joined from all of them. `own_heads` is the same call with the
    heads of this process alone, and nothing joined; `share` says which heads a capture has.

    A tensor is made when a probe first reads it, once for all probes. Each is given as a tensor, as a function that
    makes it, or as None; reading None is an error. A probe that keeps the capture keeps the model's tensors alive.
    Reading a tensor that the model has overwritten is an error. After the probe has returned, so is reading any tensor
    of `torch.inference_mode`, because torch does not count writes there.

    Args:
        site: the attention module.
        grid: of its video tokens.
        step: 0-based index of the scheduler's timestep.
        noise: sigma / (alpha + sigma) of the step, NaN without noise.
        q: (H, F, h, w, d), after query-key norm and rotary embedding.
        k: the keys, of the same shape and stage.
        v: the values, of the same shape.
        out: the attention output before its output projection, of the same shape.
        k_text: (H, n, d), keys of the text tokens (n may be 0); of the first frame if every frame has its own.
        hidden: (F, h, w, c), the output of the block that contains the attention module.
        latent: (F, h, w, c) float32, the latents that the denoiser got; a token has c of them.
        q_unrotated: q before the rotary embedding, of q's shape.
        k_unrotated: k before the rotary embedding.
        q_position: q if all video tokens had the same content, their mean: the rotary embedding alone.
        k_position: the same for k.
        key_mask: (n,) bool, True where a text token is real and not padding; None if the model masks nothing.
        scale: of the dot products inside the softmax; None means 1/sqrt(d).
        share: which of all heads the tensors have.
        own: the same call with the heads of this process; None if that is all heads.
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
        latent: Part = None,
        q_unrotated: Part = None,
        k_unrotated: Part = None,
        q_position: Part = None,
        k_position: Part = None,
        key_mask: Tensor | Callable[[], Tensor | None] | None = None,
        scale: float | None = None,
        share: HeadShare = WHOLE,
        own: Capture | None = None,
    ) -> None:
        self.site, self.grid, self.step, self.noise, self.scale = site, grid, step, noise, scale
        self.share, self._own = share, own
        self._parts: dict[str, Any] = {
            "q": q,
            "k": k,
            "v": v,
            "out": out,
            "k_text": k_text,
            "hidden": hidden,
            "latent": latent,
            "q_unrotated": q_unrotated,
            "k_unrotated": k_unrotated,
            "q_position": q_position,
            "k_position": k_position,
            "key_mask": key_mask,
        }
        self._versions: dict[str, int] = {}
        self._sums: dict[tuple[str, str], SharedSums] = {}
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
    def latent(self) -> Tensor:
        """(F, h, w, c) float32, the latents that the denoiser got, without channels of a condition."""
        return self._part("latent")

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
        """(H, F, h, w, d), q from positions alone."""
        return self._part("q_position")

    @property
    def k_position(self) -> Tensor:
        """(H, F, h, w, d), k from positions alone."""
        return self._part("k_position")

    @property
    def key_mask(self) -> Tensor | None:
        """(n,) bool, True where a text token is real; None if the model masks nothing."""
        self._check_allowed("mask", "key_mask")
        return self._make_part("key_mask")

    @property
    def own_heads(self) -> Capture:
        """The same call with the heads of this process; the capture itself if it has no other heads, or only those."""
        return self if self._own is None else self._own

    def replace(self, **changes: Any) -> Capture:
        """Returns a copy with some arguments changed. Tensors that were made already are not made again.

        After a change of a tensor with heads, `own_heads` is the copy itself.
        """
        own = {name: getattr(self, name) for name in ("site", "grid", "step", "noise", "scale", "share")}
        changed = Capture(**{**own, **self._parts, **changes})
        changed._versions.update({name: seen for name, seen in self._versions.items() if name not in changes})
        if self._own is not None and _HEADED.isdisjoint(changes):
            changed._own = self._own.replace(**changes)
        return changed

    def restrict_to(self, needs: frozenset[str]) -> Capture:
        """Returns the same capture for a probe that declares `needs`; reading anything else raises PluginError."""
        shown = self.replace()
        shown._parts, shown._versions, shown._sums, shown._allowed = self._parts, self._versions, self._sums, needs
        shown._own = None if self._own is None else self._own.restrict_to(needs)
        return shown

    def sums_of(self, left: Tensor, right: Tensor) -> SharedSums:
        """Returns what the probes of this call share about two of its tensors; nothing about any other tensors."""
        names = [next((name for name, part in self._iterate_made() if part is one), "") for one in (left, right)]
        return self._sums.setdefault((names[0], names[1]), SharedSums()) if all(names) else SharedSums()

    def watch_writes(self) -> None:
        """Starts to watch for writes into the tensors (`find_write`), and bars tensors that are overwritten already."""
        for name, part in self._iterate_made():
            if self._versions.setdefault(name, version_of(part)) != version_of(part):
                self._parts[name] = partial(_refuse, self.site, name)
        if self._own is not None:
            self._own.watch_writes()

    def find_write(self) -> str | None:
        """Returns the name of a tensor that was written to since `watch_writes`, or since it was made, else None.

        Writes to tensors of `torch.inference_mode` are not found, because torch does not count them.
        """
        changed = next((name for name, part in self._iterate_made() if self._has_changed(name, part)), None)
        return self._own.find_write() if changed is None and self._own is not None else changed

    def leave(self) -> None:
        """Ends the probe's read: from now on a tensor can be read only if it is certain that nobody overwrote it."""
        self._later = True
        if self._own is not None:
            self._own.leave()

    def _part(self, name: str) -> Tensor:
        self._check_allowed("k" if name == "k_text" else name, name)
        part = self._make_part(name)
        if part is None:
            raise _not_captured(self.site, name, name)
        return part

    def _make_part(self, name: str) -> Tensor | None:
        part = self._parts[name]
        if callable(part) and not _is_tensor(part):
            part = self._parts[name] = part()
            if part is not None:
                self._versions[name] = version_of(part)
        if self._later and part is not None and (part.is_inference() or self._has_changed(name, part)):
            _refuse(self.site, name)
        return cast("Tensor | None", part)

    def _has_changed(self, name: str, part: Tensor) -> bool:
        return self._versions.get(name, -1) != version_of(part)

    def _check_allowed(self, need: str, name: str) -> None:
        if self._allowed is not None and need not in self._allowed:
            raise _not_captured(self.site, need, name)

    def _iterate_made(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, part) for name, part in self._parts.items() if _is_tensor(part))


_HEADED = frozenset({"q", "k", "v", "out", "k_text", "q_unrotated", "k_unrotated", "q_position", "k_position"})
"""The tensors whose first axis is the heads."""


def count_heads(capture: Capture) -> int:
    """Returns the number of heads of an attention call, as its tensors or its site say; 0 if neither says it."""
    made = next((part for name, part in capture._iterate_made() if name in _HEADED), None)
    return capture.site.heads if made is None else made.shape[0]


def _not_captured(site: Site, need: str, name: str) -> PluginError:
    return PluginError(
        f"{name} of {site.name} was read, but it was not captured.",
        hint=f"A probe lists everything it reads: needs = frozenset({{{need!r}, ...}}).",
    )


def _refuse(site: Site, name: str) -> NoReturn:
    raise overwritten_error(site.name, name)


def overwritten_error(site: str, name: str) -> CaptureError:
    """Returns the error for reading a tensor that the model may have overwritten."""
    return CaptureError(
        f"{name} of {site} cannot be read any more: the model has overwritten it, or it comes from "
        "torch.inference_mode, where torch does not count writes.",
        hint="Read it in the probe's read(), and keep a clone. A probe that needs 'hidden' is called after the block: "
        "read attention in another probe.",
    )


def _is_tensor(part: Any) -> bool:
    return hasattr(part, "is_inference")


def version_of(tensor: Tensor) -> int:
    """Returns how often a tensor was written to; a view shares the count with its base. 0 in `torch.inference_mode`."""
    return 0 if tensor.is_inference() else tensor._version
