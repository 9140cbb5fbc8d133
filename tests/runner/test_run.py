"""Runs through all stages, on a model whose predictions are known."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.tables import same

import vcorr
from vcorr.analysis.track_overlays import draw_overlays
from vcorr.contract.errors import StoreError
from vcorr.contract.part_calls import PartName
from vcorr.runner.coordinator import Outcome, Reuse, Silent, execute
from vcorr.runner.plan import make_plan
from vcorr.runner.predict import error_code
from vcorr.runner.rescore import rescore
from vcorr.runner.spec import RunSpec
from vcorr.stats.summary import best_sites
from vcorr.store import shards


@pytest.fixture
def found(plugins):
    return plugins()


def spec(**changes) -> RunSpec:
    return RunSpec(**{"model": "sliding-model", "probe": "qk", "steps": "0,9", **changes})


def run(found, out: Path, reuse: Reuse = Reuse.MATCHING, events=None, **changes) -> Outcome:
    return execute(make_plan(spec(**changes), found), out, reuse=reuse, events=events)


def computed(out: Path) -> list[str]:
    """Returns the clips that the model was run on, in order; the test model writes them down."""
    marker = out / "marker"
    return marker.read_text().split() if marker.exists() else []


def marked(out: Path) -> dict[str, dict[str, dict[str, str]]]:
    out.mkdir(exist_ok=True)
    return {"options": {"model": {"marker": str(out / "marker")}}}


def test_a_perfect_layer_scores_one_and_a_blind_layer_the_floor(found, tmp_path) -> None:
    outcome = run(found, tmp_path)
    assert (outcome.status, outcome.clips, outcome.failed) == ("complete", 4, ())
    rows = [r for r in outcome.run.read("scores").to_pylist() if r["metric"] == "matching_accuracy"]
    assert len(rows) == 4 * 2 * 2
    assert {r["value"] for r in rows if r["layer"] == 0} == {1.0}
    assert all(r["value"] == r["floor"] == 0 for r in rows if r["layer"] == 1)
    assert {r["ceiling"] for r in rows} == {1.0}
    assert {(r["layer"], r["layer_name"], r["attention"]) for r in rows} == {
        (0, "see.attend", "full3d"),
        (1, "stay.attend", "full3d"),
    }
    assert {(r["step"], round(r["noise"], 3)) for r in rows} == {(0, 0.9), (9, 0.0)}
    assert {(r["probe"], r["dataset"], r["split"], r["mode"], r["tracker"], r["seed"]) for r in rows} == {
        ("qk", "token-slide", "test", "renoise", "exact", 42)
    }


def test_per_head_rows_come_with_the_mean(found, tmp_path) -> None:
    outcome = run(found, tmp_path, limit=1, options={"probe": {"heads": "each"}})
    rows = outcome.run.read("scores").to_pylist()
    assert {r["head"] for r in rows} == {-1, 0, 1}


def test_several_probes_share_one_pass(found, tmp_path) -> None:
    run(found, tmp_path, probe="qk,feature,feature-fair", limit=1, **marked(tmp_path))
    assert computed(tmp_path) == ["slide-0"]


def test_the_same_spec_reuses_everything(found, tmp_path) -> None:
    first = run(found, tmp_path, **marked(tmp_path))
    before = {p: p.read_bytes() for p in first.run.path.rglob("*.arrow")}
    second = run(found, tmp_path, **marked(tmp_path))
    assert (second.run, second.reused) == (first.run, 4)
    assert len(computed(tmp_path)) == 4
    assert before == {p: p.read_bytes() for p in first.run.path.rglob("*.arrow")}


def test_a_finished_clip_is_opened_once_per_table(found, tmp_path, monkeypatch) -> None:
    run(found, tmp_path)
    opened: list[str] = []
    opens = shards._read_file
    monkeypatch.setattr(shards, "_read_file", lambda path: opened.append(path.parent.name) or opens(path))
    clips = run(found, tmp_path).reused
    assert {table: opened.count(table) for table in opened} == dict.fromkeys(("predictions", "tracks", "scores"), clips)


def test_what_changes_numbers_changes_the_run(found, tmp_path) -> None:
    changes = [
        {},
        {"seed": 1},
        {"steps": "0"},
        {"layers": "0"},
        {"probe": "feature"},
        {"num_steps": 12},
        {"weights": "random"},
        {"dtype": "bfloat16"},
        {"options": {"model": {"sharpness": 1.0}}},
        {"options": {"data": {"clips": 3}}},
        {"options": {"probe": {"heads": "each"}}},
    ]
    prints = [make_plan(spec(**c), found).fingerprints() for c in changes]
    assert len({p["predict"] for p in prints}) == len(changes)


def test_another_metric_scores_again_without_the_model(found, tmp_path) -> None:
    first = run(found, tmp_path, **marked(tmp_path))
    second = run(found, tmp_path, metrics="pck", **marked(tmp_path))
    assert second.run == first.run
    assert len(computed(tmp_path)) == 4
    metrics = set(second.run.read("scores")["metric"].to_pylist())
    assert "pck_8" in metrics
    assert "matching_accuracy" not in metrics


def test_rescoring_needs_no_model(found, tmp_path) -> None:
    first = run(found, tmp_path)
    count = rescore(first.run, found, RunSpec(metrics="pck", options={"metric": {"thresholds": [3]}})).clips
    assert count == 4
    assert set(first.run.read("scores")["metric"].to_pylist()) == {"pck_3", "pck_3_moving"}


class StopAfter(Silent):
    """Interrupts the run after some clips."""

    def __init__(self, clips: int, error: BaseException) -> None:
        self.clips, self.error = clips, error

    def clip_started(self, clip_id: str) -> None:
        if self.clips == 0:
            raise self.error
        self.clips -= 1


@pytest.mark.parametrize("stop_after", [0, 1, 3])
def test_an_interrupted_run_goes_on_and_ends_like_an_undisturbed_one(found, tmp_path, stop_after) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(found, tmp_path / "a", events=StopAfter(stop_after, KeyboardInterrupt()), **marked(tmp_path))
    resumed = run(found, tmp_path / "a", **marked(tmp_path))
    assert (resumed.reused, resumed.status) == (stop_after, "complete")
    assert computed(tmp_path) == [f"slide-{i}" for i in range(4)]
    undisturbed = run(found, tmp_path / "b", **marked(tmp_path))
    for table in ("predictions", "tracks", "scores"):
        assert same(resumed.run.read(table), undisturbed.run.read(table))


def test_an_interrupted_run_says_partial(found, tmp_path) -> None:
    plan = make_plan(spec(), found)
    with pytest.raises(KeyboardInterrupt):
        execute(plan, tmp_path, events=StopAfter(2, KeyboardInterrupt()))
    record = vcorr.store.rundir.find_runs(tmp_path)[0].record()
    assert record["status"] == "partial"
    assert record["clips"] == {"total": 4, "done": 2, "failed": 0, "reused": 0}
    assert record["seconds"]["per_computed_clip"] > 0
    assert record["seconds"]["load"] is not None


def test_a_failed_clip_is_a_row_and_is_tried_again(found, tmp_path) -> None:
    outcome = run(found, tmp_path, options={"data": {"fail": "slide-2"}})
    assert (outcome.status, outcome.failed) == ("partial", ("slide-2",))
    rows = outcome.run.read("scores").to_pylist()
    (failed,) = [r for r in rows if r["status"] == "failed"]
    assert (failed["clip"], failed["metric"], failed["layer"], failed["step"]) == ("slide-2", "", -1, -1)
    assert failed["error"] == "ValueError: slide-2 is broken (dataset 'token-slide' of support.sliding 1, in clip())"
    assert math.isnan(failed["value"])
    assert {r["clip"] for r in rows} == {f"slide-{i}" for i in range(4)}
    again = run(found, tmp_path, options={"data": {"fail": "slide-2"}})
    assert (again.reused, again.failed) == (3, ("slide-2",))


def test_when_every_clip_fails_the_run_failed(found, tmp_path) -> None:
    outcome = run(found, tmp_path, limit=1, options={"data": {"fail": "slide-0"}})
    assert outcome.status == "failed"


class Notes(Silent):
    """Keeps what a run says, without its note on defaults."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        if not message.startswith("Chosen by default"):
            self.said.append(message)


