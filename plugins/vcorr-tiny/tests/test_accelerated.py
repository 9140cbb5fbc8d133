"""The table of docs/accelerators.md comes from the table of a study."""

import json

import pytest
from vcorr_tiny import accelerated

from vcorr import MissingError
from vcorr.studies.accelerator_rows import TABLE, AcceleratorRow

FACTS = {
    "model": "tiny",
    "clips": 6,
    "dataset": "sprites",
    "probe": "qk",
    "site": "7:49",
    "prompts": 1,
    "num_steps": 6,
}


def row(arm, metric, **values):
    return AcceleratorRow(accelerator=arm, metric=metric, **values)


@pytest.fixture
def study(tmp_path):
    told = {"low": -0.3, "high": -0.1, "p_holm": 0.03}
    rows = [
        row("nf4", "skill", value=0.5, plain=0.75, difference=-0.25, note="simulated", **told),
        row("nf4", "denoising_loss", plain=0.7, difference=0.05, low=0.04, high=0.06, p_holm=0.2),
        row("nf4", "psnr", value=31.24),
        row("nf4", "seconds_per_video", ratio=1.5),
        *(row("mag-cache", name, reason="skips attention") for name in ("skill", "denoising_loss")),
        row("mag-cache", "psnr", value=22.0),
        row("mag-cache", "seconds_per_video", reason="not timed"),
    ]
    TABLE.write(tmp_path / accelerated.TABLE, rows)
    (tmp_path / accelerated.RECORD).write_text(json.dumps(FACTS))
    return tmp_path


def test_the_page_gets_differences_intervals_and_reasons(study):
    page = study / "accelerators.md"
    page.write_text("Before\n\n<!-- accelerators-tiny -->\n<!-- /accelerators-tiny -->\n\nAfter\n")
    assert accelerated.main(["--tables-only", "--out", str(study), "--docs", str(study)]) == 0
    lines = page.read_text().splitlines()
    assert "| plain | 0.750 | 0.7000 | | 1 | |" in lines
    shown = "| `nf4` | **-0.250** (-0.300 … -0.100) | +0.0500 (+0.0400 … +0.0600) | 31.2 | 1.50 | simulated |"
    assert shown in lines
    assert "| `mag-cache` | – | – | 22.0 | not timed | skips attention |" in lines
    assert (lines[0], lines[-1]) == ("Before", "After")


def test_a_study_that_was_not_measured_says_so(tmp_path):
    with pytest.raises(MissingError, match="does not exist"):
        accelerated.main(["--tables-only", "--out", str(tmp_path)])
