"""`vcorr plugin new`: names that can be, files that are all there or none at all."""

from __future__ import annotations

import tomllib

import pytest
from support import prose

from vcorr.authoring.scaffold import write
from vcorr.authoring.scaffold.names import KINDS, new_names
from vcorr.authoring.scaffold.write import write_plugin
from vcorr.contract.errors import StoreError, UsageError
from vcorr.plugins.registry import Registry, installed

NOBODY = Registry([])


@pytest.mark.parametrize(
    "name", ["", "vcorr-", "Vcorr-x", "vcorr_x", "vcorr-3d", "-x", "vcorr-a--b", "a/b", "../x", "vcorr-ü"]
)
def test_names_that_cannot_be_are_refused(name) -> None:
    with pytest.raises(UsageError, match=r"is not a name(.|\n)*For example: vcorr-my-model"):
        new_names(name, "model", NOBODY)


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("vcorr-class", "probe", "word of Python"),
        ("json", "probe", "imports something else as 'json'"),
        ("numpy", "metric", "vcorr-numpy-metric"),
        ("vcorr-zero-motion", "model", "taken by vcorr"),
    ],
)
def test_names_that_are_taken_are_refused(name, kind, said) -> None:
    with pytest.raises(UsageError, match=said):
        new_names(name, kind, installed())


def test_a_name_of_another_kind_is_free() -> None:
    assert new_names("vcorr-zero-motion", "probe", installed()).label == "ZeroMotion"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_complete_and_python(kind, tmp_path) -> None:
    folder = write_plugin(new_names("vcorr-some-thing", kind, NOBODY), tmp_path / "deep" / "er")
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    wanted = {"pyproject.toml", "README.md", "tests/test_some_thing.py", "vcorr_some_thing/__init__.py"}
    assert wanted | {"vcorr_some_thing/plugin.py", f"vcorr_some_thing/{kind}.py"} <= files
    readme = (folder / "README.md").read_text()
    assert {name for name in ("vcorr_some_thing/config.py",) if name in readme} == files & {
        "vcorr_some_thing/config.py"
    }
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"] == {"vcorr": {"some-thing": "vcorr_some_thing.plugin"}}
    for path in folder.rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert not {"{{", "{%"} & {text[i : i + 2] for i in range(len(text))}, path
            if path.suffix == ".py":
                compile(text, str(path), "exec")
                assert max(map(len, text.splitlines())) <= 120, path
    assert (folder.stat().st_mode & 0o777) == (tmp_path / "deep").stat().st_mode & 0o777


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_plain_english(kind, tmp_path) -> None:
    folder = write_plugin(new_names("vcorr-some-thing", kind, NOBODY), tmp_path)
    assert [fault for path in prose.files([folder]) for fault in prose.faults(path)] == []


def test_a_folder_that_exists_is_left_alone(tmp_path) -> None:
    (tmp_path / "vcorr-x").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        write_plugin(new_names("vcorr-x", "probe", NOBODY), tmp_path)
    assert list(tmp_path.rglob("*")) == [tmp_path / "vcorr-x"]


def test_nothing_is_left_of_what_could_not_be_written(tmp_path, monkeypatch) -> None:
    def full(files, folder) -> None:
        (folder / "half").write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "_write", full)
    with pytest.raises(StoreError, match=r"The disk is full: .*vcorr-x could not be written"):
        write_plugin(new_names("vcorr-x", "probe", NOBODY), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_comes_next(tmp_path) -> None:
    from click.testing import CliRunner

    from vcorr.cli.main import cli

    done = CliRunner().invoke(cli, ["plugin", "new", "vcorr-x", "--kind", "probe", "--out", str(tmp_path)])
    assert done.exit_code == 0
    assert f"pip install -e {tmp_path}/vcorr-x && vcorr plugin check vcorr-x" in done.output
