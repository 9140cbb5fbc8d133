"""The layout of a rotary position embedding: which channels of a head turn along which axis, and how fast.

Shapes: H heads, F x h x w video tokens, P pairs of channels in a head of width d = 2P.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError

Pairing = Literal["interleaved", "half"]
AXES = ("t", "y", "x")
STILL = ""
"""The axis of a pair of channels that does not turn."""

Steps = tuple[float, float, float]
"""One number per axis of `AXES`."""


@dataclass(frozen=True)
class Rotary:
    """Says how a rotary embedding turns the channels of a video token's query and key.

    Pair p turns by ``frequencies[p] * (i + start)`` radians. i is the token's latent frame, row or column, from 0,
    according to ``axes[p]``. start is the entry of `starts` for that axis. The dot product of a query and a key depends
    only on the difference of their coordinates, so `starts` cancels there.

    Args:
        axes: axis of each pair: "t" (latent frames), "y" (rows), "x" (columns), or "" for a pair that does not turn.
        frequencies: radians per token along that axis, interpolation included; 0 for pairs that do not turn.
        pairing: which channels pair p holds: "interleaved", 2p and 2p + 1, or "half", p and P + p.
        starts: coordinate of the first token along t, y and x, in tokens.
        heads: 1 if all heads turn alike. Else H: `axes` and `frequencies` then hold the P pairs of the first head, of
            the second, and so on, H*P in all.

    Raises:
        UsageError: the values contradict each other.
    """

    axes: tuple[str, ...]
    frequencies: tuple[float, ...]
    pairing: Pairing = "interleaved"
    starts: Steps = (0.0, 0.0, 0.0)
    heads: int = 1

    def __post_init__(self) -> None:
        if not self.axes or len(self.axes) != len(self.frequencies):
            raise UsageError(
                f"Rotary: axes and frequencies must have the same length, at least 1; got {len(self.axes)} and "
                f"{len(self.frequencies)}."
            )
        if self.heads < 1 or len(self.axes) % self.heads:
            raise UsageError(f"Rotary: {len(self.axes)} pairs do not divide among {self.heads} heads.")
        if unknown := sorted(set(self.axes) - {*AXES, STILL}):
            raise UsageError(f"Rotary: axes are 't', 'y', 'x' or '', got {', '.join(map(repr, unknown))}.")
        if self.pairing not in ("interleaved", "half"):
            raise UsageError(f"Rotary: pairing must be 'interleaved' or 'half', got {self.pairing!r}.")
        if not np.isfinite([*self.frequencies, *self.starts]).all() or len(self.starts) != len(AXES):
            raise UsageError("Rotary: frequencies must be finite, and starts three finite numbers.")

    @classmethod
    def blocks(
        cls,
        widths: Sequence[int],
        *,
        theta: float = 10_000.0,
        pairing: Pairing = "interleaved",
        steps: Steps = (1.0, 1.0, 1.0),
        starts: Steps = (0.0, 0.0, 0.0),
    ) -> Rotary:
        """Returns the usual layout: one block of channels per axis, frequencies ``theta ** (-2 i / width) * step``.

        Args:
            widths: number of channels of a head that turn along t, y and x, in this order; 0 for none.
            theta: base of the frequencies.
            pairing: as in the class.
            steps: growth of the coordinate per token along t, y and x; not 1 where the embedding is interpolated.
            starts: as in the class.

        Raises:
            UsageError: a width is odd or negative.
        """
        if len(widths) != len(AXES) or any(width < 0 or width % 2 for width in widths):
            raise UsageError(f"Rotary: widths must be three even numbers of channels, got {tuple(widths)!r}.")
        axes = [axis for axis, width in zip(AXES, widths, strict=True) for _ in range(width // 2)]
        frequencies = [
            step * theta ** (-2 * index / width)
            for step, width in zip(steps, widths, strict=True)
            for index in range(width // 2)
        ]
        return cls(tuple(axes), tuple(frequencies), pairing, starts)

    @property
    def width(self) -> int:
        """d, the number of channels of a head."""
        return 2 * len(self.axes) // self.heads

    def channels(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns the first and the second channel of each pair of a head, (P,) each."""
        numbers = np.arange(self.width)
        if self.pairing == "interleaved":
            return numbers[0::2], numbers[1::2]
        return numbers[: self.width // 2], numbers[self.width // 2 :]

    def slow_channels(self, share: float) -> NDArray[np.int64]:
        """Returns the channels of a head whose pairs turn slowly, in ascending order.

        Of the pairs along each axis the slowest `share` is kept, rounded up. Pairs that do not turn are all kept.

        Raises:
            UsageError: heads turn by tables of their own, so there is no choice of channels for all of them.
        """
        if self.heads > 1:
            raise UsageError(
                f"The {self.heads} heads turn by frequencies of their own: they have no common slow bands."
            )
        axes, speeds = np.array(self.axes), np.abs(self.frequencies)
        kept = [np.flatnonzero(axes == STILL)]
        for axis in AXES:
            pairs = np.flatnonzero(axes == axis)
            slowest = pairs[np.argsort(speeds[pairs], kind="stable")]
            kept.append(slowest[: math.ceil(share * len(pairs))])
        chosen = np.concatenate(kept)
        return np.sort(np.concatenate([channels[chosen] for channels in self.channels()]))

    def angles(self, frames: int, rows: int, cols: int) -> NDArray[np.float64]:
        """Returns the angles in radians by which each pair turns at each token, (H, F, h, w, P); H is `heads`.

        Channels (a, b) of a pair become (a cos - b sin, a sin + b cos).
        """
        coordinates = {
            "t": np.arange(frames)[:, None, None] + self.starts[0],
            "y": np.arange(rows)[None, :, None] + self.starts[1],
            "x": np.arange(cols)[None, None, :] + self.starts[2],
            STILL: np.zeros((1, 1, 1)),
        }
        pairs = zip(self.axes, self.frequencies, strict=True)
        turned = [np.broadcast_to(speed * coordinates[axis], (frames, rows, cols)) for axis, speed in pairs]
        return np.stack(turned).reshape(self.heads, -1, frames, rows, cols).transpose(0, 2, 3, 4, 1)