def test_a_damaged_shard_is_said_and_computed_again(found, tmp_path) -> None:
    first = run(found, tmp_path, **marked(tmp_path))
    whole = first.run.read("predictions")
    path = first.run.shard("predictions", "slide-1")
    path.write_bytes(path.read_bytes()[:100])
    listener = Notes()
    again = run(found, tmp_path, events=listener, **marked(tmp_path))
    assert again.reused == 3
    assert "slide-1.arrow is damaged" in listener.said[0]
    assert same(again.run.read("predictions"), whole)


@pytest.mark.parametrize(
    ("limit", "expected"), [(1000, ["--limit 1000 takes all clips: split test of token-slide has 4."]), (4, [])]
)
def test_a_limit_beyond_the_clips_is_said(found, tmp_path, limit, expected) -> None:
    listener = Notes()
    run(found, tmp_path, limit=limit, events=listener)
    assert listener.said == expected


@pytest.mark.parametrize("prompt", ["", "  "])
def test_a_blank_prompt_is_no_prompt_list(found, tmp_path, prompt) -> None:
    with pytest.raises(vcorr.UsageError, match=r"The prompt is blank\.\nWrite a prompt"):
        run(found, tmp_path, data=None, prompt=prompt)


def test_a_shard_of_another_spec_is_said_and_computed_again(found, tmp_path) -> None:
    first = run(found, tmp_path, **marked(tmp_path))
    other = run(found, tmp_path, steps="0", **marked(tmp_path))
    whole = first.run.read("predictions")
    first.run.shard("predictions", "slide-1").write_bytes(other.run.shard("predictions", "slide-1").read_bytes())
    listener = Notes()
    again = run(found, tmp_path, events=listener, **marked(tmp_path))
    assert again.reused == 3
    path = first.run.shard("predictions", "slide-1")
    assert listener.said == [f"{path} belongs to another spec. It is computed again."]
    assert same(again.run.read("predictions"), whole)


