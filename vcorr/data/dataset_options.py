"""Options of the built-in datasets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vcorr.contract.option_notes import option


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """Options of `video`."""

    path: str = option("", 'A file, a folder of videos, or a pattern such as "clips/*.mp4".')
    prompt: str = option("", "What every clip shows, in words.")
    frames: int = option(0, "Reads at most this many frames; 0 for as many as fit in 1 GiB.", unit="frames", least=0)
    fps: float = option(0.0, "Frames per second to keep; 0 keeps every frame.", unit="frames per second", least=0)
    start: float = option(0.0, "Time to skip at the beginning.", unit="seconds", least=0)
    grid: int = option(
        20,
        "Query points along one side of the regular grid in the first frame.",
        unit="points",
        least=1,
    )
    max_side: int = option(
        1920,
        "Frames whose longer side has more pixels are made smaller; 0 for any size.",
        unit="pixels",
        least=0,
    )


@dataclass(frozen=True, kw_only=True)
class PromptsConfig:
    """Options of `prompts`."""

    path: str = option(
        "",
        "A UTF-8 file with one prompt per line; blank lines are skipped. In a .jsonl file each line is an object "
        'with the key "prompt".',
    )
    text: str = option("", "One prompt, in place of a file.")
    image: str = option(
        "", "An image file: the first frame of every video, for models that start from an image.", later=True
    )
    subset: Literal["", "fg", "bg"] = option(
        "",
        'Part of the built-in list: "fg" (an object moves) or "bg" (the camera moves); "" for both.',
    )
    grid: int = option(
        0,
        "Query points along one side of the regular grid over the generated frames. 0 for the paper's numbers: "
        "20, and 10 for built-in prompts in which the camera moves.",
        unit="points",
        least=0,
    )
    limit: int = option(0, "Number of prompts, from the first; 0 for all.", unit="prompts", least=0)


@dataclass(frozen=True, kw_only=True)
class FolderConfig:
    """Options of `folder`."""

    path: str = option("", "A folder that `vcorr dataset build` or `import` made, or one from the hub.")


@dataclass(frozen=True, kw_only=True)
class RunVideosConfig:
    """Options of `run`."""

    path: str = option("", "The folder of a run in mode generate.")


@dataclass(frozen=True, kw_only=True)
class DiffTrackConfig:
    """Options of `difftrack`."""

    path: str = option("", 'Model and name of an imported set, such as "cogvideox_t2v_2b/fg".')


@dataclass(frozen=True, kw_only=True)
class DavisConfig:
    """Options of `davis17`."""

    path: str = option("", "The folder of DAVIS-2017 that holds JPEGImages, Annotations and ImageSets.")
    split: Literal["train", "val"] = option("val", "List of clips, ImageSets/2017/<split>.txt.")
    grid: int = option(
        20,
        "Query points along one side of the regular grid in the first frame.",
        unit="points",
        least=1,
    )


@dataclass(frozen=True, kw_only=True)
class TapVidConfig:
    """Options of the imported sets of TAP-Vid."""

    path: str = option("", "The imported folder, or the folder that holds it; empty for where imports go.")
    queries: Literal["first", "strided"] = option(
        "first",
        'Where each track is asked for: "first" in the first frame in which it is visible, "strided" in every fifth '
        "frame in which it is.",
    )
