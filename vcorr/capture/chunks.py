"""Frames that come in several calls: image backbones take a video a few frames at a time.

Shape legend: H heads, F x h x w video tokens, f <= F of the frames, d head width, c width of a block's output.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from vcorr.capture.captures import Capture
from vcorr.contract.errors import CaptureError

_FRAME_AXIS = {"q": 1, "k": 1, "v": 1, "out": 1, "q_unrotated": 1, "k_unrotated": 1, "hidden": 0}
"""The axis of the frames in each tensor that holds them."""


class FramesSeen:
    """How many frames of each site have come in the running step, in their order.

    Args:
        step: its index, for messages.
    """

    def __init__(self, step: int) -> None:
        self._step = step
        self._seen: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._seen)

    def take(self, name: str, frames: int, total: int, what: str) -> slice:
        """Where the next `frames` of a site's `total` stand.

        Raises:
            CaptureError: there are no more to come; the message says that the site did `what` twice.
        """
        first = self._seen.get(name, 0)
        if first + frames > total:
            came = "twice" if frames == total else f"for {first + frames} frames in all; the grid has {total}"
            raise CaptureError(
                f"Step {self._step}: {name} {what} {came}.",
                hint="One call per site and step is read. Guidance branches that run one after the other: "
                "TokenLayout(passes=('cond', 'uncond')), in their order. A model that attends to the rows of a batch "
                "one by one: TokenLayout(per_sample=True). An interceptor around it that calls compute twice: open it "
                "inside.",
            )
        self._seen[name] = first + frames
        return slice(first, first + frames)

    def missing(self, name: str, total: int) -> str:
        """The site, with how many of its `total` frames came where some did; "" when all have."""
        seen = self._seen.get(name, 0)
        if seen == total:
            return ""
        return f"{name} ({seen} of {total} frames came)" if seen else name


class Chunks:
    """Joins the captures of one site whose frames come in several calls."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, ...], dict[str, Tensor]] = {}

    def join(self, key: tuple[str, ...], part: Capture, frames: slice, names: Collection[str]) -> Capture | None:
        """The capture of all frames once the last has come, None before; what comes at once is handed on as it is.

        Args:
            key: tells captures that belong together from others.
            part: of the frames `frames`.
            frames: a slice of those of the grid, the first unless this key is known.
            names: the tensors that will be read. They are copied: the model writes over its memory between calls.
        """
        total = part.grid.frames
        if frames == slice(0, total):
            return part
        parts = self._open.setdefault(key, {})
        for name in _FRAME_AXIS.keys() & names:
            tensor, axis = getattr(part, name), _FRAME_AXIS[name]
            if name not in parts:
                shape = [*tensor.shape]
                shape[axis] = total
                parts[name] = torch.empty(shape, dtype=tensor.dtype, device=tensor.device)
            parts[name].narrow(axis, frames.start, frames.stop - frames.start).copy_(tensor)
        if frames.start == 0 and "k" in names:
            parts["k_text"] = part.k_text.clone()
        if frames.stop < total:
            return None
        # what nobody reads was not kept: the last call's would pass for that of all frames
        unread = dict.fromkeys(("k_text", *_FRAME_AXIS))
        return part.replace(**{**unread, **self._open.pop(key)})
