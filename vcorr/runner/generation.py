"""What a run of generated videos adds to a plan: checks of its words, and how its videos are sampled and tracked.

Its videos are stored in the run (`vcorr.runner.track`). A tracker follows a grid of points through each of them, and
their ends back. Metrics of the task `generation` then need nothing but these files.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import MissingError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.modes import Generate, RunMode
from vcorr.contract.records import Attention, Clip, Queries, RunSettings, Tracks
from vcorr.contract.variants import DEFAULT_VARIANT
from vcorr.contract.video_tracks import VideoTracks
from vcorr.runner.called_model import CalledModel
from vcorr.runner.called_tracker import CalledTracker
from vcorr.runner.guided import CalledGuidance
from vcorr.runner.parts import Part
from vcorr.runner.row_words import VIDEO_KIND
from vcorr.runner.spec import RunSpec
from vcorr.store.schema import PredictionRow

VIDEO_PROBE = "video"
"""The column `probe` in rows about a generated video: no probe was read."""

_INSIDE = 1e-3
"""How far inside the frame, in pixels, the ends of tracks are moved before they are followed back."""
_READ = {"probe": "--probe", "layers": "layers", "steps": "--steps", "preset": "preset"}
_HINT = "What attention knows while a video is sampled is read by: vcorr run --mode generate"


def check_generation_words(spec: RunSpec) -> None:
    """Checks that a spec of generation sets nothing that only reading attention has.

    Raises:
        UsageError: it does.
    """
    for name, flag in _READ.items():
        if getattr(spec, name) != getattr(RunSpec, name):
            raise UsageError(f"{flag} is set, and generating a video reads no attention.", hint=_HINT)
    if spec.mode not in (None, Generate.name):
        raise UsageError(f"Generating a video has no mode {spec.mode!r}.", hint="Leave mode out.")
    if spec.variant != DEFAULT_VARIANT.text:
        raise UsageError(f"variant {spec.variant!r} is set, and scores of videos have no variants.", hint=_HINT)


def sampling_settings(settings: RunSettings, guidance: CalledGuidance) -> RunSettings:
    """Returns the settings for sampling without reading: every step counts, for the progress that is shown.

    The guidance may ask for another number of steps; it raises as `CalledGuidance.count_steps`.
    """
    total = guidance.count_steps(settings.num_steps)
    return replace(settings, steps=tuple(range(total)), num_steps=total)


def check_first_image(adapter: CalledModel, model: Part, data: Part, mode: RunMode, first: Clip | None) -> None:
    """Checks the image that the user gave, against what the model starts from and its size.

    Images and first frames of datasets are brought to the model's size, as in other runs.

    Raises:
        MissingError: the model starts from an image, and there is none.
        UsageError: the image has another size, or the model reads no image.
    """
    if first is None:
        return
    image, label = first.video, model.entry.label
    if image is None:
        if adapter.needs_image:
            raise MissingError(f"{label} starts from an image, and none was given.", hint="Give it: --image FILE.png")
        return
    if not getattr(data.config, "image", ""):
        return
    if not adapter.needs_image:
        raise UsageError(
            f"{label} generates from the prompt alone, and an image was given.",
            hint="Leave --image out, or name a model that starts from an image: vcorr list models",
        )
    grid = adapter.grid(mode.size_source(first), None)
    height, width = round(grid.height), round(grid.width)
    if image.shape[1:3] != (height, width):
        raise UsageError(
            f"The image is {image.shape[2]}x{image.shape[1]} pixels, and {label} generates {width}x{height}.",
            hint="Make it that size, or choose the size of the model, such as --set model.width=… (vcorr show model).",
        )


def track_video(video: NDArray[np.uint8], queries: Queries, tracker: CalledTracker) -> VideoTracks:
    """Follows points of frame 0 through a video, and their ends back.

    Raises:
        PluginError, NumericalError: the tracker returned wrong tracks; see `CalledTracker.track`.
    """
    forward = tracker.track(video, queries)
    back = find_ends(forward, video)
    return VideoTracks(replace(forward, query_frame=queries.t), replace(tracker.track(video, back), query_frame=back.t))


def find_ends(forward: Tracks, video: NDArray[np.uint8]) -> Queries:
    """Returns the ends of tracks as queries in the last frame, moved to the edge of the frame if they are outside.

    A track without a position in the last frame has its last known one.
    """
    frames, height, width = video.shape[:3]
    known: NDArray[np.bool_] = np.asarray(np.isfinite(forward.xy).all(axis=-1), dtype=np.bool_)
    last = frames - 1 - known[:, ::-1].argmax(axis=1)
    ends = forward.xy[np.arange(len(last)), last]
    inside = np.clip(ends, _INSIDE, np.array([width, height]) - _INSIDE)
    return Queries(np.full(len(ends), frames - 1, np.int32), inside.astype(np.float32))


def video_row(run: str, clip: Clip, grid: TokenGrid, attention: Attention) -> PredictionRow:
    """Returns the only row of a clip's predictions shard: a video was generated, and nothing was read.

    attention: the kind of attention of the model.
    """
    return PredictionRow(
        run=run,
        clip=clip.id,
        probe=VIDEO_PROBE,
        kind=VIDEO_KIND,
        attention=attention,
        variant=DEFAULT_VARIANT.base,
        grid=json.dumps(grid.to_dict()),
        latents=grid.frames,
        task="generation",
    )
