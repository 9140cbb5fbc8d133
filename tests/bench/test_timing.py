"""Functions that are timed in turn: how often each runs, and what the ratios are."""

from __future__ import annotations

import math

import pytest

from vcorr.bench.measuring import measure_or_explain
from vcorr.bench.overhead import Overhead
from vcorr.bench.timing import Timed, Turns, time_in_turns
from vcorr.contract.errors import CaptureError


def test_functions_take_turns_and_the_first_round_does_not_count():
    ran, said = [], []
    turns = time_in_turns({"a": lambda: ran.append("a"), "b": lambda: ran.append("b")}, "cpu", 3, said.append)
    assert ran == ["a", "b"] * 4
    assert len(turns.rounds) == 3
    assert said == ["a round to warm up", "round 1 of 3", "round 2 of 3", "round 3 of 3"]
    assert math.isnan(turns.gib("a"))


def test_ratios_are_medians_within_rounds():
    """Checks rounds of which one is slow for both, so that ratios of medians would differ."""
    times = [(10.0, 20.0), (100.0, 130.0), (12.0, 30.0)]
    turns = Turns([{"plain": Timed(p, 1.0), "other": Timed(o, 2.0 + i)} for i, (p, o) in enumerate(times)])
    assert turns.ms("other") == 30
    assert turns.ratio("other", "plain") == pytest.approx(2.0)
    assert turns.more_ms("other", "plain") == pytest.approx(18.0)
    assert (turns.gib("plain"), turns.gib("other")) == (1.0, 4.0)


def test_a_failure_is_the_reason_in_the_row_and_a_fault_of_the_code_is_raised():
    blank = Overhead("m", "cpu", "float32", "qk")

    def fail(error):
        raise error

    assert measure_or_explain(blank, "cpu", lambda: fail(CaptureError("no call"))).error == "no call"
    with pytest.raises(ZeroDivisionError):
        measure_or_explain(blank, "cpu", lambda: 1 // 0)
