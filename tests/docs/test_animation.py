"""The animation of README: small enough, moving, and made by a command of the repository."""

from PIL import Image
from support.pages import ROOT, read

LARGEST = 1_000_000
PLACE = "docs/images/tracks.webp"


def test_readme_shows_an_animation_of_at_most_a_megabyte() -> None:
    assert f"({PLACE})" in read(ROOT / "README.md")
    assert f"docs/animate.py {PLACE}" in read(ROOT / "Makefile")
    assert (ROOT / PLACE).stat().st_size <= LARGEST
    with Image.open(ROOT / PLACE) as picture:
        frames = getattr(picture, "n_frames", 1)
        assert (picture.format, frames) == ("WEBP", 33)
        first = picture.convert("RGB").tobytes()
        picture.seek(frames - 1)
        assert picture.convert("RGB").tobytes() != first
