"""Makes runs of any size with made-up predictions, to measure what scoring and reading them takes.

    python -m vcorr.bench.made_runs FOLDER --clips 1000 --sites 1500

Nothing in them was measured. Their files are written by the writers of real runs, in the same layout.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vcorr.contract.geometry import TokenGrid
from vcorr.contract.tasks import CORRESPONDENCE
from vcorr.contract.variants import DEFAULT_VARIANT
from vcorr.plugins.registry import installed
from vcorr.runner.identity import score_fingerprint
from vcorr.runner.parts import metric_parts
from vcorr.runner.score import RowContext
from vcorr.runner.score_shards import ShardScorer
from vcorr.runner.spec import build_spec
from vcorr.runner.stage_facts import score_facts
from vcorr.store import shards
from vcorr.store.columns import RowGroup, groups_to_table
from vcorr.store.fingerprint import fingerprint
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import PREDICTIONS, PredictionRow, TrackRow

GRID = TokenGrid(frames=3, rows=8, cols=8, stride=(16.0, 16.0), video_frames=9, temporal_ratio=4, causal=True)
"""The tokens of every made-up video: 9 frames of 128x128 pixels."""
STEPS = 50
NAME = "made-up"


@dataclass(frozen=True)
class RunSize:
    """Size of a run. sites: layers x steps, one prediction each. points: query points per clip. seed: of all values."""

    clips: int
    sites: int
    points: int = 16
    seed: int = 0


def make_run(out: Path, size: RunSize) -> RunDirectory:
    """Makes a run in a folder of runs, with predictions, tracks and scores.

    The first clip is scored from its predictions. The scores of the others are made up after its example, so that a
    large run is there in minutes; `vcorr score` makes true ones of them.

    Raises:
        StoreError: the folder cannot be written.
    """
    metrics, variants = metric_parts(build_spec({}), installed(), CORRESPONDENCE), (DEFAULT_VARIANT,)
    prints = {stage: fingerprint({"made": asdict(size), "stage": stage}) for stage in ("predict", "track")}
    prints["score"] = score_fingerprint(prints["track"], metrics, variants)
    facts = score_facts(metrics, variants, ())
    run = RunDirectory.create(out, prints["predict"])
    names = [f"clip-{index:04d}" for index in range(size.clips)]
    for index, clip in enumerate(names):
        _write_clip(run, size, index, clip, prints)
    context = RowContext(run=run.run_id, **_context(size))
    ShardScorer.make(run, context, metrics, variants, prints["score"], facts).score(shards.shard_name(names[0]))
    example = shards.read_shard(run.shard("scores", names[0]), "scores")
    for index, clip in enumerate(names[1:], start=1):
        made = vary_scores(example, clip, np.random.default_rng((size.seed, index, 1)))
        shards.write_table_shard(run.shard("scores", clip), "scores", made, prints["score"], clip=clip, facts=facts)
    run.write_record(_make_record(size, prints, facts), "complete")
    return run


def _write_clip(run: RunDirectory, size: RunSize, index: int, clip: str, prints: Mapping[str, str]) -> None:
    """Writes the predictions and tracks of one clip. Runs of one size have the same tracks."""
    skill = np.random.default_rng(size.seed).uniform(0.2, 0.95, size.sites)
    tracks = draw_tracks(np.random.default_rng(index), size.points)
    row = _track_row(run.run_id, clip, tracks)
    shards.write_shard(run.shard("tracks", clip), "tracks", [row], prints["track"], clip=clip)
    xy = predict_tokens(np.random.default_rng((size.seed, index)), tracks, skill)
    predictions = _make_predictions(run.run_id, clip, xy)
    shards.write_table_shard(run.shard("predictions", clip), "predictions", predictions, prints["predict"], clip=clip)


def vary_scores(example: pa.Table, clip: str, draw: np.random.Generator) -> pa.Table:
    """Returns made-up scores of a clip: the values of another one, each a little off and between 0 and its ceiling."""
    count, values = example.num_rows, example["value"].to_numpy()
    value = np.clip(values + draw.normal(0, 0.05, count), 0, example["ceiling"].to_numpy()).astype(np.float32)
    changed = {"value": pa.array(value), "clip": _repeat(clip, count), "data_hash": _repeat(_content_of(clip), count)}
    columns = [changed.get(name, example[name]) for name in example.column_names]
    return pa.table(columns, example.column_names)


def _repeat(text: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(text), count)


def _content_of(clip: str) -> str:
    return fingerprint({"clip": clip})[:16]


def draw_tracks(draw: np.random.Generator, points: int) -> NDArray[np.float32]:
    """Returns points that move straight ahead inside the frame, (points, frames, 2) pixels."""
    frames, side = GRID.video_frames, GRID.width
    ends = draw.uniform(2, side - 2, (2, points, 2))
    share = np.linspace(0, 1, frames)[None, :, None]
    tracks: NDArray[np.float32] = (ends[0][:, None] * (1 - share) + ends[1][:, None] * share).astype(np.float32)
    return tracks


def predict_tokens(
    draw: np.random.Generator, tracks: NDArray[np.float32], skill: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Returns positions (sites, points, latents, 2): the token of the point with the skill of the site, else any token.

    The first latent has the query itself, as in real predictions.
    """
    points, latents = len(tracks), GRID.frames
    times = np.arange(latents) * (GRID.video_frames - 1) // (latents - 1)
    stride = GRID.stride[0]
    right = np.clip(tracks[:, times] // stride, 0, GRID.cols - 1)
    chance = draw.integers(0, GRID.cols, (len(skill), points, latents, 2))
    hit = draw.random((len(skill), points, latents, 1)) < skill[:, None, None, None]
    found: NDArray[np.float32] = ((np.where(hit, right[None], chance) + 0.5) * stride).astype(np.float32)
    found[:, :, 0] = tracks[:, 0]
    return found


def _make_predictions(run: str, clip: str, xy: NDArray[np.float32]) -> pa.Table:
    points = xy.shape[1]
    shared = {
        "run": run,
        "clip": clip,
        "probe": "qk",
        "kind": "positions",
        "attention": "full3d",
        "variant": "corrected",
        "readout": "token",
        "grid": json.dumps(GRID.to_dict()),
        "points": points,
        "latents": GRID.frames,
        "query_frames": np.zeros(points, np.int32),
    }
    each = [
        {
            "layer": site // STEPS,
            "layer_name": f"blocks.{site // STEPS}.attn",
            "step": site % STEPS,
            "noise": 1 - (site % STEPS + 1) / (STEPS + 1),
            "xy": positions.ravel(),
        }
        for site, positions in enumerate(xy)
    ]
    return groups_to_table([RowGroup(shared, each)], PredictionRow, PREDICTIONS)


def _track_row(run: str, clip: str, tracks: NDArray[np.float32]) -> TrackRow:
    points, frames = tracks.shape[:2]
    return TrackRow(
        run=run,
        clip=clip,
        dataset=NAME,
        split="test",
        prompt=NAME,
        tracker="exact",
        tracker_version=1,
        data_hash=_content_of(clip),
        still=0.5,
        height=round(GRID.height),
        width=round(GRID.width),
        frames=frames,
        points=points,
        query_frames=np.zeros(points, np.int32),
        queries=tracks[:, 0].ravel(),
        xy=tracks.ravel(),
        visible=np.ones(points * frames, np.bool_),
    )


def _context(size: RunSize) -> dict[str, Any]:
    return {
        "model": f"{NAME}-{size.seed}",
        "weights": f"hub:{NAME}/model@0",
        "dataset": NAME,
        "split": "test",
        "mode": "renoise",
        "seed": 42,
        "task": CORRESPONDENCE,
        "cfg": None,
    }


def _make_record(size: RunSize, prints: dict[str, str], facts: dict[str, Any]) -> dict[str, Any]:
    context = _context(size)
    return {
        "command": ["vcorr", "bench", "score"],
        "started": "2026-01-01T00:00:00+00:00",
        "spec": {"model": context["model"], "probe": "qk", "variant": "corrected"},
        "resolved": {"data": {"name": NAME, "version": 1, "split": "test", "config": None}},
        "row_context": context,
        **facts,
        "tracker": None,
        "fingerprints": prints,
        "clips": {"total": size.clips, "done": size.clips, "failed": 0, "reused": 0},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes the run that the command line asks for, and prints its folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for name, kept in (("clips", 1000), ("sites", 1500), ("points", 16), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=kept)
    given = parser.parse_args(arguments)
    run = make_run(given.folder, RunSize(given.clips, given.sites, given.points, given.seed))
    sys.stdout.write(f"{run.path}\n")


if __name__ == "__main__":
    main()
