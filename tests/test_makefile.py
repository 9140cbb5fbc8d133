"""The Makefile: its help lists every target, and pre-commit runs the checks of `make check`."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
import yaml
from support.pages import ROOT, read

MAKEFILE = read(ROOT / "Makefile")


def run_make(*arguments: str) -> str:
    """Returns what make prints, also where `make test` runs the tests."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=ROOT, env=own, capture_output=True, text=True, check=True).stdout


def test_help_lists_every_target_in_a_line_of_its_own() -> None:
    (phony,) = re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)
    lines = [line.split(maxsplit=2) for line in run_make("help").splitlines()]
    assert sorted(target for _, target, _ in lines) == sorted(phony.split())
    assert {program for program, _, _ in lines} == {"make"}


def test_make_alone_is_help() -> None:
    assert run_make() == run_make("help")


def list_commands(target: str) -> list[str]:
    """Returns the commands of a target, as make would run them in a checkout with its virtual environment."""
    (recipe,) = re.findall(rf"^{target}:.*\n((?:\t.+\n)+)", MAKEFILE, re.MULTILINE)
    return [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()]


def list_hooks() -> list[dict[str, object]]:
    """Returns the hooks of pre-commit."""
    (repository,) = yaml.safe_load(read(ROOT / ".pre-commit-config.yaml"))["repos"]
    assert repository["repo"] == "local"
    return list(repository["hooks"])


def test_pre_commit_runs_the_checks_of_make() -> None:
    assert len(list_commands("check")) >= 4
    assert [hook["entry"] for hook in list_hooks()] == list_commands("check")


@pytest.mark.parametrize("hook", list_hooks(), ids=lambda hook: hook["id"])
def test_hooks_use_the_virtual_environment_and_the_whole_checkout(hook) -> None:
    assert str(hook["entry"]).startswith(".venv/bin/")
    assert hook["language"] == "system"
    assert hook["pass_filenames"] is False


def test_an_installation_says_what_it_installs_before_it_does(tmp_path) -> None:
    shown = run_make("--dry-run", f"VENV={tmp_path / 'venv'}", "demo").splitlines()
    said = [line for line in shown if line.startswith("echo ")]
    first_step = next(number for number, line in enumerate(shown) if " -m venv " in line)
    assert shown.index(said[0]) < first_step
    plugins = len(list((ROOT / "plugins").glob("*/pyproject.toml")))
    assert f"vcorr, {plugins} plugins, and their packages" in said[0]
    assert "PyTorch" in said[1]