def test_a_damaged_shard_stops_rescoring_with_its_name(found, tmp_path) -> None:
    first = run(found, tmp_path)
    first.run.shard("predictions", "slide-1").write_bytes(b"x")
    with pytest.raises(StoreError, match=r"slide-1\.arrow is damaged"):
        rescore(first.run, found, RunSpec())


def contents(run) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def test_whatever_writes_into_a_run_is_refused_while_another_process_does(found, tmp_path) -> None:
    first = run(found, tmp_path, metrics="pck")
    before, plan = contents(first.run), make_plan(spec(), found)
    (best,) = [found.summary for found in best_sites(first.run.read("scores"))]
    writers = (
        lambda: execute(plan, tmp_path),
        lambda: rescore(first.run, found, RunSpec()),
        lambda: draw_overlays(plan, first.run, best),
    )
    for write in writers:
        with first.run.write_lock(), pytest.raises(StoreError, match=f"{first.run.run_id} is being written by process"):
            write()
        assert contents(first.run) == before
    for write in writers:
        write()
    assert contents(first.run) != before


def test_reuse_only_computes_nothing(found, tmp_path) -> None:
    with pytest.raises(vcorr.UsageError, match="no such run"):
        run(found, tmp_path, reuse=Reuse.ONLY)
    first = run(found, tmp_path, **marked(tmp_path))
    assert run(found, tmp_path, reuse=Reuse.ONLY, **marked(tmp_path)).reused == 4
    first.run.shard("predictions", "slide-1").unlink()
    with pytest.raises(StoreError, match="slide-1 has no usable predictions"):
        run(found, tmp_path, reuse=Reuse.ONLY, **marked(tmp_path))
    assert len(computed(tmp_path)) == 4


def test_reuse_never_starts_a_new_directory(found, tmp_path) -> None:
    first = run(found, tmp_path, **marked(tmp_path))
    second = run(found, tmp_path, reuse=Reuse.NEVER, **marked(tmp_path))
    assert second.run.run_id == f"{first.run.run_id}-2"
    assert len(computed(tmp_path)) == 8
    ignored = ["run"]
    assert same(second.run.read("scores").drop(ignored), first.run.read("scores").drop(ignored))


