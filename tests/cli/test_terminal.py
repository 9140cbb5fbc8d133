"""What reaches the terminal: no control character of a stranger, and on standard output nothing of a plugin."""

from __future__ import annotations

import ast
import io
import json
import sys
from pathlib import Path

import pytest

import vcorr as package
from vcorr.cli.views import progress, terminal
from vcorr.cli.views.table_width import shorten

CLI = Path(package.__file__).parent / "cli"
PRINTS = """
import os, subprocess, sys, warnings, logging
import numpy as np
import vcorr

class Loud(vcorr.MetricBase):
    higher_is_better = True
    def __init__(self):
        print("printed \\x1b[31m")
        sys.stdout.write("written\\n")
        os.write(1, b"by number\\n")
        subprocess.run([sys.executable, "-c", "print('by a child')"])
        warnings.warn("warned \\x1b[2J")
        logging.getLogger("loud").warning("logged \\x07")
    def score(self, tracks, reference, grid):
        return {"loud": vcorr.Score(1.0, 1)}

@vcorr.hookimpl
def vcorr_metrics():
    return [vcorr.MetricEntry(name="loud", summary="Prints.", factory="loud_plugin:Loud")]
"""


@pytest.mark.parametrize("arguments", [(), ("--json",), ("--dry-run", "--json")])
def test_standard_output_is_vcorrs_alone(vcorr_program, tmp_path, arguments) -> None:
    (tmp_path / "loud_plugin.py").write_text(PRINTS, encoding="utf-8")
    folder = tmp_path / "loud-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: loud\nVersion: 1\n", encoding="utf-8")
    (folder / "entry_points.txt").write_text("[vcorr]\nloud = loud_plugin\n", encoding="utf-8")
    run = ("run", "--model", "zero-motion", "--data", "sprites", "--limit", "1", "--set", "metrics=loud")
    ended = vcorr_program(*run, *arguments, path=tmp_path)
    assert ended.returncode == 0, ended.stderr
    said = ("printed \\x1b[31m", "written", "by number", "by a child", "warned \\x1b[2J", "logged \\x07")
    for words in said:
        assert words in ended.stderr
        assert words not in ended.stdout
    assert "\x1b" not in ended.stderr
    if "--json" in arguments:
        assert json.loads(ended.stdout)


def test_commands_print_through_the_terminal_module() -> None:
    """Checks that no command prints in another way, which would go to stderr or send control characters."""
    others = ("print", "click.echo", "sys.stdout.write")
    sources = {path.name: path.read_text(encoding="utf-8") for path in CLI.rglob("*.py") if path.name != "terminal.py"}
    calls = {
        f"{name}: {ast.unparse(node)}"
        for name, source in sources.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in others
    }
    # on standard error, text that is fixed or plain ASCII needs no help
    harmless = {call for call in calls if call.endswith("err=True)") and ("echo('" in call or "ascii(" in call)}
    assert calls - harmless == set()


def test_a_line_of_a_log_is_never_wrapped(capsys) -> None:
    log, long = progress.Plain(2), "word " * 100 + "end"
    log.note(long)
    log.clip_failed("a", long)
    log.clip_done(long, reused=False)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [long, f"clip 1/2 (a) failed: {long}"]
    assert lines[2].startswith(f"clip 2/2 ({long}) after ")
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("columns", "width"), [(None, 120), ("", 120), ("0", 120), ("wide", 120), ("72", 72), ("200", 200)]
)
def test_output_without_a_terminal_is_as_wide_as_asked(capsys, monkeypatch, columns, width) -> None:
    if columns is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", columns)
    terminal.console().print("x" * 500)
    assert max(map(len, capsys.readouterr().out.splitlines())) == width


def test_brackets_of_a_name_are_no_markup(capsys) -> None:
    terminal.console().print("[red]clip[/red] :smile:")
    terminal.say("[bold]x")
    assert capsys.readouterr().out == "[red]clip[/red] :smile:\n[bold]x\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\rb\tc", "a\\rb\\tc"),
        ("\x9b2J\x7f", "\\x9b2J\\x7f"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\U000e0041", "\\U000e0041"),
        ("b\udcffr", "b\\xffr"),
        ("Ünï→ 日本 👩‍👧\n", "Ünï→ 日本 👩‍👧\n"),
    ],
)
def test_control_characters_are_shown(text, shown) -> None:
    assert terminal.escape(text) == shown
    stream = io.StringIO()
    terminal.Escaped(stream).write(text.replace("\r", ""))
    assert stream.getvalue() == terminal.escape(text.replace("\r", ""))


def test_json_holds_the_text_itself(capsys) -> None:
    text = "\x1b\x7f\x9b\u202e\udcff\n\t日"
    terminal.print_json({"text": text})
    out = capsys.readouterr().out
    assert json.loads(out) == {"text": text}
    assert terminal.escape(out) == out


def test_streams_are_given_back() -> None:
    before = sys.stdout, sys.stderr
    with pytest.raises(ValueError), terminal.divert_foreign_output():
        raise ValueError
    assert (sys.stdout, sys.stderr) == before


def test_long_names_stay_apart() -> None:
    names = [f"{'a' * 40}{i}{'b' * 40}" for i in range(50)] + ["漢" * 30 + str(i) + "字" * 30 for i in range(50)]
    for width in range(8, 60):
        short = [shorten(name, width) for name in names]
        assert len(set(short)) == len(names)
        assert all(terminal_width(text) <= width for text in short)


def terminal_width(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)
