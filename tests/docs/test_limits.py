"""Limits that pages say in numbers or words are the constants of the code."""

from __future__ import annotations

import pytest
from support.pages import ROOT, read

from vcorr.board.tables.definitions import Admission
from vcorr.board.tables.row_candidates import ENOUGH
from vcorr.contract.modes import LEAST_ROUND_TRIP
from vcorr.functional.traits import SINKS, STATES
from vcorr.metrics.accuracy import HALF_A_STRIDE
from vcorr.metrics.frame_units import PCK_MOVING, PCK_SIDE
from vcorr.metrics.reachable import MOST_VALUES
from vcorr.metrics.stillness import NEAR
from vcorr.probes.probe_options import CosineConfig
from vcorr.stats.choice import MIN_CLIPS_FOR_HALVES
from vcorr.stats.intervals import LEVEL, MIN_CLIPS_FOR_INTERVAL, MIN_CLIPS_WITH_RANGE, SKILL_MIN_RANGE
from vcorr.stats.sign_flips import EXACT_UP_TO, FLIPS, smallest_p
from vcorr.stats.stability import RESAMPLES

WORDS = dict(enumerate(("no", "one", "two", "three", "four", "five", "six", "seven", "eight")))
FEW, SIX, RANGE = (WORDS[int(count)] for count in (MIN_CLIPS_FOR_HALVES, MIN_CLIPS_FOR_INTERVAL, MIN_CLIPS_WITH_RANGE))
LEVEL_95, ENOUGH_95 = (f"{share:.0%}".replace("%", " %") for share in (LEVEL, ENOUGH))  # pages write 95 %
SIDE = f"{PCK_SIDE}x{PCK_SIDE} frame"

SAID = {
    "statistics": [
        f"All intervals are {LEVEL_95} intervals",
        f"fewer than {SIX} clips count",
        f"fewer than {RANGE} clips, counted as",
        f"under {SKILL_MIN_RANGE:g}",
        f"With fewer than {FEW} scored clips",
        f"more than {EXACT_UP_TO} clips that differ",
        f"m = {FLIPS:,} choices",
        f"Six clips cannot give p under {smallest_p(6):.3f}",
        f"{RESAMPLES} resamples",
    ],
    "protocol": [
        f"There is no interval under {SIX} clips",
        f"nearly all motion is in fewer than {RANGE} clips",
        f"less than {SKILL_MIN_RANGE:g} apart",
        f"With fewer than {FEW} scored clips",
        f"Up to {EXACT_UP_TO} clips all signs are tried, and {FLIPS:,} drawn ones",
        f"moved by more than {PCK_MOVING:g} px of a {SIDE}",
        f"hypot(dx/sx, dy/sy) < 1/{1 / HALF_A_STRIDE:g}",
        f"take more than {MOST_VALUES} values",
        f"{NEAR:g} px of its query, in pixels of a {SIDE}",
        f"Under {LEAST_ROUND_TRIP:g} dB a clip is not scored",
        f"The temperature is {CosineConfig().temperature:g} unless",
    ],
    "probes": [
        f"The default, {CosineConfig().temperature:g}, is",
        f"the attention to the {SINKS} tokens",
        f"at most {STATES} query tokens",
    ],
    "board": [
        f"There is none under {SIX} clips",
        f"fewer than {FEW} clips there are no halves",
        f"needs {ENOUGH_95} of these clips",
        f"the default is {Admission().min_clips}",
    ],
}


@pytest.mark.parametrize("name", SAID)
def test_the_limits_of_a_page_are_the_ones_of_the_code(name) -> None:
    text = " ".join(read(ROOT / "docs" / f"{name}.md").split())
    assert [words for words in SAID[name] if words not in text] == []
