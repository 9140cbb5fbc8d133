"""docs/licences.md says what the installed wheels of PyAV and OpenCV bundle."""

from __future__ import annotations

import re
from importlib import metadata

import pytest
from av._core import library_meta
from support.pages import ROOT, read

PAGE = " ".join(read(ROOT / "docs" / "licences.md").split())
COPYLEFT = {"x264", "x265", "xvid", "postproc"}
"""Libraries under the GPL that FFmpeg may be built with."""


def bundled(package: str) -> set[str]:
    """Returns the libraries under the GPL among the files of an installed package."""
    files = [path.name for path in metadata.files(package) or ()]
    return {name for name in COPYLEFT for file in files if re.match(rf"lib{name}\b", file.replace("-", " "))}


def test_what_pyav_bundles_is_stated() -> None:
    found = bundled("av")
    assert found <= {"x264", "x265"}
    for name in found:
        assert f"`lib{name}`" in PAGE
        assert f"--enable-lib{name}" in library_meta["libavcodec"]["configuration"]
    assert f'"{library_meta["libavcodec"]["license"]}"' in PAGE


def test_opencv_bundles_nothing_under_the_gpl() -> None:
    assert bundled("opencv-python-headless") == set()


@pytest.mark.parametrize(("package", "licence"), [("av", "BSD-3-Clause"), ("opencv-python-headless", "Apache-2.0")])
def test_the_licences_of_the_packages_are_stated(package, licence) -> None:
    found = metadata.metadata(package)
    said = found["License-Expression"] or found["License"]
    assert said.replace(" ", "-") == licence
    assert re.search(rf"`{package}`\) \| {licence} \|", PAGE)
