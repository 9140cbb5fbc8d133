"""The plugins printed in the hookspecs' docstrings are executed: each registers, and each does what it says."""

from __future__ import annotations

import inspect
import sys
import textwrap
import types
from collections.abc import Iterator

import numpy as np
import pytest

import vcorr
from vcorr.contract import hookspecs
from vcorr.plugins import registry
from vcorr.runner.coordinator import execute
from vcorr.runner.plan import make_plan


def example_code(hook: str) -> str:
    """The indented block after the first '::' of a hookspec's docstring."""
    text = inspect.getdoc(getattr(hookspecs, hook)) or ""
    lines = text.split("::\n", 1)[1].splitlines()
    block = []
    for line in lines:
        if line and not line.startswith("    "):
            break
        block.append(line)
    return textwrap.dedent("\n".join(block))


@pytest.fixture
def load() -> Iterator[object]:
    """Executes a hook's example as a module of its own."""
    made: list[str] = []

    def run(hook: str) -> types.ModuleType:
        module = types.ModuleType(f"example_{hook}")
        sys.modules[module.__name__] = module
        made.append(module.__name__)
        exec(compile(example_code(hook), module.__name__, "exec"), module.__dict__)
        return module

    yield run
    for name in made:
        del sys.modules[name]


@pytest.mark.parametrize("hook", sorted(registry.HOOKS))
def test_every_example_registers_one_entry(hook, load, plugins) -> None:
    found = plugins(load(hook))
    report = next(r for r in found.plugins if r.source.distribution == f"example_{hook}")
    assert report.state == "ok", report.reasons
    assert len(report.provides) == 1


def score_of(tmp_path, found, **spec):
    outcome = execute(make_plan(vcorr.runner.spec.RunSpec(**spec), found), tmp_path)
    assert outcome.status == "complete"
    return outcome.run.read("scores").to_pylist()


def test_the_model_and_the_dataset_of_the_examples_run_together(load, plugins, tmp_path) -> None:
    found = plugins(load("vcorr_models"), load("vcorr_datasets"))
    rows = score_of(tmp_path, found, model="still", data="sliding")
    accuracy = next(r for r in rows if r["metric"] == "matching_accuracy")
    assert accuracy["value"] == accuracy["floor"]
    assert accuracy["layer"] == -1


def test_the_probe_of_the_examples_matches_perfectly(load, plugins, tmp_path) -> None:
    found = plugins(load("vcorr_probes"))
    rows = score_of(tmp_path, found, model="sliding-model", probe="my-kk", layers="0", steps="last")
    assert {r["value"] for r in rows if r["metric"] == "matching_accuracy"} == {1.0}


def test_the_metric_of_the_examples_scores(load, plugins, tmp_path) -> None:
    found = plugins(load("vcorr_metrics"))
    rows = score_of(
        tmp_path, found, model="sliding-model", probe="qk", layers="0", steps="last", metrics="three-pixels"
    )
    assert {(r["metric"], r["value"], r["floor"]) for r in rows} == {("three_pixels", 1.0, 0.0)}


def test_the_tracker_of_the_examples_tracks(load, plugins) -> None:
    tracker = plugins(load("vcorr_trackers")).trackers.get("frozen").entry.create()
    queries = vcorr.Queries.at(np.array([[3.0, 4.0]], dtype=np.float32))
    tracks = tracker.track(np.zeros((5, 8, 8, 3), dtype=np.uint8), queries)
    assert (tracks.xy == queries.xy[:, None]).all()
