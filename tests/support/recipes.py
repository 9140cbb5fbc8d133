"""What the tests of plugins that ship recipes share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.difftrack import make_set
from vcorr.cli import main as program
from vcorr.data.dataset_home import imports_folder
from vcorr.data.difftrack_import import import_all
from vcorr.store.run_search import open_run


def import_sets(folder: Path, models: Iterable[str]) -> Path:
    """A home for `VCORR_HOME` in which fg and bg of the models of DiffTrack's dataset are imported, one clip each."""
    for model in models:
        for scenes in ("fg", "bg"):
            make_set(folder / "source", model, scenes, clips=1, images=int("i2v" in model))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VCORR_HOME", str(folder / "home"))
        list(import_all(folder / "source", imports_folder("difftrack")))
    return folder / "home"


class Shell:
    """Runs command lines in an empty folder; returns exit code, output and errors."""

    def __init__(self, home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("VCORR_HOME", str(home))
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            program.main(arguments)
        captured = self._capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err


def planned_passes(vcorr: Shell, name: str) -> int:
    """Forward passes of a recipe at full size with random weights, from a dry run."""
    code, out, err = vcorr("run", "--config", name, "--weights", "random", "--dry-run", "--json")
    assert (code, err) == (0, "")
    return int(json.loads(out)["forward_passes"])


def check_small_run(vcorr: Shell, name: str, data: str, sizes: Mapping[str, Any], layers: int) -> None:
    """Runs a recipe with random weights at the small sizes, two steps, nine frames; looks at what it left."""
    changes = [word for key, value in sizes.items() for word in ("--set", f"model.{key}={value}")]
    code, out, err = vcorr(
        "run", "--config", name, "--weights", "random", *changes, "--set", "num_steps=2", "--limit", "1", "--json"
    )
    assert code == 0, err
    run = open_run(Path(json.loads(out)["path"]))
    scores = run.read("scores").to_pylist()
    assert {(r["layer"], r["step"]) for r in scores} == {(n, step) for n in range(layers) for step in (0, 1)}
    assert {"matching_accuracy", "confidence_cross", "attention_cross"} <= {r["metric"] for r in scores}
    assert {r["probe"] for r in scores} == {"qk", "feature", "attention"}
    assert {r["variant"] for r in scores} == {"corrected", "difftrack"}
    assert {(r["dataset"], r["split"], r["status"]) for r in scores if r["metric"] == "matching_accuracy"} == {
        ("difftrack", data, "ok")
    }
    (tracks,) = run.read("tracks").to_pylist()
    assert (tracks["points"], tracks["frames"]) == ({"fg": 400, "bg": 100}[data[-2:]], sizes["frames"])
