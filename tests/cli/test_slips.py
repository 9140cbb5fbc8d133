"""Likely slips of somebody new: the error says what to type."""

from __future__ import annotations

import json
from importlib import metadata

import pytest

from vcorr.cli import diagnosis
from vcorr.contract.entries import resolve
from vcorr.contract.errors import MissingError, PluginError


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("run sliding-model", "Write: --model sliding-model"),
        ("run sliding-model qk token-slide", "Write: --model sliding-model --probe qk --data token-slide"),
        ("run --model sliding-model clip.mp4", "Write: --data clip.mp4"),
        ("run own.yaml", "Write: --config own.yaml"),
        ("run --model sliding-model something", "Each word needs a flag in front: vcorr run --help"),
        ("run --model sliding-model --num_steps 20", "Write: --set num_steps=VALUE"),
        ("run --model sliding-model --num-steps 20", "Write: --set num_steps=VALUE"),
        ("run --model sliding-model --tracker lk", "Write: --set tracker=VALUE"),
        ("run --model sliding-model --probe qk --set heads=each", "Write: --set probe.heads=VALUE"),
        ("run --model sliding-model --probe qk --set moved=1", "Unknown --set key 'moved'. Did you mean 'data.moved'?"),
        ("run --model sliding-model --probe qk --set memory=8", "Did you mean 'executor.memory'?"),
        ("run --model sliding-model --probe qk --set chunk=2", "Did you mean 'track.chunk'?"),
        ("run --model sliding-model --probe qk --set size=big", "Write: --set model.size=VALUE"),
        ("run --model sliding-model --probe qk --set sed=1", "Unknown --set key 'sed'. Did you mean 'seed'?"),
        (
            "run --model sliding-model --probe qk --set zzz=1",
            "Options of a part begin with its kind, such as probe.z",
        ),
        (
            "run --model sliding-model --probe qk --set model.moved=1",
            "'model.moved'. Did you mean 'data.moved'?",
        ),
        (
            "run --model sliding-model --probe qk --set probe.moved=1",
            "'probe.moved'. Did you mean 'data.moved'?",
        ),
        ("run --model sliding-model --probe qk --set data.mved=1", "option 'data.mved'. Did you mean 'data.moved'?"),
        ("run --model sliding-model --probe qk --data folder-of-mine", "or the path of a dataset folder."),
        ("show sliding-model", "Write: vcorr show model sliding-model"),
        ("list modles", "Unknown kind 'modles'. Did you mean 'models'?"),
        ("show modle tiny", "Unknown kind 'modle'. Did you mean 'model'?"),
        ("show qk qk", "Write: vcorr show probe qk"),
        ("run --model qk --probe sliding-model", "'qk' is a probe, not a model."),
        ("run --model Slidingmodel --probe qk", "Did you mean 'sliding-model'?"),
    ],
)
def test_a_slip_is_an_error_with_what_to_type(vcorr, line, hint) -> None:
    ended = vcorr(*line.split())
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("Error: ")
    assert hint in ended.err


@pytest.mark.parametrize("line", ["run --model sliding-model", "board build", "board open", "plugin new vcorr-x"])
def test_a_folder_to_write_to_cannot_be_empty(vcorr, line) -> None:
    ended = vcorr(*line.split(), "--out", "")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "Error: --out is empty.\nName a folder, or '.' for this one.\n"


def test_a_folder_whose_name_is_too_long_is_an_error(vcorr) -> None:
    line = "run --model sliding-model --probe qk --data token-slide --layers 0 --steps 0 --limit 1 --out"
    ended = vcorr(*line.split(), "n" * 300)
    assert (ended.code, ended.out) == (2, "")
    assert "cannot be written: File name too long." in " ".join(ended.err.split())
    assert vcorr(*line.split(), "runs").code == 0
    ended = vcorr("board", "collect", "--results", "runs", "--out", "n" * 300)
    assert ended.code != 0
    assert "cannot be written: File name too long." in " ".join(ended.err.split())


def test_other_unknown_flags_get_the_nearest_one(vcorr) -> None:
    ended = vcorr("run", "--modl", "tiny")
    assert ended.code == 2
    assert "'--model'" in ended.err


@pytest.mark.parametrize("kind", ["model", "models"])
def test_a_kind_is_known_in_the_singular_and_in_the_plural(vcorr, kind) -> None:
    assert json.loads(vcorr("list", kind, "--json").out) == json.loads(vcorr("list", "models", "--json").out)
    assert json.loads(vcorr("show", kind, "sliding-model", "--json").out)["kind"] == "model"


def test_a_package_that_is_missing_is_named_with_the_command_that_gets_it(vcorr, monkeypatch) -> None:
    def lack():
        raise ModuleNotFoundError("No module named 'cv2'", name="cv2")

    monkeypatch.setattr(diagnosis, "examine", lack)
    ended = vcorr("doctor")
    assert ended.code == 4
    assert ended.err == (
        "Error: This command needs the package cv2, which is not installed.\npip install opencv-python-headless\n"
    )


def test_a_module_of_our_own_that_is_missing_is_a_bug_with_its_traceback(monkeypatch) -> None:
    from vcorr.cli.main import main

    def lack():
        raise ModuleNotFoundError("No module named 'vcorr.nothing'", name="vcorr.nothing")

    monkeypatch.setattr(diagnosis, "examine", lack)
    with pytest.raises(ModuleNotFoundError):
        main(["doctor"])


def test_a_part_that_needs_a_missing_package_is_no_broken_plugin(tmp_path, monkeypatch) -> None:
    (tmp_path / "part_with_needs.py").write_text("import not_installed_here.inside\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        MissingError, match=r"probe 'x' needs the package not_installed_here, which is not installed.\npip"
    ):
        resolve("part_with_needs:Probe", "probe 'x'")
    with pytest.raises(PluginError, match="cannot be imported"):
        resolve("part_that_is_nowhere:Probe", "probe 'x'")


def test_doctor_names_packages_that_are_missing_or_too_old(vcorr, monkeypatch) -> None:
    own = metadata.version

    def version(name: str) -> str:
        if name == "rich":
            raise metadata.PackageNotFoundError(name)
        return "0.1" if name == "pyarrow" else own(name)

    monkeypatch.setattr(metadata, "version", version)
    ended = vcorr("doctor", "--json")
    found = {each["what"]: each for each in json.loads(ended.out)}
    assert ended.code == 3
    assert (found["rich"]["ok"], found["pyarrow"]["ok"], found["torch"]["ok"]) == (False, False, True)
    assert found["rich"]["detail"].startswith("not installed; pip install 'rich>=")
    assert found["pyarrow"]["detail"].startswith("0.1, but vcorr needs >=")


def test_any_distribution_of_opencv_will_do(monkeypatch) -> None:
    class Installed:
        def __init__(self, name: str) -> None:
            self.metadata = {"Name": name}

    def version(name: str) -> str:
        if name != "opencv-contrib-python":
            raise metadata.PackageNotFoundError(name)
        return "4.11"

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "distributions", lambda: [Installed("opencv-contrib-python"), Installed("other")])
    assert diagnosis._version("opencv-python-headless") == "4.11"
    assert diagnosis._version("rich") is None
