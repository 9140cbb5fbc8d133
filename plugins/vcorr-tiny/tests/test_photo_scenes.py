"""Tests the dataset `photos`: real pictures move as the tracks say, and every split has its own pictures."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from vcorr_tiny.dataset import Sprites, SpritesConfig
from vcorr_tiny.photo_scenes import Photos, PhotosConfig
from vcorr_tiny.photos import reading
from vcorr_tiny.photos.photographs import PHOTOGRAPHS, photographs_of
from vcorr_tiny.photos.reading import pictures_of
from vcorr_tiny.plugin import vcorr_datasets
from vcorr_tiny.sprites.clips import scene
from vcorr_tiny.sprites.level_names import LEVEL_NAMES
from vcorr_tiny.sprites.levels import LEVELS
from vcorr_tiny.sprites.pictures import Pictures, hash_image
from vcorr_tiny.sprites.split_names import SPLITS

from vcorr import MissingError, UsageError
from vcorr.cli import main as program
from vcorr.testing import assert_passed, check_dataset

SMALL = {"grid": 4, "size": 32, "frames": 5, "clips": 2}


def test_the_dataset_passes_the_contract() -> None:
    entry = next(entry for entry in vcorr_datasets() if entry.name == "photos")
    assert_passed(check_dataset(entry, config=PhotosConfig(**SMALL)))


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_is_cut_from_its_own_photographs_alone(split: str) -> None:
    dataset = Photos(PhotosConfig(**SMALL, split=split))
    own = {photograph.name: photograph.sha256 for photograph in photographs_of(split)}
    used = {name: hash_image(image) for name, image in dataset.pictures().images.items()}
    assert used == own
    assert dataset.identity() == {"pictures": own}
    assert not set(used.values()) & {each.sha256 for each in PHOTOGRAPHS if each.split != split}


def test_a_clip_has_the_textures_of_its_bank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renders with a bank of one black picture: nothing bright is left, so nothing else is used as a texture."""
    bank = Pictures({"black": torch.zeros(64, 64, 3, dtype=torch.uint8)}, "test")
    monkeypatch.setattr("vcorr_tiny.photo_scenes.pictures_of", lambda split: bank)
    assert Photos(PhotosConfig(**SMALL, level="clean")).clip("test-0000").video.max() == 0


def test_the_scenes_are_those_of_sprites_with_other_textures() -> None:
    photo = Photos(PhotosConfig(**SMALL, level="clean")).clip("test-0001")
    drawn = Sprites(SpritesConfig(**SMALL, level="clean")).clip("test-0001")
    assert np.array_equal(photo.queries.xy, drawn.queries.xy)
    assert np.array_equal(photo.tracks.xy, drawn.tracks.xy)
    assert np.array_equal(photo.tracks.visible, drawn.tracks.visible)
    assert not np.array_equal(photo.video, drawn.video)


def test_the_default_level_is_hard() -> None:
    default = Photos(PhotosConfig(**SMALL)).clip("test-0000")
    hard = Photos(PhotosConfig(**SMALL, level="hard")).clip("test-0000")
    clean = Photos(PhotosConfig(**SMALL, level="clean")).clip("test-0000")
    assert np.array_equal(default.video, hard.video)
    assert not np.array_equal(default.video, clean.video)


def test_the_page_of_datasets_lists_every_level() -> None:
    page = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert [name for name in LEVEL_NAMES if f"| `{name}` | {LEVELS[name].summary} |" not in page] == []


@pytest.mark.parametrize("level", LEVEL_NAMES)
def test_every_level_has_photographs(level: str) -> None:
    clip = Photos(PhotosConfig(**SMALL, level=level)).clip("test-0000")
    assert clip.video.shape == (5, 32, 32, 3)
    assert clip.video.std() > 5
    assert " photo " in clip.prompt


def colours_at(video: torch.Tensor, xy: torch.Tensor) -> torch.Tensor:
    """Returns the colours (N, T, 3) of a video (3, T, S, S) at pixel positions (N, T, 2), bilinear between centres."""
    where = (xy.transpose(0, 1) / video.shape[-1] * 2 - 1)[:, :, None]
    found = torch.nn.functional.grid_sample(video.transpose(0, 1), where, padding_mode="border", align_corners=False)
    return found[..., 0].permute(2, 0, 1)


@pytest.mark.parametrize("level", ["clean", "fast", "warp", "twins", "vanish"])
def test_a_photograph_moves_as_its_tracks_say(level: str) -> None:
    """Compares colours along the tracks with those at a standstill, without the light that changes them."""
    errors = []
    for index in range(4):
        drawn = scene("test", index, 128, 9, level=level, pictures=pictures_of("test"))
        drawn.light.amplitude.zero_()
        axis = torch.arange(6.0, 128, 8)
        points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)
        tracks = drawn.tracks(points)
        near_edge = drawn.boundary_distances(points)[0] < 3
        seen = tracks.visible[0] & ~near_edge[:, None]
        video = drawn.render()[0]
        along, still = (colours_at(video, xy) for xy in (tracks.xy[0], points[:, None].expand(-1, 9, -1)))
        moved = seen & ((tracks.xy[0] - points[:, None]).norm(dim=-1) > 4)
        errors.append([((each - each[:, :1]).abs().mean(-1)[moved]).mean() for each in (along, still)])
    followed, stayed = torch.tensor(errors).nanmean(0)
    assert followed < 0.06
    assert followed < stayed / 4


@pytest.mark.parametrize(
    ("options", "message"), [({"level": "harder"}, "level of photos"), ({"split": "dev"}, "split of photos")]
)
def test_an_unknown_name_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Photos(dataclasses.replace(PhotosConfig(), **options))


def test_without_scikit_image_a_run_names_the_extra(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(reading, "find_spec", lambda name: None)
    pictures_of.cache_clear()
    with pytest.raises(SystemExit) as ended:
        program.main(["run", "--model", "token-patches", "--data", "photos", "--limit", "1", "--out", str(tmp_path)])
    assert ended.value.code == MissingError.exit_code
    assert 'pip install "vcorr-tiny[photos]"' in capsys.readouterr().err
