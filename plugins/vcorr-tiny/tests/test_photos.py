"""Tests the bank of photographs: its splits share no picture, its file is checked, and its crops are windows of it."""

import itertools
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from vcorr_tiny import train
from vcorr_tiny.photos import reading
from vcorr_tiny.photos.__main__ import main
from vcorr_tiny.photos.photographs import PHOTOGRAPHS, photographs_of
from vcorr_tiny.photos.reading import pictures_of
from vcorr_tiny.sprites.draws import Draws
from vcorr_tiny.sprites.pictures import Pictures, hash_image
from vcorr_tiny.sprites.split_names import SPLITS

from vcorr import MissingError, UsageError


def draws(seed: int = 0) -> Draws:
    return Draws(torch.Generator().manual_seed(seed))


def ramp(height: int, width: int, blue: int = 0) -> Tensor:
    """Returns a picture (H, W, 3) whose red is x and whose green is y, in pixels of at most 255."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y, torch.full_like(x, blue)], -1).to(torch.uint8)


def export(path: Path, split: str) -> Path:
    assert main(["export", str(path), "--split", split]) == 0
    return path


def test_every_photograph_has_one_split_a_source_and_a_licence() -> None:
    names = [photograph.name for photograph in PHOTOGRAPHS]
    assert len(set(names)) == len(names)
    assert sum(len(photographs_of(split)) for split in SPLITS) == len(names)
    assert len({photograph.file for photograph in PHOTOGRAPHS}) == len(names)
    assert all(photograph.source and photograph.licence and photograph.shows for photograph in PHOTOGRAPHS)


def test_the_page_of_licences_lists_every_photograph() -> None:
    page = (Path(__file__).parents[3] / "docs" / "licences.md").read_text(encoding="utf-8")
    for each in PHOTOGRAPHS:
        assert f"| `{each.name}` | {each.shows} | {each.source} | {each.licence} | {each.split} |" in page


def test_no_two_splits_share_a_picture() -> None:
    """Compares by hash, and by correlation of small copies, which also finds a scaled or brightened picture."""
    hashes, thumbnails = {}, []
    for split in SPLITS:
        for image in pictures_of(split).images.values():
            assert hashes.setdefault(hash_image(image), split) == split
            small = torch.nn.functional.interpolate(image.permute(2, 0, 1)[None].float(), (24, 24), mode="area")
            thumbnails.append((split, small.mean(1).flatten()))
    for (split, one), (other, two) in itertools.combinations(thumbnails, 2):
        if split != other:
            assert torch.corrcoef(torch.stack([one, two]))[0, 1] < 0.9


def test_the_exported_training_bank_holds_no_picture_of_another_split(tmp_path: Path) -> None:
    bank = Pictures.load(export(tmp_path / "bank.safetensors", "train"))
    held = {hash_image(image) for image in bank.images.values()}
    others = [photograph for photograph in PHOTOGRAPHS if photograph.split != "train"]
    assert set(bank.names) == {photograph.name for photograph in photographs_of("train")}
    assert not held & {photograph.sha256 for photograph in others}


def test_a_saved_bank_makes_the_same_crops(tmp_path: Path) -> None:
    bank = pictures_of("validation")
    again = Pictures.load(export(tmp_path / "bank.safetensors", "validation"), split="validation")
    assert again.names == bank.names
    assert torch.equal(again.crops(draws(), 4, 32), bank.crops(draws(), 4, 32))


@pytest.mark.parametrize("split", ["test", "validation"])
def test_training_refuses_a_bank_of_another_split(tmp_path: Path, split: str) -> None:
    path = export(tmp_path / "bank.safetensors", split)
    with pytest.raises(UsageError, match=f"of the split {split}, but train was asked for"):
        Pictures.load(path)


def test_the_command_that_trains_refuses_a_bank_of_test_pictures(tmp_path: Path) -> None:
    path = export(tmp_path / "bank.safetensors", "test")
    with pytest.raises(UsageError, match="a photograph of the split test, but train was asked for"):
        train.main(["run", "--small", "--device", "cpu", "--out", str(tmp_path), "--pictures", str(path)])
    assert not list(tmp_path.glob("state/*"))


def test_training_refuses_a_test_picture_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "bank.safetensors"
    images = dict(pictures_of("train").images)
    images["grass"] = pictures_of("test").images["gravel"]
    Pictures(images, "train").save(path)
    with pytest.raises(UsageError, match=r"pixels of 'grass' in .* are not the ones"):
        Pictures.load(path)


def test_a_file_that_is_no_bank_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="There is no file"):
        Pictures.load(tmp_path / "none.safetensors")
    broken, other, stranger = (tmp_path / name for name in ("broken", "other", "stranger"))
    broken.write_bytes(b"no safetensors")
    with pytest.raises(UsageError, match="cannot be read"):
        Pictures.load(broken)
    save_file({"weight": torch.zeros(2)}, other)
    with pytest.raises(UsageError, match="is no file of pictures"):
        Pictures.load(other)
    Pictures({"holiday": ramp(64, 64)}, "train").save(stranger)
    with pytest.raises(UsageError, match="'holiday', which is no photograph of vcorr-tiny"):
        Pictures.load(stranger)


def test_the_file_holds_uint8_pictures_and_their_names(tmp_path: Path) -> None:
    tensors = load_file(export(tmp_path / "bank.safetensors", "test"))
    assert set(tensors) == {photograph.name for photograph in photographs_of("test")}
    assert all(tensor.dtype == torch.uint8 for tensor in tensors.values())


def test_a_bank_that_cannot_be_written_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path / "no" / "bank.safetensors")]) == UsageError.exit_code
    assert "bank.safetensors cannot be written" in capsys.readouterr().err


def test_without_scikit_image_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(reading, "find_spec", lambda name: None)
    pictures_of.cache_clear()
    assert main(["export", "bank.safetensors"]) == MissingError.exit_code
    assert 'pip install "vcorr-tiny[photos]"' in capsys.readouterr().err


def test_a_changed_file_of_scikit_image_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (512, 512)).save(tmp_path / "grass.png")
    monkeypatch.setattr(reading, "data_file", lambda file: tmp_path / file)
    grass = next(photograph for photograph in PHOTOGRAPHS if photograph.name == "grass")
    with pytest.raises(MissingError, match=r"grass\.png is not the file that vcorr-tiny lists"):
        reading.read(grass)


@pytest.mark.parametrize("kept", [0, 1, 9000], ids=["empty", "no picture", "truncated"])
def test_a_damaged_file_of_scikit_image_is_one_clear_error(
    kept: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = reading.data_file("grass.png").read_bytes()
    (tmp_path / "grass.png").write_bytes(whole[:kept])
    monkeypatch.setattr(reading, "data_file", lambda file: tmp_path / "grass.png")
    pictures_of.cache_clear()
    assert main(["export", str(tmp_path / "bank.safetensors")]) == MissingError.exit_code
    assert f"{tmp_path / 'grass.png'} cannot be read: " in capsys.readouterr().err


def test_a_finder_that_hides_scikit_image_is_the_same_as_its_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    def hide(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(reading, "find_spec", hide)
    with pytest.raises(MissingError, match="scikit-image, which is not installed"):
        reading.data_file("grass.png")


def test_crops_are_square_windows_at_any_angle_that_stay_inside() -> None:
    """Reads positions from the colours of a ramp: the texels of a crop must lie on a square grid inside the picture."""
    bank = Pictures({"ramp": ramp(200, 250)}, "train")
    crops = bank.crops(draws(), 64, 48) * 255
    x, y = crops[:, 0], crops[:, 1]
    across = torch.stack([x[:, 0, -1] - x[:, 0, 0], y[:, 0, -1] - y[:, 0, 0]], -1)
    along = torch.stack([x[:, -1, 0] - x[:, 0, 0], y[:, -1, 0] - y[:, 0, 0]], -1)
    assert torch.allclose(across.norm(dim=-1), along.norm(dim=-1), atol=0.5)
    assert (across * along).sum(-1).abs().max() < 0.02 * 250**2
    turn = across[:, 0] * along[:, 1] - across[:, 1] * along[:, 0]
    assert 0.25 < (turn > 0).float().mean() < 0.75, "half of the crops are mirrored"
    angles = torch.atan2(across[:, 1], across[:, 0])
    assert torch.histc(angles, 4, -math.pi, math.pi).min() > 4, "every quarter of the circle is drawn"
    assert across.norm(dim=-1).max() > 1.5 * across.norm(dim=-1).min(), "scales differ"
    middle = torch.stack([x[:, 23:25, 23:25].mean((1, 2)), y[:, 23:25, 23:25].mean((1, 2))], -1)
    corners = torch.stack([x[:, ::47, ::47].mean((1, 2)), y[:, ::47, ::47].mean((1, 2))], -1)
    assert (middle - corners).abs().max() < 0.6, "no crop was clamped at the border"


def test_every_picture_is_drawn_and_none_bleeds_into_another() -> None:
    bank = Pictures({str(blue): ramp(80 + blue, 90, blue) for blue in (0, 60, 120)}, "train")
    blue = bank.crops(draws(), 60, 16)[:, 2] * 255
    assert torch.allclose(blue.amin((1, 2)), blue.amax((1, 2)), atol=0.01)
    assert {round(float(value)) for value in blue.mean((1, 2))} == {0, 60, 120}


def test_a_crop_that_shrinks_its_window_averages_pixels() -> None:
    chess = (torch.arange(512)[:, None] + torch.arange(512)) % 2 * 255
    bank = Pictures({"chess": chess.to(torch.uint8)[..., None].repeat(1, 1, 3)}, "train")
    assert (bank.crops(draws(), 16, 16) - 0.5).abs().max() < 0.01


def test_the_same_draws_give_the_same_crops() -> None:
    bank = pictures_of("test")
    assert torch.equal(bank.crops(draws(3), 5, 32), bank.crops(draws(3), 5, 32))
    assert not torch.equal(bank.crops(draws(3), 5, 32), bank.crops(draws(4), 5, 32))


@pytest.mark.parametrize("image", [torch.zeros(63, 90, 3, dtype=torch.uint8), torch.zeros(90, 90, 3)])
def test_a_picture_that_cannot_be_cut_is_refused(image: Tensor) -> None:
    with pytest.raises(ValueError, match=r"picture 'small' must be uint8 \(H, W, 3\) of at least 64 pixels"):
        Pictures({"small": image}, "train")
