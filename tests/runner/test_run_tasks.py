"""A new task of runs needs one file with its two classes, and a line in the table; nothing else of a run changes."""

from __future__ import annotations

import sys
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest

import vcorr
from vcorr.contract.tasks import AT_ONE_SITE, INTERVENTION, MAKING_VIDEOS, TASKS
from vcorr.runner import spec as spec_module
from vcorr.runner.coordinator import execute
from vcorr.runner.kept_files import DamagedFileError
from vcorr.runner.plan import make_plan
from vcorr.runner.rescore import rescore
from vcorr.runner.run_tasks.clip_stages import ClipStages
from vcorr.runner.run_tasks.run_task import RunTask
from vcorr.runner.run_tasks.task_table import RUN_TASKS, find_task
from vcorr.runner.spec import RunSpec

WORDS = sorted(RUN_TASKS)


class FirstFrameTask(RunTask):
    """Reads attention as a run of correspondence does, and keeps the first frame of each clip in a file."""

    name = INTERVENTION
    asks_probes = True
    stages = f"{__name__}:FirstFrameStages"

    def check_words(self, spec):
        if spec.preset is not None:
            raise vcorr.UsageError("First frames have no preset.")


class FirstFrameStages(ClipStages):
    """Gives every score the brightness of the first frame, so that it comes from the file."""

    def keep_files(self, plan, run, predicted):
        np.save(frame_of(run, predicted.clip.id), predicted.clip.video[0])
        return {"frame": int(predicted.clip.video[0].sum())}

    def check_files(self, plan, run, clip_id):
        if not frame_of(run, clip_id).exists():
            raise DamagedFileError(f"The frame of {clip_id} is missing.")

    def score(self, run, context, judges, predictions, tracks):
        brightness = float(np.load(frame_of(run, predictions["clip"][0].as_py())).mean())
        scores = super().score(run, context, judges, predictions, tracks)
        column = scores.schema.get_field_index("value")
        values = pa.array([brightness] * scores.num_rows, scores.schema.field(column).type)
        return scores.set_column(column, scores.schema.field(column), values)


def frame_of(run, clip_id):
    return run.path / f"{clip_id}.npy"


@vcorr.hookimpl
def vcorr_metrics():
    """Returns the metric of the new task."""
    factory = "support.metrics:PixelDistance"
    return [vcorr.MetricEntry(name="far", summary=".", factory=factory, task=INTERVENTION, default=True)]


@pytest.fixture
def registry(plugins, monkeypatch):
    monkeypatch.setitem(RUN_TASKS, INTERVENTION, f"{__name__}:FirstFrameTask")
    return plugins(sys.modules[__name__])


def run(registry, out, **changes):
    spec = RunSpec(model="sliding-model", probe="qk", steps="0,9", limit=2, task=INTERVENTION, **changes)
    return execute(make_plan(spec, registry), out)


def test_a_new_task_is_planned_stored_resumed_and_scored(registry, tmp_path) -> None:
    outcome = run(registry, tmp_path)
    assert (outcome.status, outcome.clips, outcome.reused) == ("complete", 2, 0)
    for table in ("predictions", "tracks", "scores"):
        assert {row["task"] for row in outcome.run.read(table).to_pylist()} == {INTERVENTION}
    frames = {path.stem: float(np.load(path).mean()) for path in outcome.run.path.glob("*.npy")}
    assert len(frames) == 2
    scores = [row for row in outcome.run.read("scores").to_pylist() if row["metric"] == "pixel_error"]
    assert {row["clip"]: row["value"] for row in scores} == pytest.approx(frames)
    assert run(registry, tmp_path).reused == 2
    frame_of(outcome.run, "slide-0").unlink()
    assert run(registry, tmp_path).reused == 1
    assert frame_of(outcome.run, "slide-0").exists()
    assert rescore(outcome.run, registry, RunSpec()).failed == {}


def test_a_new_task_refuses_words_of_its_own(registry, tmp_path) -> None:
    with pytest.raises(vcorr.UsageError, match="First frames have no preset"):
        run(registry, tmp_path, preset="heft")


def test_every_word_has_a_task_of_that_name_and_a_command() -> None:
    assert [find_task(word).name for word in WORDS] == WORDS
    assert {find_task(word).command for word in WORDS} == {"run", "track", "propagate", "generate"}
    assert set(get_args(spec_module.Task)) == set(WORDS) <= set(TASKS)
    assert {word for word in WORDS if find_task(word).at_one_site} == set(AT_ONE_SITE)
    assert {word for word in WORDS if find_task(word).makes_videos} == set(MAKING_VIDEOS)


def test_an_unknown_task_is_refused_with_the_nearest_word() -> None:
    with pytest.raises(vcorr.UsageError, match="Did you mean 'tracking'"):
        find_task("traking")
