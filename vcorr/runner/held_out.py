"""Tells whether clips that chose a site or a threshold are also the clips that are measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

_NOT_IN_CLIPS = frozenset({"limit", "clips", "queries"})
"""Options of data that choose clips or queries and leave the videos as they are."""


@dataclass(frozen=True)
class MeasuredClips:
    """data: what identifies a dataset in a run's record. clips: ids of the clips that were scored."""

    data: Mapping[str, Any]
    clips: frozenset[str]


def describe_overlap(
    chosen: MeasuredClips, data: Mapping[str, Any], clips: Collection[str], run: str, defaults: Mapping[str, Any]
) -> str:
    """Returns a warning if clips of this run chose its site; "" if all of them are held out.

    Args:
        chosen: the clips that chose.
        data: what identifies the dataset of this run.
        clips: ids of the clips of this run.
        run: id of the run that chose.
        defaults: options of the data that were left out of `data`, as `Part.find_left_out` returns them.
    """
    shared = chosen.clips & set(clips)
    if not shared or not shares_videos(chosen.data, data, defaults):
        return ""
    return (
        f"Warning: {len(shared)} of the {len(clips)} clips that are measured also chose the site in run {run}, so the "
        "choice is not held out and the scores tend to be too high."
    )


def shares_videos(one: Mapping[str, Any], other: Mapping[str, Any], defaults: Mapping[str, Any]) -> bool:
    """Returns whether clips with the same id are the same videos, from what identifies two datasets.

    Fingerprints leave out options that came later, at their defaults, and records of runs have them. So an option that
    one side lacks has its default there.
    """
    return _videos(one, defaults) == _videos(other, defaults)


def _videos(data: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what decides the videos of a dataset."""
    config = {**defaults, **(data.get("config") or {})}
    kept = {name: value for name, value in config.items() if name not in _NOT_IN_CLIPS}
    return {"name": data.get("name"), "split": data.get("split"), "config": kept}
