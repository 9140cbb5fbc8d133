"""Scoring stored predictions again: all clips or none, so that a mean never mixes clips with different metrics."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
from support import sliding

from vcorr.analysis.comparison import compare_runs
from vcorr.analysis.overview import overview
from vcorr.board.tables.board_runs import load_run
from vcorr.cli import main as program
from vcorr.contract.errors import StoreError, UsageError
from vcorr.plugins import builtin, registry
from vcorr.runner.coordinator import execute
from vcorr.runner.plan import make_plan
from vcorr.runner.rescore import rescore
from vcorr.runner.score_shards import ShardScorer
from vcorr.runner.spec import RunSpec
from vcorr.store import shards
from vcorr.store.rundir import RunDirectory

INSTALLED = registry.Registry(
    [registry.PluginSource(m.__name__, m.__name__, "1", lambda m=m: m) for m in (builtin, sliding)]  # type: ignore[misc]
)


def run(out: Path, **changes: object) -> RunDirectory:
    asked = {"model": "sliding-model", "probe": "qk", "steps": "last", **changes}
    return execute(make_plan(RunSpec(**asked), INSTALLED), out).run  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return run(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def copy(made: RunDirectory, tmp_path: Path) -> RunDirectory:
    return RunDirectory(Path(shutil.copytree(made.path, tmp_path / made.run_id)))


def contents(run: RunDirectory) -> dict[str, bytes]:
    return {str(path.relative_to(run.path)): path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def columns(run: RunDirectory) -> dict[str, set[str]]:
    """Returns the metrics of each clip, by the id of the clip."""
    rows = run.read("scores").to_pylist()
    return {clip: {row["metric"] for row in rows if row["clip"] == clip} for clip in {row["clip"] for row in rows}}


def test_scoring_twice_gives_identical_bytes(copy: RunDirectory) -> None:
    before = contents(copy)
    rescore(copy, INSTALLED, RunSpec(metrics="pck"))
    other = contents(copy)
    rescore(copy, INSTALLED, RunSpec())
    after = contents(copy)
    shown = [{k: v for k, v in files.items() if k != "run.json"} for files in (before, other, after)]
    assert shown[0] == shown[2] != shown[1]


@pytest.mark.parametrize("ending", [KeyboardInterrupt(), "damaged"])
def test_scoring_that_does_not_reach_its_end_changes_nothing(copy, monkeypatch, ending) -> None:
    if ending == "damaged":
        copy.shard("predictions", "slide-3").write_bytes(b"damaged")
    else:
        whole = ShardScorer.score

        def interrupted(self, name, **options):
            if name == "slide-2.arrow":
                raise ending
            whole(self, name, **options)

        monkeypatch.setattr(ShardScorer, "score", interrupted)
    before = contents(copy)
    with pytest.raises((KeyboardInterrupt, StoreError)):
        rescore(copy, INSTALLED, RunSpec(metrics="pck"))
    assert contents(copy) == before


def test_clips_that_are_scored_differently_are_never_put_together(copy, made, tmp_path, plugins, capsys) -> None:
    rescore(copy, INSTALLED, RunSpec(metrics="pck", options={"metric": {"thresholds": [3]}}))
    for clip in ("slide-0", "slide-2"):  # as if it had been killed while it replaced the scores
        shutil.copy(made.shard("scores", clip), copy.shard("scores", clip))
    readers = (
        lambda: overview(copy),
        lambda: compare_runs(copy, copy),
        lambda: load_run(copy, ["pck_3"], tmp_path / "copy.arrow"),
    )
    for read in readers:
        with pytest.raises(StoreError, match=f"2 of the 4 clips of {copy.path} are scored by other metrics") as refused:
            read()
    plugins()
    words = shlex.split(refused.value.hint.split(": ", 1)[1])
    said = ("metrics=pck", "metric.thresholds=[3.0]", "variant=corrected")
    assert words == ["vcorr", "score", str(copy.path), *(word for value in said for word in ("--set", value))]
    with pytest.raises(SystemExit) as ended:
        program.main(words[1:])
    assert ended.value.code == 0
    assert {"pck_3"} == {name for name in overview(copy).metrics if name in ("pck_1", "pck_3")}


def test_a_shorter_command_with_other_metrics_scores_all_clips_by_them(tmp_path) -> None:
    run(tmp_path)
    shorter = run(tmp_path, limit=1, metrics="pck", variant="corrected+pooling=everything")
    found = columns(shorter)
    assert sorted(found) == ["slide-0", "slide-1", "slide-2", "slide-3"]
    assert found["slide-3"] == found["slide-0"]
    assert {name.split("_")[0] for name in found["slide-3"]} == {"pck"}
    assert overview(shorter).facts.clips == tuple(sorted(found))


@pytest.mark.parametrize("switch", ["guidance_mask=after", "lookup=exchanged"])
def test_a_switch_that_changes_nothing_is_refused_as_in_a_run(copy, switch) -> None:
    before = contents(copy)
    with pytest.raises(UsageError, match=f"'{switch.split('=')[0]}' .* changes nothing"):
        rescore(copy, INSTALLED, RunSpec(variant=f"corrected+{switch}"))
    assert contents(copy) == before


@pytest.mark.parametrize("record", [{}, {"fingerprints": {"predict": "a"}, "row_context": {}}])
def test_a_record_that_lacks_what_scoring_needs(copy, record) -> None:
    copy.write_record(record, "complete")
    with pytest.raises(StoreError, match=r"run\.json lacks what scoring needs.*\nRepeat the command"):
        rescore(copy, INSTALLED, RunSpec())


def test_a_clip_without_tracks_says_what_to_do(copy) -> None:
    copy.shard("tracks", "slide-1").unlink()
    with pytest.raises(StoreError, match=r"slide-1\.arrow does not exist\.\nRepeat the command"):
        rescore(copy, INSTALLED, RunSpec())
    assert shards.read_fingerprint(copy.shard("tracks", "slide-1")) == ""


@pytest.mark.parametrize("key", ["status", "row_context", "fingerprints"])
def test_a_record_that_lacks_what_scoring_needs_is_said_and_changes_nothing(copy: RunDirectory, key: str) -> None:
    record = json.loads((copy.path / "run.json").read_text())
    del record[key]
    (copy.path / "run.json").write_text(json.dumps(record))
    before = contents(copy)
    with pytest.raises(StoreError, match=rf"run\.json lacks what scoring needs: '{key}'"):
        rescore(copy, INSTALLED, RunSpec(metrics="pck"))
    assert contents(copy) == before
