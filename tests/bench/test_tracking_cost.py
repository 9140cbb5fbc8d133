"""The bench of tracking: a table or JSON of the network's pass and of the tracker, for any diffusers video model."""

import json

import pytest
from click.testing import CliRunner

from vcorr import ModelEntry, hookimpl
from vcorr.cli.main import cli

SIZES = ("--set", "height=32", "--set", "width=32", "--set", "frames=17")
LATENTS = 5  # of a pass: it reads 17 frames as 5 latents
SMALL = (*SIZES, "--device", "cpu", "--points", "9", "--pairs", "1")


class Models:
    """A plugin with a diffusers model."""

    __name__ = "bench_models"

    @hookimpl
    def vcorr_models(self):
        return [ModelEntry(name="ltx", summary="LTX.", factory="support.ltx:LTX", config="support.ltx:LTXConfig")]


@pytest.fixture(autouse=True)
def _registry(plugins):
    plugins(Models())


@pytest.mark.parametrize("passes", [1, 3])
def test_both_times_of_a_clip_and_their_ratio(passes):
    result = CliRunner().invoke(cli, ["bench", "track", "--model", "ltx", *SMALL, "--passes", str(passes), "--json"])
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)
    assert (row["model"], row["probe"], row["layers"], row["points"], row["error"]) == ("ltx", "qk", [1], 9, "")
    assert (row["passes"], row["frames"]) == (passes, 1 + passes * (LATENTS - 1))
    assert min(row["track_ms"], row["network_ms"]) > 0
    assert row["ratio"] == pytest.approx(row["track_ms"] / row["network_ms"])  # of one pair


def test_a_table_with_what_failed():
    words = ["bench", "track", "--model", "ltx", "--probe", "attention", *SMALL]
    result = CliRunner().invoke(cli, words, standalone_mode=False)
    assert result.return_value == 1
    assert "Attention cannot track" in result.stdout
