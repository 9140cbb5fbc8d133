"""Tests the table of trackers on made-up scores with known means, and the commands that measure it."""

import pytest
from vcorr_tiny import tracked
from vcorr_tiny.command_runs import Work

from vcorr.contract.errors import StoreError
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import ScoreRow
from vcorr.store.shards import write_shard

DATA = {"name": "sprites-tap", "version": 1, "split": "test"}
CLIPS = [f"test-{i:04d}" for i in range(8)]


def store(folder, fingerprint: str, value: float, layer: int = -1, clips=CLIPS) -> RunDirectory:
    """Writes a run in which every accuracy is around `value`, and its floor 0.1."""
    run = RunDirectory.create(folder, fingerprint * 64)
    for i, clip in enumerate(clips):
        numbers = {"layer": layer, "value": value + 0.01 * (i % 2), "floor": 0.1, "ceiling": 1.0, "n": 9}
        rows = [ScoreRow(clip=clip, probe="qk", metric=name, **numbers) for name in tracked.COLUMNS.values()]
        write_shard(run.shard("scores", clip), "scores", rows, "f")
    cost = {"seconds_per_clip": 1.5, "seconds_per_point": 0.1, "clips": len(clips)}
    facts = {"row_context": {"weights": "none"}, "cost": cost, "clips": {"total": len(clips)}}
    run.write_record({**facts, "resolved": {"data": DATA, "sites": [[layer, "name"]]}, "fingerprints": {}}, "complete")
    return run


@pytest.fixture
def place_runs(tmp_path):
    """Runs of two entrants and of the choice, at every place."""
    by_name = {entrant.name: entrant for entrant in tracked.ENTRANTS}
    store(tmp_path / tracked.CHOICE / "matching", "9", 0.5)
    for layer, value in zip((6, 7, 8), (0.2, 0.4, 0.3), strict=True):
        store(tmp_path / tracked.CHOICE / str(layer), str(layer), value, layer=layer)
    for name in ("heft-heads", "heft"):
        store(tmp_path / tracked.CHOICE / name, "9", 0.5)
    for place in tracked.PLACES:
        store(tracked._folder(tmp_path, place, by_name["zero-motion"]), "a", 0.1)
        store(tracked._folder(tmp_path, place, by_name["dis"]), "b", 0.8)
        store(tracked._folder(tmp_path, place, by_name["zncc-search"]), "c", 0.3)
        store(tracked._folder(tmp_path, place, by_name["lk"]), "d", 0.9, clips=CLIPS[:4])
        stopped = store(tracked._folder(tmp_path, place, by_name["xfeat"]), "e", 0.9)
        kept = {name: value for name, value in stopped.record().items() if name != "status"}
        stopped.write_record(kept, "partial")
    return tmp_path


def test_the_table_has_the_best_first_with_intervals(place_runs) -> None:
    lines = dict(tracked.page_blocks(place_runs, len(CLIPS)))["tracked-hard"].splitlines()
    names = [line.split(" | ")[0].strip("| ") for line in lines[2:6]]
    assert names == ["dis", "zncc-search", "zero-motion", "floor: nothing moves, everything is visible"]
    cell, *_, seconds = lines[2].strip("| ").split(" | ")[1:]
    value, low, high = (float(part) for part in cell.replace("(", "").replace(")", "").replace("…", "").split())
    assert (value, seconds) == (80.5, "1.50")
    assert low < value < high
    assert lines[5].split(" | ")[1] == "10.0"


def test_the_embedded_model_is_compared_clip_by_clip(place_runs) -> None:
    hard = tracked.PLACES[1]
    assert tracked.make_comparison(tracked.read_place(place_runs, hard, len(CLIPS))) == "", "it is not there"
    store(tracked._folder(place_runs, hard, tracked.EMBEDDED), "f", 0.6)
    lines = tracked.make_comparison(tracked.read_place(place_runs, hard, len(CLIPS))).splitlines()
    rows = {name: (value.split()[0], p) for name, value, p, *_ in (line.strip("| ").split(" | ") for line in lines[2:])}
    # eight equal signs: 2 / 2^8, times the number of rows
    assert rows == {"dis": ("-20.0", "0.023"), "zncc-search": ("+30.0", "0.023"), "zero-motion": ("+50.0", "0.023")}


def test_the_layer_is_the_best_one_on_clips_of_another_split(place_runs) -> None:
    assert tracked.find_choice(place_runs).parent.name == "7"
    assert "`tiny` is read at layer 7" in dict(tracked.page_blocks(place_runs, len(CLIPS)))["tracked-easy"]


def test_nothing_measured_is_an_error(tmp_path) -> None:
    with pytest.raises(StoreError, match="No layer was tried"):
        tracked.find_choice(tmp_path)


def test_the_embedded_model_takes_site_and_threshold_from_the_choice(place_runs, monkeypatch) -> None:
    monkeypatch.setattr(tracked, "best_layers", lambda run: (8, 2, 5))
    tasks = tracked.list_tasks(Work(place_runs, 8))
    lines = [task.make().words for task in tasks if task.name.startswith(("choose", "hard"))]
    tried = [line for line in lines if "data.split=validation" in line]
    rest = lines[len(tried) :]
    assert [line[0] for line in tried] == ["run", "track", "track", "track", "run", "track"]
    layers = [line[line.index("--layers") + 1] for line in tried if "--layers" in line]
    assert layers == ["8", "2", "5"], "the best ones when they match"
    assert {line[0] for line in rest} == {"track"}
    own, one_head = [line for line in rest if "--from" in line]
    assert own[own.index("--from") + 1] == str(tracked.find_choice(place_runs))
    assert one_head[one_head.index("--from") + 1] == str(next((place_runs / "choice" / "heft").iterdir()))
    assert len(rest) == len(tracked.ENTRANTS)
    assert all("data.level=hard" in line for line in lines)


def test_the_head_of_the_preset_is_the_best_one_on_clips_of_another_split(place_runs) -> None:
    tasks = {task.name: task for task in tracked.list_tasks(Work(place_runs, 8))}
    matching, tracking = (tasks[f"choose-heft-{name}"].make().words for name in ("heads", "threshold"))
    assert tasks["choose-heft-threshold"].after == ("choose-heft-heads",)
    assert matching[:3] == ("run", "--data", "sprites-tap")
    assert {"kk", "last", "probe.heads=each", "probe.radius=1", "probe.slow_bands=0.5"} < set(matching)
    assert "data.frames=17" in matching, "the frames that one pass reads"
    assert tracking[tracking.index("--from") + 1] == str(next((place_runs / "choice" / "heft-heads").iterdir()))
    assert tracking[tracking.index("--preset") + 1] == "heft"
