"""Tests the table of traits on made-up heads of which one trait knows everything, and another the opposite."""

import json
from pathlib import Path

import numpy as np
import pytest
from vcorr_tiny import traits

from vcorr import TokenGrid
from vcorr.contract.errors import StoreError
from vcorr.contract.head_traits import TRAITS
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import PredictionRow, ScoreRow, TrackRow
from vcorr.store.shards import write_shard

CLIPS = [f"test-{i:04d}" for i in range(12)]
PLACES = [(layer, head) for layer in (3, 7) for head in (-1, 0, 1)]
WORTH = {place: 0.1 + 0.12 * i for i, place in enumerate(PLACES) if place[1] >= 0}
"""Accuracy of every single head. The best one is head 1 of layer 7, the worst one head 0 of layer 3."""


def rows(clip: str, *, leave_out: str = "") -> list[ScoreRow]:
    noise = np.random.default_rng(int(clip[-4:]))
    found = []
    for layer, head in PLACES:
        at = {"run": "r", "clip": clip, "layer": layer, "head": head, "step": 49, "noise": 0.12, "n": 9, "seed": 42}
        worth = WORTH.get((layer, head), 0.9)  # the mean over heads is better than every head, and no candidate
        value = worth + 0.01 * noise.random()
        found.append(ScoreRow(**at, probe="qk", metric=traits.ACCURACY, value=value, floor=0.0, ceiling=0.8))
        columns = dict.fromkeys(traits.SHORTCUTS, 0.5) | {"trait_diagonal": worth**2, "trait_sinks": 1 - worth}
        columns["trait_smoothness"] = float(noise.random())
        found += [
            ScoreRow(**at, probe="head-traits", metric=name, value=x)
            for name, x in columns.items()
            if name != leave_out
        ]
    return found


def write(folder: Path, **options: str) -> traits.Measured:
    run = RunDirectory.create(folder, "a" * 64)
    run.write_record({}, "complete")
    for clip in CLIPS:
        write_shard(run.shard("scores", clip), "scores", rows(clip, **options), "f")
    return traits.read_measured(folder)


def test_a_trait_that_knows_the_heads_is_first_and_chooses_the_best(tmp_path: Path) -> None:
    found = {shortcut.name: shortcut for shortcut in traits.judge(write(tmp_path))}
    assert set(list(found)[:2]) == {"trait_diagonal", "trait_sinks"}
    right, opposite, luck = (found[f"trait_{name}"] for name in ("diagonal", "sinks", "smoothness"))
    assert (right.pooled, opposite.pooled) == pytest.approx((1, -1))
    assert (float(right.ranks.estimate), float(opposite.ranks.estimate)) == pytest.approx((1, -1))
    assert (right.rises, opposite.rises) == (True, False)
    best = max(WORTH.values()) / 0.8
    assert (float(right.skill.estimate), float(opposite.skill.estimate)) == pytest.approx((best, best), abs=0.02)
    assert float(luck.ranks.low) < 0 < float(luck.ranks.high)
    assert np.isnan(found["trait_own_frame"].ranks.estimate)  # it is the same for all heads


def test_the_table_says_what_tracks_and_chance_choose(tmp_path: Path) -> None:
    measured = write(tmp_path)
    lines = traits.trait_table(measured).splitlines()
    assert lines[0] == "12 clips of `sprites`, 4 heads of 2 layers, step 49 (noise 0.12):"
    cells = {line.split("|")[1].strip(" `"): [cell.strip() for cell in line.split("|")[2:-1]] for line in lines[4:]}
    assert set(cells) == {*traits.SHORTCUTS, "chosen by tracks", "any head"}
    assert cells["trait_sinks"][3] == "smallest"
    assert float(cells["chosen by tracks"][4]) == pytest.approx(max(WORTH.values()) / 0.8, abs=0.02)
    assert float(cells["any head"][4]) == pytest.approx(np.mean(list(WORTH.values())) / 0.8, abs=0.02)
    assert cells["trait_own_frame"][0] == "–"


def test_a_run_without_a_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="has no trait_sinks of head-traits"):
        write(tmp_path, leave_out="trait_sinks")
    with pytest.raises(StoreError, match="has no run"):
        traits.read_measured(tmp_path / "nowhere")


def test_one_clip_has_no_halves(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(f"{__name__}.CLIPS", CLIPS[:1])
    with pytest.raises(StoreError, match="so 2 clips are needed"):
        write(tmp_path)


def write_points(run: RunDirectory, clip: str, *, still: bool = True) -> None:
    """Writes four points: one stays, two move by 20 px and by 5 px, and one stays but is hidden in a frame."""
    grid = TokenGrid(frames=2, rows=8, cols=8, stride=(8, 8))
    smoothness = np.array([0.9, 0.1, 0.5, 0.5]) + 0.01 * int(clip[-1])
    for_all = np.zeros((4, grid.frames - 1 + 5 + len(TRAITS)), dtype=np.float32)
    for_all[:, grid.frames + 4 + TRAITS.index("smoothness")] = smoothness
    shared = {"run": "r", "clip": clip, "points": 4, "query_frames": [0] * 4}
    predicted = [
        PredictionRow(
            **shared,
            probe=probe,
            kind="rows",
            layer=7,
            step=49,
            head=head,
            latents=2,
            rows=rows.ravel(),
            grid=json.dumps(grid.to_dict()),
            variant="corrected",
            readout="token",
        )
        for probe, head, rows in (
            ("attention", 1, 0 * for_all),
            ("head-traits", 0, 0 * for_all),
            ("head-traits", 1, for_all),
        )
    ]
    write_shard(run.shard("predictions", clip), "predictions", predicted, "f")
    xy = np.full((4, 2, 2), 20, dtype=np.float32)
    xy[:, 1, 0] += [1 if still else 5, 20, 5, 1]
    visible = np.array([[True, True]] * 3 + [[True, False]])
    row = TrackRow(
        **shared, frames=2, queries=xy[:, 0].ravel(), xy=xy.ravel(), visible=visible.ravel(), tracker="exact"
    )
    write_shard(run.shard("tracks", clip), "tracks", [row], "f")


def test_the_smoothness_of_the_best_head_is_of_points_that_stay_and_of_points_that_move(tmp_path: Path) -> None:
    measured = write(tmp_path)
    run = traits.find_newest(tmp_path)
    for clip in CLIPS:
        write_points(run, clip)
    said = " ".join(traits.say_smoothness(run, measured.accuracy).split())
    assert said.startswith("The best head is head 1 of layer 7. Over points that stay within 2 px")
    assert "its smoothness is 0.94 (0.92 … 0.96). Over points" in said
    assert "more than 12 px, it is 0.14 (0.12 … 0.16)." in said


def test_few_clips_with_points_that_stay_are_counted(tmp_path: Path) -> None:
    measured = write(tmp_path)
    run = traits.find_newest(tmp_path)
    for clip in CLIPS:
        write_points(run, clip, still=clip == CLIPS[3])
    said = " ".join(traits.say_smoothness(run, measured.accuracy).split())
    assert "its smoothness is 0.93 (1 clip, no interval)." in said
