"""`vcorr sweep` with the embedded models: what it would take is the sum of single dry runs, and networks are shared."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from vcorr.analysis import estimate
from vcorr.cli.main import main
from vcorr.sweeps import sweep_estimate

FLAGS = ("--probe", "qk", "--steps", "last", "--limit", "1", "--set", "data.frames=5")
TEXT = """
model: [tiny, tiny-untrained, zero-motion]
probe: qk
steps: last
limit: 1
set: {data.frames: 5}
"""


@pytest.fixture
def vcorr(monkeypatch, tmp_path, capsys) -> Callable[..., dict]:
    """Runs a command in an empty folder, and returns its JSON. Every device has one speed, so that sums are exact."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.yaml").write_text(TEXT)
    for module in (estimate, sweep_estimate):
        monkeypatch.setattr(module, "flops_per_second", lambda hardware: 1e9)

    def run(*words: str) -> dict:
        with pytest.raises(SystemExit) as ended:
            main([*words, "--json"])
        found = capsys.readouterr()
        assert not ended.value.code, found.err
        return json.loads(found.out)

    return run


def test_a_dry_run_is_the_sum_of_dry_runs(vcorr) -> None:
    found = vcorr("sweep", "sweep.yaml", "--dry-run")
    singles = [vcorr("run", "--model", one["model"], *FLAGS, "--dry-run") for one in found["runs"]]
    for one, single in zip(found["runs"], singles, strict=True):
        assert {key: one[key] for key in single} == single
    sums = {key: [one[key] for one in singles if one[key] is not None] for key in singles[0]}
    total = found["total"]
    assert total["device_seconds"] == {"value": pytest.approx(sum(sums["device_seconds"]), abs=0.1), "unknown": 1}
    assert total["disk_bytes"] == {"value": pytest.approx(sum(sums["disk_bytes"]), abs=2), "unknown": 0}
    assert total["forward_passes"]["value"] == sum(sums["forward_passes"])
    assert total["memory_bytes"] == max(sums["memory_bytes"])


def test_runs_of_a_sweep_are_the_runs_of_the_command(vcorr, tmp_path) -> None:
    found = vcorr("sweep", "sweep.yaml", "--board", "site")
    assert [one["status"] for one in found["runs"]] == ["complete"] * 3
    for one in found["runs"][::2]:
        single = vcorr("run", "--model", one["model"], *FLAGS)
        assert (single["run"], single["reused"]) == (one["run"], 1)
        assert single["best"] == one["best"]
    assert "zero-motion" in (tmp_path / "site" / "index.html").read_text()
