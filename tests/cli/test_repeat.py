"""The command that repeats a run: a shell takes it back, and it makes the same run from nothing."""

from __future__ import annotations

import json
import shlex
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.scale import draw_cases

from vcorr.board.site.site_build import build_site
from vcorr.plugins.registry import Registry
from vcorr.runner.repeat import words_to_repeat
from vcorr.runner.spec import build_spec
from vcorr.store.fingerprint import plain

RUN = ("run", "--model", "sliding-model", "--probe", "qk")
CASES = {
    "plain": (),
    "more clips before": ("--limit", "1"),
    "by a config": ("--config", "run.yaml"),
    "options": ("--set", "metric.thresholds=[0.5,2]", "--set", "metrics=pck,matching_accuracy", "--steps", "0,9"),
    "text": ("--set", "model.marker=it's $HOME; a \"b\" 'c' [1]: #é"),
    "noise": ("--prompt", "a cat", "--set", "noise_draw=shared", "--set", "tracker=lk"),
    "variants": ("--set", "variant=both", "--layers", "0"),
}


class Commands(HTMLParser):
    """Collects the commands that a page of the board shows."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inside = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes) -> None:
        self.inside = tag == "code"
        if self.inside:
            self.found.append("")

    def handle_endtag(self, tag) -> None:
        self.inside = False

    def handle_data(self, data) -> None:
        if self.inside:
            self.found[-1] += data


def build_page(run: str, folder: Path) -> Path:
    """Builds the board of one run and returns the page of its model."""
    index = build_site(Path(run), folder / "site", registry=Registry([]))
    return index.parent / "models" / "sliding-model.html"


@pytest.mark.parametrize("case", CASES)
def test_the_shown_command_makes_the_same_run(vcorr, case, tmp_path) -> None:
    Path("run.yaml").write_text("seed: 7\nlayers: [1]\nset: {data.clips: 3}\n", encoding="utf-8")
    first = json.loads(vcorr(*RUN, "--json").out) if case == "more clips before" else {}
    ended = vcorr(*RUN, *CASES[case], "--json")
    assert ended.code == 0, ended.err
    made = json.loads(ended.out)
    assert first.get("run", made["run"]) == made["run"]
    shown = json.loads(vcorr("show", "run", made["path"], "--json").out)["command"]
    page = (
        build_site(Path(made["path"]), tmp_path / "site", registry=Registry([])).parent
        / "models"
        / "sliding-model.html"
    )
    assert shown in Commands(page).found
    Path("run.yaml").unlink()
    words = shlex.split(shown)
    assert words[0] == "vcorr"
    again = json.loads(vcorr(*words[1:], "--out", "elsewhere", "--json").out)
    assert again["run"] == made["run"]
    scores = [sorted(path.name for path in (Path(run["path"]) / "scores").glob("*.arrow")) for run in (made, again)]
    assert scores[0] == scores[1]


def test_rescoring_is_listed_apart(vcorr, tmp_path) -> None:
    path = json.loads(vcorr(*RUN, "--json").out)["path"]
    vcorr("score", path, "--set", "metrics=pck", "--set", "metric.thresholds=[3]")
    shown = json.loads(vcorr("show", "run", path, "--json").out)
    assert shown["command"] == "vcorr run --model sliding-model --probe qk"
    assert shown["scored by"] == f"vcorr score {path} --set metrics=pck --set 'metric.thresholds=[3]'"
    page = build_page(path, tmp_path)
    expected = f"vcorr score runs/{Path(path).name} --set metrics=pck --set 'metric.thresholds=[3]'"
    assert Commands(page).found[:2] == [shown["command"], expected]
    vcorr(*RUN)
    assert json.loads(vcorr("show", "run", path, "--json").out)["scored by"] == ""


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)


@settings(draw_cases(40), suppress_health_check=list(HealthCheck))
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "prompt": TEXT,
            "data": TEXT,
            "layers": st.sampled_from(["all", "1,4-6", "0"]),
            "seed": st.integers(0, 2**63 - 1),
            "cfg": st.floats(0, 100),
            "offload": st.just(True),
            "limit": st.integers(1, 100),
        },
    ),
    st.dictionaries(st.sampled_from(["model.marker", "probe.heads", "data.path"]), TEXT, max_size=3),
)
def test_drawn_specs_come_back(flags, options) -> None:
    spec = build_spec(flags, assignments=[f"{key}={value}" for key, value in options.items()])
    record = {"spec": json.loads(json.dumps(plain(spec))), "clips": {"total": 5}, "command": ["nothing"]}
    words = words_to_repeat(record)
    assert shlex.split(shlex.join(words)) == words
    assert words[:2] == ["vcorr", "run"]
    for value in [*options.values(), *(str(flags[key]) for key in ("prompt", "data") if key in flags)]:
        assert any(value in word for word in words)


def test_a_record_without_a_spec_shows_its_command() -> None:
    assert words_to_repeat({"command": ["vcorr", "run", 3], "spec": {"layers": 3}}) == ["vcorr", "run", "3"]
    assert words_to_repeat({"command": "vcorr"}) == []
