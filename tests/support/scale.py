"""The number of cases that the tests of drawn faults draw: few in every run of the tests, many by `make faults`."""

from __future__ import annotations

import os

import hypothesis

VARIABLE = "VCORR_TEST_SCALE"


def scale_count(few: int) -> int:
    """Returns `few`, times the number that the variable VCORR_TEST_SCALE holds."""
    return few * int(os.environ.get(VARIABLE, "1"))


def is_large() -> bool:
    """Returns whether more than the usual tests run, with cases that take minutes."""
    return scale_count(1) > 1


def draw_cases(few: int) -> hypothesis.settings:
    """Returns settings of hypothesis for `few` cases: the same ones in every run, new ones at a larger scale."""
    return hypothesis.settings(max_examples=scale_count(few), deadline=None, derandomize=not is_large(), database=None)


def load_profile() -> None:
    """Makes drawn tests take the same cases in every run, however slow the machine is; new ones at a larger scale."""
    hypothesis.settings.register_profile(
        "vcorr",
        deadline=None,
        derandomize=not is_large(),
        database=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile("vcorr")
