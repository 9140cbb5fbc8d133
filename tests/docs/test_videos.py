"""docs/videos.md: its lists and numbers are the code's."""

from __future__ import annotations

import dataclasses
import inspect
import re

from support.pages import ROOT, read

import vcorr
from vcorr.data.dataset_options import VideoConfig
from vcorr.data.image_reader import FORMATS
from vcorr.data.video import (
    clock,
    colour,
    container,
    error_colours,
    orientation,
    track_drawing,
    video_info,
    video_reader,
)
from vcorr.data.video_names import SUFFIXES

PAGE = read(ROOT / "docs" / "videos.md")
TEXT = " ".join(PAGE.split())


def list_options() -> dict[str, str]:
    """Returns the defaults in the table of options, as they are written, by name."""
    table = PAGE.partition("## Options")[2].partition("## 1.")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) ?\| (.+) \|$", table, re.MULTILINE)
    assert all(len(what.split()) > 3 for _, _, what in rows)
    return {name: default.strip("`") for name, default, _ in rows}


def test_the_table_has_every_option_with_its_default() -> None:
    def write(value: object) -> str:
        return "" if value == "" else f"{value:g}" if isinstance(value, float) else str(value)

    defaults = {field.name: write(field.default) for field in dataclasses.fields(VideoConfig)}
    assert list(list_options()) == list(defaults)
    assert {name: text.replace('""', "") for name, text in list_options().items()} == defaults


def test_the_arguments_in_python_are_named() -> None:
    arguments = list(inspect.signature(vcorr.read_video).parameters)
    after = TEXT.partition("In Python, ")[2].partition("## 1.")[0]
    assert set(arguments) - {"path"} == set(re.findall(r"`(\w+)`", after)) - {"vcorr"}


def test_every_suffix_and_format_is_named() -> None:
    assert f"{', '.join(SUFFIXES[:-1])} and {SUFFIXES[-1]}" in TEXT
    assert f"{', '.join(FORMATS[:-1])} and {FORMATS[-1]}" in TEXT


def test_the_numbers_are_the_ones_of_the_code() -> None:
    assert video_reader.MEMORY == 1 << 30 and "1 GiB" in TEXT  # noqa: PT018  # the page says it in words
    assert f"a gap of more than {clock.JUMP:g} s that is also longer than ten frames" in TEXT
    assert clock.JUMP_FRAMES == 10
    assert f"{clock.ASSUMED_FPS:g} frames per second are assumed" in TEXT
    side = round(container.MOST_PIXELS**0.5)
    assert f"more than {container.MOST_PIXELS / 1e6:.0f} million pixels ({side} x {side})" in TEXT
    assert f"fewer than {track_drawing.READABLE_SIDE} pixels" in TEXT
    assert f"{error_colours.STRIDES:g} token strides or more" in TEXT
    assert f"at most {track_drawing.Drawing().max_points}" in TEXT


def list_notes() -> list[str]:
    """Returns the longest part without a variable of every note that the reader can give."""
    sources = "".join(map(inspect.getsource, (video_reader, video_info, clock, colour, orientation, container)))
    calls = r'(?:yield|append\(|facts\[|ClockError\(|unusable=|choice = \()\s*f?"([^"]{12,})"'
    return [max(re.split(r"\{[^}]*\}", text), key=len).strip(" ;:") for text in re.findall(calls, sources)]


def test_every_note_is_explained() -> None:
    notes = list_notes()
    assert len(notes) >= 22
    table = TEXT.partition("## Notes")[2]
    assert [note for note in notes if note.strip(" (") not in table] == []
