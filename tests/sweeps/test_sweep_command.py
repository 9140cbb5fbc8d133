"""`vcorr sweep` through the command line: ordinary runs, one table, failures at the end, and what it would take."""

from __future__ import annotations

import json
import shlex
import weakref
from pathlib import Path

import pyarrow as pa
from support import sliding

from vcorr.cli.views import progress
from vcorr.runner import plan_again
from vcorr.store.rundir import RunDirectory, find_runs
from vcorr.sweeps import sweep_plans

COMMON = "probe: qk\ndata: token-slide\nlimit: 2\nsteps: last\n"
GOOD = f"model: [sliding-model, zero-motion]\n{COMMON}"
MIXED = f"model: sliding-model\n{COMMON}matrix: {{weights: [hub, missing, random]}}\n"
"""Three runs of one model, of which the second one fails when it loads its weights."""


def run_one(vcorr, *flags: str) -> dict:
    """Returns what `vcorr run --json` says of the same run in another folder."""
    common = shlex.split("--probe qk --data token-slide --limit 2 --steps last --out single --json")
    ended = vcorr("run", *common, *flags)
    return json.loads(ended.out)


def tables_of(folder: Path) -> dict[str, pa.Table]:
    return {name: RunDirectory(folder).read(name) for name in ("predictions", "tracks", "scores")}


def test_every_run_is_the_one_that_the_command_makes(sweep, vcorr, tmp_path) -> None:
    ended = sweep(GOOD, "--json")
    assert ended.code == 0
    found = json.loads(ended.out)
    assert (found["failed"], [one["model"] for one in found["runs"]]) == ([], ["sliding-model", "zero-motion"])
    for one in found["runs"]:
        single = run_one(vcorr, "--model", one["model"])
        assert one["run"] == single["run"]
        assert one["best"] == single["best"]
        both = (tables_of(tmp_path / folder / one["run"]) for folder in ("runs", "single"))
        assert len({str(sorted((name, table.to_pylist()) for name, table in each.items())) for each in both}) == 1


def test_runs_with_the_same_data_read_its_first_clip_once_to_plan(sweep, vcorr, monkeypatch) -> None:
    from vcorr.runner.run_data import ClipReader

    read: list[str] = []
    look_ahead = ClipReader.look_ahead
    monkeypatch.setattr(ClipReader, "look_ahead", lambda self, name: (read.append(name), look_ahead(self, name))[1])
    text = f"model: sliding-model\n{COMMON}seed: [1, 2]\nmatrix: {{data.fail: ['', slide-1]}}\n"
    found = json.loads(sweep(text, "--json").out)["runs"]
    assert read == ["slide-0", "slide-0"]
    made = [run_one(vcorr, "--model", "sliding-model", "--seed", seed) for seed in "12"]
    whole = [one for one in found if one["status"] == "complete"]
    assert [(one["run"], one["best"]) for one in whole] == [(one["run"], one["best"]) for one in made]


def test_a_run_that_varies_nothing_is_called_by_its_model(sweep) -> None:
    ended = sweep(f"model: sliding-model\n{COMMON}matrix: {{set: [{{}}, {{seed: 2}}]}}\n")
    assert ended.code == 0
    assert "Run 1 of 2: model sliding-model\n" in ended.err
    assert "Run 2 of 2: seed 2\n" in ended.err


def test_rows_of_the_table_are_what_show_run_says(sweep, vcorr) -> None:
    common = COMMON.replace("probe: qk\n", "")
    text = f"model: sliding-model\n{common}matrix: {{probe: [qk, [qk, kk]], seed: [1, 2]}}\n"
    found = json.loads(sweep(text, "--json").out)
    assert len({one["run"] for one in found["runs"]}) == 4
    out = sweep(text).out
    for one in found["runs"]:
        shown = json.loads(vcorr("show", "run", one["path"], "--json").out)
        assert one["best"] == shown["best"]
        asked = one["settings"]["probe"]
        assert {best["probe"] for best in one["best"]} == {*([asked] if isinstance(asked, str) else asked)}
        for best in one["best"]:
            (row,) = [line for line in out.splitlines() if one["run"] in line and f" {best['probe']} " in line]
            assert all(f" {best[name]:.3f} " in row for name in ("value", "floor", "ceiling", "skill"))
            assert f" {best['site']} " in row


