"""`vcorr.load` and `vcorr.runs`: frames against slow loops over stored rows, as made-up tables and as a real run."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import large_run, sliding

import vcorr
from vcorr import MissingError, StoreError, TokenGrid, UsageError
from vcorr.analysis.tidy_tables import SCORE_COLUMNS, tidy_predictions, tidy_scores, tidy_tracks
from vcorr.plugins import builtin, registry
from vcorr.runner.coordinator import execute
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec
from vcorr.store import shards
from vcorr.store.columns import to_table
from vcorr.store.schema import PREDICTIONS, SCORES, TRACKS, PredictionRow, ScoreRow, TrackRow

CLIPS, SITES = 12, 20
numbers = st.floats(0, 1, width=32)
words = st.sampled_from(["a", "b", "qk"])


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> vcorr.analysis.loaded_run.LoadedRun:
    """Makes a small real run."""
    modules = {registry.BUILTIN: builtin, "sliding": sliding}
    sources = [registry.PluginSource(name, name, "1", lambda m=m: m) for name, m in modules.items()]
    spec = RunSpec(model="sliding-model", probe="qk", steps="0,9")
    out = tmp_path_factory.mktemp("loaded") / "runs"
    execute(make_plan(spec, registry.Registry(sources)), out)
    return vcorr.load(out)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return large_run.make_run(tmp_path_factory.mktemp("made-up"), clips=CLIPS, sites=SITES)


def same(found: list[dict], expected: list[dict]) -> bool:
    """Returns whether rows are equal, NaN included."""
    without_nan, other = (
        [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in rows]
        for rows in (found, expected)
    )
    return without_nan == other


def ratio(value: float, floor: float, best: float) -> float:
    """Returns (value - floor) / (best - floor), as a float32; NaN under 0.02."""
    return float(np.float32((value - floor) / (best - floor))) if best - floor >= 0.02 else math.nan


score_rows = st.builds(
    ScoreRow,
    clip=words,
    probe=words,
    metric=st.sampled_from(["pck_8", "error", ""]),
    layer=st.integers(-1, 3),
    value=numbers | st.just(math.nan),
    floor=numbers,
    ceiling=numbers | st.just(math.nan),
    n=st.integers(0, 9),
)


@given(st.lists(st.lists(score_rows, max_size=4), max_size=3))
@settings(deadline=None, max_examples=30)
def test_scores_are_the_stored_rows_with_skill_and_gain(clips) -> None:
    tables = [to_table(rows, SCORES) for rows in clips]
    expected = []
    for row in (row for table in tables for row in table.to_pylist()):
        value, floor, ceiling = (row[name] for name in ("value", "floor", "ceiling"))
        falls = row["metric"] == "error"
        sign = -1 if falls else 1
        row["skill"] = ratio(sign * value, sign * floor, sign * ceiling)
        row["gain"] = math.nan if falls else ratio(value, floor, 1.0)
        expected.append({name: row[name] for name in SCORE_COLUMNS})
    assert same(tidy_scores(tables, lower={"error"}).to_pylist(), expected)


@st.composite
def predictions(draw) -> PredictionRow:
    points, grid = draw(st.integers(0, 3)), draw(st.sampled_from(GRIDS))
    count = points * grid.frames
    kind = draw(st.sampled_from(["positions", "positions", "rows"]))
    return PredictionRow(
        clip=draw(words), probe=draw(words), kind=kind, layer=draw(st.integers(0, 2)), grid=json.dumps(grid.to_dict()),
        points=points, latents=grid.frames,
        query_frames=draw(st.lists(st.integers(0, 8), min_size=points, max_size=points)),
        xy=draw(st.lists(numbers, min_size=2 * count, max_size=2 * count)) if kind == "positions" else (),
        visible=draw(st.just([]) | st.lists(st.booleans(), min_size=count, max_size=count)),
        confidence=draw(st.just([]) | st.lists(numbers, min_size=count, max_size=count)),
    )  # fmt: skip


GRIDS = (
    TokenGrid(frames=3, rows=2, cols=2, stride=(8.0, 8.0), temporal_ratio=4, video_frames=9),
    TokenGrid(frames=2, rows=2, cols=2, stride=(8.0, 8.0)),
)


@given(st.lists(st.lists(predictions(), max_size=3), max_size=3), st.sampled_from([None, 1]))
@settings(deadline=None, max_examples=30)
def test_predictions_are_one_row_per_point_and_latent(clips, layer) -> None:
    tables = [to_table(rows, PREDICTIONS) for rows in clips]
    expected = []
    for row in (row for table in tables for row in table.to_pylist()):
        times = TokenGrid.from_dict(json.loads(row["grid"])).latent_times
        if row["kind"] == "rows" or layer not in (None, row["layer"]):
            continue
        for point in range(row["points"]):
            for latent in range(row["latents"]):
                at = point * row["latents"] + latent
                keys = ("run", "clip", "probe", "variant", "switches", "layer", "layer_name", "step", "noise", "head")
                expected.append({name: row[name] for name in keys})
                expected[-1] |= {"point": point, "query_frame": row["query_frames"][point], "latent": latent}
                expected[-1] |= {"frame": float(times[latent]), "x": row["xy"][2 * at], "y": row["xy"][2 * at + 1]}
                expected[-1] |= {"visible": row["visible"][at] if row["visible"] else None}
                expected[-1] |= {"confidence": row["confidence"][at] if row["confidence"] else math.nan}
    found = tidy_predictions(tables, {} if layer is None else {"layer": layer})
    assert same(found.to_pylist(), expected)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.booleans()), max_size=3), st.randoms())
@settings(deadline=None, max_examples=20)
def test_tracks_are_one_row_per_point_and_frame(shapes, random) -> None:
    tables, expected = [], []
    for points, frames, sure in shapes:
        xy = np.float32([[[random.random(), random.random()] for _ in range(frames)] for _ in range(points)])
        seen = [[random.random() < 0.5 for _ in range(frames)] for _ in range(points)]
        row = TrackRow(
            clip=random.choice("ab"), tracker="dis", points=points, frames=frames,
            query_frames=[n % frames for n in range(points)], xy=xy.ravel(), visible=np.ravel(seen).astype(bool),
            confidence=np.full(points * frames if sure else 0, 0.5, np.float32),
        )  # fmt: skip
        tables.append(to_table([row], TRACKS))
        expected += [
            {
                "run": "",
                "clip": row.clip,
                "tracker": "dis",
                "query_mode": "frame",
                "point": n,
                "query_frame": n % frames,
                "frame": t,
                "x": float(xy[n, t, 0]),
                "y": float(xy[n, t, 1]),
                "visible": seen[n][t],
                "confidence": 0.5 if sure else math.nan,
            }
            for n in range(points)
            for t in range(frames)
        ]
    assert same(tidy_tracks(tables).to_pylist(), expected)


def test_a_real_run_is_read_whole(run) -> None:
    stored = run.path
    scores, tracks, predictions = run.scores(), run.tracks(), run.predictions()
    rows = sum(shards.read_shard(path, "scores").num_rows for path in (stored / "scores").iterdir())
    assert scores.num_rows == rows
    assert scores.column_names == list(SCORE_COLUMNS)
    assert set(scores["clip"].to_pylist()) == set(run.clips)
    assert (run.status, run.run_id) == ("complete", stored.name)
    assert set(predictions["step"].to_pylist()) == set(scores["step"].to_pylist())
    one = run.predictions(clips=run.clips[:1], layer=0, step=0, probe="qk", head=-1)
    expected = [
        row for row in predictions.to_pylist() if (row["clip"], row["layer"], row["step"]) == (run.clips[0], 0, 0)
    ]
    assert one.num_rows > 0
    assert same(one.to_pylist(), expected)
    assert set(tracks["tracker"].to_pylist()) == {"exact"}


def test_sites_are_the_ones_that_the_command_line_shows(run, capsys) -> None:
    from vcorr.cli.main import main

    with pytest.raises(SystemExit):
        main(("show", "run", str(run.path), "--json"))
    shown = json.loads(capsys.readouterr().out)
    best = run.best_sites().to_pylist()
    assert [(row["probe"], row["site"]) for row in best] == [
        (row["probe"], ", ".join(site["site"] for site in row["sites"])) for row in shown["best"]
    ]
    assert [row["skill"] for row in best] == [row["skill"] for row in shown["best"]]
    sites = run.sites(metrics="pck").to_pylist()
    assert {row["metric"] for row in sites} == {"pck_8_moving"}
    assert {row["site"] for row in sites} == {f"{layer}:{step}" for layer in (0, 1) for step in set_of_steps(run)}


def set_of_steps(run) -> set[int]:
    return set(run.scores()["step"].to_pylist())


def test_metrics_clips_and_columns_are_chosen(large) -> None:
    found = vcorr.load(large.path).scores(metrics=["pck_8"], clips=["clip-0003"], columns=["seed", "skill", "clip"])
    assert found.column_names == ["seed", "skill", "clip"]
    assert found.num_rows == SITES
    assert found["seed"].type == pa.int64()
    assert set(found["clip"].to_pylist()) == {"clip-0003"}
    assert vcorr.load(large.path).scores(metrics="pck_8", clips=["clip-0003"]).num_rows == SITES


def test_frames_of_polars_have_the_same_values(run) -> None:
    frame, table = run.scores("polars"), run.scores()
    assert frame.columns == table.column_names
    assert frame["value"].to_list() == table["value"].to_pylist()
    assert frame["metric"].cast(str).to_list() == table["metric"].to_pylist()
    assert run.tracks("polars").height == run.tracks().num_rows
    assert vcorr.runs(run.path.parent, "polars")["run"].to_list() == [run.run_id]


def test_frames_of_pandas_have_the_same_values(run) -> None:
    frame, table = run.scores("pandas"), run.scores()
    assert list(frame.columns) == table.column_names
    assert frame["value"].tolist() == table["value"].to_pylist()
    assert frame["metric"].astype(str).tolist() == table["metric"].to_pylist()


@pytest.mark.parametrize("name", ["pandas", "polars"])
def test_a_package_that_is_not_there_is_one_error(run, name, monkeypatch) -> None:
    real = importlib.import_module

    def refuse(asked, *rest):
        if asked == name:
            raise ImportError(f"No module named {asked!r}")
        return real(asked, *rest)

    monkeypatch.setattr(importlib, "import_module", refuse)
    for act in (run.scores, run.sites, run.best_sites, run.tracks, run.predictions):
        with pytest.raises(MissingError, match=rf"needs the package {name}(.|\n)*pip install {name}"):
            act(name)


def test_wrong_words_are_named(large) -> None:
    run = vcorr.load(large.path)
    with pytest.raises(UsageError, match=r"Unknown kind of frame 'panda'\. Did you mean 'pandas'"):
        run.scores("panda")
    with pytest.raises(UsageError, match=r"Unknown metric of this run 'pck_9'"):
        run.scores(metrics=["pck_9"])
    with pytest.raises(UsageError, match=r"Unknown column of scores 'skil'\. Did you mean 'skill'"):
        run.scores(columns=["skil"])
    for read in (run.scores, run.tracks, run.predictions):
        with pytest.raises(UsageError, match=r"Unknown clip of this run 'clip-00001'\. Did you mean 'clip-0001'"):
            read(clips=["clip-0000", "clip-00001"])
    with pytest.raises(UsageError, match=r"No predicted position of .* has probe qk, layer 3(.|\n)*sites\(\)"):
        run.predictions(probe="qk", layer=3)
    assert run.tracks(clips="clip-0001").num_rows == 2
    with pytest.raises(UsageError, match="There is no folder nowhere"):
        vcorr.runs("nowhere")


def test_damaged_runs_give_the_errors_of_the_commands(tmp_path) -> None:
    made = large_run.make_run(tmp_path, clips=2, sites=2)
    run = vcorr.load(tmp_path)  # a folder that holds one run
    (shard := made.shard("scores", "clip-0001")).write_bytes(b"x")
    with pytest.raises(StoreError, match=r"clip-0001\.arrow is damaged"):
        run.scores()
    shard.unlink()
    (made.path / "run.json").write_text("{")
    with pytest.raises(StoreError, match=r"run\.json"):
        vcorr.load(made.path)
    (row,) = vcorr.runs(tmp_path).to_pylist()
    assert (row["status"], row["run"]) == ("damaged", made.run_id)
    assert "run.json" in row["reason"]
    with pytest.raises(StoreError, match="is not a run"):
        vcorr.load(tmp_path / "nothing")


def test_runs_are_listed_with_their_task(run) -> None:
    (row,) = vcorr.runs(run.path.parent).to_pylist()
    shown = {name: row[name] for name in ("run", "model", "mode", "task", "status", "clips")}
    assert shown == {
        "run": run.run_id,
        "model": "sliding-model",
        "mode": "renoise",
        "task": "correspondence",
        "status": "complete",
        "clips": len(run.clips),
    }


def test_scores_of_many_rows_stay_small(large, monkeypatch) -> None:
    """Allows 70 bytes per row, so that 18 million rows take 1.3 GB, and one shard in memory at a time."""
    read, before, held, sizes = shards.read_shard, pa.total_allocated_bytes(), [], []

    def count(path: Path, table: str) -> pa.Table:
        held.append(pa.total_allocated_bytes() - before)
        found = read(path, table)
        sizes.append(found.nbytes)
        return found

    monkeypatch.setattr(shards, "read_shard", count)
    found = vcorr.load(large.path).scores()
    assert len(sizes) == CLIPS
    assert found.nbytes < 70 * found.num_rows
    assert max(held) < 100 * found.num_rows + 2 * max(sizes)
    assert max(held) < 0.5 * sum(sizes)
