"""Sites as people write them: LAYER:STEP for the mean over heads, LAYER:STEP:HEAD for one head."""

from __future__ import annotations

from typing import NamedTuple

from vcorr.contract.errors import UsageError
from vcorr.contract.records import HEAD_MEAN, NO_SITE

NO_STEP = "none"
"""The step of a model without noise, as people write it."""


class SiteId(NamedTuple):
    """A site as people write it: LAYER:STEP, or LAYER:STEP:HEAD for one head. STEP is "none" without noise."""

    layer: int
    step: int
    head: int = HEAD_MEAN

    def __str__(self) -> str:
        step = NO_STEP if self.step == NO_SITE else self.step
        return f"{self.layer}:{step}" + ("" if self.head == HEAD_MEAN else f":{self.head}")


def parse_site(text: str) -> SiteId:
    """Reads LAYER:STEP or LAYER:STEP:HEAD.

    Raises:
        UsageError: the text is neither.
    """
    layer, *others = text.strip().split(":")
    # a model without noise has no step to name
    stepless = others[:1] == [NO_STEP]
    parts = [layer, *others[stepless:]]
    if len(others) not in (1, 2) or not all(part.isdecimal() for part in parts):
        raise UsageError(
            f"{text!r} is not a site.",
            hint="Write LAYER:STEP, such as 7:49, or LAYER:STEP:HEAD for one head alone.",
        )
    numbers = [int(part) for part in parts]
    return SiteId(numbers[0], NO_SITE, *numbers[1:]) if stepless else SiteId(*numbers)
