"""Runs of Wan and LTX-Video in processes that share every pass, through the command line; the long tests."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.processes import PATIENCE

from vcorr.store.rundir import RunDirectory, find_runs

RUN = (
    *("run", "--data", "sprites", "--limit", "3", "--steps", "last", "--device", "cpu", "--weights", "random"),
    *("--probe", "qk,vv,feature,feature-cos-token,hidden-fair,qk-position,attention,latent"),
    *("--set", "model.size=small", "--set", "model.network.num_attention_heads=4"),
)
MODELS = {
    "wan2.1-1.3b": (),
    "ltx-video": ("--set", "model.width=128", "--set", "model.network.cross_attention_dim=64"),
}
ROUNDING = 1e-5
"""The largest difference of an attention weight: products of other shapes are rounded in another order."""


@pytest.mark.slow
@pytest.mark.parametrize(("model", "count"), [("wan2.1-1.3b", 2), ("wan2.1-1.3b", 4), ("ltx-video", 4)])
def test_an_interrupted_run_goes_on_to_the_predictions_of_one_process(
    tmp_path, vcorr_program, start_program, model, count
) -> None:
    command = (*RUN, *MODELS[model], "--model", model)
    shared = (*command, "--out", "shared", "--parallel", f"ulysses:{count}")
    process = start_program([sys.executable, "-m", "vcorr", *shared], cwd=tmp_path)
    wait_for_a_clip(process, tmp_path / "shared")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    run = the_run(tmp_path / "shared")
    kept = {path.name: path.read_bytes() for path in (run.path / "predictions").iterdir()}
    assert 1 <= len(kept) < 3
    assert run.record()["status"] == "partial"

    for words in (shared, (*command, "--out", "alone")):
        done = vcorr_program(*words)
        assert done.returncode == 0, done.stderr
    assert the_run(tmp_path / "shared").record()["status"] == "complete"
    assert {name: (run.path / "predictions" / name).read_bytes() for name in kept} == kept
    assert_alike(predictions_of(tmp_path / "shared"), predictions_of(tmp_path / "alone"))


def wait_for_a_clip(process: subprocess.Popen[str], out: Path) -> None:
    """Waits until a process has stored the predictions of a clip."""
    while not list(out.glob("*/predictions/*.arrow")):
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(process.communicate()[1])


def the_run(out: Path) -> RunDirectory:
    (found,) = find_runs(out)
    return found


def predictions_of(out: Path) -> dict[tuple[object, ...], dict[str, object]]:
    """Returns every prediction of the run, by clip, probe, layer, step and head."""
    rows = the_run(out).read("predictions").to_pylist()
    return {tuple(row[key] for key in ("clip", "probe", "layer", "step", "head")): row for row in rows}


def assert_alike(found, expected) -> None:
    """Asserts that positions are equal, and attention weights up to rounding."""
    assert found.keys() == expected.keys()
    assert len({clip for clip, *_ in found}) == 3
    for key, row in expected.items():
        assert found[key]["xy"] == row["xy"], key
        if row["rows"] is not None:
            np.testing.assert_allclose(found[key]["rows"], row["rows"], rtol=0, atol=ROUNDING, err_msg=str(key))
