"""Options of the built-in datasets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """Options of `video`.

    path: a file, a folder of videos, or a pattern such as "clips/*.mp4". prompt: what every clip shows, in words.
    frames: read at most so many; 0 for as many as fit in 1 GiB. fps: frames a second to keep; 0 keeps every frame.
    start: seconds from the beginning to skip. grid: query points along one side of the regular grid in the first frame.
    max_side: frames whose longer side has more pixels are made smaller while they are read; 0 for any size.
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

    path: a UTF-8 file with one prompt a line, blank lines skipped; in a .jsonl file a line is an object whose "prompt"
    it is. text: one prompt, in place of a file. subset: of the
    built-in list, "fg" (an object moves) or "bg" (the camera moves); "" for both. grid: query points along one side of
    the regular grid laid over the generated frames; 0 for the paper's, 20, and 10 for built-in "bg" prompts. limit: the
    first so many prompts; 0 for all.
    """

    path: str = ""
    text: str = ""
    subset: str = ""
    grid: int = 0
    limit: int = 0


@dataclass(frozen=True, kw_only=True)
class FolderConfig:
    """Options of `folder`.

    path: a folder made by `vcorr dataset build` or `import`, or got from the hub.
    """

    path: str = ""


@dataclass(frozen=True, kw_only=True)
class DiffTrackConfig:
    """Options of `difftrack`.

    path: the model and set among those imported, such as "cogvideox_t2v_2b/fg".
    """

    path: str = ""
