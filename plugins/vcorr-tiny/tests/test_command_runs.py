"""Tests the commands of the measurements: they are accepted, run in pieces, and say what failed."""

from __future__ import annotations

from pathlib import Path

import pytest
from vcorr_tiny import findings, generated, switches
from vcorr_tiny.command_runs import Work, make_parser, read_work

from vcorr import StoreError, UsageError, VcorrError
from vcorr.cli import main as program


@pytest.fixture
def lines(monkeypatch) -> list[list[str]]:
    """Returns the list to which all commands are added, instead of being run."""
    found: list[list[str]] = []

    def pretend(self, arguments) -> int:
        found.append(list(arguments))
        return int("token-patches" in arguments)  # one command fails

    monkeypatch.setattr(Work, "_vcorr", pretend)
    return found


def is_accepted(line: list[str], capsys) -> bool:
    """Returns whether the program would run a command."""
    with pytest.raises(SystemExit) as ended:
        program.main([*line, "--dry-run"])
    capsys.readouterr()
    return not ended.value.code


def test_the_program_accepts_every_command(lines, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    work = Work(tmp_path, 2)
    work.run([line for line in findings.commands(tmp_path) if "token-patches" not in line], ("tiny",))
    with pytest.raises(StoreError, match="No run of tiny"):
        generated.run_all(work)
    for run in (switches.run_choice, switches.run_bfloat16, lambda w: switches.run_float32(w, (7, 3))):
        with pytest.raises(StoreError, match="No run over"):
            run(work)
    assert len(lines) >= 11
    assert [line for line in lines if not is_accepted(line, capsys)] == []


def test_the_second_tracker_gets_all_predictions_and_keeps_its_own_scores(tmp_path) -> None:
    run, folder = tmp_path / "abc", tmp_path / "lk"
    for name in ("predictions/1", "scores/1"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("dis")
    generated._copy_predictions(run, folder)
    (folder / "abc" / "scores" / "1").write_text("lk")
    generated._copy_predictions(run, folder)
    assert (folder / "abc" / "scores" / "1").read_text() == "lk"
    (run / "predictions" / "2").write_text("dis")
    generated._copy_predictions(run, folder)
    assert (folder / "abc" / "predictions" / "2").exists()


def test_networks_run_on_the_device_and_baselines_on_the_cpu(lines, tmp_path) -> None:
    work = Work(tmp_path, 3, device="cuda", jobs=2, only=("tiny", "zncc-search"))
    work.run(findings.commands(tmp_path), ("tiny", "tiny-untrained"))
    devices = {line[line.index("--model") + 1]: line[line.index("--device") + 1] for line in lines}
    assert devices == {"tiny": "cuda", "zncc-search": "cpu"}
    assert {line[line.index("--limit") + 1] for line in lines} == {"3"}


def test_nothing_runs_if_only_tables_are_made(lines, tmp_path) -> None:
    Work(tmp_path, 3, tables_only=True).run(findings.commands(tmp_path), ())
    assert lines == []


def test_a_command_that_fails_is_named(lines, tmp_path) -> None:
    with pytest.raises(VcorrError, match="These commands failed: vcorr run --model token-patches"):
        Work(tmp_path, 3).run(findings.commands(tmp_path), ())


def test_a_model_without_a_command_is_named(tmp_path) -> None:
    with pytest.raises(UsageError, match="--only nope: known are tiny, tiny-untrained"):
        Work(tmp_path, 3, only=("nope",)).run(findings.commands(tmp_path), ())


def test_options_are_read() -> None:
    parser = make_parser("m", "Does a thing.\n\nMore.", "runs/x", 64)
    line = "--out a --limit 4 --device cuda --jobs 3 --reuse only --only tiny,zncc-search --tables-only"
    work = read_work(parser.parse_args(line.split()))
    assert work == Work(Path("a"), 4, "cuda", 3, "only", ("tiny", "zncc-search"), tables_only=True)
