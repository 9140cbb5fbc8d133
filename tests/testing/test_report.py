"""Reports tell what failed and why."""

import pytest

from vcorr.contract.errors import UsageError
from vcorr.testing import Check, Report, assert_passed
from vcorr.testing.report import expect, make, run_checks


def test_every_check_runs_and_keeps_its_reason():
    report = run_checks(
        "thing",
        [
            ("good", lambda: None),
            ("remarked", lambda: "3 sites"),
            ("failed", lambda: expect(False, "is wrong")),
            ("broken", lambda: {}["key"]),
        ],
        skip=(),
    )
    assert list(report) == [
        Check("good", True),
        Check("remarked", True, "3 sites"),
        Check("failed", False, "is wrong"),
        Check("broken", False, "KeyError: 'key'"),
    ]
    assert not report.passed
    assert [check.name for check in report.failures] == ["failed", "broken"]


def test_assertion_shows_the_table():
    report = Report("metric 'mine'", (Check("one", True), Check("other", False, "is wrong")))
    with pytest.raises(AssertionError) as caught:
        assert_passed(report)
    assert str(caught.value).splitlines() == [
        "metric 'mine': 1 of 2 checks failed",
        "  ok    one",
        "  FAIL  other  is wrong",
    ]
    assert_passed(Report("fine", (Check("one", True),)))


def test_skipped_checks_do_not_run_and_must_exist():
    assert run_checks("thing", [("one", lambda: None), ("two", lambda: None)], skip=["one"]).checks == (
        Check("two", True),
    )
    with pytest.raises(UsageError, match=r"Unknown check 'tow'\. Did you mean 'two'"):
        run_checks("thing", [("two", lambda: None)], skip=["tow"])


def test_objects_classes_and_entries_can_be_checked():
    from vcorr.plugins.builtin import vcorr_probes
    from vcorr.probes.matching_probes import QueryKey
    from vcorr.probes.probe_options import ProbeConfig

    entry = next(entry for entry in vcorr_probes() if entry.name == "qk")
    assert make(entry)[0] == "probe 'qk'"
    assert isinstance(make(entry, ProbeConfig(radius=1))[1], QueryKey)
    assert make(QueryKey)[0] == "QueryKey"
    assert make(QueryKey, ProbeConfig(radius=1))[1].readout == "free"
    probe = QueryKey()
    assert make(probe) == ("QueryKey", probe)
