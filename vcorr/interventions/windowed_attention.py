"""Windowed attention: video tokens see the text, and nearby tokens of nearby frames (docs/accelerators.md).

No mask over all pairs of tokens is built: every latent frame attends to its own list of keys.

Shape legend: B batch rows, H heads, N tokens in the sequence of a batch row, D head width. F x h x w video tokens, P =
h*w tokens of a latent frame, n text tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vcorr.capture.captures import TextPlace
from vcorr.capture.tap import AttentionCall, Compute
from vcorr.contract.errors import CaptureError
from vcorr.interventions.partial_attention import attend_to


@dataclass(frozen=True)
class AttentionWindow:
    """Replaces attention over the whole video by attention in a window; an interceptor for `vcorr.capture.intercept`.

    A video token sees all text tokens, and the video tokens of its own latent frame and of `reach` frames before and
    after it. With `space`, it sees only the tokens among them that are at most `space` rows and columns away. Text
    tokens see everything. Masks of the model stay in force.

    frames, rows, cols: of the video tokens, row-major by frame. text: where the text tokens are in the sequence.
    reach: number of latent frames on either side; 0 for the own frame alone. space: in tokens; 0 for whole frames.
    """

    frames: int
    rows: int
    cols: int
    text: TextPlace
    reach: int = 1
    space: int = 0

    def __call__(self, call: AttentionCall, compute: Compute) -> Tensor:
        """Returns the output of a call, (B, H, N, D); `compute` is used for the text tokens' own rows alone."""
        if call.causal:
            raise CaptureError(f"{call.name}: its attention is causal, so it has a window of its own.")
        video, text = self._find_tokens(call)
        parts = {part.start: self._attend(call, part, keys) for part, keys in self._list_keys(video, text)}
        if text.stop > text.start:
            parts[text.start] = attend_to(call, text, [slice(0, call.q.shape[2])])
        return torch.cat([parts[start] for start in sorted(parts)], dim=2)

    def _find_tokens(self, call: AttentionCall) -> tuple[slice, slice]:
        """Returns the slices of the video tokens and of the text tokens."""
        tokens, video = call.q.shape[2], self.frames * self.rows * self.cols
        count = tokens - video
        if call.k.shape[2] != tokens or count < 0 or (count and self.text == "none"):
            raise CaptureError(
                f"{call.name}: {tokens} queries and {call.k.shape[2]} keys do not hold {video} video tokens "
                f"({self.frames} x {self.rows} x {self.cols}) with text {self.text!r}.",
            )
        if self.text == "before":
            return slice(count, tokens), slice(0, count)
        return slice(0, video), slice(video, tokens)

    def _list_keys(self, video: slice, text: slice) -> list[tuple[slice, list[slice]]]:
        """Returns the tokens of each latent frame, with the slices of the tokens that they see, text first."""
        size = self.rows * self.cols
        bounds = [video.start + frame * size for frame in range(self.frames + 1)]
        found = []
        for frame in range(self.frames):
            first, last = max(0, frame - self.reach), min(self.frames, frame + self.reach + 1)
            found.append((slice(bounds[frame], bounds[frame + 1]), [text, slice(bounds[first], bounds[last])]))
        return found

    def _attend(self, call: AttentionCall, rows: slice, keys: Sequence[slice]) -> Tensor:
        near = self._find_near(keys, call.q.device) if self.space else None
        return attend_to(call, rows, keys, near)

    def _find_near(self, keys: Sequence[slice], device: torch.device) -> Tensor:
        """Returns (P, n + frames * P) bool, True where a token sees a key; every text token is seen."""
        text, video = (part.stop - part.start for part in keys)
        row, col = (
            axis.flatten()
            for axis in torch.meshgrid(
                torch.arange(self.rows, device=device), torch.arange(self.cols, device=device), indexing="ij"
            )
        )
        near = _is_close(row, self.space) & _is_close(col, self.space)
        return torch.cat([near.new_ones(len(near), text), near.repeat(1, video // len(near))], dim=1)


def _is_close(places: Tensor, distance: int) -> Tensor:
    """Returns for all pairs of places, (P, P), whether they are at most `distance` apart."""
    return (places[:, None] - places[None]).abs() <= distance