def test_missing_weights_end_the_run_before_a_clip_is_marked_failed(found, tmp_path) -> None:
    with pytest.raises(vcorr.MissingError):
        run(found, tmp_path, weights="missing")
    assert not list(tmp_path.rglob("*.arrow"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "sliding-modle"}, "Did you mean 'sliding-model'"),
        ({"probe": "kq"}, "Unknown probe"),
        ({"probe": ""}, "No probe"),
        ({"data": "nowhere"}, "Unknown dataset"),
        ({"layers": "7"}, "layers 0-1"),
        ({"layers": "2-spread"}, "layers"),
        ({"steps": "10"}, "steps 0-9"),
        ({"steps": "8-spread", "num_steps": 4}, "--steps 8-spread is out of range"),
        ({"num_steps": 0}, "num_steps must be at least 1"),
        ({"limit": 0}, "limit"),
        ({"mode": "denoise"}, "Unknown mode"),
        ({"variant": "diftrack"}, "Did you mean 'difftrack'"),
        (
            {"executor": "cloud"},
            r"Unknown executor 'cloud'\.\nAvailable in this version: --executor local, ray, submitit",
        ),
        ({"executor": "slurm"}, r"Jobs of Slurm are started through submitit\.\n--executor submitit"),
        ({"options": {"executor": {"jobs": "2"}}}, r"--executor local has no options"),
        ({"executor": "locl"}, r"Did you mean 'local'\?"),
        ({"device": "tpu9"}, "device"),
        ({"dtype": "int8"}, "Unknown dtype"),
        ({"metrics": "pkc"}, "Unknown metric"),
        ({"options": {"probe": {"head": "each"}}}, r"Did you mean 'probe\.heads'"),
        ({"options": {"metric": {"threshold": 3}}}, r"metric\.thresholds"),
        ({"data": "video:"}, "names no file"),
        ({"prompt": "a cat", "data": "token-slide"}, "exclude each other"),
        ({"prompt": "a cat", "mode": "renoise"}, "needs videos"),
        ({"tracker": "diss"}, "Did you mean 'dis'"),
        ({"options": {"tracker": {"nothing": 1}}, "tracker": "dis"}, "tracker"),
    ],
)
def test_bad_input_is_one_clear_usage_error(found, changes, message) -> None:
    with pytest.raises(vcorr.UsageError, match=message):
        make_plan(spec(**changes), found)


def test_only_steps_that_were_not_typed_adapt_to_fewer_steps(found) -> None:
    assert make_plan(spec(steps=None, num_steps=4), found).selection.settings.steps == (0, 1, 2, 3)
    assert make_plan(spec(steps="3-spread", num_steps=4), found).selection.settings.steps == (0, 2, 3)


def test_results_are_read_by_their_users_as_they_are(found, tmp_path) -> None:
    outcome = run(found, tmp_path, limit=1)
    path = outcome.run.shard("scores", "slide-0")
    with pa.ipc.open_file(str(path)) as reader:
        table = reader.read_all()
    assert np.isfinite(table["floor"].to_numpy()).all()
    assert shards.fingerprint_of(table) == outcome.run.record()["fingerprints"]["score"]


def test_run_json_tells_what_was_run(found, tmp_path) -> None:
    record = run(found, tmp_path, limit=1).run.record()
    assert record["spec"]["model"] == "sliding-model"
    assert record["resolved"]["settings"] == {
        "mode": "renoise",
        "steps": [0, 9],
        "num_steps": 10,
        "seed": 42,
        "cfg": None,
    }
    assert set(record["versions"]) >= {"vcorr", "python", "torch", "diffusers", "transformers", "numpy"}
    assert record["device"]["name"] == "cpu"
    assert record["status"] == "complete"
    assert record["plugins"]["probe 'qk'"] == "vcorr 0"


def test_a_model_that_skips_a_step_is_a_plugin_error_not_a_gap(found, tmp_path, monkeypatch) -> None:
    from support import sliding

    whole = sliding.SlidingModel.run

    def lazy(self, clip, settings, recorder):
        from dataclasses import replace

        whole(self, clip, replace(settings, steps=settings.steps[:1]), recorder)

    monkeypatch.setattr(sliding.SlidingModel, "run", lazy)
    with pytest.raises(vcorr.PluginError, match=r"no prediction for layer 0 at step 9 \(2 missing"):
        run(found, tmp_path)
    assert not list(tmp_path.rglob("predictions/*.arrow"))


def test_more_clips_extend_a_run_and_fewer_leave_it_whole(found, tmp_path) -> None:
    first = run(found, tmp_path, limit=2, **marked(tmp_path))
    more = run(found, tmp_path, limit=3, **marked(tmp_path))
    assert (more.run, more.reused, more.clips) == (first.run, 2, 3)
    fewer = run(found, tmp_path, limit=1, **marked(tmp_path))
    assert (fewer.run, fewer.reused) == (first.run, 1)
    assert computed(tmp_path) == ["slide-0", "slide-1", "slide-2"]
    assert fewer.run.record()["clips"] == {"total": 3, "done": 3, "failed": 0, "reused": 1}


