"""The published data sets in the form of TAP-Vid, as facts; imports no numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

KIND = "tapvid"
"""The word of `vcorr dataset import`, and the kind in the record of an imported folder."""

Form = Literal["dict", "list"]


@dataclass(frozen=True)
class TapVidSet:
    """One of the published sets.

    name: short name, which is also the name of its folder. dataset: name of the dataset that reads it. form: outermost
    container of its files. files: their names. about: what it is. jpeg: whether frames are JPEG files, not pixels.
    word: the part of the names of its files that tells it from a set of the same form, "" if there is no such set.
    tracker: "exact" if the tracks are known by construction, "" if people made them. licence: of the annotations,
    "" if it was not found.
    """

    name: str
    dataset: str
    form: Form
    files: str
    about: str
    jpeg: bool = False
    word: str = ""
    tracker: str = ""
    licence: str = "CC-BY-4.0"


SETS = {
    found.name: found
    for found in (
        TapVidSet(
            "davis",
            "tapvid-davis",
            "dict",
            "tapvid_davis.pkl",
            "TAP-Vid-DAVIS: 30 videos of the validation set of DAVIS, with tracks that people made",
            word="davis",
        ),
        TapVidSet(
            "kinetics",
            "tapvid-kinetics",
            "list",
            "0000_of_0010.pkl and the others",
            "TAP-Vid-Kinetics: videos of the validation set of Kinetics-700-2020, with tracks that people made",
            jpeg=True,
        ),
        TapVidSet(
            "rgb-stacking",
            "tapvid-rgb-stacking",
            "list",
            "tapvid_rgb_stacking.pkl",
            "TAP-Vid-RGB-Stacking: 50 simulated videos of a robot, with the tracks of the simulator",
            tracker="exact",
        ),
        TapVidSet(
            "robotap",
            "robotap",
            "dict",
            "robotap_split0.pkl and the others",
            "RoboTAP: videos of robots at work, with tracks that people made",
            word="robotap",
            licence="",
        ),
    )
}
"""The sets by their short names."""

DATASETS = {found.dataset: found for found in SETS.values()}
"""The sets by the names of their datasets."""

SOURCE = "https://github.com/google-deepmind/tapnet (arXiv 2211.03726; RoboTAP: arXiv 2308.15975)"
