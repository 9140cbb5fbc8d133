"""Holds the closed vocabulary of the sprite captions, and converts captions to token ids and back.

A caption names every sprite and the camera: ``red striped disk right . camera pans-left``. Every word is one token, so
scenes compute token ids from their indices, on any device and without a tokenizer. Words for faults come last:
``camera pans-left noisy lit``. Ids never change; new words get the next ones.
"""

from collections.abc import Iterable

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "cyan", "white", "gray")
PATTERNS = ("plain", "striped", "checked", "dotted", "rough")
SHAPES = ("disk", "square", "triangle", "hexagon", "star", "blob")
MOVES = ("still", "left", "right", "up", "down")
CAMERAS = ("static", "pans-left", "pans-right", "pans-up", "pans-down", "zooms-in", "zooms-out")

RGB = (
    (0.85, 0.12, 0.12),
    (0.12, 0.62, 0.18),
    (0.13, 0.28, 0.88),
    (0.92, 0.82, 0.12),
    (0.55, 0.18, 0.70),
    (0.96, 0.50, 0.08),
    (0.12, 0.76, 0.82),
    (0.93, 0.93, 0.93),
    (0.34, 0.34, 0.37),
)
"""Red, green and blue in [0, 1] of each of ``COLOURS``."""

DIRECTIONS = ((0.0, 0.0), (-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0))
"""Unit screen direction (x right, y down) of each of ``MOVES``; the first five of ``CAMERAS`` share the order."""

FAULT_WORDS = {
    "drift": "drifting",
    "noise": "noisy",
    "blur": "blurred",
    "warp": "warped",
    "flicker": "flickering",
    "repeat": "tiled",
    "vanish": "curtain",
    "lights": "lit",
}
"""What a caption says of a fault. Captions show twins as equal words, and do not name fast things."""

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
SPECIAL = (PAD, END, UNKNOWN)
PHOTO = "photo"
"""Stands where the pattern stands if the texture is a photograph."""
WORDS = ("camera", ".", *COLOURS, *PATTERNS, *SHAPES, *MOVES, *CAMERAS, PHOTO, *FAULT_WORDS.values())
TOKENS = {word: index for index, word in enumerate((*SPECIAL, *WORDS))}
"""Token id of every word; ids count from 0 without gaps, and 0 is the pad."""

CAPTION_TOKENS = 32
"""Length of padded captions; the longest caption (four sprites, all faults) has 31 tokens with its end mark."""


def words_of(token_ids: Iterable[int]) -> str:
    """Returns the caption of ``token_ids``, without padding and end mark."""
    spelling = {index: word for word, index in TOKENS.items()}
    return " ".join(spelling[int(token)] for token in token_ids if int(token) >= len(SPECIAL))
