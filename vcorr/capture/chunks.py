"""Joins frames that come in several calls, because image backbones take a video a few frames at a time.

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
    """Counts the frames of each site that have come in the running step.

    Args:
        step: its index, for messages.
    """

    def __init__(self, step: int) -> None:
        self._step = step
        self._seen: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._seen)

    def take(self, name: str, frames: int, total: int, what: str) -> slice:
        """Counts the next `frames` of a site, and returns their slice within its `total` frames.

        Raises:
            CaptureError: more than `total` frames came. `what` is the verb of the message: "computed attention".
        """
        first = self._seen.get(name, 0)
        if first + frames > total:
            came = "twice" if frames == total else f"for {first + frames} frames in all; the grid has {total}"
            raise CaptureError(
                f"Step {self._step}: {name} {what} {came}.",
                hint="One call per site and step is read. If guidance branches run one after the other, say "
                "TokenLayout(passes=('cond', 'uncond')), in their order. If the model computes attention for each "
                "batch row by itself, say TokenLayout(per_sample=True). If an outer interceptor calls compute twice, "
                "open it inside the recorder.",
            )
        self._seen[name] = first + frames
        return slice(first, first + frames)

    def missing(self, name: str, total: int) -> str:
        """Returns the site's name, with the number of frames if only some came; "" if all `total` have come."""
        seen = self._seen.get(name, 0)
        if seen == total:
            return ""
        return f"{name} ({seen} of {total} frames came)" if seen else name


class Chunks:
    """Joins the captures of one site whose frames come in several calls."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, ...], dict[str, Tensor]] = {}

    def join(self, key: tuple[str, ...], part: Capture, frames: slice, names: Collection[str]) -> Capture | None:
        """Returns the capture of all frames when the last one has come, else None.

        A part that holds all frames is returned as it is.

        Args:
            key: the same for all parts of one capture.
            part: the capture of some frames.
            frames: which frames of the grid these are; the first part of a key begins with frame 0.
            names: the tensors that will be read. They are copied, because the model overwrites its memory between
                calls.
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
        # drop the tensors that were not copied: they hold the frames of the last call only
        unread = dict.fromkeys(("k_text", *_FRAME_AXIS))
        return part.replace(**{**unread, **self._open.pop(key)})
