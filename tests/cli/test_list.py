"""What `vcorr list` shows at usual widths, and the list of runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

RUN = ("run", "--model", "sliding-model", "--probe", "qk", "--steps", "0", "--set", "data.clips=1")


@pytest.mark.parametrize(("width", "has_plugin"), [(60, False), (80, False), (120, True)])
def test_lists_fit_and_say_what_they_leave_out(vcorr, monkeypatch, width, has_plugin) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for kind in ("models", "metrics", "trackers"):
        text = vcorr("list", kind).out
        assert max(map(len, text.splitlines())) <= width
        assert ("Left out at this width: plugin. --json has all." in text) is not has_plugin
        names = [entry["name"] for entry in json.loads(vcorr("list", kind, "--json").out)]
        assert all(f" {name} " in text for name in names if len(name) < width // 3)
        assert all(entry["plugin"] for entry in json.loads(vcorr("list", kind, "--json").out))


def test_runs_are_listed_with_their_status(vcorr, monkeypatch) -> None:
    assert "No runs in runs." in vcorr("list", "runs").out
    path = Path(json.loads(vcorr(*RUN, "--json").out)["path"])
    vcorr(*RUN, "--set", "data.fail=slide-0")
    broken = Path("runs/zzzz")
    broken.mkdir()
    (broken / "run.json").write_text("{", encoding="utf-8")
    rows = json.loads(vcorr("list", "runs", "--json").out)
    assert sorted(row["status"] for row in rows) == ["complete", "damaged", "failed"]
    (whole,) = [row for row in rows if row["status"] == "complete"]
    assert (whole["run"], whole["probes"], whole["clips"], whole["failed"]) == (path.name, ["qk"], 1, 0)
    for width in (60, 80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        text = vcorr("list", "runs").out
        assert max(map(len, text.splitlines())) <= width
        assert path.name in text
        assert "zzzz: " in text
    assert json.loads(vcorr("list", "runs", "--results", str(path), "--json").out) == [whole]


def test_without_a_kind_the_kinds_are_counted(vcorr, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    vcorr(*RUN, "--out", "runs/demo")
    everything = json.loads(vcorr("list", "--json").out)
    text = vcorr("list").out
    assert max(map(len, text.splitlines())) <= 60
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if "vcorr list" in line}
    counts = {kind: [str(len(entries))] for kind, entries in everything.items()} | {"runs": []}
    assert rows == {kind: [*count, "vcorr", "list", kind] for kind, count in counts.items()}


def test_the_help_names_every_kind_that_is_listed_and_shown(vcorr) -> None:
    said = " ".join(vcorr("--help").out.split())
    assert "trackers, guidances, executors, configs, plugins, runs." in said
    assert "tracker, guidance, executor, config or run." in said


def test_executors_are_listed_and_shown_with_their_options(vcorr) -> None:
    assert [row["name"] for row in json.loads(vcorr("list", "executors", "--json").out)] == ["local", "submitit", "ray"]
    shown = json.loads(vcorr("show", "executor", "submitit", "--json").out)
    assert shown["needs"] == "pip install 'vcorr[slurm]'"
    assert set(shown["options"]) == {"cluster", "partition", "hours", "cpus", "memory", "gpus", "jobs"}
    assert "options" not in json.loads(vcorr("show", "executor", "local", "--json").out)
    refused = vcorr("show", "executor", "loca")
    assert refused.code == 2
    assert "Unknown executor 'loca'. Did you mean 'local'?" in refused.err


def test_runs_of_folders_below_are_listed_with_what_differs_and_named_by_their_ids(vcorr) -> None:
    ids = {}
    for clips, folder in ((2, "runs/demo"), (3, "runs/demo"), (3, "runs/other")):  # the last two are the same run
        made = vcorr(*RUN[:-1], f"data.clips={clips}", "--out", folder, "--json")
        ids[clips, folder] = Path(json.loads(made.out)["path"])
    rows = json.loads(vcorr("list", "runs", "--json").out)
    assert [row["path"] for row in rows] == sorted(map(str, ids.values()), key=lambda path: Path(path).parts[1:])
    assert {row["settings"]["data.clips"] for row in rows} == {"2", "3"}
    text = vcorr("list", "runs").out
    assert all(word in text for word in ("data.clips=2", "data.clips=3", "demo", "other"))
    first, second = ids[2, "runs/demo"], ids[3, "runs/demo"]
    sites = ("--site-a", "0:0", "--site-b", "0:0")
    for command in (
        ("show", "run", first.name[:6]),
        ("score", first.name),
        ("compare", first.name, f"{second}", *sites),
    ):
        ended = vcorr(*command, "--json")
        assert ended.code == 0, ended.err
        assert str(first) in ended.out
    twice = vcorr("show", "run", second.name)
    assert twice.code == 2
    assert f"names several runs in runs: demo/{second.name}, other/{second.name}." in " ".join(twice.err.split())