@pytest.mark.parametrize("heads", ["2", "0,7"])
def test_a_head_that_is_not_there_is_said_before_anything_runs(found, heads) -> None:
    with pytest.raises(vcorr.UsageError, match="layer 0 has 2 heads"):
        make_plan(spec(options={"probe": {"heads": heads}}), found)


def test_nan_fails_the_clip_and_not_the_run(found, tmp_path, monkeypatch) -> None:
    from support import sliding

    answers = iter([float("nan"), 1.0, 1.0, 1.0])

    def poison(network, pixels):
        return (pixels * next(answers),)

    load = sliding.SlidingModel.load

    def loaded(self, *arguments):
        load(self, *arguments)
        self.network.register_forward_pre_hook(lambda module, inputs: poison(module, *inputs))

    monkeypatch.setattr(sliding.SlidingModel, "load", loaded)
    outcome = run(found, tmp_path, steps="last", layers="0")
    assert outcome.failed == ("slide-0",)
    errors = [r["error"] for r in outcome.run.read("scores").to_pylist() if r["status"] == "failed"]
    assert errors[0].startswith("NumericalError: Probe 'qk' returned NaN")


FULL = "CUDA out of memory. Tried to allocate 1 TiB. GPU 0 has a total capacity of 80 GiB.\nmore"


def test_a_clip_that_does_not_fit_in_memory_fails_alone_and_says_what_takes_less(found, tmp_path, monkeypatch) -> None:
    import torch

    from vcorr.probes.matching_probes import QueryKey

    read = QueryKey.read_each
    answers = iter([torch.OutOfMemoryError(FULL)])

    def exhaust(self, *arguments):
        for error in answers:
            raise error
        return read(self, *arguments)

    monkeypatch.setattr(QueryKey, "read_each", exhaust)
    outcome = run(found, tmp_path, steps="last", layers="0")
    assert outcome.failed == ("slide-0",)
    errors = {r["error"] for r in outcome.run.read("scores").to_pylist() if r["status"] == "failed"}
    assert len(errors) == 1
    assert "probe 'qk'" in (said := errors.pop())
    assert "than the device has: CUDA out of memory. Tried to allocate 1 TiB. --offload and --vae-tiling" in said


def test_a_model_that_does_not_fit_in_memory_is_no_fault_of_its_plugin(found, tmp_path, monkeypatch) -> None:
    import torch
    from support import sliding

    def load(self, *arguments):
        raise torch.OutOfMemoryError(FULL)

    monkeypatch.setattr(sliding.SlidingModel, "load", load)
    with pytest.raises(
        vcorr.UsageError, match=r"needs more memory in load\(\).*Tried to allocate 1 TiB. --offload"
    ) as raised:
        run(found, tmp_path, steps="last", layers="0")
    assert "must be mended" not in str(raised.value)


def allocate(kind):
    import torch

    if kind == "torch on a GPU":
        raise torch.OutOfMemoryError(FULL)
    return torch.empty(10**15) if kind == "torch on a CPU" else np.empty(10**15)


@pytest.mark.parametrize("kind", ["torch on a GPU", "torch on a CPU", "numpy"])
def test_the_part_that_lacks_memory_is_named_on_every_device(kind) -> None:
    inner, outer = PartName("probe 'p'", "plugin 1"), PartName("model 'm'", "plugin 2")
    with (
        pytest.raises(vcorr.UsageError, match=r"probe 'p' of plugin 1 needs more memory in read\(\)") as raised,
        outer.calling("run()"),
        inner.calling("read()"),
    ):
        allocate(kind)
    assert raised.value.raised_by == str(inner)
    assert str(raised.value).count("\n") == 0
    assert "model" not in error_code(raised.value)
    assert error_code(raised.value).count(str(inner)) == 1


def test_a_full_disk_is_what_the_user_hears_of(found, tmp_path, monkeypatch) -> None:
    import errno

    whole = shards.write_shard

    def full(path, *arguments, **options):
        if path.name == "slide-1.arrow":
            monkeypatch.setattr(os, "replace", raise_full)
        whole(path, *arguments, **options)

    def raise_full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards, "write_shard", full)
    with pytest.raises(StoreError, match=r"The disk is full: .*slide-1\.arrow(.|\n)*1 of 4 clips are finished"):
        run(found, tmp_path)


def test_other_metrics_alone_still_give_best_sites(found, tmp_path) -> None:
    scores = run(found, tmp_path, metrics="pck").run.read("scores")
    assert [b.summary.metric for b in best_sites(scores)] == ["pck_8_moving"]


