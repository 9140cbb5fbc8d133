"""`vcorr study knockout`: observes, cuts and says what it found; refuses what makes no study."""

import json

import pyarrow as pa
import pytest
from support.program import Ended

from vcorr.cli import main as program
from vcorr.cli.views.knockout_view import say_page
from vcorr.diffusion.denoising import RenoisedClip

SMALL = ("model.height=32", "model.width=32", "model.frames=9", "model.network.num_layers=3")
DATA = ("data.size=32", "data.frames=9", "data.grid=4", "data.clips=3")
PAGE = """# Knock-outs of tiny: cross-frame

- 8 clips of sprites, step 35. `beyond` counts the random sets that harm at least as much, as a long line says.

## Denoising loss: rise, as a share of the loss without a cut, dose 1

| cut | whole cut | its dose here | harm | controls | harm beyond controls | 95 % interval | p | beyond |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| 4 | +0.468 | 0.39 | +0.085 | +0.031 | +0.054 | +0.024 … +0.084 | **0.016** | 0 of 20 |

## What foresees the effect of a cut

| observation | effect on | rank correlation per clip | 95 % interval | p | of means | sites |
| --- | --- | ---: | ---: | ---: | ---: | ---: |
| `trait_second_eigenvalue` | loss | +0.050 | -0.160 … +0.260 | 0.930 | -0.006 | 10 |
"""
SET = [word for text in (*SMALL, *DATA) for word in ("--set", text)]


@pytest.fixture(scope="module", name="observed")
def make_observed(tmp_path_factory):
    """Makes a run of a small network with random weights; returns the folder of runs."""
    out = tmp_path_factory.mktemp("observed")
    words = ("run", "--model", "tiny", "--weights", "random", "--probe", "qk,head-traits", "--steps", "30")
    with pytest.raises(SystemExit):
        program.main([*words, *SET, "--limit", "2", "--out", str(out)])
    return out


@pytest.fixture
def vcorr(capsys, monkeypatch, tmp_path):
    """Runs a command line with the installed plugins."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        with pytest.raises(SystemExit) as ended:
            program.main(words)
        captured = capsys.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def study(vcorr, observed):
    def run(*words):
        return vcorr("study", "knockout", "--from", str(observed), "--out", "studies", *words)

    return run


def test_a_study_of_named_sites(study, tmp_path):
    words = ("--kind", "head", "--sites", "0,1+2", "--dose", "0.5", "--limit", "1")
    ended = study(*words, "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert [one["sites"] for one in found["effects"] if one["outcome"] == "loss"] == ["0", "1+2"]
    (folder,) = (tmp_path / "studies").iterdir()
    assert str(folder.name) in found["study"]
    tables = [pa.ipc.open_file(path).read_all() for path in (folder / "cells").rglob("*.arrow")]
    rows = [row for table in tables for row in table.to_pylist()]
    assert {row["role"] for row in rows} == {"plain", "cut", "control"}
    assert {row["clip"] for row in rows} == {"test-0002"}, "the run measured the other clips"
    again = study(*words)
    assert again.code == 0
    assert "0 passes so far" in again.err
    assert "Knock-outs of tiny: head\n" in again.out
    assert "Random weights" in again.out


def test_ctrl_c_says_what_is_kept_and_the_study_goes_on(study, tmp_path, monkeypatch):
    denoise, passes = RenoisedClip.denoise, []

    def stop(self, *given):
        passes.append(self)
        if len(passes) == 5:
            raise KeyboardInterrupt
        return denoise(self, *given)

    monkeypatch.setattr(RenoisedClip, "denoise", stop)
    words = ("--kind", "head", "--sites", "1", "--limit", "1")
    ended = study(*words)
    assert (ended.code, ended.out) == (130, "")
    (folder,) = (tmp_path / "studies").iterdir()
    said = " ".join(ended.err.split())
    kept = f"4 of 22 cells are finished and kept in studies/{folder.name}. The same command goes on from there."
    assert said.endswith(f"Interrupted. {kept}")
    assert len(list(folder.rglob("*.arrow"))) == 4
    assert sorted(path.name for path in folder.iterdir() if path.name != ".lock") == ["cells", "study.json"]
    assert json.loads((folder / "study.json").read_text())["status"] == "started"
    monkeypatch.setattr(RenoisedClip, "denoise", denoise)
    again = study(*words)
    assert again.code == 0
    assert "22 of 22 cells, 18 passes so far" in " ".join(again.err.split())
    assert json.loads((folder / "study.json").read_text())["status"] == "complete"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--sites", "3"), "there is no layer 3"),
        (("--dose", "2"), "--dose 2.0"),
        (("--mode", "invert"), "--mode invert"),
        (("--tracker", "lk"), "--tracker is set, and mode renoise makes no videos"),
        (("--set", "mode=generate"), "--set mode=generate: this study does not read mode"),
        (("--set", "limit=1"), "does not read limit"),
        (("--set", "metric.thresholds=1"), "does not read metric.thresholds"),
        (("--model", "zncc-search"), "is of tiny"),
        (("--controls", "5"), "too few random sets"),
        (("--kind", "frames"), "frames"),
    ],
)
def test_what_makes_no_study_is_refused(study, words, said):
    ended = study("--sites", "0", *words)
    assert ended.code == 2
    assert said in " ".join(ended.err.split())
    assert not ended.out


def test_a_folder_without_a_run_is_refused(vcorr, tmp_path):
    ended = vcorr("study", "knockout", "--from", str(tmp_path))
    assert ended.code != 0
    assert "is not a run" in " ".join(ended.err.split())


@pytest.mark.parametrize("width", [80, 100])
def test_the_tables_of_a_study_fit_the_terminal(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    say_page(PAGE)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    words = " ".join(" ".join(lines).split())
    assert "loss +0.050 -0.160 … +0.260 0.930" in words
    assert "+0.054 +0.024 … +0.084 0.016 0 of 20" in words
    assert not {"|", "*", "`", "#"} & set(words)
