"""Tests the commands of the measurements: they are accepted, run where they belong, and are listed."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from vcorr_tiny import command_runs, findings, generated, measure, pieces, propagated, switches, tracked
from vcorr_tiny.command_runs import Call, Command, Processes, Work, end, make_parser, read_work, run_module

from vcorr import StoreError, UsageError
from vcorr.cli import main as program


@pytest.fixture
def lines(monkeypatch) -> list[list[str]]:
    """Returns the list to which all commands are added, instead of being run."""
    found: list[list[str]] = []
    monkeypatch.setattr(Work, "_vcorr", lambda self, words: found.append(list(words)) or 0)
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
    kinds = {
        piece.name.split("-seed")[0].rpartition("-")[0]: piece for piece in pieces.all_pieces()
    }  # one of each kind
    chosen = [p for p in kinds.values() if p.model not in ("token-patches", "xfeat")]
    monkeypatch.setattr(switches, "best_layers", lambda run: (7, 3))
    monkeypatch.setattr(switches, "find_run", lambda work, folder: None)
    commands = [pieces.command_of(work, piece) for piece in (*chosen, pieces.generate(1, "lk"))]
    commands += [make(work) for make in (switches.command_choice, switches.command_float32, switches.command_bfloat16)]
    for command in commands:
        work.run_one(command)
    assert len(lines) >= 14
    without_seeds = [["seed:0" if word.startswith("seed:") else word for word in line] for line in lines]
    assert [line for line in without_seeds if not is_accepted(line, capsys)] == []


def test_pieces_of_few_clips_never_get_more(tmp_path) -> None:
    chosen = [piece for piece in pieces.all_pieces() if piece.name in ("zncc-search-easy", "zncc-search-drift")]
    words = [pieces.command_of(Work(tmp_path, 64), piece).words for piece in chosen]
    assert [line[line.index("--limit") + 1] for line in words] == ["64", "16"]


def test_what_runs_on_videos_waits_for_them_and_names_what_is_missing(tmp_path) -> None:
    tasks = list(generated.list_tasks(Work(tmp_path, 2)))
    assert {task.after for task in tasks} == {(pieces.generate(seed).name,) for seed in (0, 1, 2)}
    with pytest.raises(StoreError, match="No complete run of generate-easy-seed0 over 2 clips"):
        tasks[0].make()


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
    work = Work(tmp_path, 3, device="cuda", jobs=2)
    for piece in pieces.all_pieces()[-3:]:
        work.run_one(pieces.command_of(work, piece))
    work.run_one(pieces.command_of(work, pieces.renoise(pieces.EASY, 0)))
    devices = {line[line.index("--model") + 1]: line[line.index("--device") + 1] for line in lines}
    assert devices.pop("tiny") == "cuda"
    assert set(devices.values()) - {"cuda"} == {"cpu"}


def test_several_devices_are_given_to_networks_in_turn(lines, tmp_path) -> None:
    work = Work(tmp_path, 3, device="cuda:0,cuda:1")
    for name in ("tiny", "zncc", "tiny", "tiny"):
        work.run_one(Command(("run", "--model", name), on_device=name == "tiny"))
    assert [line[line.index("--device") + 1] for line in lines] == ["cuda:0", "cpu", "cuda:1", "cuda:0"]


def test_a_study_goes_on_by_itself(lines, tmp_path) -> None:
    Work(tmp_path, 3).run_one(Command(("study", "accelerators"), study=True))
    assert lines == [["study", "accelerators", "--device", "cpu", "--dtype", "float32"]]


def write_words(*words: object, device: str = "") -> None:
    """Writes its words into the file that the first one names; the function of the next test."""
    Path(str(words[0])).write_text(json.dumps([*words[1:], device]), encoding="utf-8")


def test_a_function_gets_its_arguments_and_a_device_if_it_runs_a_network(tmp_path, monkeypatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(Work, "_python", lambda self, words: asked.append(list(words)) or 0)
    work, file = Work(tmp_path, 3, device="cuda:1"), tmp_path / "written.json"
    for on_device, expected in ((True, ["a", 7, "cuda:1"]), (False, ["a", 7, ""])):
        work.run_one(Call(f"{__name__}:write_words", (file, "a", 7), on_device=on_device))
        assert asked[-1][0] == "vcorr_tiny.command_runs"
        assert command_runs.main(asked[-1][1:]) == 0
        assert json.loads(file.read_text(encoding="utf-8")) == expected


def test_the_functions_that_tasks_call_exist(tmp_path) -> None:
    made = []
    for task in measure.list_tasks(Work(tmp_path, 2)):
        if not task.after:
            continue
        try:
            made.append(task.make())
        except StoreError:
            continue  # it reads what the tasks before have stored
    calls = {call.function for call in made if isinstance(call, Call)}
    assert len(calls) >= 4
    for module, _, name in (call.partition(":") for call in calls):
        assert callable(getattr(importlib.import_module(module), name))


def test_an_expected_error_ends_a_command_without_a_traceback(capsys) -> None:
    def fail() -> int:
        raise UsageError("This went wrong.", hint="Do that.")

    for main, code in ((fail, 2), (lambda: 1, 1)):
        with pytest.raises(SystemExit) as ended:
            end(main)
        assert ended.value.code == code
    assert capsys.readouterr().err == "Error: This went wrong.\nDo that.\n"


@pytest.mark.parametrize("module", [findings, tracked, propagated, measure])
def test_the_tasks_are_listed(module, capsys) -> None:
    assert module.main(["--list"]) == 0
    tasks = module.list_tasks(Work(Path(), 1))
    assert capsys.readouterr().out.splitlines() == [task.name for task in tasks]
    assert len({task.name for task in tasks}) == len(tasks)
    assert {name for task in tasks for name in task.after} <= {task.name for task in tasks}


def test_a_beginning_that_no_task_has_is_named(tmp_path) -> None:
    with pytest.raises(UsageError, match="renoise-hrad"):
        findings.main(["--only", "renoise-hrad", "--out", str(tmp_path)])


@pytest.mark.parametrize("line", ["--jobs 0", "--jobs two", "--limit 0", "--limit -1", "--limit 1.5"])
def test_numbers_below_one_are_refused(line, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        make_parser("m", "Does a thing.", "runs/x", 64).parse_args(line.split())
    assert ended.value.code == 2
    assert f"expected a whole number of at least 1, got '{line.split()[1]}'" in capsys.readouterr().err


def test_options_are_read() -> None:
    parser = make_parser("m", "Does a thing.\n\nMore.", "runs/x", 64)
    line = "--out a --limit 4 --device cuda --jobs 3 --reuse only --only tiny,zncc-search --tables-only"
    work = read_work(parser.parse_args(line.split()))
    assert work == Work(Path("a"), 4, "cuda", 3, "only", ("tiny", "zncc-search"), tables_only=True)


def test_an_interrupted_process_is_ended_with_the_command_that_waits_for_it(monkeypatch) -> None:
    waits: list[subprocess.Popen[bytes]] = []
    wait = subprocess.Popen.wait

    def interrupt_once(self, timeout: float | None = None) -> int:
        waits.append(self)
        if len(waits) == 1:
            raise KeyboardInterrupt
        return wait(self, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupt_once)
    with pytest.raises(KeyboardInterrupt):
        Processes().run([sys.executable, "-c", "import signal; signal.pause()"], os.environ)
    assert waits[0].poll() is not None


WAITS = "import signal, sys; print('waits', flush=True); signal.pause()"


@pytest.mark.skipif(
    sys.platform != "linux", reason="the kernel of Linux alone ends processes with those they belong to"
)
def test_processes_end_with_the_command_that_is_killed(tmp_path) -> None:
    (tmp_path / "waits.py").write_text(WAITS)
    runs = "import os, vcorr_tiny.command_runs as c; c.Processes().run(c.run_module(['waits']), os.environ)"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = subprocess.Popen([sys.executable, "-c", runs], stdout=subprocess.PIPE, env=environment)
    assert command.stdout is not None
    assert command.stdout.readline() == b"waits\n"
    command.kill()
    command.stdout.read()  # ends when the last process that could write has ended
    command.stdout.close()
    command.wait()


def test_a_process_is_interrupted_even_if_the_shell_ignores_interrupts(tmp_path, monkeypatch) -> None:
    (tmp_path / "waits.py").write_text(WAITS)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    processes, log = Processes(patience=60), tmp_path / "log"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for commands in the background
    try:
        with log.open("wb") as file, ThreadPoolExecutor(1) as threads:
            code = threads.submit(processes.run, run_module(["waits"]), os.environ, file)
            while not log.stat().st_size:
                os.sched_yield()
            processes.stop()
            assert code.result() not in (0, -signal.SIGKILL)
    finally:
        signal.signal(signal.SIGINT, before)