@pytest.mark.parametrize(("probe", "options"), [("hidden", {}), ("qk", {"rotary": False})])
def test_what_the_sites_cannot_give_is_said_before_anything_runs(found, probe, options) -> None:
    with pytest.raises(vcorr.UsageError, match=r"model 'sliding-model' of support\.sliding 1 does not declare"):
        make_plan(spec(probe=probe, options={"probe": options}), found)


def test_rows_say_what_they_were_measured_on_and_by(found, tmp_path) -> None:
    outcome = run(found, tmp_path, probe="qk,attention", metrics="pck,attention", variant="both", limit=2)
    rows = outcome.run.read("scores").to_pylist()
    versions = {name: found.metrics.get(name).entry.version for name in ("pck", "attention")}
    for row in rows:
        assert row["metric_version"] == versions[row["metric"].split("_")[0]]
        assert (row["task"], row["query_frame"], row["query_mode"]) == ("correspondence", 0, "frame")
        assert (row["token_width"], row["token_height"], row["width"], row["frames"]) == (8, 8, 64, 5)
        assert (row["tracker_version"], row["scoring_version"] > 0, math.isnan(row["cfg"])) == (1, True, True)
    kinds = {(row["probe"], row["variant"]): row["ceiling_kind"] for row in rows}
    assert kinds == {
        ("qk", "corrected"): "token_maximum",
        ("qk", "difftrack"): "field_bound",
        ("attention", "corrected"): "none",
        ("attention", "difftrack"): "none",
    }
    by_clip = {row["clip"]: row["data_hash"] for row in rows}
    assert all(len(value) == 16 for value in by_clip.values())
    assert len(set(by_clip.values())) == 2


def test_the_hash_of_the_data_depends_on_the_content_alone(found, tmp_path) -> None:
    def hashes(out: str, **changes) -> set[str]:
        return set(run(found, tmp_path / out, limit=1, **changes).run.read("scores")["data_hash"].to_pylist())

    first = hashes("a")
    assert hashes("b", seed=7, layers="0", weights="random") == first
    assert hashes("c", options={"data": {"moved": 1.0}}) != first
    made = hashes("d", prompt="a", steps="last")
    assert hashes("e", prompt="b", steps="last") != made
    assert hashes("f", prompt="a", steps="last", seed=7) != made
    assert hashes("g", prompt="a", steps="0") == made


def test_the_strength_of_guidance_is_a_column_of_what_was_generated(found, tmp_path) -> None:
    made = run(found, tmp_path / "a", prompt="a", steps="last", cfg=3.0).run.read("scores")
    assert set(made["cfg"].to_pylist()) == {3.0}
    assert set(made["tracker_version"].to_pylist()) == {1}
    read = run(found, tmp_path / "b", steps="last", cfg=3.0).run.read("scores")
    assert all(math.isnan(value) for value in read["cfg"].to_pylist())


def test_rows_of_two_layouts_are_never_mixed_in_a_run(found, tmp_path, monkeypatch) -> None:
    from vcorr.runner import identity

    first = run(found, tmp_path, limit=1, **marked(tmp_path))
    monkeypatch.setattr(identity, "SCHEMA_VERSION", identity.SCHEMA_VERSION + 1)
    more = run(found, tmp_path, limit=2, **marked(tmp_path))
    assert (more.run, more.reused) == (first.run, 1)
    assert computed(tmp_path) == ["slide-0", "slide-1"]  # the model does not run again
    for table in ("scores", "tracks"):
        prints = {shards.read_fingerprint(path) for path in (more.run.path / table).iterdir()}
        assert len(prints) == 1


@pytest.mark.parametrize("stride", [8, 16])
def test_rows_of_baselines_say_the_size_of_their_tokens_and_a_failed_clip_has_none(found, tmp_path, stride) -> None:
    options = {"model": {"stride": stride}, "data": {"fail": "slide-1"}}
    for model in ("zero-motion", "dense-search"):
        changes = {"model": model, "data": "token-slide", "probe": "", "steps": None, "limit": 2, "options": options}
        rows = run(found, tmp_path / model, **changes).run.read("scores").to_pylist()
        sizes = {row["clip"]: str((row["token_width"], row["token_height"])) for row in rows}
        assert sizes == {"slide-0": str((stride * 1.0, stride * 1.0)), "slide-1": "(nan, nan)"}
