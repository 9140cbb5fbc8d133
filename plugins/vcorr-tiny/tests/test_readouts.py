"""Tests that a prediction cannot score above the ceiling of the read-out that it claims."""

import re

import pytest

from vcorr.baselines.dense import DenseSearch
from vcorr.cli import main as program


def run(out) -> int:
    command = ["run", "--model", "dense-search", "--data", "sprites", "--limit", "1", "--set", "metrics=pck"]
    with pytest.raises(SystemExit) as ended:
        program.main([*command, "--out", str(out)])
    return ended.value.code


def test_positions_between_tokens_are_refused_unless_the_read_out_is_free(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(DenseSearch, "readout", "token")  # it finds positions between tokens
    assert run(tmp_path) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(r"Clip test-0000: pck_\w+ of probe direct is \S+, above its ceiling of \S+, the best", said)
    assert "says readout 'free'" in said
    monkeypatch.undo()
    assert run(tmp_path / "free") == 0
