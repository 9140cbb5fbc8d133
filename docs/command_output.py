"""Runs commands and returns what they print, for the pages that show it; used by generate.py and page_parts.py."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
from pathlib import Path

HELP_WIDTH, TABLE_WIDTH = 100, 120
"""Columns of the terminal that the pages show, for help texts and for results."""


def output_of(line: str) -> tuple[str, int]:
    """Returns what `[VARIABLE=VALUE ...] vcorr ARGUMENTS` prints, and its exit code."""
    from vcorr.plugins.registry import installed

    words = shlex.split(line)
    program = words.index("vcorr")
    before = dict(os.environ)
    os.environ.update(word.split("=", 1) for word in words[:program])
    os.environ["HF_HUB_CACHE"] = str(Path.cwd() / "no-cache")
    os.environ["VCORR_HOME"] = str(Path.cwd() / "no-home")
    installed.cache_clear()
    try:
        return run_program(words[program + 1 :])
    finally:
        os.environ.clear()
        os.environ.update(before)
        installed.cache_clear()


def run_program(arguments: list[str]) -> tuple[str, int]:
    """Returns what a command prints without a terminal, and its exit code."""
    from vcorr.cli.main import main as program

    out, code = io.StringIO(), 0
    before, line = os.environ.get("COLUMNS"), sys.argv
    os.environ["COLUMNS"] = str(HELP_WIDTH if "--help" in arguments else TABLE_WIDTH)
    sys.argv = ["vcorr", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                program(arguments)
            except SystemExit as end:
                code = int(end.code or 0)
    finally:
        sys.argv = line
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    return "\n".join(lines).strip("\n"), code
