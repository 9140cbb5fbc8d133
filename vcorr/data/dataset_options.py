"""Options of the built-in datasets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """Options of `video`.

    path: a file, a folder of videos, or a pattern such as "clips/*.mp4". prompt: what every clip shows, in words.
    frames: reads at most this many frames; 0 for as many as fit in 1 GiB. fps: frames per second to keep; 0 keeps every
    frame. start: seconds to skip at the beginning. grid: query points along one side of the regular grid in the first
    frame. max_side: frames whose longer side has more pixels are made smaller; 0 for any size.
    """

    path: str = ""
    prompt: str = ""
    frames: int = 0
    fps: float = 0.0
    start: float = 0.0
    grid: int = 20
    max_side: int = 1920


@dataclass(frozen=True, kw_only=True)
class PromptsConfig:
    """Options of `prompts`.

    path: a UTF-8 file with one prompt per line; blank lines are skipped. In a .jsonl file each line is an object with
    the key "prompt". text: one prompt, in place of a file. subset: part of the built-in list, "fg" (an object moves) or
    "bg" (the camera moves); "" for both. grid: query points along one side of the regular grid over the generated
    frames; 0 for the paper's numbers, 20, and 10 for built-in "bg" prompts. limit: number of prompts, from the first;
    0 for all.
    """

    path: str = ""
    text: str = ""
    subset: str = ""
    grid: int = 0
    limit: int = 0


@dataclass(frozen=True, kw_only=True)
class FolderConfig:
    """Options of `folder`.

    path: a folder that `vcorr dataset build` or `import` made, or one from the hub.
    """

    path: str = ""


@dataclass(frozen=True, kw_only=True)
class DiffTrackConfig:
    """Options of `difftrack`.

    path: model and name of an imported set, such as "cogvideox_t2v_2b/fg".
    """

    path: str = ""
