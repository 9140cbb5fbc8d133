"""Holds a network that follows colours: red gives x and green gives y, as in a picture of two ramps.

It checks that its inputs are valid for the real network, and keeps the queries in `asked`.
"""

from typing import NamedTuple

import torch
from torch import nn

SIDE = 256
asked = []


class State(NamedTuple):
    step: int
    wanted: torch.Tensor


class TAPNext(nn.Module):
    """Tracks queries (1, N, 3) of (frame, y, x) in frames (1, 1, s, s, 3), one call per frame.

    logit: visibility of every prediction. shift: pixels (y, x) added to every position.
    """

    def __init__(self, image_size):
        super().__init__()
        assert image_size == (SIDE, SIDE)
        self.logit = nn.Parameter(torch.rand(()))
        self.shift = nn.Parameter(torch.rand(2))

    def forward(self, video, query_points=None, state=None):
        assert not torch.is_grad_enabled()
        assert not self.training
        assert video.dtype == torch.float32
        size = video.shape[2]
        assert video.shape == (1, 1, size, size, 3)
        assert size in (256, 512)
        assert -1.001 <= video.min() < 0 < video.max() <= 1.001  # bilinear weights add up to 1 but for rounding
        if state is None:
            assert query_points.dtype == torch.float32
            assert query_points.shape[0] == 1
            assert query_points.shape[2] == 3
            assert (query_points[..., 0] == 0).all()
            asked.append(query_points[0].clone())
            state = State(0, self.colours(video[0, 0], query_points[0, :, 1:] * size / SIDE))
        tracks = self.look(video[0, 0], state.wanted) * SIDE / size + self.shift
        logits = self.logit.expand(1, 1, len(tracks), 1)
        return tracks[None, None], None, logits, State(state.step + 1, state.wanted)

    def colours(self, frame, yx):
        y, x = (value.floor().long().clamp(0, len(frame) - 1) for value in yx.T)
        return frame[y, x]

    def look(self, frame, wanted):
        """Returns positions (N, 2), where the middle column is as green and the middle row as red as wanted."""
        middle = len(frame) // 2
        rows, columns = frame[:, middle, 1], frame[middle, :, 0]
        found = [(line[None] - wanted[:, c, None]).abs().argmin(1) for c, line in ((1, rows), (0, columns))]
        return torch.stack(found, dim=-1).float() + 0.5
