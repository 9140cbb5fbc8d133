"""Means over all objects of a run of propagation, as DAVIS reports them. Elsewhere every clip counts once."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vcorr.contract.metric_columns import PROPAGATION_COLUMNS, STRATUM_MARK


def average_objects(shards: Iterable[pa.Table]) -> dict[str, float]:
    """Returns the mean over the objects of all clips, by column; empty if nothing was scored.

    shards: scores of a run, one table per clip.
    """
    values: dict[str, list[float]] = {name: [] for name in PROPAGATION_COLUMNS}
    for shard in shards:
        for name, found in values.items():
            rows = shard.filter(pc.starts_with(shard["metric"], f"{name}{STRATUM_MARK}object:"))
            found += [value for value in rows["value"].to_pylist() if np.isfinite(value)]
    return {name: float(np.mean(found)) for name, found in values.items() if found}
