"""Seeds that are computed from texts and numbers, and how the noise of generated videos is drawn. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

NoiseDraw: TypeAlias = Literal["clip", "shared"]
"""How a model draws the noise from which it generates videos: "clip", for every clip by itself, from the seed of the
run and the clip's id; "shared", one draw for all clips, from the seed of the run."""


def noise_draw_of(record: Mapping[str, Any]) -> str:
    """Returns how the noise of the generated videos of a run was drawn, as run.json says.

    The videos may be of another run (`videos_of`). A run of an earlier version had one draw for all clips.
    """
    found = record.get("videos_of") or record.get("resolved")
    return str(found.get("noise_draw", "shared")) if isinstance(found, dict) else "shared"


def stable_seed(*parts: object) -> int:
    """Makes a seed from the text of `parts`, the same in every process.

    It has 32 bits, because torch's CPU generator reads no more of a seed.
    """
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
