"""Tests the commands of the measurements: they are accepted, run in pieces, and say what failed."""

from __future__ import annotations

from pathlib import Path

import pytest
from vcorr_tiny import findings, generated, pieces, switches
from vcorr_tiny.command_runs import Command, Work, end, make_parser, read_work

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


COMMANDS = [["run", "--model", model] for model in ("tiny", "tiny-untrained", "zncc-search", "token-patches")]


def test_the_program_accepts_every_command(lines, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    work = Work(tmp_path, 2)
    kinds = {
        piece.name.split("-seed")[0].rpartition("-")[0]: piece for piece in pieces.all_pieces()
    }  # one of each kind
    chosen = [p for p in kinds.values() if p.model not in ("token-patches", "xfeat")]
    pieces.measure(work, [*chosen, pieces.generate(1, "lk")])
    for run in (switches.run_choice, switches.run_bfloat16, lambda w: switches.run_float32(w, (7, 3))):
        with pytest.raises(StoreError, match="No run over"):
            run(work)
    assert len(lines) >= 14
    without_seeds = [["seed:0" if word.startswith("seed:") else word for word in line] for line in lines]
    assert [line for line in without_seeds if not is_accepted(line, capsys)] == []


def test_pieces_of_few_clips_never_get_more(lines, tmp_path) -> None:
    pieces.measure(Work(tmp_path, 64, only=("zncc-search-easy", "zncc-search-drift")), pieces.all_pieces())
    assert [line[line.index("--limit") + 1] for line in lines] == ["64", "16"]


def test_videos_are_tracked_again_only_where_there_are_some(lines, tmp_path) -> None:
    generated.measure_videos(Work(tmp_path, 2))
    assert lines == []


def test_the_second_tracker_gets_all_predictions_and_keeps_its_own_scores(tmp_path) -> None:
    run, folder = tmp_path / "abc", tmp_path / "lk"
    for name in ("predictions/1", "scores/1"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("dis")
    generated.copy_predictions(run, folder)
    (folder / "abc" / "scores" / "1").write_text("lk")
    generated.copy_predictions(run, folder)
    assert (folder / "abc" / "scores" / "1").read_text() == "lk"
    (run / "predictions" / "2").write_text("dis")
    generated.copy_predictions(run, folder)
    assert (folder / "abc" / "predictions" / "2").exists()


def test_networks_run_on_the_device_and_baselines_on_the_cpu(lines, tmp_path) -> None:
    work = Work(tmp_path, 3, device="cuda", jobs=2, only=("tiny", "zncc-search"))
    work.run(COMMANDS, ("tiny", "tiny-untrained"))
    devices = {line[line.index("--model") + 1]: line[line.index("--device") + 1] for line in lines}
    assert devices == {"tiny": "cuda", "zncc-search": "cpu"}
    assert {line[line.index("--limit") + 1] for line in lines} == {"3"}


def test_several_devices_are_given_to_networks_in_turn(lines, tmp_path) -> None:
    commands = [
        Command(("run", "--model", name), on_device=name == "tiny") for name in ("tiny", "zncc", "tiny", "tiny")
    ]
    Work(tmp_path, 3, device="cuda:0,cuda:1").run_commands(commands)
    assert [line[line.index("--device") + 1] for line in lines] == ["cuda:0", "cpu", "cuda:1", "cuda:0"]


def test_nothing_runs_if_only_tables_are_made(lines, tmp_path) -> None:
    work = Work(tmp_path, 3, tables_only=True)
    work.run(COMMANDS, ())
    pieces.measure(work, pieces.all_pieces())
    generated.measure_videos(work)
    assert lines == []


def test_a_model_whose_package_is_missing_is_left_out_with_a_sentence(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(Work, "_vcorr", lambda self, line: 4)
    work, command = Work(tmp_path, 3), Command(("run", "--model", "xfeat"))
    work.run_commands([command], {"xfeat"})
    assert "Left out, since xfeat is not in reach: vcorr run --model xfeat" in capsys.readouterr().err
    with pytest.raises(VcorrError, match="These commands failed"):
        work.run_commands([command])


def test_an_expected_error_ends_a_command_without_a_traceback(capsys) -> None:
    def fail() -> int:
        raise UsageError("This went wrong.", hint="Do that.")

    for main, code in ((fail, 2), (lambda: 1, 1)):
        with pytest.raises(SystemExit) as ended:
            end(main)
        assert ended.value.code == code
    assert capsys.readouterr().err == "Error: This went wrong.\nDo that.\n"


def test_the_pieces_are_listed(capsys) -> None:
    assert findings.main(["--list"]) == 0
    assert capsys.readouterr().out.splitlines() == [piece.name for piece in pieces.all_pieces()]


def test_a_command_that_fails_is_named(lines, tmp_path) -> None:
    with pytest.raises(VcorrError, match="These commands failed: vcorr run --model token-patches"):
        Work(tmp_path, 3).run(COMMANDS, ())


def test_a_model_without_a_command_is_named(tmp_path) -> None:
    with pytest.raises(UsageError, match="--only nope: known are tiny, tiny-untrained"):
        Work(tmp_path, 3, only=("nope",)).run(COMMANDS, ())


def test_options_are_read() -> None:
    parser = make_parser("m", "Does a thing.\n\nMore.", "runs/x", 64)
    line = "--out a --limit 4 --device cuda --jobs 3 --reuse only --only tiny,zncc-search --tables-only"
    work = read_work(parser.parse_args(line.split()))
    assert work == Work(Path("a"), 4, "cuda", 3, "only", ("tiny", "zncc-search"), tables_only=True)
