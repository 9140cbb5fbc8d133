"""The datasets `tapvid-davis`, `tapvid-kinetics`, `tapvid-rgb-stacking` and `robotap`: imported sets of TAP-Vid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from vcorr.contract.errors import MissingError, UsageError
from vcorr.contract.records import Clip
from vcorr.contract.text_files import expand_home
from vcorr.contract.visible_text import join_words
from vcorr.data.dataset_folder import DATA
from vcorr.data.dataset_home import RECORD, explain_import, imports_folder
from vcorr.data.dataset_options import FolderConfig, TapVidConfig
from vcorr.data.stored_dataset import StoredDataset
from vcorr.data.tap_queries import choose_tap_queries, move_inside
from vcorr.data.tapvid_import import SPLIT
from vcorr.data.tapvid_sets import KIND, SETS, TapVidSet


class TapVidDataset(StoredDataset):
    """The clips of an imported set, asked for as the option `queries` says.

    Attributes: source, which set it is.

    Raises:
        MissingError: the set is not imported.
        UsageError: the path holds the published files or another set; also as `StoredDataset`.
    """

    source: ClassVar[TapVidSet]

    def __init__(self, config: TapVidConfig) -> None:
        super().__init__(FolderConfig(path=str(find_set_folder(config.path, self.source))))
        self._mode, self._record = config.queries, self._folder.record()
        if (self._record.get("kind"), self._record.get("set")) != (KIND, self.source.name):
            found = self._record.get("name", "other data")
            raise UsageError(
                f"{self._folder.path} does not hold {self.source.dataset}, but {found}.",
                hint=explain_import(self.source.dataset),
            )
        self.split = SPLIT

    def clip(self, clip_id: str) -> Clip:
        """Returns the clip with its queries in the chosen mode, each with the reference for it. Raises as its base."""
        clip = super().clip(clip_id)
        assert clip.tracks is not None
        assert clip.video is not None
        asked = move_inside(choose_tap_queries(clip.tracks, self._mode), *clip.video.shape[1:3])
        return replace(clip, queries=asked.queries, tracks=asked.tracks, query_mode=self._mode)

    def identity(self) -> Mapping[str, Any]:
        """Returns the content of every clip as a hash, and how the frames of the source were resized."""
        return {**super().identity(), "resize": self._record.get("resize")}


def find_set_folder(path: str, source: TapVidSet) -> Path:
    """Returns the folder of an imported set.

    Args:
        path: the folder, or a folder in which it has its own name; "" for the place of imported sets.
        source: the set.

    Raises:
        MissingError: there is no such folder.
        UsageError: the path holds the published files.
    """
    place = expand_home(path) if path else imports_folder(KIND)
    for folder in (place, place / source.name):
        if (folder / DATA).is_dir() or (folder / RECORD).is_file():
            return folder
    if place.is_file() or (path and any(place.glob("*.pkl"))):
        raise UsageError(
            f"{place} holds the published files of {source.dataset}, which are imported once and then read.",
            hint=f"Import them: {join_words(['vcorr', 'dataset', 'import', KIND, str(place), '--name', source.name])}",
        )
    where = f"{place} holds no imported set" if path else f"The dataset {source.dataset} is not imported"
    raise MissingError(f"{where}.", hint=explain_import(source.dataset))


class Davis(TapVidDataset):
    """TAP-Vid-DAVIS."""

    source = SETS["davis"]


class Kinetics(TapVidDataset):
    """TAP-Vid-Kinetics."""

    source = SETS["kinetics"]


class RgbStacking(TapVidDataset):
    """TAP-Vid-RGB-Stacking."""

    source = SETS["rgb-stacking"]


class RoboTap(TapVidDataset):
    """RoboTAP."""

    source = SETS["robotap"]