def test_the_order_of_the_file_changes_no_run(sweep) -> None:
    text = f"model: [sliding-model, zero-motion]\n{COMMON}seed: [1, 2]\nexclude: [{{model: zero-motion, seed: 2}}]\n"
    first = json.loads(sweep(text, "--limit", "1", "--json").out)["runs"]
    turned = f"seed: [2, 1]\n{COMMON}exclude: [{{seed: 2, model: zero-motion}}]\nmodel: [zero-motion, sliding-model]\n"
    second = json.loads(sweep(turned, "--limit", "1", "--json").out)["runs"]
    assert {one["run"] for one in first} == {one["run"] for one in second}
    assert [one["reused"] for one in second] == [1, 1, 1]


def test_a_run_that_fails_does_not_end_the_others(sweep, tmp_path) -> None:
    ended = sweep(MIXED)
    assert ended.code == 1
    assert "Failed: run 2 (weights missing): The weights are not here." in ended.out
    assert "Fetch them." in ended.out
    assert "2 of 3 runs complete" in ended.out
    states = sorted(run.record()["status"] for run in find_runs(tmp_path / "runs"))
    assert states == ["complete", "complete", "partial"]
    found = json.loads(sweep(MIXED, "--json").out)
    assert (found["failed"], found["runs"][1]["status"]) == ([2], "failed")
    assert found["runs"][1]["error"] == "The weights are not here.\nFetch them."
    assert [one["reused"] for one in found["runs"] if one["status"] == "complete"] == [2, 2]


def test_a_clip_that_fails_is_named_at_the_end(sweep) -> None:
    ended = sweep(
        f"{GOOD}matrix: {{data.fail: ['', slide-1]}}\nexclude: [{{model: zero-motion, data.fail: slide-1}}]\n"
    )
    assert ended.code == 1
    assert "data.fail slide-1): 1 of 2 clips (slide-1); the reason is in the error column of runs/" in ended.out
    assert "2 of 3 runs complete" in ended.out


def test_finished_runs_are_not_repeated_and_a_changed_one_runs_again(sweep, tmp_path) -> None:
    marker = f"set: {{model.marker: {tmp_path / 'marker'}}}\n"
    text = f"model: sliding-model\n{COMMON}{marker}seed: [1, 2]\n"
    assert sweep(text).code == 0
    begun = (tmp_path / "marker").read_text()
    assert begun.split() == ["slide-0", "slide-1"] * 2
    assert sweep(text).code == 0
    assert (tmp_path / "marker").read_text() == begun
    assert sweep(text.replace("[1, 2]", "[1, 3]")).code == 0
    assert (tmp_path / "marker").read_text() == begun + "slide-0\nslide-1\n"
    assert len(find_runs(tmp_path / "runs")) == 3


def test_only_what_is_there_is_used_with_reuse_only(sweep) -> None:
    assert sweep(f"model: sliding-model\n{COMMON}seed: 1\n").code == 0
    ended = sweep(f"model: sliding-model\n{COMMON}seed: [1, 2]\n", "--reuse", "only")
    assert ended.code == 1
    assert "Failed: run 2 (seed 2): There is no such run in runs" in ended.out


def test_a_model_is_loaded_once_for_its_runs(sweep, monkeypatch) -> None:
    from support.sliding import SlidingModel

    loads: list[str] = []
    load = SlidingModel.load
    monkeypatch.setattr(SlidingModel, "load", lambda self, *words: (loads.append(words[2]), load(self, *words))[1])
    text = f"model: [sliding-model, zero-motion]\n{COMMON}matrix: {{layers: ['0', '1'], weights: [hub, random]}}\n"
    text += "exclude:\n- {model: zero-motion, layers: '1'}\n- {model: zero-motion, weights: random}\n"
    assert sweep(text, "--limit", "1").code == 0
    # layers come before weights in the file, so the weights change with every run
    assert loads == ["hub", "random"] * 2
    loads.clear()
    swapped = text.replace(
        "{layers: ['0', '1'], weights: [hub, random]}", "{weights: [hub, random], layers: ['0', '1']}"
    )
    assert sweep(swapped, "--limit", "1", "--reuse", "never").code == 0
    assert loads == ["hub", "random"]


