"""Names the splits of clips and of photographs; imports no torch."""

from typing import Literal, get_args

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[str, ...] = get_args(SplitName)
