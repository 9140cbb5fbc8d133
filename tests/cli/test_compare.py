"""`vcorr compare` as a user types it."""

from __future__ import annotations

import json
import re

import pytest
from support.pages import ROOT

RUN = ("run", "--model", "sliding-model", "--probe", "qk", "--steps", "last", "--json")


def make(vcorr, *arguments) -> str:
    return json.loads(vcorr(*RUN, *arguments).out)["path"]


def test_two_runs_side_by_side(vcorr) -> None:
    a, b = make(vcorr), make(vcorr, "--seed", "1", "--set", "probe.heads=each")
    ended = vcorr("compare", a, b)
    assert ended.code == 0
    assert ended.err == ""
    lines = [line.split() for line in ended.out.splitlines()]
    assert ["settings.seed", "42", "1"] in lines
    assert ["qk", "0:9", "0:9", "value", "1.000", "1.000", "0.000", "–", "1.000", "4"] in lines
    assert "A and B are equal on all 4 clips." in ended.out
    assert "No interval: 4 clips, and an interval needs 6." in ended.out
    assert ["clips", "in", "common", "4", "4"] in lines


def test_a_difference_that_is_one(vcorr) -> None:
    a = make(vcorr)
    ended = vcorr("compare", a, a, "--metric", "matching_accuracy", "--site-a", "0:9", "--site-b", "1:9")
    line = next(line.split() for line in ended.out.splitlines() if line.split()[:1] == ["qk"])
    assert line[3:] == ["value", "1.000", "0.000", "+1.000", "–", "0.125", "4"]
    assert "4 clips cannot give p under 0.125, so no difference can be shown." in ended.out
    assert "pck" not in ended.out


def test_json_is_all_that_is_on_standard_output(vcorr) -> None:
    a = make(vcorr)
    found = json.loads(vcorr("compare", a, a, "--metric", "pck_4,pck_8", "--json").out)
    assert found["clips"] == ["slide-0", "slide-1", "slide-2", "slide-3"]
    assert found["a"]["random_weights"] is False
    assert found["settings"] == {}
    assert [row["metric"] for row in found["rows"]] == ["pck_4", "pck_8"]
    row = found["rows"][0]
    why = "4 clips, and an interval needs 6"
    assert row["difference"] == {
        "estimate": 0.0,
        "low": None,
        "high": None,
        "no_interval": why,
        "p": 1.0,
        "p_holm": 1.0,
    }
    assert [(site["site"], site["clips"]) for site in row["a"]["sites"]] == [("0:9", 4)]
    assert (row["clips"], row["ties"], row["smallest_p"], row["family"]) == (4, 4, 1.0, 1)


def test_clips_of_one_run_alone_count_for_neither(vcorr) -> None:
    a, b = make(vcorr), make(vcorr, "--set", "data.clips=6")
    ended = vcorr("compare", a, b, "--metric", "pck_4")
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert "only here 0 2: slide-4, slide-5" in lines
    assert "All numbers are over the 4 clips in common." in " ".join(lines)
    assert lines[[line.startswith("qk") for line in lines].index(True)].endswith("1.000 4")


@pytest.mark.parametrize("width", [80, 100, 120])
def test_families_are_said_and_numbers_are_whole(vcorr, monkeypatch, width) -> None:
    a = make(vcorr, "--set", "data.clips=8", "--set", "probe.heads=each")
    monkeypatch.setenv("COLUMNS", str(width))
    out = vcorr("compare", a, a, "--metric", "pck_4,pck_8", "--site-a", "0:9", "--site-b", "1:9", "--site-b", "0:9").out
    said = " ".join(out.split())
    assert "p, Holm: corrected for the 2 rows of one metric and variant." in said
    assert "8 clips cannot give p under 0.015 with Holm's correction for 2 rows." in said
    assert "No interval: all 8 clips agree: without variance there is no interval." in said
    assert max(map(len, out.splitlines())) <= width
    row = next(line for line in out.splitlines() if line.split()[:3] == ["qk", "0:9", "1:9"])
    assert "+1.000" in row
    assert "0.016" in row  # 2 / 2^8, twice


def test_every_key_of_a_row_is_on_the_page(vcorr) -> None:
    a = make(vcorr)
    found = json.loads(vcorr("compare", a, a, "--metric", "pck_4", "--json").out)
    page = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    row = found["rows"][0]
    keys = {*found, *row, *row["a"], *row["a"]["sites"][0], *row["difference"]}
    said = {word.rpartition(".")[2] for word in re.findall(r"`([\w.]+)`", page)}
    assert keys - said == set()


def test_refusals_are_one_message_and_exit_code_two(vcorr) -> None:
    a, b = make(vcorr), make(vcorr, "--set", "data.moved=1")
    ended = vcorr("compare", a, b)
    assert (ended.code, ended.out) == (2, "")
    assert "option data.moved: 0.0 and 1.0" in ended.err
    assert "--limit chooses how many clips" in ended.err
    assert vcorr("compare", a, "nowhere").code == 2
    assert vcorr("compare", a).code == 2
    assert "'0-9' is not a site" in vcorr("compare", a, a, "--site-b", "0-9").err


def test_a_side_without_steps_has_no_step(vcorr) -> None:
    tracked = [
        vcorr("track", "--data", "token-slide", "--limit", "2", *words).out.splitlines()[-1].removeprefix("Results: ")
        for words in (("--tracker", "lk"), ("--model", "sliding-model", "--layers", "0", "--steps", "4"))
    ]
    lines = [line.split() for line in vcorr("compare", *tracked).out.splitlines()]
    assert ["settings.steps", "–", "4"] in lines
    assert ["settings.num_steps", "–", "10"] in lines


def test_only_the_side_that_has_to_choose_is_asked_for_a_site(vcorr) -> None:
    clips = ("--set", "data.clips=2")
    one, many = make(vcorr, *clips, "--layers", "0", "--steps", "9"), make(vcorr, *clips)
    asked = {
        (one, many): "chosen: --site-b LAYER:STEP[:HEAD]\n",
        (many, one): "chosen: --site-a LAYER:STEP[:HEAD]\n",
        (many, many): "chosen: --site-a LAYER:STEP[:HEAD] --site-b LAYER:STEP[:HEAD]\n",
    }
    for runs, hint in asked.items():
        refused = vcorr("compare", *runs, "--metric", "matching_accuracy")
        assert refused.code == 2
        assert hint in refused.err
    assert vcorr("compare", one, many, "--metric", "matching_accuracy", "--site-b", "1:9").code == 0
    assert vcorr("compare", one, one, "--metric", "matching_accuracy").code == 0


def test_random_weights_are_said(vcorr) -> None:
    a = make(vcorr)
    ended = vcorr("compare", a, make(vcorr, "--weights", "random"))
    assert "sliding-model (random weights)" in ended.out
    assert "B: random weights (random)." in ended.out


def test_the_flags_of_compare_are_the_contracts() -> None:
    from vcorr.cli.commands.compare_command import compare

    flags = {option for parameter in compare.params for option in parameter.opts if option.startswith("--")}
    assert flags == {"--metric", "--probe", "--site-a", "--site-b", "--json"}
    assert [p.name for p in compare.params if p.param_type_name == "argument"] == ["run_a", "run_b"]
