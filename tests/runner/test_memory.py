"""The memory that a run reports, and which kernels matched its tokens."""

import json

import torch

from vcorr.runner import worker
from vcorr.runner.coordinator import Reuse, execute
from vcorr.runner.events import Silent
from vcorr.runner.peak_memory import GIB, device_peak, forget_peak
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec


def test_a_run_on_a_cpu_tells_the_memory_of_its_process(plugins, tmp_path) -> None:
    plan = make_plan(RunSpec(model="sliding-model", probe="qk", steps="0"), plugins())
    done = execute(plan, tmp_path)
    record = json.loads((done.run.path / "run.json").read_text())
    assert record["peak_memory_gib"]["device"] is None
    assert record["peak_memory_gib"]["host"] > 0.05  # GiB; torch alone takes more
    assert record["seconds"]["load"] is not None
    again = execute(plan, tmp_path, reuse=Reuse.ONLY)
    record = json.loads((again.run.path / "run.json").read_text())
    assert record["seconds"]["load"] is None  # nothing was loaded


def test_a_run_says_which_kernels_matched_tokens_and_that_they_changed(plugins, tmp_path, monkeypatch) -> None:
    class Heard(Silent):
        notes: list[str] = []  # noqa: RUF012

        def note(self, message):
            self.notes.append(message)

    def run(limit):
        plan = make_plan(RunSpec(model="sliding-model", probe="qk", steps="0", limit=limit), plugins())
        return execute(plan, tmp_path, events=Heard()).run.record()["kernels"]

    assert [run(1), run(1)] == [["plain"], ["plain"]]
    monkeypatch.setattr(worker, "paths_used", lambda: frozenset({"fused"}))
    assert not any("Kernels" in note for note in Heard.notes)
    assert run(2) == ["fused", "plain"]
    assert any(note.startswith("Kernels that match tokens: fused, but plain in earlier") for note in Heard.notes)


def test_the_peak_of_a_gpu_is_counted_from_when_it_was_forgotten(monkeypatch) -> None:
    held = {"cuda:1": 3 * GIB, "cuda:0": 7 * GIB}
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: held.update({device: GIB}))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: held[device])
    assert device_peak("cuda:1") == 3
    forget_peak("cuda:1")
    assert (device_peak("cuda:1"), device_peak("cuda:0"), device_peak("cpu")) == (1, 7, None)
