"""Every command on the page of a model is one that the model can run: a dry run of it finds weights missing at most."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from support.videos import numbered, write

from vcorr.analysis import estimate
from vcorr.cli.commands.list_command import describe
from vcorr.cli.main import main
from vcorr.plugins.registry import installed
from vcorr.plugins.suggestions import CLIP

PAGES = sorted((Path(__file__).resolve().parents[2] / "docs" / "models").glob("*.md"))
FRAMES = 170
"""Frames of the clip: more than any model reads."""
MAY_LACK = {"weights", "package"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes a folder with the video that the commands name."""
    found = tmp_path_factory.mktemp("commands")
    write(found / CLIP, numbered(FRAMES, 32, 48) % 250)
    return found


@pytest.fixture
def say_plan(folder, monkeypatch, capsys):
    """Runs a command as a dry run in that folder, without the speed test; returns what it prints as JSON."""
    sizeless = estimate.Estimate(None, False, estimate.Work(1, 1, 1, 0, 0), 1, None, None, None)
    monkeypatch.setattr(estimate, "estimate", lambda plan, out: sizeless)
    monkeypatch.setenv("HF_HUB_CACHE", str(folder / "no-cache"))
    monkeypatch.chdir(folder)

    def run(command: str) -> dict[str, object]:
        with pytest.raises(SystemExit) as ended:
            main([*shlex.split(command)[1:], "--dry-run", "--json"])
        out, err = capsys.readouterr()
        assert ended.value.code == 0, err
        found: dict[str, object] = json.loads(out)
        return found

    return run


def commands_of(page: Path) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("vcorr run")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_suit_the_model(page, say_plan) -> None:
    commands = commands_of(page)
    assert commands
    for command in commands:
        found = say_plan(command)
        assert found["model"] == page.stem
        lacking = {gap["kind"] for gap in found["missing"]}
        assert lacking <= MAY_LACK | ({"data"} if "--data difftrack:" in command else set()), found["missing"]


def test_show_names_the_commands_of_the_page() -> None:
    for page in PAGES:
        assert list(describe("model", page.stem)["commands"].values()) == commands_of(page)


def test_models_are_asked_for_what_they_take() -> None:
    for registered in installed().models.all():
        entry = registered.entry
        commands = " ".join(describe("model", entry.name)["commands"].values())
        if entry.takes:  # it stands for many models
            assert f"--model {entry.name}:{entry.takes.upper()}" in commands
            continue
        adapter = entry.create()
        assert ("--probe" in commands) == bool(adapter.sites())
        if getattr(adapter, "needs_image", False):
            assert "--prompt" not in commands
            assert f"--data video:{CLIP} --mode generate" in commands
        elif "generate" not in getattr(adapter, "modes", ()):
            assert "--prompt" not in commands
            assert "--mode generate" not in commands
