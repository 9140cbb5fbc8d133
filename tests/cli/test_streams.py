"""Standard streams that are closed, full, broken or poor in letters: no traceback, and no run is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import process_environment
from hypothesis import given
from hypothesis import strategies as st
from support import videos
from support.processes import PATIENCE
from support.scale import draw_cases

from vcorr.cli import streams
from vcorr.store.rundir import find_runs

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def shell(folder: Path, tail: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Runs vcorr with redirections; `tail` is shell text. Its exit code is what the last line of the shell prints."""
    script = f'cd "$FOLDER" && {{ "$@" {tail}; }}'
    environment = {**process_environment(), "FOLDER": str(folder), **variables}
    command = ["bash", "-o", "pipefail", "-c", script, "bash", sys.executable, "-m", "vcorr", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, check=False, timeout=PATIENCE)


@pytest.mark.parametrize(
    ("tail", "code", "said"),
    [
        (">&-", 0, b""),
        ("2>&-", 0, b""),
        (">&- 2>&-", 0, b""),
        ("| head -1", 0, b""),
        ("| true", 0, b""),
        ("2>&1 >/dev/full | cat", 2, b"Error: Standard output cannot be written: No space left on device."),
        ("2>/dev/full", 0, b""),
        (">/dev/full 2>/dev/full", 2, b""),
    ],
)
def test_a_stream_that_cannot_be_written_is_no_traceback(tmp_path, tail, code, said):
    ended = shell(tmp_path, tail, "list", "models")
    assert (ended.returncode, ended.stderr) == (code, b"")
    assert said in ended.stdout
    assert b"Traceback" not in ended.stdout


def test_an_error_keeps_its_code_where_nobody_can_read_it(tmp_path):
    assert shell(tmp_path, "2>/dev/full", "frobnicate").returncode == 2


@pytest.mark.parametrize(
    ("tail", "variables", "code"),
    [("2>&1", ASCII, 0), (">/dev/full 2>/dev/full", {}, 2), ("2>&1 | true", {}, 0)],
)
def test_a_run_is_complete_whatever_its_streams_are(tmp_path, tail, variables, code):
    for name in ("a.mp4", "b.mp4"):
        videos.write(tmp_path / name, videos.noise(3, 32, 32))
    ended = shell(tmp_path, tail, "run", "--model", "zero-motion", "--data", "video:.", **variables)
    assert (ended.returncode, ended.stderr) == (code, b"")
    (run,) = find_runs(tmp_path / "runs")
    assert run.record()["status"] == "complete"
    assert set(run.read("scores")["clip"].to_pylist()) == {"a", "b"}
    if variables:
        assert b"2 of 2 clips" in ended.stdout
        ended.stdout.decode("ascii")


def test_a_closed_stream_is_no_file_that_is_opened_later(tmp_path):
    """Checks that what a library prints to descriptor 1 does not end in the first file that the program opens."""
    script = (
        "import os\nfrom vcorr.cli.streams import prepare_streams\nprepare_streams()\n"
        "with open('first', 'w') as file:\n    os.write(1, b'printed')\n    file.write('content')\n"
    )
    closed = f'cd "{tmp_path}" && "{sys.executable}" -c "$1" >&-'
    subprocess.run(["bash", "-c", closed, "bash", script], env=process_environment(), check=True)
    assert (tmp_path / "first").read_text() == "content"


@draw_cases(50)
@given(text=st.text(), encoding=st.sampled_from(["ascii", "latin-1", "utf-8", "cp1252"]))
def test_every_text_can_be_written_in_every_encoding(text, encoding):
    streams.prepare_streams()
    written = text.encode(encoding, streams.ERRORS)
    kept = "".join(c for c in text if c.encode(encoding, "ignore"))
    assert not kept or all(c.encode(encoding) in written for c in kept)


@pytest.mark.parametrize(
    ("text", "plain"),
    [("0.5 … –", "0.5 ... -"), ("café", "cafe"), ("│─┼", "|-+"), ("a\udce9b", "a\\xe9b"), ("猫", "\\u732b")],
)
def test_letters_that_ascii_lacks_are_readable(text, plain):
    streams.prepare_streams()
    assert text.encode("ascii", streams.ERRORS).decode() == plain


def test_streams_that_a_program_replaced_stay(capsys):
    before = sys.stdout, sys.stderr
    streams.prepare_streams()
    assert (sys.stdout, sys.stderr) == before
    assert os.fstat(1)
