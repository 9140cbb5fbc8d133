"""The bench of guidance: steps of small models, in a table or as JSON."""

import io
import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from rich.console import Console

from vcorr.bench.guidance_cost import GuidanceCost
from vcorr.cli.main import cli
from vcorr.cli.views.render import guidance_cost_table

SMALL = ("--set", "size=small", "--device", "cpu", "--rounds", "1", "--layers", "1")


@pytest.mark.parametrize(("model", "batch"), [("cogvideox", 2), ("wan2.1-1.3b", 1)])
@pytest.mark.filterwarnings("ignore")
def test_times_of_one_round_and_their_ratios(model, batch):
    done = CliRunner().invoke(cli, ["bench", "guidance", "--model", model, *SMALL, "--json"])
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)
    assert (row["model"], row["guidance"], row["layers"], row["batch"], row["error"]) == (model, "cag", [1], batch, "")
    assert row["more_ms"] == pytest.approx(row["guided_ms"] - row["plain_ms"])
    assert (row["memory_ratio"], row["guided_gib"]) == (None, None)  # a CPU counts no memory
    said = [line.removeprefix(f"{model}: ") for line in done.stderr.splitlines() if line.startswith(model)]
    assert said == ["building the network", "a round to warm up", "round 1 of 1"]
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


def test_the_table_has_the_memory_of_a_gpu_and_what_a_guided_step_costs():
    one = GuidanceCost("m", "card", "bfloat16", "cag", (13,), 2, 100.0, 126.0, 26.0, ratio=1.26, whole_ratio=1.5)
    on_gpu = replace(one, plain_gib=5.5, guided_gib=5.74, three_gib=5.62, memory_ratio=5.74 / 5.62)
    console = Console(width=120, record=True, file=io.StringIO())
    for rows in ([one], [one, on_gpu]):
        console.print(guidance_cost_table(rows))
    shown = " ".join(console.export_text().split())
    without, with_memory = shown.split("guidance cag on card, bfloat16")[1:]
    assert "GiB" not in without
    assert "m 13 100.0 26.0 1.260 1.500" in without
    assert "guided GiB row GiB memory differs" in with_memory
    assert "5.74 5.62 1.021" in with_memory


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
