"""Says where the videos of a dataset come from, if a run of vcorr generated them. No numpy, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vcorr.contract.records import Mode


@dataclass(frozen=True)
class MadeClip:
    """What a run recorded about a clip whose video it generated.

    video: hash of the video. data_hash, still: as in the run's own rows.
    """

    video: str
    data_hash: str
    still: float


@dataclass(frozen=True)
class VideoOrigin:
    """The run that generated the videos of a dataset, as its run.json says.

    A model without noise that reads these videos measures the same clips as that run. Its rows then name the same data,
    mode and tracker, so that both compare.

    run: id of the run. data: its dataset: name, version, split, options and content. mode, seed: of the sampling.
    tracker: what made its tracks. clips: its clips with a video and tracks, by id.
    noise_draw: how the noise of the videos was drawn (`vcorr.contract.seeds`).
    """

    run: str
    data: Mapping[str, Any]
    mode: Mode
    seed: int | None
    tracker: Mapping[str, Any] | None
    clips: Mapping[str, MadeClip]
    noise_draw: str = "shared"

    @property
    def dataset(self) -> str:
        """Name of the dataset that the videos were generated from."""
        return str(self.data["name"])

    @property
    def split(self) -> str:
        """The split of that dataset."""
        return str(self.data["split"])

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for run.json, without the clips."""
        names = ("run", "data", "mode", "seed", "noise_draw", "tracker")
        return {name: getattr(self, name) for name in names}
