"""What a call changes for the whole process is set back and listed."""

from __future__ import annotations

import locale
import os
import random
import sys
import warnings

import numpy as np
import pytest
import torch

from vcorr.plugins.process_state import keep_settings

CHANGES = {
    "torch's default dtype": lambda: torch.set_default_dtype(torch.float16),
    "torch's default device": lambda: torch.set_default_device("meta"),
    "torch's deterministic algorithms": lambda: torch.use_deterministic_algorithms(True),
    "torch's product precision": lambda: torch.set_float32_matmul_precision("medium"),
    "torch's TF32 of convolutions": lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
    "the locale": lambda: locale.setlocale(locale.LC_NUMERIC, "C.UTF-8"),
    "environment variables": lambda: os.environ.pop("PATH"),
    "sys.path": lambda: sys.path.clear(),  # noqa: PLW0108  # the list may be exchanged after this line
    "the filters of warnings": lambda: warnings.filterwarnings("ignore", message="nothing"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_listed_and_set_back(name: str) -> None:
    with keep_settings() as changed:
        CHANGES[name]()
    assert changed == [name]
    with keep_settings() as changed:
        pass
    assert changed == []


def test_a_change_is_set_back_when_the_call_raises() -> None:
    seen: list[str] = []

    def call() -> None:
        nonlocal seen
        with keep_settings() as seen:
            torch.set_grad_enabled(False)
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        call()
    assert torch.is_grad_enabled()
    assert seen == ["torch's grad mode"]


def test_generators_go_on_as_if_the_call_had_not_drawn() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(()))

    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = draw()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    with keep_settings() as changed:
        draw()
    assert (draw(), changed) == (expected, [])


def test_a_folder_that_was_deleted_is_no_error(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    inner = tmp_path / "inner"
    inner.mkdir()
    with keep_settings() as changed:
        os.chdir(inner)
        inner.rmdir()
    assert os.getcwd() == str(tmp_path)
    assert changed == ["the working folder"]


def test_packages_may_set_variables_while_they_are_imported(tmp_path, monkeypatch) -> None:
    (tmp_path / "sets_a_variable.py").write_text("import os\nos.environ['SET_BY_A_PACKAGE'] = '1'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SET_BY_A_PACKAGE", "0")
    with keep_settings() as changed:
        import sets_a_variable  # noqa: F401
    assert (changed, os.environ["SET_BY_A_PACKAGE"]) == ([], "1")


def test_a_folder_that_is_gone_does_not_stop_the_rest(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def leave() -> None:
        os.chdir("/")
        folder.rmdir()
        torch.set_grad_enabled(False)

    with keep_settings() as changed:
        leave()
    assert "torch's grad mode" in changed
    assert torch.is_grad_enabled()