def test_a_model_is_freed_before_the_next_one_is_loaded(sweep, monkeypatch) -> None:
    from support.sliding import SlidingModel

    alive: list[list[str]] = []
    made: dict[str, weakref.ref] = {}
    load = SlidingModel.load

    def load_watched(self, device, dtype, weights):
        alive.append([name for name, model in made.items() if model() is not None])
        made[weights] = weakref.ref(self)
        if weights == "broken":
            raise RuntimeError("this model is a bug")
        load(self, device, dtype, weights)

    monkeypatch.setattr(SlidingModel, "load", load_watched)
    ended = sweep(f"model: sliding-model\n{COMMON}matrix: {{weights: [hub, missing, broken, random]}}\n")
    assert ended.code == 1
    assert "2 of 4 runs complete" in ended.out
    assert alive == [[], [], [], []]


def test_a_bug_is_listed_and_its_traceback_shown(sweep, monkeypatch) -> None:
    from vcorr.sweeps import sweep_execution

    execute = sweep_execution.execute

    def break_down(plan, *arguments, **options):
        if plan.spec.seed == 1:
            raise ZeroDivisionError("a bug of vcorr")
        return execute(plan, *arguments, **options)

    monkeypatch.setattr(sweep_execution, "execute", break_down)
    ended = sweep(f"model: sliding-model\n{COMMON}seed: [1, 2]\n")
    assert ended.code == 1
    assert "Failed: run 1 (seed 1): ZeroDivisionError: a bug of vcorr." in ended.out
    assert "Traceback" in ended.err
    assert "1 of 2 runs complete" in ended.out


def test_a_folder_that_cannot_be_written_is_one_error(sweep, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    ended = sweep(GOOD, "--out", "file/runs")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("Error: ")


def test_videos_are_drawn_if_the_file_asks_for_them(sweep, tmp_path) -> None:
    assert sweep(f"model: sliding-model\n{COMMON}save-videos: true\n").code == 0
    assert len(list((tmp_path / "runs").glob("*/videos/*.mp4"))) == 2


def test_results_are_shown_before_a_board_that_cannot_be_built(sweep) -> None:
    ended = sweep(GOOD, "--reuse", "only", "--board", "site")
    assert "0 of 2 runs complete" in ended.out
    assert ended.code != 0


def test_flags_override_the_file_for_all_runs(sweep, tmp_path) -> None:
    assert sweep(f"{GOOD}out: 3\n").code == 2  # a folder is named on the command line alone
    ended = sweep(GOOD, "--limit", "1", "--set", "metrics=pck", "--out", "elsewhere", "--json")
    found = json.loads(ended.out)
    assert ended.code == 0
    assert [(one["clips"], one["ranked_by"]) for one in found["runs"]] == [(1, found["runs"][0]["ranked_by"])] * 2
    assert {run.path.parent.name for run in find_runs(tmp_path / "elsewhere")} == {"elsewhere"}
    assert all(run.record()["spec"]["metrics"] == "pck" for run in find_runs(tmp_path / "elsewhere"))


def test_several_processes_write_the_same_rows(sweep, tmp_path) -> None:
    text = f"model: sliding-model\n{COMMON}"
    assert sweep(text, "--out", "one").code == 0
    assert sweep(text, "--out", "two", "--workers", "2").code == 0
    for run in find_runs(tmp_path / "one"):
        for table in ("predictions", "tracks", "scores"):
            files = [sorted((tmp_path / each / run.run_id / table).glob("*.arrow")) for each in ("one", "two")]
            assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]


