"""Finds the dataset that `--data` names, chooses its clips, and returns its part of the fingerprint."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.bases import DatasetBase, with_defaults
from vcorr.contract.entries import ModelEntry
from vcorr.contract.errors import MissingError, PluginError, UsageError, VcorrError, unknown_name
from vcorr.contract.origins import VideoOrigin
from vcorr.contract.part_calls import PartFailureError, show_value
from vcorr.contract.records import Clip
from vcorr.contract.seeds import NoiseDraw
from vcorr.data.dataset_home import IMPORTS, is_within_reach, split_name
from vcorr.data.tapvid_sets import DATASETS as TAPVID_DATASETS
from vcorr.data.video_names import is_video_name
from vcorr.plugins.registry import Registry
from vcorr.runner.called import CalledPart, plain_identity
from vcorr.runner.parts import Part, make_part
from vcorr.runner.spec import RunSpec
from vcorr.store.fingerprint import is_unicode

PROMPTS = "prompts"
PAPER_PROMPTS = "difftrack:cogvideox_t2v_2b/fg"
PAPER_IMAGES = "difftrack:cogvideox_i2v_2b/fg"
"""What models without a dataset of their own generate from, if it was imported."""
FOLDER = "folder"
VIDEO = "video"
DATA_WITH_PATH = {
    VIDEO: "video:clip.mp4",
    "prompts": "prompts:prompts.txt",
    FOLDER: "folder:built/my-dataset",
    "run": "run:runs/RUN",
    "difftrack": "difftrack:cogvideox_t2v_2b/fg",
    "davis17": "davis17:DAVIS",
    **{name: f"{name}:DIR" for name in TAPVID_DATASETS},
}
"""Datasets that take a path, as `--data NAME:PATH`, each with an example."""
_OWN_FILES = "For files of your own: --data clip.mp4, video:FOLDER, prompts:FILE, or the path of a dataset folder."
_WITHOUT_VIDEOS = (PROMPTS, "difftrack")


class ClipReader(CalledPart):
    """Calls into a dataset, checks what it returns, and keeps the clip that `look_ahead` read until the run needs it.

    The preflight reads a clip that the run then works on; if it were not kept, its video would be decoded twice. At
    most one clip is kept. It is handed over once, and is not pickled.

    All members raise a `PluginError` for what the dataset raises or wrongly returns.
    """

    def __init__(self, part: Part) -> None:
        super().__init__(part)
        with self._calling("split"):
            self.split = self.made.split
            if not isinstance(self.split, str):
                raise PluginError(f"split must be a text, got {show_value(self.split)}.")
        with self._calling("noise_draw"):
            self.noise_draw: NoiseDraw = self._optional.noise_draw
            if self.noise_draw not in get_args(NoiseDraw):
                raise PluginError(f"noise_draw must be 'clip' or 'shared', got {show_value(self.noise_draw)}.")
        self._ahead: Clip | None = None

    def ids(self) -> tuple[str, ...]:
        """Returns the ids of all clips."""
        with self._calling("ids()"):
            ids = tuple(_text(clip_id, "an id") for clip_id in self.made.ids())
            twice = next((clip_id for clip_id, count in Counter(ids).items() if count > 1), None)
            if twice is not None:
                raise PluginError(f"{self.name} names a clip twice: {show_value(twice)}.")
            return ids

    def look_ahead(self, clip_id: str) -> Clip:
        """Reads a clip and keeps it for the next call of `clip`. Raises what the dataset's own `clip` raises."""
        self._ahead = self.clip(clip_id)
        return self._ahead

    def clip(self, clip_id: str) -> Clip:
        """Returns the clip that was kept, or reads it. Raises what the dataset's own `clip` raises."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.id == clip_id:
            return ahead
        with self._calling("clip()"):
            found = self.made.clip(clip_id)
            if not isinstance(found, Clip):
                raise PluginError(f"clip() must return a vcorr.Clip, got {show_value(found)}.")
            clip = replace(found)  # its fields may have been changed after it was made; this checks them again
            if clip.id != clip_id:
                raise PluginError(f"clip() was called for {show_value(clip_id)} and returned {show_value(clip.id)}.")
            return clip

    def identity(self) -> dict[str, Any] | None:
        """Returns what identifies the dataset's files."""
        with self._calling("identity()"):
            found = self._optional.identity()
            return None if found is None else plain_identity(found, str(self.name))

    def origin(self) -> VideoOrigin | None:
        """Returns the run that generated the videos; None if no run of vcorr did."""
        with self._calling("origin()"):
            found = self._optional.origin()
            if found is not None and not isinstance(found, VideoOrigin):
                raise PluginError(f"origin() must return a VideoOrigin or None, got {show_value(found)}.")
            return found

    def check_files(self, clip_ids: Sequence[str]) -> None:
        """Checks the files of these clips. Raises what the dataset's own `check_files` raises."""
        with self._calling("check_files()"):
            self._optional.check_files(clip_ids)

    def notes(self, clip_id: str) -> list[str]:
        """Returns what the dataset says about a clip."""
        with self._calling("notes()"):
            found = self._optional.notes(clip_id)
            if isinstance(found, str):
                raise PluginError("notes() must return a list of sentences, got one text.")
            return [_text(note, "a note") for note in found]

    def masks(self, clip: Clip) -> NDArray[np.uint8]:
        """Returns the labels of a clip's video, (T, H, W). Raises what the dataset's own `masks` raises."""
        with self._calling("masks()"):
            found = self._optional.masks(clip.id)
            shape = None if clip.video is None else clip.video.shape[:3]
            if not isinstance(found, np.ndarray) or found.dtype != np.uint8 or found.shape != shape:
                raise PluginError(f"masks() must return uint8 labels of shape {shape}, got {show_value(found)}.")
            return found

    @property
    def _optional(self) -> DatasetBase:
        return with_defaults(self.made, DatasetBase)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ahead": None}


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise PluginError(f"{name} of a dataset must be a text, got {show_value(value)}.")
    return value


