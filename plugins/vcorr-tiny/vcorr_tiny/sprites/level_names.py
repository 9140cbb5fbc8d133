"""Names the levels of the scenes; imports no torch."""

from typing import Literal, get_args

LevelName = Literal[
    "easy",
    "clean",
    "drift",
    "noise",
    "blur",
    "warp",
    "flicker",
    "repeat",
    "twins",
    "fast",
    "vanish",
    "lights",
    "hard",
]
LEVEL_NAMES: tuple[str, ...] = get_args(LevelName)
"""All levels: the original one, the others without and with one fault each, and all faults together."""
EASY: LevelName = "easy"
HARD: LevelName = "hard"
