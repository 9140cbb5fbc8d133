"""CONTRIBUTING.md explains the rooms as they are checked."""

from __future__ import annotations

import re

from support.pages import ROOT, read
from support.rooms import rooms_in_layers

ROW = re.compile(r"^\| `(\w+)` \| .+ \| (.+) \|$", re.MULTILINE)


def test_every_room_is_in_the_table_with_what_it_may_import() -> None:
    section = read(ROOT / "CONTRIBUTING.md").split("### The rooms\n")[1].split("\n### ")[0]
    assert ROW.findall(section) == rows_of_layers()


def rows_of_layers() -> list[tuple[str, str]]:
    """Returns each room with the cell that names the layer below it, from the top."""
    layers = rooms_in_layers()
    below = [", ".join(f"`{room}`" for room in layer) + " and below" for layer in layers[1:]]
    return [(room, cell) for layer, cell in zip(layers, [*below, "nothing of vcorr"], strict=True) for room in layer]


def test_folders_of_the_core_are_rooms() -> None:
    folders = {path.parent.name for path in (ROOT / "vcorr").glob("*/__init__.py")}
    assert folders == {room for layer in rooms_in_layers() for room in layer}
