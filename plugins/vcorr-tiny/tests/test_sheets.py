"""Titles above strips of frames that were drawn without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vcorr_tiny.training.sheets import LINE, MARGIN, title_strips

from vcorr import StoreError
from vcorr.studies.guidance_page import write_png

COLOURS = ((200, 30, 30), (30, 160, 60))


@pytest.fixture
def strips(tmp_path: Path) -> Path:
    """Returns a picture of two strips of 20 x 90 pixels. Ten white lines part them; one is in the second."""
    picture = np.full((50, 90, 3), 255, np.uint8)
    picture[:20], picture[30:] = COLOURS
    picture[40] = 255
    write_png(tmp_path / "strips.png", picture)
    return tmp_path / "strips.png"


def test_each_strip_stands_under_its_title(strips: Path, tmp_path: Path) -> None:
    title_strips(strips, ["none", "cag, layer 8"], tmp_path / "docs" / "titled.png")
    with Image.open(tmp_path / "docs" / "titled.png") as image:
        shown = np.asarray(image.convert("RGB")).astype(int)
    assert shown.shape == (2 * (LINE + 20 + MARGIN), 90, 3)
    for number, colour in enumerate(COLOURS):
        top = number * (LINE + 20 + MARGIN)
        assert shown[top : top + LINE].min() < 20, "black text"
        assert np.abs(shown[top + LINE : top + LINE + 10] - colour).max() < 8
    assert shown[-MARGIN - 10].min() > 240, "a white line within a strip stays"


@pytest.mark.parametrize("titles", [["none"], ["none", "cag", "pag"]])
def test_titles_of_another_number_are_refused(strips: Path, titles: list[str], tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"2 strips, and the study has {len(titles)}"):
        title_strips(strips, titles, tmp_path / "titled.png")
    assert not (tmp_path / "titled.png").exists()
