"""The dataset `prompts`: text to generate videos from. The reference tracks are made on the generated videos."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vcorr.contract.bases import DatasetBase
from vcorr.contract.errors import MissingError, UsageError, unknown_name
from vcorr.contract.records import Clip
from vcorr.contract.text_files import decode, expand_home, read_small_file
from vcorr.data.dataset_options import PromptsConfig
from vcorr.data.image_reader import read_image
from vcorr.data.video.lossless import video_hash
from vcorr.store.fingerprint import is_unicode
from vcorr.store.json_text import read_json

JSON_LINES = ".jsonl"
OTHER_TABLES = (".csv", ".tsv", ".json", ".parquet")

OBJECTS_SIDE, SCENES_SIDE = 20, 10
"""Query points along one side of the paper's grids: for videos in which objects move, and in which the camera does."""

FOREGROUND = (
    "A red wooden toy train rolls from left to right along a straight track on a table, wheels turning steadily.",
    "A border collie runs across a mown meadow after a yellow ball, its coat flapping, seen from the side.",
    "A woman in a green coat walks past a brick wall covered in posters, carrying a striped umbrella.",
    "A paper boat drifts down a narrow stream, turning slowly and bumping against pebbles on the bank.",
    "A cyclist in a checked shirt rides in a wide circle on an empty car park, the camera standing still.",
    "A tabby cat jumps from a window sill onto a patterned rug, lands, and trots towards the viewer.",
)
"""Prompts in which an object moves before a camera that stands still, or nearly."""

BACKGROUND = (
    "The camera glides forward along a forest path between tall pines, moss and ferns on both sides.",
    "A slow pan from left to right over a harbour full of moored fishing boats with painted hulls.",
    "The camera circles a stone fountain on an empty square, old houses with shutters turning behind it.",
    "An aerial view moves sideways over terraced fields, stone walls and single trees passing below.",
    "The camera rises along the front of a library, row after row of carved windows coming into view.",
    "A slow zoom towards a shelf of old books and brass instruments in a quiet study, nothing else moving.",
)
"""Prompts in which the camera moves through a scene that stands still."""


@dataclass(frozen=True)
class _Item:
    prompt: str
    side: int


class Prompts(DatasetBase):
    """Prompts from a file, from the command line, or the built-in list (`vcorr.Dataset`).

    Raises:
        MissingError: there is no such file.
        UsageError: the file is empty or not UTF-8, options contradict each other, or the image cannot be read.
    """

    def __init__(self, config: PromptsConfig) -> None:
        for name in ("grid", "limit"):
            if getattr(config, name) < 0:
                raise UsageError(f"data.{name} must be at least 0, got {getattr(config, name)}.")
        if sum(map(bool, (config.path, config.text, config.subset))) > 1:
            raise UsageError("data.path, data.text and data.subset each choose the prompts: give one of them.")
        self.config = config
        self.split, items = _items(config)
        self._items = dict(list(items.items())[: config.limit or None])
        self._image = read_image(expand_home(config.image))[None] if config.image else None

    def ids(self) -> Sequence[str]:
        """Returns the ids "prompt-0000", "prompt-0001" and so on. A built-in prompt has the same id in every subset."""
        return tuple(self._items)

    def clip(self, clip_id: str) -> Clip:
        """Returns the prompt with that id, as a clip without a video.

        Raises:
            UsageError: there is no such clip.
        """
        if clip_id not in self._items:
            raise unknown_name("clip", clip_id, self._items)
        item = self._items[clip_id]
        return Clip(
            id=clip_id,
            prompt=item.prompt,
            queries=np.zeros((0, 2), dtype=np.float32),
            query_side=self.config.grid or item.side,
            video=self._image,
        )

    def identity(self) -> Mapping[str, Any]:
        """Returns the SHA-256 of the prompts, and of the image if there is one. Paths of files do not count."""
        digest = hashlib.sha256()
        for item in self._items.values():
            digest.update(item.prompt.encode() + b"\n")
        image = {} if self._image is None else {"image": video_hash(self._image)}
        return {"prompts": digest.hexdigest(), **image}


