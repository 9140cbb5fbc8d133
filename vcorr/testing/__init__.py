"""Checks for plugin authors: the contracts of vcorr's hooks, to which its own plugins are held (docs/testing.md).

Every ``check_*`` takes an entry, a class or an object, runs a list of named checks and returns a `Report`::

    from vcorr.testing import assert_passed, check_metric

    def test_my_metric():
        assert_passed(check_metric(MyMetric()))
"""

from vcorr.testing.dataset_checks import check_dataset, check_tracker, random_clip
from vcorr.testing.entry_checks import check_entry
from vcorr.testing.impulse import find_impulse, make_local
from vcorr.testing.metric_checks import check_metric
from vcorr.testing.model_checks import check_model
from vcorr.testing.pass_checks import check_passes
from vcorr.testing.probe_checks import check_probe
from vcorr.testing.reading_checks import check_reading
from vcorr.testing.report import Check, Report, assert_passed

__all__ = [
    "Check",
    "Report",
    "assert_passed",
    "check_dataset",
    "check_entry",
    "check_metric",
    "check_model",
    "check_passes",
    "check_probe",
    "check_reading",
    "check_tracker",
    "find_impulse",
    "make_local",
    "random_clip",
]