def test_a_board_of_all_runs(sweep, tmp_path) -> None:
    ended = sweep(GOOD, "--board", "site")
    assert ended.code == 0
    assert ended.out.splitlines()[-1] == "Board: site/index.html"
    text = "".join(page.read_text() for page in (tmp_path / "site").rglob("*.html"))
    assert "sliding-model" in text
    assert "zero-motion" in text


# -------------------------------------------------------------------------------------------------------------- dry run


def run_dry(vcorr, *flags: str) -> dict:
    """Returns what `vcorr run --dry-run --json` says of one run."""
    common = shlex.split("--probe qk --data token-slide --limit 2 --steps last --dry-run --json")
    return json.loads(vcorr("run", *common, *flags).out)


def test_a_dry_run_adds_up_the_dry_runs_of_its_runs(sweep, vcorr, tmp_path) -> None:
    text = f"model: sliding-model\n{COMMON}matrix: {{layers: ['0', '0,1', all], weights: hub}}\n"
    refused = sweep(text, "--dry-run")
    assert "They differ only in layers" in refused.err, "both layers are all layers"
    found = json.loads(sweep(text.replace(", all", ""), "--dry-run", "--json").out)
    singles = [run_dry(vcorr, "--model", "sliding-model", "--layers", layers) for layers in ("0", "0,1")]
    for one, single in zip(found["runs"], singles, strict=True):
        assert {key: one[key] for key in single} == single
    assert found["total"]["disk_bytes"] == {"value": sum(one["disk_bytes"] for one in singles), "unknown": 0}
    assert found["total"]["forward_passes"] == {"value": 4, "unknown": 0}
    assert found["total"]["device_seconds"] == {"value": None, "unknown": 2}, "the model has no card"
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_says_how_much_is_there(sweep) -> None:
    assert sweep(GOOD, "--limit", "1").code == 0
    found = json.loads(sweep(GOOD, "--dry-run", "--json").out)
    assert [(one["kept"], len(one["clips"]), one["exists"]) for one in found["runs"]] == [(1, 2, True)] * 2
    out = sweep(GOOD, "--dry-run").out
    assert "done: clips whose predictions are stored." in out
    assert "estimates" in out
    assert "device time: not known for 2 runs, which the sum leaves out." in out


def test_a_dry_run_reads_a_clip_once_however_many_runs_there_are(sweep, monkeypatch) -> None:
    read: list[str] = []
    load = sliding.SlidingData.clip
    monkeypatch.setattr(sliding.SlidingData, "clip", lambda self, name: read.append(name) or load(self, name))
    text = f"model: sliding-model\n{COMMON}seed: [1, 2, 3]\nmatrix: {{mode: [renoise, generate]}}\n"
    found = json.loads(sweep(text, "--dry-run", "--json").out)
    assert len(found["runs"]) == 6
    assert read == ["slide-0"]


def test_planning_says_how_far_it_is(sweep, monkeypatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY_SECONDS", 0)
    ended = sweep(GOOD, "--dry-run", "--json")
    assert json.loads(ended.out)["runs"]
    assert ended.err.splitlines() == [f"{what}: run {n}/2" for what in ("planning", "estimating") for n in (1, 2)]


def test_a_sweep_that_is_repeated_reads_each_record_once(sweep, monkeypatch) -> None:
    text = f"model: sliding-model\n{COMMON}seed: [1, 2, 3]\n"
    first = json.loads(sweep(text, "--json").out)
    read: list[Path] = []
    record = plan_again.RunDirectory.record
    monkeypatch.setattr(sweep_plans, "plan_again", lambda *words: counted(read, record, monkeypatch, *words))
    again = json.loads(sweep(text, "--json").out)
    assert [(one["run"], one["reused"]) for one in again["runs"]] == [(one["run"], 2) for one in first["runs"]]
    assert sorted(read) == sorted({Path(one["path"]) for one in first["runs"]})


def counted(read, record, monkeypatch, *words):
    """Plans again, and notes the records that are read meanwhile."""
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "record", lambda self: read.append(self.path) or record(self))
        return plan_again.plan_again(*words)
