"""Carries labels through a clip with a model: runs its passes, and takes from each what one probe matches.

The video is read from the frame of the mask on, and once more from there backwards. Every pass has the frame of the
mask, the frames just before its targets as their context, and the targets. Each frame is encoded by itself.

Shape legend: T frames of the video, K labels, h x w tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.modes import mode_of
from vcorr.contract.probe_protocols import Probe
from vcorr.contract.protocols import VideoModel
from vcorr.contract.records import Clip, RunSettings
from vcorr.contract.variants import CORRECTED
from vcorr.tracking.chunk_sizes import ChunkSizes
from vcorr.tracking.cost_reader import read_chunk, takes_costs
from vcorr.tracking.followed_site import ReadAt, SiteFacts
from vcorr.tracking.label_propagation import propagate_labels
from vcorr.tracking.propagation_options import PropagationOptions
from vcorr.tracking.track_options import TrackOptions


@dataclass(frozen=True)
class Window:
    """The frames of one pass, as positions in the order in which the video is read; 0 is the frame of the mask.

    targets: the positions whose labels the pass finds, in order.
    """

    frames: tuple[int, ...]
    targets: tuple[int, ...]

    def contexts(self, target: int, context: int) -> list[int]:
        """Returns the positions that give a target its labels: 0, and up to `context` just before it."""
        return [p for p in self.frames if p == 0 or target - context <= p < target]


def plan_windows(length: int, chunk: int, context: int) -> list[Window]:
    """Returns the passes for `length` frames: all of `chunk` frames, or of as many as there are.

    The first pass has the first frames, and finds labels for all but frame 0. Each later one has frame 0 and up to
    `context` frames before its first target. The last one ends with the last frame, so it may have more of them.

    Raises:
        UsageError: a pass of `chunk` frames has no room for the frame of the mask and a target.
    """
    if chunk < 2:
        raise UsageError(f"A pass has the frame of the mask and at least one more, got {chunk} frames per pass.")
    if length < 2:
        return []
    size = min(chunk, length)
    windows = [Window(tuple(range(size)), tuple(range(1, size)))]
    before = min(context, size - 2)
    while (done := windows[-1].frames[-1] + 1) < length:
        first = min(done - before, length - (size - 1))
        frames = range(first, first + size - 1)
        windows.append(Window((0, *frames), tuple(range(done, frames.stop))))
    return windows


class LabelPropagator:
    """Carries labels with a model, a probe and sites of the model.

    Args:
        model: the loaded model.
        probe: says which tensors match, and how (`vcorr.ProbeBase.take_costs`).
        layers: of the sites, whose affinities are averaged; empty for a probe that reads no site.
        settings: mode, the one step, seed.
        options: context, neighbourhood and so on.
        reading: frames per pass, prompt and noise. Frames are always encoded one by one.

    Raises:
        UsageError: the probe matches no tokens, or there is more than one step.
    """

    def __init__(
        self,
        model: VideoModel,
        probe: Probe,
        layers: Sequence[int],
        settings: RunSettings,
        options: PropagationOptions,
        reading: TrackOptions,
    ) -> None:
        takes_costs(probe)
        if len(settings.steps) != 1:
            raise UsageError(
                f"Propagation reads one step, got {len(settings.steps)}.", hint="For example: --steps last"
            )
        self._sites = [site for site in model.sites() if site.layer in layers]
        self._read_at = ReadAt()
        self._model, self._probe, self._layers, self._options = model, probe, tuple(layers), options
        self._settings = replace(settings, add_noise=reading.add_noise)
        self._sizes = ChunkSizes(model, self._sites[0] if self._sites else None, replace(reading, latents="stills"))

    @property
    def facts(self) -> SiteFacts:
        """Where the labels come from; noise level and head are known after the first pass."""
        return SiteFacts.of(self._sites, self._settings, self._probe, self._read_at)

    def passes(self, clip: Clip) -> int:
        """Returns the number of passes of the denoiser that carry the mask of frame 0 through a clip."""
        assert clip.video is not None  # the grid was made of it
        windows = plan_windows(len(clip.video), self._sizes.size_for(clip), self._options.context)
        return len(windows) * max(1, mode_of(self._settings.mode).passes(self._settings))

    def typical_chunk(self, clip: Clip) -> Clip:
        """Returns a clip of the frames of one pass; for estimates of time and memory."""
        assert clip.video is not None  # the grid was made of it
        return self._sizes.take_frames(clip, tuple(range(min(len(clip.video), self._sizes.size_for(clip)))))

    def grid(self, clip: Clip) -> TokenGrid:
        """Returns the tokens of a pass over a clip; the video is wanted at the grid's height and width.

        Raises:
            UsageError: the model cannot take such a clip.
        """
        return self._sizes.grid_for(clip)

    def propagate(self, clip: Clip, labels: Tensor, frame: int = 0) -> Iterator[tuple[int, Tensor]]:
        """Yields every other frame of a clip with its labels (K, h, w): the later ones, then the earlier ones.

        Args:
            clip: its video has the height and width of `grid`.
            labels: (K, h, w), shares of the labels in the tokens of the frame `frame`.
            frame: number of the frame with the mask.
        """
        assert clip.video is not None  # the grid was made of it
        for order in (range(frame, len(clip.video)), range(frame, -1, -1)):
            yield from self._walk(clip, labels, order)

    def _walk(self, clip: Clip, labels: Tensor, order: range) -> Iterator[tuple[int, Tensor]]:
        known = {0: labels}
        for window in plan_windows(len(order), self._sizes.size_for(clip), self._options.context):
            part = self._sizes.take_frames(clip, tuple(order[position] for position in window.frames))
            read = read_chunk(self._model, part, self._settings, self._probe, self._layers, CORRECTED)
            costs, self._read_at = read.costs, ReadAt(read.noise, read.costs[0].head)
            for target in window.targets:
                context = window.contexts(target, self._options.context)
                known[target] = propagate_labels(
                    costs,
                    torch.stack([known[position] for position in context]).to(costs[0].device),
                    [window.frames.index(position) for position in context],
                    window.frames.index(target),
                    radius=self._options.radius,
                    top_k=self._options.top_k,
                ).cpu()
                yield order[target], known[target]
