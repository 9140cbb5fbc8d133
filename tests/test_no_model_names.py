"""The core knows no model: probes, metrics, stages, capture and all that reads their tables are the same for every one.

What names a model is looked for in the code, without docstrings and comments. The names come from the
installed entries of plugins, so that a new plugin is looked for as soon as it is installed.
"""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

import vcorr
from vcorr.plugins.registry import installed

CORE = Path(vcorr.__file__).parent
FOLDERS = ("probes", "metrics", "stages", "capture", "functional", "stats", "store", "trackers", "diffusion")
F_STRINGS = (tokenize.FSTRING_MIDDLE,) if hasattr(tokenize, "FSTRING_MIDDLE") else ()
FILES = [path for folder in FOLDERS for path in sorted((CORE / folder).rglob("*.py"))]
ALLOWED = {
    # the prompts DiffTrack wrote for CogVideoX are a dataset of that name, and a hint shows a command that always works
    "stages": {"cogvideox", "tiny"},
    "diffusion": {"hf"},  # the command of the hub that a hint shows
}
"""By folder, words that are names of models there and mean something else."""


def model_names() -> set[str]:
    """Returns the names of all models of plugins, and their first words ("cogvideox" of "cogvideox-5b-i2v")."""
    found = {r.entry.name for r in installed().models.all() if r.source.distribution != "vcorr"}
    return found | {name.split("-")[0] for name in found if len(name.split("-")[0]) > 3} - {"open", "random"}


def words(code: str) -> set[str]:
    """Returns the lowercase words of names and strings of the code, docstrings left out."""
    found: set[str] = set()
    before = tokenize.NEWLINE
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        docstring = token.type == tokenize.STRING and before in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
        if token.type in (tokenize.NAME, tokenize.STRING, *F_STRINGS) and not docstring:
            found |= set(re.findall(r"[a-z0-9.-]+", token.string.lower()))
        if token.type not in (tokenize.NL, tokenize.COMMENT):
            before = token.type
    return found


def test_there_are_names_to_look_for() -> None:
    assert {"tiny", "cogvideox", "ltx-video", "mochi"} <= model_names()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(CORE).as_posix())
def test_no_probe_metric_or_stage_names_a_model(path) -> None:
    named = words(path.read_text(encoding="utf-8")) & model_names()
    assert named <= ALLOWED.get(path.relative_to(CORE).parts[0], set())


def test_a_name_would_be_found() -> None:
    assert "mochi" in words('if model.name == "mochi":\n    pass\n')
    assert "mochi" not in words('"""Mochi does so."""\n# mochi\nx = 1\n')
