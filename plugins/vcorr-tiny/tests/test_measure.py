"""Everything is measured in one pool; pages and boards are made of small copies, past failures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from vcorr_tiny import accelerated, knockouts, measure, measurements, traits
from vcorr_tiny.command_runs import Command, Work
from vcorr_tiny.measurements import Kept
from vcorr_tiny.task_pool import Task
from vcorr_tiny.training.sheets import LINE, MARGIN

from vcorr import StoreError, UsageError
from vcorr.board import collecting
from vcorr.store.run_search import find_all_runs
from vcorr.store.rundir import RunDirectory, find_runs
from vcorr.store.schema import ScoreRow
from vcorr.store.shards import write_shard
from vcorr.studies.accelerator_rows import TABLE, AcceleratorRow
from vcorr.studies.guidance_page import write_png
from vcorr.studies.knockout_agreements import AgreementRow, read_agreements, write_agreements
from vcorr.studies.knockout_sites import CutSite


def store(folder: Path, fingerprint: str, *metrics: str) -> RunDirectory:
    """Writes a run of one clip with a row per metric."""
    run = RunDirectory.create(folder, fingerprint * 64)
    rows = [ScoreRow(clip="c", probe="qk", metric=name, value=0.5) for name in metrics]
    write_shard(run.shard("scores", "c"), "scores", rows, "f")
    (run.path / "predictions" / "large").write_bytes(b"x" * 1000)
    run.write_record({"clips": {"total": 1}, "fingerprints": {}}, "complete")
    return run


def read_metrics(folder: Path) -> set[str]:
    """Returns the metrics of the only run in a folder."""
    (run,) = find_runs(folder)
    return set(run.read("scores")["metric"].to_pylist())


def test_copies_lie_where_their_runs_do_with_the_wanted_columns_alone(tmp_path) -> None:
    out, target = tmp_path / "out", tmp_path / "copies"
    for number, place in enumerate(("a/x", "a/y", "choice")):
        store(out / place, str(number), "wanted", "other")
    (out / "page.json").write_text("{}")
    Kept(("wanted",), ("page*.json",)).copy(out, target)
    assert [read_metrics(target / place) for place in ("a/x", "a/y", "choice")] == [{"wanted"}] * 3
    assert (target / "page.json").is_file()
    assert not list(target.rglob("large"))


def test_copies_for_boards_lie_in_one_folder_with_the_columns_of_boards(tmp_path) -> None:
    out, target = tmp_path / "out", tmp_path / "copies"
    store(out, "a", "wanted", "other", "matching_accuracy_moving")
    store(out / "lk-seed0", "b", "wanted")
    Kept(("wanted",), for_boards=True, one_folder=True).copy(out, target)
    found = {run.run_id: set(run.read("scores")["metric"].to_pylist()) for run in find_runs(target)}
    assert found == {"a" * 12: {"wanted", "matching_accuracy_moving"}, "b" * 12: {"wanted"}}


def test_only_what_is_new_is_copied_and_copies_of_other_runs_are_deleted(tmp_path, monkeypatch) -> None:
    out, target, kept = tmp_path / "out", tmp_path / "copies", Kept(("wanted",), ("*.json",))
    first, second = store(out / "x", "a", "wanted"), store(out / "y", "b", "wanted")
    (out / "costs.json").write_text("1")
    kept.copy(out, target)
    copied: list[Path] = []
    keep = collecting._copy
    monkeypatch.setattr(collecting, "_copy", lambda run, *rest: copied.append(run.path) or keep(run, *rest))
    third = store(out / "x", "c", "wanted")
    second.write_record({"clips": {"total": 2}, "fingerprints": {}}, "complete")
    (out / "costs.json").write_text("2")
    kept.copy(out, target)
    assert copied == [third.path, second.path]
    assert (target / "costs.json").read_text() == "2"
    shutil.rmtree(first.path)
    kept.drop_others(out, target)
    assert [run.path.relative_to(target) for run in find_all_runs(target)] == [
        third.path.relative_to(out),
        second.path.relative_to(out),
    ]


def test_a_copy_that_is_interrupted_leaves_the_earlier_one_whole(tmp_path, monkeypatch) -> None:
    out, target, kept = tmp_path / "out", tmp_path / "copies", Kept(("wanted",))
    run = store(out, "a", "wanted")
    kept.copy(out, target)
    run.write_record({"clips": {"total": 2}, "fingerprints": {}}, "complete")

    def fail(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(collecting.shutil, "copyfile", fail)
    with pytest.raises(KeyboardInterrupt):
        kept.copy(out, target)
    (copy,) = find_runs(target)
    assert copy.record()["clips"]["total"] == 1
    assert [path.name for path in target.iterdir()] == [copy.run_id]


def test_unfinished_studies_are_copied_if_they_are_small(tmp_path, monkeypatch) -> None:
    cell = tmp_path / "out" / "studies" / "knockout-1" / "cells" / "a.arrow"
    cell.parent.mkdir(parents=True)
    cell.write_bytes(b"x" * 100)
    (cell.parent / ".temporary").write_text("")
    for most, expected in ((99, []), (100, [cell.name])):
        monkeypatch.setattr(measurements, "MOST_UNFINISHED", most)
        knockouts.KEPT.copy_unfinished(tmp_path / "out", tmp_path / "copies")
        assert [path.name for path in (tmp_path / "copies").rglob("*") if path.is_file()] == expected


def test_tasks_without_networks_run_none_and_wait_for_none(tmp_path) -> None:
    tasks = [task for task in measure.list_tasks(Work(tmp_path, 2)) if measure.needs_no_network(task)]
    names = {task.name for task in tasks}
    assert {"findings/zncc-search-hard", "tracking/hard-tracker-dis"} <= names
    assert not any(task.make().on_device or task.after for task in tasks)
    assert not {name for name in names if "renoise" in name or "tiny" in name}


def test_tasks_of_all_measurements_are_in_one_pool_and_keep_their_own_number_of_clips(tmp_path) -> None:
    tasks = {task.name: task for task in measure.list_tasks(Work(tmp_path, 10))}
    limits = {}
    for name in ("findings/renoise-hard-seed1", "knockouts/observed", "accelerators/study", "guidance/cag"):
        words = tasks[name].make().words
        limits[name.partition("/")[0]] = words[words.index("--limit") + 1]
        assert words[words.index("--out") + 1].startswith(str(tmp_path / name.partition("/")[0]))
    assert limits == {"findings": "10", "knockouts": "10", "accelerators": "6", "guidance": "10"}
    assert tasks["knockouts/doses"].after == ("knockouts/observed", "knockouts/layers")
    assert tasks["knockouts/own-heads"].after == ("knockouts/observed", "knockouts/heads")


@pytest.fixture
def small(monkeypatch) -> None:
    """Makes two measurements of one task each, of which the first one fails."""

    def make_tasks(work: Work, word: str) -> list[Task]:
        return [Task("only", lambda: Command(("run", "--model", word, "--out", str(work.out))))]

    def pretend(self, made: Command) -> int:
        store(Path(made.words[-1]), "a", traits.ACCURACY)
        return int(made.model == "bad")

    monkeypatch.setattr(Work, "run_one", pretend)
    given = ((measure.accelerated.MEASUREMENT, "bad"), (measure.traits.MEASUREMENT, "good"))
    made = [
        measure.Measurement(
            one.name, one.clips, lambda work, word=word: make_tasks(work, word), one.write_tables, one.kept
        )
        for one, word in given
    ]
    monkeypatch.setattr(measure, "MEASUREMENTS", made)


@pytest.mark.usefixtures("small")
def test_a_failure_stops_neither_the_others_nor_the_copies(tmp_path, capsys) -> None:
    line = ["--out", str(tmp_path / "runs"), "--copies", str(tmp_path / "copies")]
    with pytest.raises(Exception, match="1 of 2 tasks failed: accelerators/only"):
        measure.main(line)
    assert read_metrics(tmp_path / "copies" / "traits") == {traits.ACCURACY}
    assert "Copies: " in capsys.readouterr().err


@pytest.mark.usefixtures("small")
def test_each_task_is_copied_once_it_has_ended(tmp_path, monkeypatch) -> None:
    copied: list[str] = []
    copy = Kept.copy
    monkeypatch.setattr(Kept, "copy", lambda self, out, target: copied.append(target.name) or copy(self, out, target))
    monkeypatch.setattr(measure.SmallCopies, "finish", lambda self: self._thread.shutdown() or [])
    with pytest.raises(Exception, match="1 of 2 tasks failed"):
        measure.main(["--out", str(tmp_path / "runs"), "--copies", str(tmp_path / "copies")])
    assert copied == ["traits"]
    assert read_metrics(tmp_path / "copies" / "traits") == {traits.ACCURACY}


@pytest.mark.usefixtures("small")
def test_a_list_has_the_chosen_tasks_alone_and_a_wrong_name_leaves_nothing_behind(tmp_path, capsys) -> None:
    assert measure.main(["--list", "--only", "traits"]) == 0
    assert capsys.readouterr().out == "traits/only\n"
    line = ["--only", "traits,nope", "--out", str(tmp_path / "runs"), "--copies", str(tmp_path / "copies")]
    for words in (line, [*line, "--list"]):
        with pytest.raises(UsageError, match="Unknown task 'nope'"):
            measure.main(words)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == ""


def write_accelerators(folder: Path) -> None:
    """Writes a stored study of accelerators."""
    names = ("skill", "denoising_loss", "psnr", "seconds_per_video")
    folder.mkdir(parents=True)
    TABLE.write(folder / accelerated.TABLE, [AcceleratorRow(accelerator="fp8", metric=name) for name in names])
    facts = {"model": "tiny", "clips": 6, "dataset": "sprites", "probe": "qk", "site": "7:49"}
    (folder / accelerated.RECORD).write_text(json.dumps({**facts, "prompts": 1, "num_steps": 6}))


def test_tables_are_made_past_what_is_missing_or_damaged(tmp_path, capsys) -> None:
    write_accelerators(tmp_path / "copies" / "accelerators")
    (tmp_path / "copies" / "knockouts").mkdir()
    (tmp_path / "copies" / "knockouts" / "page-layers.json").write_text("{")
    page = tmp_path / "docs" / "accelerators.md"
    page.parent.mkdir()
    page.write_text("<!-- accelerators-tiny -->\n<!-- /accelerators-tiny -->\n")
    line = ["--tables-only", "--out", str(tmp_path / "copies"), "--docs", str(page.parent)]
    assert measure.main(line) == 1
    assert "| `fp8` |" in page.read_text()
    said = capsys.readouterr().err.splitlines()
    assert "accelerators: tables made" in said
    assert any(line.startswith("knockouts: JSONDecodeError") for line in said)
    assert any(line.startswith("guidance: ") and "study.json does not exist" in line for line in said)


def test_runs_for_boards_replace_the_earlier_ones_and_leave_what_was_not_measured(tmp_path) -> None:
    results, copies = tmp_path / "results", tmp_path / "copies"
    for folder in (results, results / "tracking", results / "propagation"):
        store(folder, "0", "average_jaccard")
    store(copies / "tracking" / "reported" / "hard" / "tracker-dis", "1", "average_jaccard")
    store(copies / "tracking" / "choice" / "7", "2", "average_jaccard")
    measure.keep_for_boards(Work(copies, 9), results)
    kept = {
        folder: [run.run_id[0] for run in find_runs(results / folder)] for folder in ("", "tracking", "propagation")
    }
    assert kept == {"": ["0"], "tracking": ["1"], "propagation": ["0"]}


@pytest.mark.parametrize(
    ("skills", "losses", "expected"), [((0.1, 0.7, 0.3), (0.2, 0.9, 0.4), "1,2"), ((0.9, 0.7), (0, 1), "0,1")]
)
def test_doses_are_cut_in_the_best_layer_and_the_most_harmful_other_one(skills, losses, expected) -> None:
    observed = SimpleNamespace(mean_skills=lambda steps, heads: {CutSite(i): skill for i, skill in enumerate(skills)})
    whole = [
        SimpleNamespace(sites=str(i), outcome="loss", whole=SimpleNamespace(value=x)) for i, x in enumerate(losses)
    ]
    other = SimpleNamespace(sites="0", outcome="matching", whole=SimpleNamespace(value=9.0))
    study = SimpleNamespace(observed=observed, steps=(35,))
    found = knockouts.Measured(study, SimpleNamespace(effects=[*whole, other]))
    assert knockouts.choose_dosed(found) == expected


def test_the_heads_that_are_cut_at_their_own_norm_are_the_most_harmful_ones() -> None:
    harms = {"1::0": 0.1, "9::0": 0.4, "3::1": float("nan"), "4::0": 0.5, "7::2": 0.2}
    whole = [SimpleNamespace(sites=at, outcome="loss", whole=SimpleNamespace(value=x)) for at, x in harms.items()]
    other = SimpleNamespace(sites="1::0", outcome="matching", whole=SimpleNamespace(value=9.0))
    found = knockouts.Measured(SimpleNamespace(), SimpleNamespace(effects=[*whole, other]))
    assert knockouts.choose_heads(found) == "4::0,7::2,9::0"


def test_the_page_of_knockouts_is_made_of_what_the_studies_wrote(tmp_path) -> None:
    out, docs = tmp_path / "knockouts", tmp_path / "docs"
    docs.mkdir()
    shutil.copyfile(Path(__file__).parents[3] / "docs" / "knockouts.md", docs / "knockouts.md")
    out.mkdir()
    for name in knockouts.STUDIES:
        blocks = {f"knockout-{name}": f"About {name}."}
        bars = [{"layer": 1, "panel": panel, "value": 0.5, "low": None, "high": None} for panel in knockouts.PANELS]
        page = {"blocks": blocks, "bars": bars, "chosen": "4,8"}
        (out / knockouts.PAGE.format(name)).write_text(json.dumps(page))
        write_agreements(out / knockouts.AGREEMENT.format(name), [AgreementRow(study=name, model="tiny", weights="w")])
    strips = np.full((3, 12, 30, 3), 255, np.uint8)
    strips[:, :8] = np.array([40, 90, 140], np.uint8)[:, None, None, None]
    write_png(out / knockouts.STRIPS_FILE, strips.reshape(-1, 30, 3))
    knockouts.write_tables(Work(out, 1), docs)
    text = (docs / "knockouts.md").read_text()
    assert all(f"About {name}." in text for name in knockouts.STUDIES)
    assert (docs / "images" / "knockouts.png").stat().st_size > 2000
    with Image.open(docs / "images" / "knockout-videos.png") as shown:
        assert shown.size == (30, 3 * (8 + LINE + MARGIN)), "a line of text above each strip"
    (row,) = read_agreements(tmp_path / "leaderboards" / "results" / "knockout-agreement.arrow")
    assert row.study == "layers"
    (out / knockouts.PAGE.format("videos")).unlink()
    (out / knockouts.STRIPS_FILE).unlink()
    heads = out / knockouts.PAGE.format("heads")
    heads.write_text(heads.read_text().replace("About heads.", "News of heads."))
    with pytest.raises(StoreError, match="page-videos"):
        knockouts.write_tables(Work(out, 1), docs)
    assert "News of heads." in (docs / "knockouts.md").read_text(), "what there is is written"