def data_part(spec: RunSpec, model: Part, registry: Registry, *, needs_image: bool) -> Part:
    """Returns the dataset that the spec names, or the model's own one, with its options.

    needs_image: whether the model starts from an image.
    """
    own = model.entry.data if isinstance(model.entry, ModelEntry) else None
    return find_data(spec, registry, own, needs_image=needs_image)


def find_data(spec: RunSpec, registry: Registry, own: str | None = None, *, needs_image: bool = False) -> Part:
    """Returns the dataset that the spec names, with its options. own: the dataset of the model, if it has one.

    needs_image: whether the model starts from an image.
    """
    name, options = _data_name(spec, own, needs_image), dict(spec.options.get("data", {}))
    known = registry.datasets.names()
    if name not in known:
        name = _complete_path(name)
    if with_path := split_name(name, DATA_WITH_PATH):
        kind, path = with_path
        if not path:
            raise UsageError(f"--data {name} names no file.", hint=f"For example: --data {DATA_WITH_PATH[kind]}")
        name, options = kind, {"path": path, **options}
    if spec.prompt is not None:
        options = {"text": spec.prompt, **options}
    if name not in known:
        raise unknown_name("dataset", name, known, hint=f"Known datasets: {', '.join(known)}. {_OWN_FILES}")
    return make_part(registry.datasets.get(name), options, "data")


def _data_name(spec: RunSpec, own: str | None, needs_image: bool) -> str:
    if spec.prompt is not None:
        if spec.data is not None:
            raise UsageError("--prompt and --data exclude each other.", hint="A prompt is a dataset of one clip.")
        if not spec.prompt.strip():
            raise UsageError("The prompt is blank.", hint="Write a prompt, or leave out --prompt.")
        return PROMPTS
    if spec.data:
        return spec.data
    paper = PAPER_IMAGES if needs_image else PAPER_PROMPTS
    return next(name for name in (own, paper, PROMPTS) if name and is_within_reach(name))


