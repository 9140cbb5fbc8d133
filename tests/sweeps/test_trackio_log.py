"""Runs that are logged to trackio, here a module that stands for it and keeps what it is given."""

from __future__ import annotations

import sys
import types

import pytest

COMMON = "model: sliding-model\nprobe: qk\ndata: token-slide\nlimit: 2\nsteps: last\n"


class StandIn(types.ModuleType):
    """Keeps the calls of init(), log() and finish(). broken: the function that raises."""

    def __init__(self, broken: str = "") -> None:
        super().__init__("trackio")
        self.calls: list[tuple[str, dict]] = []
        self._broken = broken

    def _keep(self, name: str, values: dict) -> None:
        self.calls.append((name, values))
        if name == self._broken:
            raise RuntimeError("no space is left for logs")

    def init(self, project, name=None, config=None, resume="never"):
        self._keep("init", {"project": project, "name": name, "config": config, "resume": resume})

    def log(self, metrics, step=None):
        self._keep("log", metrics)

    def finish(self):
        self._keep("finish", {})

    def named(self, name: str) -> list[dict]:
        return [values for called, values in self.calls if called == name]


@pytest.fixture
def trackio(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made = StandIn()
    monkeypatch.setitem(sys.modules, "trackio", made)
    return made


def test_every_run_is_a_run_of_the_project_with_its_clips_and_its_best_sites(sweep, trackio) -> None:
    import json

    ended = sweep(f"{COMMON}seed: [1, 2]\n", "--trackio", "sites", "--json")
    assert ended.code == 0
    runs = json.loads(ended.out)["runs"]
    begun = trackio.named("init")
    assert [(one["project"], one["resume"]) for one in begun] == [("sites", "allow")] * 2
    assert [one["name"] for one in begun] == [
        f"seed {seed} {one['run']}" for seed, one in zip((1, 2), runs, strict=True)
    ]
    assert [one["config"]["seed"] for one in begun] == [1, 2]
    (best,) = runs[0]["best"]
    of_first = trackio.calls[: [name for name, _ in trackio.calls].index("finish") + 1]
    assert [values["clips_done"] for _, values in of_first if "clips_done" in values] == [1, 2]
    name = f"{best['metric']}/qk"
    assert ("log", {f"{name}/value": best["value"], f"{name}/skill": best["skill"]}) in of_first
    assert len(trackio.named("finish")) == 2


def test_a_run_that_fails_ends_its_log_and_a_clip_that_fails_is_counted(sweep, trackio) -> None:
    text = f"{COMMON}matrix: {{weights: [missing, hub]}}\nset: {{data.fail: slide-1}}\n"
    assert sweep(text, "--trackio", "sites").code == 1
    assert [name for name, _ in trackio.calls][:3] == ["init", "finish", "init"]
    assert {"clips": 2, "failed": 1} in trackio.named("log")
    assert trackio.named("log")[1]["clips_failed"] == 1


@pytest.mark.parametrize("broken", ["init", "log", "finish"])
def test_a_log_that_fails_ends_no_run(sweep, monkeypatch, broken) -> None:
    monkeypatch.setitem(sys.modules, "trackio", StandIn(broken))
    ended = sweep(f"{COMMON}seed: [1, 2]\n", "--trackio", "sites")
    assert ended.code == 0
    assert ended.err.count("Nothing more is logged to it.") == 1
    assert f"trackio failed in {broken}(): RuntimeError: no space is left for logs." in ended.err


def test_a_log_that_ends_the_program_ends_no_run(sweep, trackio, monkeypatch) -> None:
    monkeypatch.setattr(trackio, "log", lambda values: sys.exit("the log is full"))
    ended = sweep(f"{COMMON}seed: [1, 2]\n", "--trackio", "sites")
    assert ended.code == 0
    assert "trackio failed in log(): SystemExit: the log is full." in ended.err


def test_without_the_package_one_error_says_how_to_get_it(sweep, monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    ended = sweep(COMMON, "--trackio", "sites")
    assert (ended.code, ended.out) == (4, "")
    assert ended.err == (
        "Error: --trackio needs the package trackio, which is not installed.\n"
        "pip install 'vcorr[trackio]', or leave --trackio out.\n"
    )
    assert not (tmp_path / "runs").exists()


def test_a_damaged_package_is_one_error(sweep, monkeypatch, tmp_path) -> None:
    monkeypatch.delitem(sys.modules, "trackio", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "trackio.py").write_text("raise OSError('no folder for logs')\n")
    ended = sweep(COMMON, "--trackio", "sites")
    assert (ended.code, ended.out) == (4, "")
    assert ended.err == (
        "Error: --trackio needs the package trackio, which cannot be imported: OSError: no folder for logs.\n"
        "Install it again, or leave --trackio out.\n"
    )
    assert not (tmp_path / "runs").exists()


def test_nothing_of_trackio_is_imported_without_the_flag(sweep, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    assert sweep(COMMON).code == 0
