"""The dataset `prompts`."""

import subprocess
import sys

import pytest

from vcorr.contract.errors import MissingError, UsageError
from vcorr.data.dataset_options import PromptsConfig
from vcorr.data.prompt_dataset import BACKGROUND, FOREGROUND, Prompts
from vcorr.testing import assert_passed, check_dataset


def from_bytes(tmp_path, data, **options):
    path = tmp_path / "prompts.txt"
    path.write_bytes(data)
    return Prompts(PromptsConfig(path=str(path), **options))


def test_one_prompt_a_line(tmp_path):
    data = from_bytes(tmp_path, "a dog runs\n\n  \n  ein Hund läuft, \u2028 schnell\r\n".encode())
    assert list(data.ids()) == ["prompt-0000", "prompt-0001"]
    assert data.clip("prompt-0000").prompt == "a dog runs"
    assert data.clip("prompt-0001").prompt == "ein Hund läuft, \u2028 schnell"


def test_clips_leave_their_queries_to_the_frame_size(tmp_path):
    clip = from_bytes(tmp_path, b"a dog").clip("prompt-0000")
    assert clip.video is None
    assert len(clip.queries) == 0
    assert clip.query_side == 20
    assert from_bytes(tmp_path, b"a dog", grid=7).clip("prompt-0000").query_side == 7


def test_a_byte_order_mark_is_no_part_of_a_prompt(tmp_path):
    assert from_bytes(tmp_path, b"\xef\xbb\xbfa dog").clip("prompt-0000").prompt == "a dog"


def test_lines_end_as_any_system_ends_them(tmp_path):
    for data in (b"a dog\ra cat\r", b"a dog\r\na cat\r\n", b"a dog\n\ra cat"):
        assert [from_bytes(tmp_path, data).clip(n).prompt for n in ("prompt-0000", "prompt-0001")] == ["a dog", "a cat"]


def test_the_limit(tmp_path):
    assert list(from_bytes(tmp_path, b"a\nb\nc\n", limit=2).ids()) == ["prompt-0000", "prompt-0001"]


def test_one_prompt_as_text():
    data = Prompts(PromptsConfig(text=" a dog "))
    assert [data.clip(i).prompt for i in data.ids()] == [" a dog "]


def test_the_built_in_list():
    data = Prompts(PromptsConfig())
    assert_passed(check_dataset(data))
    assert len(data.ids()) == len(set(FOREGROUND + BACKGROUND)) == 12
    sides = [data.clip(i).query_side for i in data.ids()]
    assert sides == [20] * 6 + [10] * 6
    assert all(line.isascii() and 30 < len(line) < 140 for line in FOREGROUND + BACKGROUND)


def test_a_prompt_has_one_id_in_every_subset():
    both, scenes = Prompts(PromptsConfig()), Prompts(PromptsConfig(subset="bg"))
    assert list(scenes.ids()) == list(both.ids())[6:]
    assert [scenes.clip(i).prompt for i in scenes.ids()] == list(BACKGROUND)
    assert (both.split, scenes.split) == ("all", "bg")


def test_the_identity_depends_on_the_prompts(tmp_path):
    first = from_bytes(tmp_path, b"a\nb\n").identity()
    assert from_bytes(tmp_path, b"a\r\n\r\nb").identity() == first
    assert from_bytes(tmp_path, b"b\na\n").identity() != first
    assert Prompts(PromptsConfig(text="a")).identity() != first


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b" \n\r\n\t\n", "is empty"),
        (b"# a comment\n\n#another\n", "holds only lines that begin with '#'; a prompt file has no comments"),
        (b"a dog\ncaf\xe9\n", "is not UTF-8: line 2 holds the byte 0xe9"),
        ("a dog".encode("utf-16"), "is not UTF-8: line 1"),
        (b"a\x00d\x00o\x00g\x00", "zero bytes"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, data, reason):
    with pytest.raises(UsageError, match=reason) as caught:
        from_bytes(tmp_path, data)
    assert "prompts.txt" in caught.value.message


def test_no_file(tmp_path):
    with pytest.raises(MissingError, match=r"no\.txt does not exist"):
        Prompts(PromptsConfig(path=str(tmp_path / "no.txt")))
    with pytest.raises(UsageError, match="cannot be read"):
        Prompts(PromptsConfig(path=str(tmp_path)))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"text": "a", "subset": "fg"}, "give one of them"),
        ({"text": "  "}, "blank"),
        ({"subset": "gf"}, "Did you mean"),
        ({"grid": -1}, "data.grid"),
        ({"limit": -1}, "data.limit"),
    ],
)
def test_options_that_cannot_be_used(options, reason):
    with pytest.raises(UsageError, match=reason):
        Prompts(PromptsConfig(**options))


def test_listing_datasets_and_trackers_imports_nothing_heavy():
    code = (
        "import sys; from vcorr.data import ENTRIES as d; from vcorr.trackers import ENTRIES as t; "
        "[e.config_type() for e in (*d, *t)]; "
        "print([m for m in ('numpy', 'cv2', 'av', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
