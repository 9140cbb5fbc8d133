"""Holds the dataset `photos`: the scenes of `sprites`, with photographs as textures of every layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vcorr import option
from vcorr_tiny.dataset import RenderedScenes, SceneDataset, SpritesConfig
from vcorr_tiny.photos.photographs import photographs_of
from vcorr_tiny.photos.reading import pictures_of
from vcorr_tiny.sprites.level_names import HARD, LevelName
from vcorr_tiny.sprites.split_names import SplitName

if TYPE_CHECKING:
    from vcorr_tiny.sprites.pictures import Pictures


@dataclass(frozen=True, kw_only=True)
class PhotosConfig(SpritesConfig):
    """Options of `photos`."""

    split: SplitName = option(
        "test",
        "No two splits share a photograph or a seed. The embedded model was trained on neither validation nor test.",
    )
    level: LevelName = option(
        HARD,
        "Level of difficulty, as in sprites: hard has all faults, the others one each, clean and easy none.",
    )


class PhotoTextures(RenderedScenes[Any]):
    """Cuts all textures from the photographs of the split."""

    def identity(self) -> Mapping[str, Any]:
        """Returns the hash of the pixels of every photograph of the split."""
        return {"pictures": {photograph.name: photograph.sha256 for photograph in photographs_of(self.split)}}

    def check_files(self, clip_ids: Sequence[str]) -> None:
        """Reads the photographs of the split.

        Raises:
            MissingError: scikit-image is not installed, or a file is missing or is not the listed one.
        """
        self.pictures()

    def pictures(self) -> Pictures:
        """Returns the photographs of the split.

        Raises:
            MissingError: scikit-image is not installed, or a file is missing or is not the listed one.
        """
        return pictures_of(self.split)


class Photos(PhotoTextures, SceneDataset):
    """Clips of moving photographs that occlude each other; tracks and visibility are exact.

    Raises:
        UsageError: an option is out of range.
    """

    name = "photos"
