"""The data of a run: what `--data` means, which clips of it, and what of it goes into the fingerprint."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vcorr.contract.bases import DatasetBase, with_defaults
from vcorr.contract.entries import ModelEntry
from vcorr.contract.errors import MissingError, PluginError, UsageError
from vcorr.contract.protocols import Dataset
from vcorr.contract.records import Clip
from vcorr.data.dataset_home import IMPORTS, is_within_reach, split_name
from vcorr.plugins.registry import Registry
from vcorr.runner.parts import Part, make_part
from vcorr.runner.spec import RunSpec
from vcorr.store.fingerprint import plain

PROMPTS = "prompts"
PAPER_PROMPTS = "difftrack:cogvideox_t2v_2b/fg"
PAPER_IMAGES = "difftrack:cogvideox_i2v_2b/fg"
"""What models without data of their own generate from, once it is imported."""
FOLDER = "folder"
DATA_WITH_PATH = {
    "video": "video:clip.mp4",
    "prompts": "prompts:prompts.txt",
    FOLDER: "folder:built/my-dataset",
    "difftrack": "difftrack:cogvideox_t2v_2b/fg",
}
"""Datasets that `--data NAME:PATH` gives a path, with an example."""


class ClipReader(DatasetBase):
    """A dataset that keeps the clip which was looked at ahead, until the run reads it.

    The preflight looks at a clip that the run then works on; without this its video would be decoded for both. At most
    one clip is held. It is handed over once, and is not pickled.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.split = dataset.split
        self._dataset = dataset
        self._ahead: Clip | None = None

    def ids(self) -> Sequence[str]:
        """Returns the ids of all clips."""
        return self._dataset.ids()

    def look_ahead(self, clip_id: str) -> Clip:
        """Reads a clip and keeps it for the next `clip`. Raises as the dataset's own `clip`."""
        self._ahead = self.clip(clip_id)
        return self._ahead

    def clip(self, clip_id: str) -> Clip:
        """Returns a clip: the one that was kept, or read anew. Raises as the dataset's own `clip`."""
        ahead, self._ahead = self._ahead, None
        return ahead if ahead is not None and ahead.id == clip_id else self._dataset.clip(clip_id)

    def identity(self) -> Mapping[str, Any] | None:
        """Returns what identifies the dataset's files."""
        return with_defaults(self._dataset, DatasetBase).identity()

    def check_files(self, clip_ids: Sequence[str]) -> None:
        """Checks the files behind these clips. Raises as the dataset's own `check_files`."""
        with_defaults(self._dataset, DatasetBase).check_files(clip_ids)

    def notes(self, clip_id: str) -> Sequence[str]:
        """Returns what the dataset says about a clip."""
        return with_defaults(self._dataset, DatasetBase).notes(clip_id)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ahead": None}


def data_part(spec: RunSpec, model: Part, registry: Registry, *, needs_image: bool) -> Part:
    """The dataset with its options: the one asked for, or the model's own.

    needs_image: whether the model starts from an image.
    """
    assert isinstance(model.entry, ModelEntry)
    name, options = _data_name(spec, model.entry, needs_image), dict(spec.options.get("data", {}))
    if name not in registry.datasets.names() and _is_path(name):
        name = f"{FOLDER}:{name}"
    if with_path := split_name(name, DATA_WITH_PATH):
        kind, path = with_path
        if not path:
            raise UsageError(f"--data {name} names no file.", hint=f"For example: --data {DATA_WITH_PATH[kind]}")
        name, options = kind, {"path": path, **options}
    if spec.prompt is not None:
        options = {"text": spec.prompt, **options}
    return make_part(registry.datasets.get(name), options, "data")


def _data_name(spec: RunSpec, entry: ModelEntry, needs_image: bool) -> str:
    if spec.prompt is not None:
        if spec.data is not None:
            raise UsageError("--prompt and --data exclude each other.", hint="A prompt is a dataset of one clip.")
        return PROMPTS
    if spec.data:
        return spec.data
    paper = PAPER_IMAGES if needs_image else PAPER_PROMPTS
    return next(name for name in (entry.data, paper, PROMPTS) if name and is_within_reach(name))


def _is_path(name: str) -> bool:
    """Whether `--data` means a folder: names of datasets hold no slash, and what comes after a colon is no folder."""
    return ":" not in name and ("/" in name or os.sep in name or Path(name).is_dir())


def first_clip(dataset: ClipReader, clips: Sequence[str]) -> Clip | None:
    """Returns the first of the clips, after checking the files of all of them.

    None where it cannot be loaded: then it will fail as a clip, and the others may not.

    Raises:
        PluginError, MissingError: the first clip, or the file of any, cannot be had.
        UsageError, StoreError: a file cannot be read, or holds something else than it should.
    """
    try:
        first = dataset.look_ahead(clips[0])
    except (PluginError, MissingError):
        raise
    except Exception:
        first = None
    dataset.check_files(clips)  # after the look ahead, so that a dataset need not open that file again
    return first


def choose_clips(dataset: Dataset, limit: int | None, label: str) -> tuple[str, ...]:
    """The ids of the clips to run.

    Raises:
        UsageError: there is none, or `limit` is not positive.
        PluginError: the dataset names one twice.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit must be at least 1, got {limit}.")
    ids = tuple(dataset.ids())
    if not ids:
        raise UsageError(f"{label} has no clips.")
    if len(set(ids)) != len(ids):
        raise PluginError(f"{label} names a clip twice.")
    return ids[:limit]


def check_image(model: Part, data: Part, first: Clip | None) -> None:
    """What an image-to-video model cannot start from is one error, not a failure a clip.

    Raises:
        MissingError: the first clip has no image.
    """
    if first is not None and first.video is None:
        raise MissingError(
            f"{model.entry.label} starts from an image, and {data.entry.label} has none.",
            hint=f"Choose data with images or videos; the paper's are some.\n{IMPORTS['difftrack']}",
        )


def data_identity(data: Part, dataset: ClipReader) -> dict[str, Any]:
    """A dataset's part of the fingerprint. Files are known by their contents, wherever they lie."""
    values = {**data.identity(), "split": dataset.split}
    content = dataset.identity()
    if content is not None:
        values["content"] = plain(content)
        values["config"] = {k: v for k, v in values["config"].items() if k != "path"}
    return values
