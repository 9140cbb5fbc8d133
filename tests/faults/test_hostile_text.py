"""Drawn text with control characters, in everything that a stranger can name: no command sends it to the terminal."""

from __future__ import annotations

import json
import shutil
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import sliding
from support.scale import draw_cases

from vcorr import MetricEntry, hookimpl

ODD = "\x00\x07\x08\t\r\x0b\x1b\x7f\x80\x85\x9b\u200e\u202e\u2028\u2066\ufeff\U000e0041[]{}%$'\"\\漢é="
LETTERS = st.sampled_from(ODD + "abc-/:. \n") | st.characters(exclude_categories=["Cs"])
TEXT = st.text(LETTERS, min_size=1, max_size=30)
"""Text as it may be in a record, a table or a plugin."""
ARGUMENT = TEXT.filter(lambda text: "\x00" not in text and not text.startswith("-"))
COMMANDS = (
    ("run", "--model", "{}"),
    ("run", "--model", "sliding-model", "--probe", "{}"),
    ("run", "--model", "sliding-model", "--probe", "qk", "--data", "{}"),
    ("run", "--model", "sliding-model", "--probe", "qk", "--layers", "{}"),
    ("run", "--model", "sliding-model", "--probe", "qk", "--set", "{}"),
    ("run", "--model", "sliding-model", "--probe", "qk", "--set", "model.marker={}", "--dry-run"),
    ("run", "--config", "{}"),
    ("show", "model", "{}"),
    ("show", "{}", "x"),
    ("show", "run", "{}"),
    ("list", "{}"),
    ("compare", "{}", "{}"),
    ("score", "{}"),
    ("board", "build", "--results", "{}"),
    ("plugin", "check", "{}"),
    ("dataset", "show", "{}"),
    ("{}",),
)


OVERRIDES = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}


def is_control(letter: str) -> bool:
    """Returns whether a letter controls the terminal, by its properties in Unicode."""
    kinds = ("Cc", "Cs", "Zl", "Zp")
    return letter != "\n" and (unicodedata.category(letter) in kinds or unicodedata.bidirectional(letter) in OVERRIDES)


def check_clean(ended) -> None:
    for text in (ended.out, ended.err):
        assert [letter for letter in text if is_control(letter)] == []
    assert "Traceback" not in ended.err


@pytest.fixture
def made(vcorr) -> Path:
    """Returns a finished run of one clip."""
    run = ("run", "--model", "sliding-model", "--probe", "qk", "--steps", "0", "--set", "data.clips=1", "--json")
    return Path(json.loads(vcorr(*run).out)["path"])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: "-".join(words[:2]).replace("{}", "TEXT"))
def test_words_of_the_command_line(vcorr, command) -> None:
    @settings(draw_cases(3), suppress_health_check=list(HealthCheck))
    @given(ARGUMENT)
    def check(text: str) -> None:
        check_clean(vcorr(*(word.replace("{}", text) for word in command)))

    check()


def test_records_of_runs(vcorr, made, tmp_path) -> None:
    shown = (("show", "run"), ("show", "run", "--json"), ("compare",), ("score",), ("score", "--json"))

    @settings(draw_cases(6), suppress_health_check=list(HealthCheck))
    @given(TEXT, st.sampled_from(shown))
    def check(text: str, command: tuple[str, ...]) -> None:
        folder = tmp_path / "copy"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made, folder)
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        for key in ("model", "weights", "dataset", "split", "mode"):
            record["row_context"][key] = text
        record |= {"command": ["vcorr", text], "started": text, "tracker": {"name": text, "version": 1}}
        (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
        both = (str(folder),) * (2 if command[0] == "compare" else 1)
        words = 2 if command[0] == "show" else 1
        check_clean(vcorr(*command[:words], *both, *command[words:]))

    check()


def test_what_plugins_say(vcorr, plugins) -> None:
    kinds = (("list",), ("list", "metrics"), ("list", "plugins"), ("list", "--json"), ("show", "metric", "odd"))

    @settings(draw_cases(6), suppress_health_check=list(HealthCheck))
    @given(TEXT, st.sampled_from(kinds))
    def check(text: str, command: tuple[str, ...]) -> None:
        def vcorr_metrics():
            return [MetricEntry(name="odd", summary=text, factory="vcorr.metrics.builtin_metrics:MatchingAccuracy")]

        plugins(SimpleNamespace(__name__=text, vcorr_metrics=hookimpl(vcorr_metrics)))
        check_clean(vcorr(*command))

    check()


def test_clips_that_fail(vcorr) -> None:
    @settings(draw_cases(4), suppress_health_check=list(HealthCheck))
    @given(TEXT)
    def check(text: str) -> None:
        def clip(self, clip_id):
            raise ValueError(f"{text}: {clip_id}")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sliding.SlidingData, "ids", lambda self: (f"a{text}",))
            patch.setattr(sliding.SlidingData, "clip", clip)
            check_clean(vcorr("run", "--model", "sliding-model", "--probe", "qk", "--reuse", "never"))

    check()
