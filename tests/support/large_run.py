"""Makes a large run of made-up scores, to measure what the reading commands take (docs/performance.md).

    python tests/support/large_run.py FOLDER --clips 1000 --sites 1500

Nothing in it was measured. It has one probe, means over heads, and twelve metrics: 18 million rows in 1,000 shards.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from vcorr.contract.geometry import TokenGrid
from vcorr.store import schema
from vcorr.store.columns import to_table
from vcorr.store.rundir import RunDirectory

STEPS = 50
METRICS = (
    tuple(f"pck_{2**i}" for i in range(6)) + tuple(f"matching_accuracy_{i}" for i in range(5)) + ("matching_accuracy",)
)
PRINTS = {"predict": "a" * 64, "track": "b" * 64, "score": "c" * 64}


def make_run(out: Path, *, clips: int, sites: int, seed: int = 0, name: str = "a" * 64) -> RunDirectory:
    """Makes a complete run with scores, tracks and predictions of one site; returns it."""
    run = RunDirectory.create(out, name)
    draw = np.random.default_rng(seed)
    skill = draw.uniform(0.1, 0.9, (len(METRICS), sites)).astype(np.float32)
    template = _template(run.run_id, sites)
    for index in range(clips):
        clip = f"clip-{index:04d}"
        values = np.clip(skill + draw.normal(0, 0.05, skill.shape), 0, 1).astype(np.float32).ravel()
        table = template.set_column(template.column_names.index("value"), "value", pa.array(values, pa.float32()))
        table = table.set_column(
            table.column_names.index("clip"), "clip", pa.array([clip] * table.num_rows, pa.string())
        )
        _write(
            run.shard("scores", clip), table.replace_schema_metadata(schema.schema("scores", PRINTS["score"]).metadata)
        )
        for other, row in _others(run.run_id, clip).items():
            prints = PRINTS["track" if other == "tracks" else "predict"]
            _write(run.shard(other, clip), to_table([row], schema.schema(other, prints)))
    run.write_record(_record(), "complete")
    return run


def _template(run: str, sites: int) -> pa.Table:
    """Returns the rows of one clip, but for its id and values."""
    row = schema.ScoreRow(
        run=run,
        model="made-up",
        attention="full3d",
        weights="hub:made-up/model@0",
        probe="qk",
        dataset="made-up",
        split="test",
        mode="renoise",
        tracker="exact",
        n=1000,
        value=0.5,
        floor=0.05,
        ceiling=0.95,
        seed=42,
    )
    one = to_table([row], schema.schema("scores"))
    table = one.take(pa.array(np.zeros(len(METRICS) * sites, np.int64)))
    layer, step = np.divmod(np.arange(sites), STEPS)
    columns = {
        "metric": pa.array(np.repeat(np.array(METRICS), sites)),
        "layer": pa.array(np.tile(layer, len(METRICS)), pa.int32()),
        "layer_name": pa.array([f"blocks.{number}.attn" for number in layer] * len(METRICS)),
        "step": pa.array(np.tile(step, len(METRICS)), pa.int32()),
        "noise": pa.array(np.tile(1 - (step + 1) / (STEPS + 1), len(METRICS)), pa.float32()),
    }
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, values)
    return table


def _others(run: str, clip: str) -> dict[schema.TableName, schema.Row]:
    grid = TokenGrid(frames=2, rows=2, cols=2, stride=(8.0, 8.0))
    track = schema.TrackRow(
        run=run, clip=clip, points=1, frames=2, height=16, width=16, query_frames=[0], queries=[1.0, 1.0],
        xy=[1.0, 1.0, 2.0, 2.0], visible=[True, True],
    )  # fmt: skip
    prediction = schema.PredictionRow(
        run=run, clip=clip, probe="qk", kind="positions",
        variant="corrected", layer=0, step=0, readout="token",
        grid=json.dumps(grid.to_dict()), points=1, latents=2, query_frames=[0], xy=[1.0, 1.0, 2.0, 2.0],
    )  # fmt: skip
    return {"tracks": track, "predictions": prediction}


def _record() -> dict[str, object]:
    context = {"model": "made-up", "weights": "hub:made-up/model@0", "dataset": "made-up", "split": "test"}
    return {
        "command": ["vcorr", "run", "--model", "made-up"],
        "started": "2026-01-02T03:04:05+00:00",
        "resolved": {"data": {"name": "made-up", "version": 1, "split": "test", "config": None}},
        "metrics": [{"name": "matching_accuracy", "version": 2, "config": None}],
        "scoring": 1,
        "variants": ["corrected"],
        "row_context": {**context, "mode": "renoise", "seed": 42},
        "tracker": None,
        "fingerprints": PRINTS,
    }


def _write(path: Path, table: pa.Table) -> None:
    with pa.ipc.new_file(str(path), table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)


def main() -> None:
    """Makes the run that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--sites", type=int, default=1500)
    given = parser.parse_args()
    for seed, name in enumerate("ab"):
        run = make_run(given.folder, clips=given.clips, sites=given.sites, seed=seed, name=name * 64)
        sys.stdout.write(f"{run.path}\n")


if __name__ == "__main__":
    main()
