"""Holds the options of tracking by correspondence (`--set track.KEY=VALUE`); imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from vcorr.contract.errors import UsageError
from vcorr.contract.option_notes import option

Order = Literal["interval", "sliding", "consecutive"]
Latents = Literal["stills", "video"]
Visibility = Literal["cycle", "peak", "always"]
Layers = Literal["mean", "logits"]

_DEFAULT_THRESHOLDS: dict[Visibility, float] = {"cycle": 0.5, "peak": 0.0, "always": 0.0}


@dataclass(frozen=True)
class TrackOptions:
    """How a clip is cut into chunks, how a model reads a chunk, and when a point counts as visible.

    Raises:
        UsageError: an option has a wrong value.
    """

    chunk: int = option(
        0,
        "Frames that the model reads in one pass, the frame of the queries included. 0: as many as the model has"
        " latents, or frames for track.latents=video.",
        unit="frames",
        least=0,
    )
    order: Order = option(
        "interval",
        "How the other frames are shared out. interval: spread evenly over the video. sliding: neighbouring frames, in"
        " chunks that overlap by half. consecutive: neighbouring frames, each once.",
    )
    latents: Latents = option(
        "stills",
        "stills: each frame is encoded by itself. video: a chunk is encoded as a video.",
    )
    add_noise: bool = option(True, "false gives the model latents without the noise of the step.")
    prompt: str = option("", "Text for models that read a prompt.")
    visibility: Visibility = option(
        "cycle",
        "What the confidence of a position is. cycle: 1/(1 + e), with e the distance in tokens between the query and"
        " the way back. peak: the correlation at the match. always: 1, so every point is visible.",
    )
    threshold: float | None = option(
        None,
        "A point is visible where its confidence is larger. null: 0.5 for cycle, 0 for the others.",
        least=0,
        most=1,
    )
    combine: Layers = option(
        "mean",
        "How several layers are combined. mean: the mean of their correlations. logits: one correlation, for which the"
        " dot products of all layers add up.",
        later=True,
    )

    def __post_init__(self) -> None:
        for name, known in (("order", Order), ("latents", Latents), ("visibility", Visibility), ("combine", Layers)):
            if getattr(self, name) not in get_args(known):
                choices = ", ".join(get_args(known))
                raise UsageError(f"track.{name}: expected one of {choices}, got {getattr(self, name)!r}.")
        if isinstance(self.chunk, bool) or not isinstance(self.chunk, int) or self.chunk < 0 or self.chunk == 1:
            raise UsageError(
                f"track.chunk={self.chunk!r}: a chunk holds the frame of the queries and at least one more.",
                hint="Take 2 or more, or 0 for as many as the model has latents.",
            )
        given = self.threshold
        if given is not None and not (isinstance(given, (int, float)) and 0 <= given <= 1 and math.isfinite(given)):
            raise UsageError(f"track.threshold: expected a number from 0 to 1, got {given!r}.")

    @property
    def least_confidence(self) -> float:
        """The confidence above which a point is visible."""
        return _DEFAULT_THRESHOLDS[self.visibility] if self.threshold is None else float(self.threshold)
