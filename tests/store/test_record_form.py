"""What run.json may hold: every other value is an error that names the file and the key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.odd_runs import ODD_VALUES

from vcorr.contract.errors import StoreError
from vcorr.store import record as record_module
from vcorr.store.json_text import MOST_LEVELS, read_json
from vcorr.store.record import read_record
from vcorr.store.record_form import RECORD_FORM, find_problem

STORED = sorted((Path(__file__).parents[1] / "data").glob("layout-*/run.json"))


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.parent.name)
def test_records_of_all_versions_are_read(path) -> None:
    assert read_record(path)["record_version"] == 2


@pytest.mark.parametrize("key", sorted(RECORD_FORM["properties"]))
def test_an_odd_value_is_read_in_its_type_or_named(key, tmp_path) -> None:
    path = tmp_path / "run.json"
    refused = [error for value in ODD_VALUES if (error := try_to_read(path, {"record_version": 2, key: value}))]
    assert len(refused) > 5
    for error in refused:
        assert str(path) in error.message
        assert key in error.message or "newer vcorr" in error.message
        assert len(error.message) < len(str(path)) + 400
        assert error.hint


def try_to_read(path: Path, values: dict) -> StoreError | None:
    """Returns the error of reading a record; None if its values have their types."""
    path.write_text(json.dumps(values))
    try:
        found = read_record(path)
    except StoreError as error:
        return error
    assert not find_problem(found)
    return None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"resolved": {"data": {"name": "x"}}}, "resolved.data lacks version, split"),
        ({"row_context": {"mode": "swim"}}, "row_context.mode must be one of renoise, generate, invert, but is 'swim'"),
        ({"row_context": {"seed": 10**30}}, "row_context.seed must be a whole number, but is 1000"),
        ({"row_context": {"model": "\ud800"}}, "row_context.model must be a text of whole characters"),
        ({"status": "finished"}, "status must be one of started, partial, complete, failed, but is 'finished'"),
        ({"metrics": [{"name": "pck"}, {}]}, r"metrics\[1\] lacks name"),
        ({"reference": {"packages": "x"}}, "reference.packages must be a mapping, but is 'x'"),
        ({"metrics_asked": [[]]}, r"metrics_asked\[0\] must be a text"),
        ({"reference": {"stored": 1}}, "reference.stored must be true or false, but is 1"),
        ({"tracker": {"name": "dis", "versions": "x"}}, "tracker.versions must be a mapping, but is 'x'"),
        ({"record_version": -3}, "record_version must be a whole number of at least 1, but is -3"),
    ],
)
def test_the_message_says_key_and_value(values, message, tmp_path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(values))
    with pytest.raises(StoreError, match=rf"run\.json: {message}"):
        read_record(tmp_path / "run.json")


def test_a_file_that_is_far_too_large_is_not_read(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(record_module, "MOST_BYTES", 3 << 20)
    (tmp_path / "run.json").write_bytes(b" " * (5 << 20))
    with pytest.raises(StoreError, match=r"run\.json is damaged .* it has 5 MiB, and no record .* more than 3"):
        read_record(tmp_path / "run.json")


@pytest.mark.parametrize("brackets", ["[]", '{"a":}'])
def test_brackets_inside_brackets_have_a_limit(brackets) -> None:
    opening, closing = brackets[:-1], brackets[-1]
    read_json(
        opening * (MOST_LEVELS - 1) + "1" + closing * (MOST_LEVELS - 1) if len(brackets) > 2 else "[" * 100 + "]" * 100
    )
    with pytest.raises(ValueError, match="too many brackets inside brackets"):
        read_json(opening * 300 + ("1" if len(brackets) > 2 else "") + closing * 300)


def test_a_key_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="the key 'a' twice"):
        read_json('{"a": 1, "b": {"a": 1}, "a": 2}')
