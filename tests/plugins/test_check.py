"""`vcorr plugin check` says what is wrong with a plugin whose own code raises outside any check."""

import numpy as np

import vcorr
from vcorr.authoring.check.suites import check_plugin
from vcorr.authoring.check.targets import Target
from vcorr.plugins.registry import PluginSource, Registered, Registry


class Lost(vcorr.VideoModelBase):
    """A model whose grid cannot be computed."""

    def sites(self):
        return ()

    def grid(self, clip, site):
        return clip.video.shape["frames"]

    def load(self, device, dtype, weights):
        pass

    def run(self, clip, settings, recorder):
        recorder.answer(np.zeros((0, 1, 2)), None)


def test_a_grid_that_raises_is_a_check_that_failed():
    entry = vcorr.ModelEntry(name="lost", summary="Has no grid.", factory=f"{__name__}:Lost")
    registered = Registered(entry, PluginSource("lost", "vcorr-lost", "1", lambda: None))
    found = check_plugin(Target("lost", (), (registered,)), Registry([]), {})
    assert found.exit_code == 3
    reasons = {check.name: check.reason for report in found.reports for check in report.checks if not check.passed}
    assert "TypeError" in reasons["can be made with its options"]
