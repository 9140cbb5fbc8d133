"""Holds predictors whose networks follow colours: red gives x and green gives y, as in a picture of two ramps.

They check that their inputs are valid for the real networks, and keep the queries in `asked`.
"""

import torch
from torch import nn

HEIGHT, WIDTH = 384, 512
asked = []


class Network(nn.Module):
    """Tracks queries (1, N, 3) of (frame, x, y) in frames (1, T, 3, h, w).

    sure: visibility and confidence of every prediction.
    """

    model_resolution = (HEIGHT, WIDTH)

    def __init__(self, window_len):
        super().__init__()
        self.window_len = window_len
        self.sure = nn.Parameter(torch.rand(2))
        self.time_emb = nn.Parameter(torch.zeros(window_len))

    def look(self, video, queries, iters, first=0):
        """Returns positions (1, T, N, 2), where the middle row is as red and the middle column as green as at a query.

        first: number of the first frame of this window. Frames before a query get (0, 0).
        """
        assert not torch.is_grad_enabled()
        assert not self.training
        assert iters == 6
        assert video.dtype == queries.dtype == torch.float32
        assert video.shape[0] == 1
        assert video.shape[2:] == (3, HEIGHT, WIDTH)
        assert queries.ndim == 3
        assert queries.shape[0] == 1
        assert queries.shape[2] == 3
        assert (queries[..., 0] == queries[..., 0].round()).all()
        assert video.min() >= 0
        assert 1 < video.max() <= 255.001  # bilinear weights add up to 1 but for rounding
        asked.append(queries[0].clone())
        x = queries[0, :, 1].round().long().clamp(0, WIDTH - 1)
        y = queries[0, :, 2].round().long().clamp(0, HEIGHT - 1)
        frame, frames = queries[0, :, 0].long(), torch.arange(first, first + video.shape[1])
        if not hasattr(self, "wanted") or self.fresh:
            self.wanted, self.fresh = torch.zeros(3, len(x)), False
        here = (frame >= frames[0]) & (frame <= frames[-1])
        self.wanted[:, here] = video[0, frame[here] - first, :, y[here], x[here]].T
        found = []
        for red, green, _ in video[0]:
            lines = (red[HEIGHT // 2], green[:, WIDTH // 2])
            found_at = [(line[None] - self.wanted[c][:, None]).abs().argmin(1) for c, line in enumerate(lines)]
            found.append(torch.stack(found_at, dim=-1).float())
        return torch.where((frames[:, None] < frame)[..., None], 0.0, torch.stack(found))[None]

    def outputs(self, tracks):
        visible, confidence = (value.expand(tracks.shape[:3]) for value in self.sure)
        return tracks, visible, confidence, None


class Offline(Network):
    def forward(self, video, queries, iters=4):
        self.fresh = True
        return self.outputs(self.look(video, queries, iters))


class Online(Network):
    def init_video_online_processing(self):
        self.fresh, self.seen, self.tracks, self.first = True, None, None, 0

    def forward(self, video, queries, iters=4, is_online=False):
        assert is_online
        assert video.shape[1] <= self.window_len
        half = self.window_len // 2
        tracks = self.look(video, queries, iters, self.first)
        self.first += half
        if self.seen is not None:
            assert torch.equal(video[:, :half], self.seen[:, half:]), "windows overlap by half"
            assert video.shape[1] > half, "a window brings new frames"
            tracks = torch.cat([self.tracks, tracks[:, half:]], dim=1)
        self.seen, self.tracks = video, tracks
        return self.outputs(tracks)


class CoTrackerPredictor(nn.Module):
    def __init__(self, checkpoint="./checkpoints/scaled_offline.pth", offline=True, v2=False, window_len=60):
        super().__init__()
        assert checkpoint is None
        assert offline
        assert not v2
        self.model = Offline(window_len)
        self.interp_shape = self.model.model_resolution


class CoTrackerOnlinePredictor(nn.Module):
    def __init__(self, checkpoint="./checkpoints/scaled_online.pth", offline=False, v2=False, window_len=16):
        super().__init__()
        assert checkpoint is None
        assert not offline
        assert not v2
        self.model = Online(window_len)
        self.interp_shape = self.model.model_resolution
        self.step = window_len // 2