def read_prompts(path: Path) -> tuple[str, ...]:
    """Returns the prompts of a UTF-8 file, one per line, without blank lines.

    A line of a .jsonl file is an object with the key "prompt", or the prompt itself in quotes.

    Raises:
        MissingError: as `read_lines`.
        UsageError: also if the file is a table such as .csv, or a line of a .jsonl file holds no prompt.
    """
    kind = path.suffix.lower()
    if kind in OTHER_TABLES:
        raise UsageError(
            f"The prompt file {path} is {kind}; prompts are read from text, one per line, or from JSON lines (.jsonl).",
            hint='Write one prompt per line, or one {"prompt": "..."} per line into a file that ends in .jsonl.',
        )
    lines = [(number, line) for number, line in enumerate(read_lines(path), 1) if line]
    if kind != JSON_LINES:
        return tuple(line for _, line in lines)
    return tuple(_from_json(line, f"The prompt file {path}: line {number}") for number, line in lines)


def _from_json(line: str, where: str) -> str:
    try:
        found = read_json(line)
    except ValueError as error:
        raise UsageError(f"{where} is not JSON: {error}.") from error
    prompt = found.get("prompt") if isinstance(found, dict) else found
    if not isinstance(prompt, str) or not prompt.strip():
        raise UsageError(f"{where} holds no prompt.", hint='A line is {"prompt": "..."}; other keys are not read.')
    if not is_unicode(prompt):
        raise UsageError(f"{where} holds half a character: {prompt!a}.", hint="Write the character itself, in UTF-8.")
    return " ".join(prompt.split())  # a prompt is one line, here as in a text file


def read_lines(path: Path) -> list[str]:
    """Returns the lines of a UTF-8 file of prompts, without white space around them and blank lines at the end.

    Raises:
        MissingError: there is no such file.
        UsageError: it cannot be read, is not UTF-8, or holds no prompt.
    """
    label = f"The prompt file {path}"
    try:
        data = read_small_file(path, label)
    except FileNotFoundError as error:
        raise MissingError(f"{label} does not exist.") from error
    text = decode(data, label)
    lines = [line.strip() for line in io.StringIO(text.rstrip(), newline=None)]  # any kind of line ending
    if not any(lines):
        raise UsageError(f"{label} is empty.", hint="Write one prompt per line.")
    if all(line.startswith("#") for line in lines if line):
        raise UsageError(
            f"{label} holds only lines that begin with '#'; a prompt file has no comments.",
            hint="Write one prompt per line. A prompt that begins with '#' is a prompt like any other.",
        )
    return lines


def _items(config: PromptsConfig) -> tuple[str, dict[str, _Item]]:
    """Returns the split's name, and the prompts by id."""
    if config.path:
        return "own", _number([_Item(p, OBJECTS_SIDE) for p in read_prompts(expand_home(config.path))])
    if config.text:
        if not config.text.strip():
            raise UsageError("The prompt is blank.")
        return "own", _number([_Item(config.text, OBJECTS_SIDE)])
    if config.subset not in ("", "fg", "bg"):
        raise unknown_name("subset of prompts", config.subset, ["fg", "bg"])
    groups = {"fg": (FOREGROUND, OBJECTS_SIDE), "bg": (BACKGROUND, SCENES_SIDE)}
    built_in = [(name, _Item(prompt, side)) for name, (prompts, side) in groups.items() for prompt in prompts]
    wanted = [config.subset in (name, "") for name, _ in built_in]
    numbered = _number([item for _, item in built_in])
    kept = {key: item for (key, item), keep in zip(numbered.items(), wanted, strict=True) if keep}
    return config.subset or "all", kept


def _number(items: Sequence[_Item]) -> dict[str, _Item]:
    return {f"prompt-{number:04d}": item for number, item in enumerate(items)}
