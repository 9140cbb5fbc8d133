"""Checks plugins against the contracts of vcorr's hooks; vcorr's own plugins pass the same checks (docs/testing.md).

Every ``check_*`` takes an entry, a class or an object, runs a list of named checks and returns a `Report`::

    from vcorr.testing import assert_passed, check_metric

    def test_my_metric():
        assert_passed(check_metric(MyMetric()))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vcorr.testing.dataset_checks import check_dataset as check_dataset
    from vcorr.testing.dataset_checks import check_tracker as check_tracker
    from vcorr.testing.dataset_checks import random_clip as random_clip
    from vcorr.testing.entry_checks import check_entry as check_entry
    from vcorr.testing.guidance_checks import check_guidance as check_guidance
    from vcorr.testing.impulse import find_impulse as find_impulse
    from vcorr.testing.impulse import make_local as make_local
    from vcorr.testing.metric_checks import check_metric as check_metric
    from vcorr.testing.model_checks import check_model as check_model
    from vcorr.testing.pass_checks import check_passes as check_passes
    from vcorr.testing.probe_checks import check_probe as check_probe
    from vcorr.testing.reading_checks import check_reading as check_reading
    from vcorr.testing.report import Check as Check
    from vcorr.testing.report import Report as Report
    from vcorr.testing.report import assert_passed as assert_passed
else:
    from vcorr.contract.lazy_names import lazy_names

    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        {
            "vcorr.testing.dataset_checks": "check_dataset check_tracker random_clip",
            "vcorr.testing.entry_checks": "check_entry",
            "vcorr.testing.guidance_checks": "check_guidance",
            "vcorr.testing.impulse": "find_impulse make_local",
            "vcorr.testing.metric_checks": "check_metric",
            "vcorr.testing.model_checks": "check_model",
            "vcorr.testing.pass_checks": "check_passes",
            "vcorr.testing.probe_checks": "check_probe",
            "vcorr.testing.reading_checks": "check_reading",
            "vcorr.testing.report": "Check Report assert_passed",
        },
    )
