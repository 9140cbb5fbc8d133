"""`vcorr compare` as a user types it."""

from __future__ import annotations

import json

RUN = ("run", "--model", "sliding-model", "--probe", "qk", "--steps", "last", "--json")


def made(vcorr, *arguments) -> str:
    return json.loads(vcorr(*RUN, *arguments).out)["path"]


def test_two_runs_side_by_side(vcorr) -> None:
    a, b = made(vcorr), made(vcorr, "--seed", "1", "--set", "probe.heads=each")
    ended = vcorr("compare", a, b)
    assert ended.code == 0
    assert ended.err == ""
    lines = [line.split() for line in ended.out.splitlines()]
    assert ["settings.seed", "42", "1"] in lines
    assert ["qk", "0:9", "0:9", "value", "1.000", "1.000", "0.000", "–", "…", "–", "2"] in lines
    assert ["clips", "in", "common", "4", "4"] in lines


def test_a_difference_that_is_one(vcorr) -> None:
    a = made(vcorr)
    ended = vcorr("compare", a, a, "--metric", "matching_accuracy", "--site-a", "0:9", "--site-b", "1:9")
    assert "+1.000 – … –" in " ".join(ended.out.split())
    assert "pck" not in ended.out


def test_json_is_all_that_is_on_standard_output(vcorr) -> None:
    a = made(vcorr)
    found = json.loads(vcorr("compare", a, a, "--metric", "pck_4,pck_8", "--json").out)
    assert found["clips"] == ["slide-0", "slide-1", "slide-2", "slide-3"]
    assert found["a"]["random_weights"] is False
    assert found["settings"] == {}
    assert [row["metric"] for row in found["rows"]] == ["pck_4", "pck_8"]
    assert found["rows"][0]["difference"] == {"estimate": 0.0, "low": None, "high": None}
    assert found["rows"][0]["a"]["regret"] == 0.0


def test_refusals_are_one_message_and_exit_code_two(vcorr) -> None:
    a, b = made(vcorr), made(vcorr, "--set", "data.moved=1")
    ended = vcorr("compare", a, b)
    assert (ended.code, ended.out) == (2, "")
    assert "option data.moved: 0.0 and 1.0" in ended.err
    assert "--limit chooses how many clips" in ended.err
    assert vcorr("compare", a, "nowhere").code == 2
    assert vcorr("compare", a).code == 2
    assert "'0-9' is not a site" in vcorr("compare", a, a, "--site-b", "0-9").err


def test_random_weights_are_said(vcorr) -> None:
    a = made(vcorr)
    ended = vcorr("compare", a, made(vcorr, "--weights", "random"))
    assert "sliding-model (random weights)" in ended.out
    assert "B: random weights (random)." in ended.out


def test_the_flags_of_compare_are_the_contracts() -> None:
    from vcorr.cli.commands.compare_command import compare

    flags = {option for parameter in compare.params for option in parameter.opts if option.startswith("--")}
    assert flags == {"--metric", "--probe", "--site-a", "--site-b", "--json"}
    assert [p.name for p in compare.params if p.param_type_name == "argument"] == ["run_a", "run_b"]
