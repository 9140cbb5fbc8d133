"""`vcorr bench kernels` in Triton's interpreter: it counts right and wrong tokens, and times both paths."""

import json
from functools import partial
from threading import Barrier

import pytest
import torch
from click.testing import CliRunner

from vcorr import UsageError
from vcorr.bench import kernel_agreement, kernel_bench, kernel_times, side_tasks
from vcorr.bench.kernel_times import SMALL, time_tilings
from vcorr.cli.main import cli
from vcorr.kernels.tilings import TileSizeError, Tiling

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


ON_CPU = ["bench", "kernels", "--device", "cpu", "--dtypes", "bfloat16", "--cases", "1"]


def test_agreement_and_times_as_json_with_progress():
    result = CliRunner().invoke(cli, [*ON_CPU, "--pairs", "1", "--small", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert "interpreter" in found["device"]
    assert found["stopped"] == ""
    kernels = {row["kernel"] for row in found["agreement"]}
    assert kernels > {"match, both directions", "match_features", "rows of a tracker", "attention_rows"}
    assert len(kernels) == kernel_agreement.COMPARISONS
    for row in found["agreement"]:
        assert (row["cases"], row["wrong"]) == (1, 0)
        assert 0 < row["results"] == row["equal"] + row["rounding"]
    for row in found["times"]:
        assert row["ratio"] == pytest.approx(row["fused_ms"] / row["plain_ms"])  # of one pair
    assert {row["points"] for row in found["times"]} == {400, 6}
    assert "case 1 of 1, bfloat16: " in result.stderr


def test_wrong_tokens_are_counted_and_end_with_exit_code_1(monkeypatch):
    right = kernel_agreement.find_best

    def move(scores, sums, slots):
        return right(scores, sums, slots).roll(1, dims=1)  # the results of other query tokens

    monkeypatch.setattr(kernel_agreement, "find_best", move)
    result = CliRunner().invoke(cli, [*ON_CPU, "--pairs", "0", "--seed", "1"], standalone_mode=False)
    assert result.return_value == 1
    (row,) = [line.split() for line in result.stdout.splitlines() if "match_features" in line]
    assert float(row[4]) < 50 < 100 * int(row[7]) / int(row[3])  # kernel, dtype, cases, results, equal, %, ..., wrong


def test_the_time_limit_ends_it_with_what_was_measured(monkeypatch):
    seen = []

    class Ends(side_tasks.Deadline):
        def allows(self):
            seen.append(self.seconds)
            self.cut_short |= len(seen) > 2
            return not self.cut_short

    monkeypatch.setattr(kernel_bench, "Deadline", Ends)
    result = CliRunner().invoke(cli, [*ON_CPU, "--pairs", "3", "--time-limit", "7", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["stopped"] == "It stopped at the time limit of 7 seconds; the rest is missing."
    assert [row["cases"] for row in found["agreement"]] == [1, 1]
    assert found["times"] == []
    assert set(seen) == {7.0}


def test_a_deadline_passes_and_says_that_something_was_left_out(monkeypatch):
    now = [10.0]
    monkeypatch.setattr(side_tasks.time, "monotonic", lambda: now[0])
    deadline = side_tasks.Deadline(2)
    assert deadline.allows()
    assert not deadline.cut_short
    now[0] = 12.0
    assert not deadline.allows()
    assert deadline.cut_short
    assert side_tasks.Deadline().allows()


@pytest.mark.parametrize("threads", [1, 3])
def test_tasks_run_at_a_time_as_their_results_come_and_none_after_an_error(threads):
    def fail():
        raise ZeroDivisionError

    every = [partial(pow, 2, n) for n in range(20)]
    assert sorted(side_tasks.run_tasks(every, threads, side_tasks.Deadline())) == [2**n for n in range(20)]
    assert list(side_tasks.run_tasks(every, threads, side_tasks.Deadline(0))) == []
    with pytest.raises(ZeroDivisionError):
        list(side_tasks.run_tasks([fail, *every], threads, side_tasks.Deadline()))
    gate = Barrier(threads)
    assert len(list(side_tasks.run_tasks([gate.wait] * threads, threads, side_tasks.Deadline()))) == threads


def test_cases_take_the_widths_in_turns(monkeypatch):
    lines = []
    monkeypatch.setattr(kernel_agreement, "COMPARISONS", 1)  # one of each case is enough
    drawing = kernel_agreement.Drawing(2, 0, (8, 20))
    found = kernel_agreement.measure_agreement(torch.device("cpu"), [torch.float32], drawing, lines.append)
    assert {one.cases for one in found} == {2}
    assert not any(one.wrong for one in found)
    assert sorted(line.split(",")[1].split(" x ")[-1] for line in lines) == ["20", "8"]


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--dtypes", "int8"], "--dtypes: expected some of"), (["--widths", "64,no"], "--widths: expected whole numbers")],
)
def test_options_that_name_nothing_are_refused(words, message):
    with pytest.raises(UsageError, match=message):
        CliRunner().invoke(cli, ["bench", "kernels", "--device", "cpu", *words], catch_exceptions=False)


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
