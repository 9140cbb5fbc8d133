"""Fingerprints: what is the same, what is not, and how often a file is read for them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from vcorr.contract.errors import VcorrError
from vcorr.store import fingerprint as module
from vcorr.store.fingerprint import fingerprint, hash_file, hash_files, plain


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Records the names of the files that are read, in order."""
    found: list[str] = []
    whole = hashlib.file_digest

    def counting(file, name):
        found.append(Path(file.name).name)
        return whole(file, name)

    monkeypatch.setattr(hashlib, "file_digest", counting)
    return found


def test_the_order_of_a_set_does_not_matter() -> None:
    one, other = set(), set()
    for value in (0, 8, 16):
        one.add(value)
    for value in (16, 8, 0):
        other.add(value)  # the same slot of the table, so that it is held in another order
    assert list(one) != list(other)
    assert plain(one) == plain(other) == [0, 8, 16]
    assert fingerprint({"heads": one}) == fingerprint({"heads": frozenset(other)})
    assert fingerprint({"heads": {0, 8}}) != fingerprint({"heads": {0, 16}})


def test_a_set_may_hold_values_of_several_types() -> None:
    assert plain({"b", 10, "a", 2, None, (1, "x"), 2.5}) == [2, 2.5, 10, [1, "x"], "a", "b", None]


def test_what_has_no_plain_form_is_an_error_that_names_its_key() -> None:
    with pytest.raises(VcorrError, match=r"spec\.probe\.weights is <object"):
        fingerprint({"probe": {"weights": {object()}}})


def test_a_file_that_nobody_touched_is_read_once(tmp_path, reads, monkeypatch) -> None:
    monkeypatch.setattr(module, "_SETTLED_NS", 0)
    path = tmp_path / "weights"
    path.write_bytes(b"1")
    assert hash_file(path) == hash_file(path) == hashlib.sha256(b"1").hexdigest()
    first = hash_files(tmp_path)
    assert reads == ["weights"]
    path.write_bytes(b"23")
    assert hash_file(path) == hashlib.sha256(b"23").hexdigest()
    assert hash_files(tmp_path) != first


def test_a_file_written_just_now_is_read_again(tmp_path, reads) -> None:
    path = tmp_path / "weights"
    for content in (b"1", b"2"):
        path.write_bytes(content)
        assert hash_file(path) == hashlib.sha256(content).hexdigest()
    assert reads == ["weights", "weights"]
