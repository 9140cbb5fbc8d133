"""The bridge to VBench: its input, its command, its result file and the rows, with a stand-in for the program."""

import json
import sys

import numpy as np
import pyarrow as pa
import pytest
from support import knowing, sliding

from vcorr import read_video
from vcorr.bench import vbench_bridge as bridge
from vcorr.data.dataset_options import RunVideosConfig
from vcorr.plugins import builtin, registry
from vcorr.runner.coordinator import execute
from vcorr.runner.generated_videos import RunVideos
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec

STAND_IN = """#!{python}
import argparse, json, pathlib
p = argparse.ArgumentParser()
p.add_argument("command", choices=["evaluate"])
p.add_argument("--mode", choices=["custom_input"], required=True)
for name in ("dimension", "videos_path", "prompt_file", "output_path"):
    p.add_argument("--" + name, required=True)
o = p.parse_args()
files = sorted(pathlib.Path(o.videos_path).iterdir())
prompts = json.loads(pathlib.Path(o.prompt_file).read_text(encoding="utf-8"))
assert set(prompts) == {{f.name for f in files}}
values = [{{"video_path": str(f), "video_results": {value}}} for f in files]
name = pathlib.Path(o.output_path) / "results_2026-11-27_eval_results.json"
name.write_text(json.dumps({{o.dimension: [0.5, values]}}))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns a run that generated two videos."""
    folder = tmp_path_factory.mktemp("run")
    prompts = folder / "prompts.txt"
    prompts.write_text("a picture\nein Bär\n", encoding="utf-8")
    options = {"model": {"marker": str(folder / "marker")}}
    spec = RunSpec(
        model="sliding-model", probe="qk", steps="last", data=f"prompts:{prompts}", tracker="knowing", options=options
    )
    modules = ((registry.BUILTIN, builtin), ("sliding", sliding), ("knowing", knowing))
    found = registry.Registry([registry.PluginSource(name, name, "1", lambda m=m: m) for name, m in modules])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "installed", lambda: found)
        return execute(make_plan(spec, found), folder).run


@pytest.fixture
def install(tmp_path):
    """Returns a function that writes a stand-in, with a Python next to it that says its version."""

    def write(value="len(prompts[f.name])", version="0.1.5", text=STAND_IN):
        folder = tmp_path / "environment"
        folder.mkdir()
        for name, body in (
            ("vbench", text.format(python=sys.executable, value=value)),
            ("python", f"#!/bin/sh\necho {version}\n"),
        ):
            (folder / name).write_text(body)
            (folder / name).chmod(0o755)
        return str(folder / "vbench")

    return write


def call(run, program, out, *more):
    return bridge.main([str(run.path), "--program", program, "--out", str(out), *more])


def test_rows_name_the_harness_and_its_version(run, install, tmp_path, capsys):
    out = tmp_path / "scores.arrow"
    assert call(run, install(), out, "--dimensions", "motion_smoothness,dynamic_degree") == 0
    table = pa.ipc.open_file(out).read_all()
    rows = table.to_pylist()
    assert [(r["clip"], r["metric"], r["value"]) for r in rows] == [
        ("prompt-0000", "vbench_motion_smoothness@vbench:0.1.5", 9),
        ("prompt-0001", "vbench_motion_smoothness@vbench:0.1.5", 7),
        ("prompt-0000", "vbench_dynamic_degree@vbench:0.1.5", 9),
        ("prompt-0001", "vbench_dynamic_degree@vbench:0.1.5", 7),
    ]
    assert {(r["run"], r["model"], r["task"], r["mode"], r["status"]) for r in rows} == {
        (run.run_id, "sliding-model", "generation", "generate", "ok")
    }
    assert table.schema.metadata[b"vcorr.harness_version"] == b"0.1.5"
    assert "4 scores of vbench 0.1.5" in capsys.readouterr().out


def test_input_is_a_folder_of_videos_and_their_prompts(run, tmp_path):
    videos = RunVideos(RunVideosConfig(path=str(run.path)))
    given = bridge.write_input(videos, tmp_path / "input")
    assert json.loads(given.prompts.read_text(encoding="utf-8")) == {"00000.mp4": "a picture", "00001.mp4": "ein Bär"}
    made, kept = read_video(given.videos / "00000.mp4").frames, videos.clip("prompt-0000").video
    assert made.shape == kept.shape
    # H.264 loses colours of single pixels; their brightness stays
    assert np.corrcoef(made.mean(-1).ravel(), kept.mean(-1).ravel())[0, 1] > 0.8
    words = bridge.command_of("vbench", given, "motion_smoothness", tmp_path)
    assert words[:6] == ["vbench", "evaluate", "--mode", "custom_input", "--dimension", "motion_smoothness"]


def test_true_and_missing_numbers_are_values(run, install, tmp_path):
    out = tmp_path / "scores.arrow"
    value = 'f.name == "00000.mp4" or float("nan")'
    assert call(run, install(value), out, "--dimensions", "dynamic_degree", "--harness-version", "0.1.4") == 0
    rows = pa.ipc.open_file(out).read_all().to_pylist()
    assert [(r["value"] == 1, r["status"]) for r in rows] == [(True, "ok"), (False, "not_scored")]
    assert rows[0]["metric"].endswith("@vbench:0.1.4")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#!/bin/sh\necho no GPU >&2; exit 3\n", "exit code 3): no GPU"),
        ("#!/bin/sh\n", "gave no result for motion_smoothness (exit code 0)"),
        (STAND_IN.replace("[0.5, values]", "0.5"), "is no result file of vbench for motion_smoothness"),
        (STAND_IN.replace("[0.5, values]", "[0.5, values[1:]]"), "lacks 1 of 2 videos, the first 00000.mp4"),
        (STAND_IN.replace("{value}", '"good"'), "must be a number, got 'good'"),
    ],
    ids=["fails", "silent", "form", "lacking", "text"],
)
def test_a_harness_that_fails_is_one_error(run, install, tmp_path, capsys, text, said):
    out = tmp_path / "scores.arrow"
    assert call(run, install(text=text), out, "--dimensions", "motion_smoothness") == 3
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_what_cannot_be_scored_is_refused_before_anything_is_called(run, tmp_path, capsys):
    out, nowhere = tmp_path / "scores.arrow", str(tmp_path / "nowhere" / "vbench")
    assert call(run, nowhere, out, "--harness-version", "1") == 4
    assert "--program ENVIRONMENT/bin/vbench" in capsys.readouterr().err
    assert call(run, nowhere, out) == 2
    assert "--harness-version VERSION" in capsys.readouterr().err
    assert call(run, nowhere, out, "--harness-version", "1", "--dimensions", "scene") == 2
    assert "scene: vbench scores these on its own prompts alone" in capsys.readouterr().err
