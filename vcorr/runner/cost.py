"""What following points costs: seconds and memory per clip, and over a run, from facts that its shards keep."""

from __future__ import annotations

from typing import Any

from vcorr.runner.peak_memory import device_peak, host_peak
from vcorr.runner.predict import Predicted
from vcorr.store.rundir import RunDirectory
from vcorr.store.shards import read_stamp

COST_KEY = "cost"
"""Key of the facts of a predictions shard, and of run.json."""


def cost_of(predicted: Predicted, device: str) -> dict[str, Any]:
    """Returns the cost of one clip as plain values.

    seconds: that the tracker took, without reading the clip and without scoring. points, frames: of the clip.
    device_gib, host_gib: the most GiB held so far on the device, since the weights were loaded, and by the process;
    None where it is not known.
    """
    assert predicted.clip.video is not None
    return {
        "seconds": round(predicted.seconds, 4),
        "points": len(predicted.clip.queries),
        "frames": len(predicted.clip.video),
        "device_gib": _round(device_peak(device)),
        "host_gib": _round(host_peak()),
    }


def total_cost(run: RunDirectory) -> dict[str, Any] | None:
    """Returns the cost over all clips of a run; None if no clip has one.

    clips, points, frames: of all clips together. seconds_per_clip: the mean over clips. seconds_per_point: all seconds
    divided by all points. device_gib, host_gib: the largest.
    """
    stamps = (read_stamp(path) for path in run.shard_paths("predictions"))
    found = [cost for stamp in stamps if stamp and isinstance(cost := stamp.facts.get(COST_KEY), dict)]
    if not found:
        return None
    seconds, points = sum(cost["seconds"] for cost in found), sum(cost["points"] for cost in found)
    return {
        "clips": len(found),
        "points": points,
        "frames": sum(cost["frames"] for cost in found),
        "seconds_per_clip": round(seconds / len(found), 4),
        "seconds_per_point": round(seconds / points, 6) if points else None,
        "device_gib": _largest(cost["device_gib"] for cost in found),
        "host_gib": _largest(cost["host_gib"] for cost in found),
    }


def _round(gib: float | None) -> float | None:
    return None if gib is None else round(gib, 3)


def _largest(values: Any) -> float | None:
    return max((value for value in values if value is not None), default=None)
