"""Fixes which faults are injected into rendered clips, at which doses, and when a score counts as seeing a fault.

Scores of generated videos are validated against these doses. They were fixed before any score was computed on them, and
stay: a dose that is changed after its scores were seen validates nothing. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

LEVEL, SPLIT, CLIPS = "clean", "test", 24
"""The clips: rigid layers of `sprites`, nearly all of which move, and no other fault."""
SEEN_ABOVE = 0.5
"""A score sees a fault if the whole interval of its rank correlation with the dose is above this number."""


@dataclass(frozen=True)
class InjectedFault:
    """A fault at five doses, from none or the least to the most.

    unit: of the dose; pixels are pixels of a 128x128 frame. is_fault: False for a control, in which nothing is wrong.
    """

    name: str
    summary: str
    unit: str
    doses: tuple[float, ...]
    is_fault: bool = True

    @property
    def worst(self) -> float:
        """The largest dose."""
        return self.doses[-1]


TEXTURE_JUMP = InjectedFault(
    "texture-jump",
    "The texture of every layer jumps three times, each time by the dose in a drawn direction; outlines stay in place.",
    "pixels per jump",
    (0.0, 1.0, 2.0, 4.0, 8.0),
)
MELT = InjectedFault(
    "melt",
    "Every sprite bends along static waves; their slope grows steadily from zero in the first frame.",
    "largest slope of the waves in the last frame",
    (0.0, 0.15, 0.3, 0.6, 0.9),
)
TELEPORT = InjectedFault(
    "teleport",
    "Every sprite jumps once, by the dose in a drawn direction, and goes on from there.",
    "pixels",
    (0.0, 4.0, 8.0, 16.0, 32.0),
)
FREEZE = InjectedFault(
    "freeze",
    "The clip stops, and the frame where it stops is shown to the end.",
    "share of the clip that stands still",
    (0.0, 0.25, 0.5, 0.75, 1.0),
)
SPEED = InjectedFault(
    "speed",
    "Control: the same scene is shown faster. Nothing is wrong with it.",
    "share of the usual speed",
    (1 / 8, 1 / 4, 1 / 2, 2 / 3, 1.0),
    is_fault=False,
)
INJECTED = (TEXTURE_JUMP, MELT, TELEPORT, FREEZE, SPEED)
"""All faults and the control."""
