"""Tests the probe `latent` with the embedded model, through the command line."""

import numpy as np
import pytest

from vcorr.cli import main as program
from vcorr.store.rundir import RunDirectory

RUN = [
    *["run", "--model", "tiny", "--probe", "qk,latent", "--steps", "10,49"],
    *["--data", "sprites", "--limit", "1"],
]


def test_latents_are_a_row_per_step_and_know_less_than_the_network(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        program.main([*RUN, "--out", str(tmp_path)])
    assert not ended.value.code
    assert "none:49" in capsys.readouterr().out
    (path,) = tmp_path.iterdir()
    rows = RunDirectory(path).read("scores").to_pylist()
    found = {(r["probe"], r["layer"], r["step"]): r for r in rows if r["metric"] == "matching_accuracy"}
    in_network = {("qk", layer, step) for layer in range(10) for step in (10, 49)}
    assert set(found) == {("latent", -1, 10), ("latent", -1, 49), *in_network}
    latent = found["latent", -1, 49]
    network = max((found["qk", layer, 49] for layer in range(10)), key=lambda row: row["value"])
    assert latent["value"] < network["value"]
    assert found["latent", -1, 10]["value"] < latent["value"]
    for name in ("noise", "floor", "ceiling", "n", "readout"):
        assert latent.get(name) == network.get(name)
    predicted = RunDirectory(path).read("predictions").to_pylist()
    xy = next(np.reshape(p["xy"], (p["points"], p["latents"], 2)) for p in predicted if p["probe"] == "latent")
    moves = xy - xy[:, :1]
    assert np.abs(moves / 8 - np.round(moves / 8)).max() < 1e-4  # whole tokens of 8 pixels
