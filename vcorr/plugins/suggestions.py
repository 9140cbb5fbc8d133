"""Suggests commands that suit a model: what it can generate from, and what it can read."""

from __future__ import annotations

from collections.abc import Sequence

from vcorr.capture.needs import has_attention
from vcorr.contract.bases import VideoModelBase, with_defaults
from vcorr.contract.entries import ModelEntry
from vcorr.contract.modes import Generate, Renoise
from vcorr.contract.records import Site

PROMPT = "A paper boat drifts down a narrow stream."
CLIP = "clip.mp4"
"""The video in the suggested commands, which stands for one of the user's own."""


def typical_probe(sites: Sequence[Site]) -> str:
    """Returns the probe to begin with: query-key matching, or features by cosine where no site shows attention."""
    return "qk" if any(has_attention(site) for site in sites) else "hidden-cos"


def suggest_commands(entry: ModelEntry) -> dict[str, str]:
    """Returns commands by what they do, the most typical first.

    A model with data of its own that need no import reads these. Other models generate from a prompt or from the first
    frame of a video, if they can, and read a video. Data that can be imported come last.

    Raises:
        PluginError: the adapter of the model cannot be made.
    """
    if entry.takes and not entry.options:  # which model it is, and so its sites, is not known
        named = f"vcorr run --model {entry.name}:{entry.takes.upper()}"
        return {"read a video": f"{named} --probe qk --data video:{CLIP}"}
    adapter = entry.create()
    model = with_defaults(adapter, VideoModelBase)
    start = f"vcorr run --model {entry.name}"
    if sites := adapter.sites():
        start += f" --probe {typical_probe(sites)}"
    if entry.data is not None and ":" not in entry.data:
        return {f"read {entry.data}": f"{start} --data {entry.data} --limit 8"}
    found = {}
    if Generate.name in model.modes and model.steps:
        if model.needs_image:
            found["generate from the first frame of a video"] = f"{start} --data video:{CLIP} --mode generate"
        else:
            found["generate from a prompt"] = f'{start} --prompt "{PROMPT}"'
    if Renoise.name in model.modes:
        found["read a video"] = f"{start} --data video:{CLIP}"
    if entry.data is not None:
        found[f"use {entry.data}, once it is imported"] = f"{start} --data {entry.data}"
    return found
