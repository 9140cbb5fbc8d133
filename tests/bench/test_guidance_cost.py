"""The bench of guidance: steps of small models, in a table or as JSON."""

import json

import pytest
from click.testing import CliRunner

from vcorr.cli.main import cli

SMALL = ("--set", "size=small", "--device", "cpu", "--rounds", "1", "--layers", "1")


@pytest.mark.parametrize(("model", "batch"), [("cogvideox", 2), ("wan2.1-1.3b", 1)])
@pytest.mark.filterwarnings("ignore")
def test_times_of_one_round_and_their_ratios(model, batch):
    done = CliRunner().invoke(cli, ["bench", "guidance", "--model", model, *SMALL, "--json"])
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)
    assert (row["model"], row["guidance"], row["layers"], row["batch"], row["error"]) == (model, "cag", [1], batch, "")
    assert row["ratio"] == pytest.approx(row["guided_ms"] / row["plain_ms"])
    assert row["whole_ratio"] == pytest.approx(row["whole_ms"] / row["plain_ms"])
    assert row["difference"] < 1e-5
    assert (row["three_ms"] is None) == (batch == 1)


@pytest.mark.filterwarnings("ignore")
def test_a_table_of_a_guidance_without_a_further_prediction():
    words = ["bench", "guidance", "--model", "cogvideox", "--guidance", "cfg-zero", *SMALL[:-2]]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    assert "guidance cfg-zero on cpu, float32" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--layers", "99"], "guidance.layers 99 is out of range"),
        (["--guidance", "cagg"], "Did you mean"),
        (["--set", "guidance.scale=inf"], "guidance.scale"),
    ],
)
def test_what_cannot_be_timed_is_refused(words, said):
    done = CliRunner().invoke(cli, ["bench", "guidance", "--model", "cogvideox", *SMALL[:-2], *words])
    assert done.exit_code == 2 or said in str(done.exception)
    assert said in done.output + str(done.exception)
