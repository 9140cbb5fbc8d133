"""The table of what carries masks, on made-up scores with known means, and the commands that measure it."""

import pytest
from vcorr_tiny import propagated
from vcorr_tiny.command_runs import Work

from vcorr.contract.errors import StoreError
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import ScoreRow
from vcorr.store.shards import write_shard

DATA = {"name": "sprites", "version": 1, "split": "test"}
CLIPS = [f"test-{i:04d}" for i in range(8)]


def store(folder, fingerprint: str, value: float) -> RunDirectory:
    """Writes a run in which every score is around `value`, and its floor 0.1."""
    run = RunDirectory.create(folder, fingerprint * 64)
    for i, clip in enumerate(CLIPS):
        numbers = {"value": value + 0.01 * (i % 2), "floor": 0.1, "ceiling": 1.0, "n": 9}
        rows = [ScoreRow(clip=clip, probe="qk", metric=name, **numbers) for name in propagated.COLUMNS.values()]
        write_shard(run.shard("scores", clip), "scores", rows, "f")
    cost = {"seconds_per_clip": 1.5, "seconds_per_point": None, "clips": len(CLIPS)}
    facts = {"row_context": {"weights": "none"}, "cost": cost, "clips": {"total": len(CLIPS)}, "fingerprints": {}}
    run.write_record({**facts, "resolved": {"data": DATA, "sites": [[7, "name"]]}}, "complete")
    return run


@pytest.fixture
def runs(tmp_path):
    store(tmp_path / propagated.CHOICE, "9", 0.5)
    for place in propagated.PLACES:
        for entrant, name, value in zip(propagated.ENTRANTS, "abcd", (0.8, 0.4, 0.1, 0.6), strict=True):
            store(propagated._folder(tmp_path, place, entrant), name, value)
    return tmp_path


def test_the_table_has_the_best_first_and_says_the_layer(runs) -> None:
    block = dict(propagated.page_blocks(runs, len(CLIPS)))["propagated-hard"]
    lines = block.splitlines()
    names = [line.split(" | ")[0].strip("| ") for line in lines[2:7]]
    assert names == ["dis", "tiny `qk`", "token-patches", "zero-motion", "floor: the mask stays where it is"]
    assert lines[0].startswith("| what carries the mask | J&F | J | F |")
    assert lines[2].split(" | ")[1].startswith("80.5")
    assert "`tiny` is read at layer 7" in block
    assert "| token-patches | +20.0" in block


def test_the_site_of_the_model_is_chosen_on_another_split(runs) -> None:
    choice, *rest = (task.make().words for task in propagated.list_tasks(Work(runs, 8)))
    assert choice[0] == "run"
    assert {"data.split=validation", "data.level=hard"} < set(choice)
    assert [line[0] for line in rest] == ["propagate"] * 2 * len(propagated.ENTRANTS)
    assert not any("data.split=validation" in line for line in rest)
    own, _ = [line for line in rest if "--from" in line]
    assert own[own.index("--from") + 1] == str(propagated.find_choice(runs).path)


def test_nothing_measured_is_an_error(tmp_path) -> None:
    with pytest.raises(StoreError, match="No site was chosen"):
        propagated.find_choice(tmp_path)