def _complete_path(name: str) -> str:
    """Returns `--data` with its kind in front if it is only the path of a video or of a dataset folder."""
    if split_name(name, DATA_WITH_PATH):
        return name
    if is_video_name(name) and not os.path.isdir(name):
        return f"{VIDEO}:{name}"
    return f"{FOLDER}:{name}" if _is_path(name) else name


def _is_path(name: str) -> bool:
    """Returns whether `--data` names a folder. Names of datasets have no slash, and `NAME:PATH` is not a folder."""
    return ":" not in name and ("/" in name or os.sep in name or Path(name).is_dir())


def first_clip(dataset: ClipReader, clips: Sequence[str], known: Clip | None = None) -> Clip | None:
    """Returns the first of the clips that can be loaded, after checking the files of all of them.

    None if there is none: the clips then fail later in the run. known: the first one, if it need not be loaded; a clip
    with another id is of no use.

    Raises:
        PluginError, MissingError: the first clip, or the file of any clip, is not available.
        UsageError, StoreError: a file cannot be read, or does not hold what it should.
    """
    first = known if known is not None and (known.id,) == tuple(clips[:1]) else None
    for clip_id in clips if first is None else ():
        try:
            first = dataset.look_ahead(clip_id)
        except PartFailureError:
            continue
        except (PluginError, MissingError):
            raise
        except VcorrError:
            continue
        break
    dataset.check_files(clips)  # after `look_ahead`, so that a dataset need not open that file again
    return first


def usual_clip(data: Part) -> Clip | None:
    """Returns a clip that is like the clips of a dataset that is not in reach. None if nothing is known about them.

    Datasets of prompts have no videos, so the mode of the run is known without them.
    """
    if data.entry.name not in _WITHOUT_VIDEOS:
        return None
    return Clip(data.entry.name, "", np.zeros((0, 2), np.float32))


def check_limit(limit: int | None) -> None:
    """Raises UsageError if `limit` is not positive; None means all clips."""
    if limit is not None and limit < 1:
        raise UsageError(f"--limit must be at least 1, got {limit}.")


def choose_clips(dataset: ClipReader, limit: int | None, label: str) -> tuple[str, ...]:
    """Returns the ids of the first `limit` clips, or of all.

    Raises:
        UsageError: the dataset has no clips or one with a name that cannot be stored, or `limit` is not positive.
        PluginError: the dataset names a clip twice, or its ids are no texts.
    """
    check_limit(limit)
    ids = dataset.ids()
    if not ids:
        raise UsageError(f"{label} has no clips.")
    for clip_id in ids:
        if not is_unicode(clip_id):
            raise UsageError(
                f"{label}: the name of the clip {clip_id!a} is not UTF-8 text, and tables cannot hold it.",
                hint="Rename its file.",
            )
    return ids[:limit]


def check_image(model: Part, data: Part, first: Clip | None) -> None:
    """Checks that an image-to-video model gets an image, so that missing images are one error and not one per clip.

    Raises:
        MissingError: the first clip has no image.
    """
    if first is not None and first.video is None:
        raise MissingError(
            f"{model.entry.label} starts from an image, and {data.entry.label} has none.",
            hint=f"Choose data with images or videos, such as the images of the paper.\n{IMPORTS['difftrack']}",
        )


def data_identity(data: Part, dataset: ClipReader) -> dict[str, Any]:
    """Returns what identifies the dataset in a fingerprint. Files count by their content; their path is left out."""
    values = {**data.identity(), "split": dataset.split}
    content = dataset.identity()
    if content is not None:
        values["content"] = content
        paths = ("path", "image") if data.entry.name == PROMPTS else ("path",)
        values["config"] = {k: v for k, v in values["config"].items() if k not in paths}
    return values
