"""Sites as people write them: LAYER:STEP for the mean over heads, LAYER:STEP:HEAD for one head."""

from __future__ import annotations

from typing import NamedTuple

from vcorr.contract.errors import UsageError
from vcorr.contract.records import HEAD_MEAN, NO_SITE

NO_STEP = "none"
"""The step of a model without noise, and the layer of a prediction from no attention site, as people write them."""


class SiteId(NamedTuple):
    """A site as people write it: LAYER:STEP, or LAYER:STEP:HEAD for one head.

    STEP is "none" without noise. LAYER is "none" for predictions of latents, which have a step alone.
    """

    layer: int
    step: int
    head: int = HEAD_MEAN

    def __str__(self) -> str:
        layer, step = (NO_STEP if number == NO_SITE else number for number in (self.layer, self.step))
        return f"{layer}:{step}" + ("" if self.head == HEAD_MEAN else f":{self.head}")


def parse_site(text: str) -> SiteId:
    """Reads LAYER:STEP or LAYER:STEP:HEAD.

    Raises:
        UsageError: the text is neither.
    """
    parts = text.strip().split(":")
    named = [part for index, part in enumerate(parts) if index > 1 or part != NO_STEP]
    if len(parts) not in (2, 3) or len(named) < len(parts) - 1 or not all(part.isdecimal() for part in named):
        raise UsageError(
            f"{text!r} is not a site.",
            hint="Write LAYER:STEP, such as 7:49, or LAYER:STEP:HEAD for one head alone.",
        )
    return SiteId(*(NO_SITE if part == NO_STEP else int(part) for part in parts))
