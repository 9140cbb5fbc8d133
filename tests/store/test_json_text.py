"""JSON that people and other programs wrote."""

from __future__ import annotations

import pytest

from vcorr.contract.errors import UsageError
from vcorr.data.prompt_dataset import read_prompts
from vcorr.store.json_text import read_json


def test_json_is_read() -> None:
    assert read_json('{"a": [1, null]}') == read_json(b'{"a": [1, null]}') == {"a": [1, None]}


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000])
def test_what_cannot_be_read_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting|brackets"):
        read_json(text)


def test_a_prompt_with_half_a_character_is_refused(tmp_path) -> None:
    (tmp_path / "p.jsonl").write_text('"a cat"\n{"prompt": "\\ud83d"}\n')
    with pytest.raises(UsageError, match=r"p\.jsonl: line 2 holds half a character: '\\ud83d'"):
        read_prompts(tmp_path / "p.jsonl")
