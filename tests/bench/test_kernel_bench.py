"""`vcorr bench kernels` in Triton's interpreter: it counts right and wrong tokens, and times both paths."""

import json

import pytest
import torch
from click.testing import CliRunner

from vcorr import UsageError
from vcorr.bench import kernel_agreement, kernel_bench, kernel_times
from vcorr.bench.kernel_times import SMALL, time_tilings
from vcorr.cli.main import cli
from vcorr.kernels.tilings import TileSizeError, Tiling

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture(autouse=True)
def one_dtype(monkeypatch):
    monkeypatch.setattr(kernel_bench, "DTYPES", (torch.bfloat16,))


def test_agreement_and_times_as_json_with_progress():
    words = ["bench", "kernels", "--device", "cpu", "--cases", "1", "--pairs", "1", "--small", "--json"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert "interpreter" in found["device"]
    kernels = {row["kernel"] for row in found["agreement"]}
    assert kernels > {"match, both directions", "match_features", "rows of a tracker", "attention_rows"}
    for row in found["agreement"]:
        assert (row["cases"], row["wrong"]) == (1, 0)
        assert 0 < row["results"] == row["equal"] + row["rounding"]
    for row in found["times"]:
        assert row["ratio"] == pytest.approx(row["fused_ms"] / row["plain_ms"])  # of one pair
    assert {row["points"] for row in found["times"]} == {400, 6}
    assert "bfloat16 case 1 of 1" in result.stderr


def test_wrong_tokens_are_counted_and_end_with_exit_code_1(monkeypatch):
    right = kernel_agreement.find_best

    def move(scores, sums, slots):
        return right(scores, sums, slots).roll(1, dims=1)  # the results of other query tokens

    monkeypatch.setattr(kernel_agreement, "find_best", move)
    words = ["bench", "kernels", "--device", "cpu", "--cases", "1", "--pairs", "0"]
    result = CliRunner().invoke(cli, words, standalone_mode=False)
    assert result.return_value == 1
    (row,) = [line.split() for line in result.stdout.splitlines() if "match_features" in line]
    assert float(row[4]) < 50 < 100 * int(row[7]) / int(row[3])  # kernel, dtype, cases, results, equal, %, ..., wrong


def test_a_device_without_kernels_is_refused(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    for device, message in (("cpu", "TRITON_INTERPRET=1"), ("gpu", "'gpu' is no device of torch")):
        with pytest.raises(UsageError, match=message):
            CliRunner().invoke(cli, ["bench", "kernels", "--device", device], catch_exceptions=False)


def test_tilings_are_timed_the_fastest_first_and_too_large_ones_are_said(monkeypatch):
    def refuse(*arguments):
        raise TileSizeError

    sizes = (Tiling(16, 16, 16), Tiling(32, 32, 16))
    lines = []
    found = time_tilings(torch.device("cpu"), torch.bfloat16, SMALL, sizes, lines.append)
    assert len(found) == len(lines) == 6
    for name in {one.kernel for one in found}:
        times = [one.ms for one in found if one.kernel == name]
        assert times == sorted(times)
    monkeypatch.setattr(kernel_times, "time_run", refuse)
    assert {one.error for one in time_tilings(torch.device("cpu"), torch.bfloat16, SMALL, sizes[:1], lines.append)} == {
        "does not fit"
    }
