"""The commands as a user types them, in this process, on plugins whose answers are known."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest
from support.videos import write

from vcorr.cli import main as program
from vcorr.contract.head_traits import TRAITS
from vcorr.plugins.registry import Registry
from vcorr.store.run_search import open_run

RUN = ("run", "--model", "sliding-model", "--probe", "qk", "--steps", "last")


def test_a_run_ends_with_its_best_site_and_where_the_results_lie(vcorr) -> None:
    ended = vcorr(*RUN)
    assert ended.code == 0
    assert "No interval: 4 clips, and an interval needs 6." in ended.out
    path = Path(ended.out.splitlines()[-1].removeprefix("Results: "))
    assert (path / "run.json").is_file()
    assert len(list((path / "scores").glob("*.arrow"))) == 4


def test_json_is_all_that_is_on_standard_output(vcorr) -> None:
    found = json.loads(vcorr(*RUN, "--json").out)
    assert found["status"] == "complete"
    assert [(s["layer"], s["value"], s["skill"]) for s in found["sites"]] == [(0, 1.0, 1.0), (1, 0.0, 0.0)]
    (best,) = found["best"]
    assert (best["layer"], best["clips"], best["chosen_on"], best["regret"]) == (0, 4, 2, 0.0)
    assert [(site["site"], site["clips"]) for site in best["sites"]] == [("0:9", 4)]
    assert (best["skill_low"], best["no_skill_interval"]) == (None, "4 clips, and an interval needs 6")


def test_a_failed_clip_gives_exit_code_one(vcorr) -> None:
    ended = vcorr(*RUN, "--set", "data.fail=slide-1")
    assert ended.code == 1
    assert "ValueError: slide-1 is broken" in ended.err
    assert "Failed: clip slide-1" in ended.out
    assert "3 of 4 clips" in ended.out


def test_a_second_run_says_what_it_reused(vcorr) -> None:
    vcorr(*RUN)
    assert "4 reused" in vcorr(*RUN).out


def test_a_limited_run_reports_its_own_clips(vcorr) -> None:
    assert "2 of 2 clips" in vcorr(*RUN, "--limit", "2").out
    vcorr(*RUN)
    found = json.loads(vcorr(*RUN, "--limit", "2", "--json").out)
    assert {part["clips"] for part in (*found["best"], *found["sites"])} == {2}


def test_dry_run_touches_nothing(vcorr, tmp_path) -> None:
    ended = vcorr(*RUN, "--dry-run")
    assert ended.code == 0
    assert "4 clips" in ended.out
    assert "4 forward passes" in ended.out
    assert list(tmp_path.iterdir()) == []
    found = json.loads(vcorr(*RUN, "--dry-run", "--json").out)
    assert found["forward_passes"] == 4
    assert (found["variants"], found["tracker"], found["layers"]) == (["corrected"], None, [0, 1])
    assert found["clips"] == ["slide-0", "slide-1", "slide-2", "slide-3"]
    both = json.loads(vcorr(*RUN, "--set", "variant=both", "--dry-run", "--json").out)
    assert (both["variants"], both["forward_passes"]) == (["corrected", "difftrack"], 4)
    assert not found["exists"]


def test_a_config_file_is_a_run(vcorr, tmp_path) -> None:
    text = "model: sliding-model\nprobe: qk\nsteps: last\nlimit: 1\nset: {probe.heads: each}\n"
    (tmp_path / "run.yaml").write_text(text)
    found = json.loads(vcorr("run", "--config", "run.yaml", "--json").out)
    assert {s["head"] for s in found["sites"]} == {-1, 0, 1}


def test_scoring_again_needs_only_the_run(vcorr) -> None:
    path = vcorr(*RUN).out.splitlines()[-1].removeprefix("Results: ")
    ended = vcorr("score", path, "--set", "metrics=pck", "--set", "metric.thresholds=[2,5]")
    assert ended.code == 0
    assert "4 clips scored again" in ended.out
    (found,) = json.loads(vcorr("score", path, "--json").out)
    assert found["best"][0]["metric"] == "matching_accuracy_moving"


@pytest.mark.parametrize("key", ["model", "probe.heads", "limit", "tracker"])
def test_scoring_again_refuses_what_it_cannot_change(vcorr, key) -> None:
    path = vcorr(*RUN).out.splitlines()[-1].removeprefix("Results: ")
    ended = vcorr("score", path, "--set", f"{key}=1")
    assert (ended.code, ended.out) == (2, "")
    assert f"--set {key} cannot change predictions that are already stored" in ended.err
    assert "metrics, metric.KEY and variant" in ended.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("run", "--model", "sliding"), 2, "Did you mean 'sliding-model'?"),
        (("run",), 2, "vcorr run --model tiny --probe qk"),
        (("run", "--model", "qk-position"), 2, "'qk-position' is a probe, not a model. Known models:"),
        ((*RUN, "--set", "probe.heads"), 2, "not KEY=VALUE"),
        ((*RUN, "--set", "probe.heads=17,"), 2, "heads"),
        ((*RUN, "--set", "variant=Both"), 2, "Did you mean 'both'?"),
        ((*RUN, "--set", "variant=both+time_map=stretched"), 2, "corrected+time_map=stretched,difftrack+time_map="),
        ((*RUN, "--set", "variant=corrected+time_map"), 2, "Use time_map=centres or time_map=stretched."),
        (
            (*RUN, "--set", "variant="),
            2,
            "Error: variant is empty.",
        ),
        ((*RUN, "--set", "limit=2.5"), 2, "limit"),
        ((*RUN, "--limit", "1_0"), 2, "'1_0' is not a valid integer"),
        ((*RUN, "--limit", "9" * 25), 2, "is not a valid integer"),
        ((*RUN, "--seed", "1.5"), 2, "'1.5' is not a valid integer"),
        ((*RUN, "--cfg", "nan"), 2, "'nan' is not a valid float"),
        ((*RUN, "--cfg", "1e400"), 2, "'1e400' is not a valid float"),
        ((*RUN, "--set", "tracker.preset=fast"), 2, "tracker.preset is set, but no tracker is used"),
        ((*RUN, "--set", "tracker=dis", "--set", "tracker.preset=fst"), 2, "Did you mean 'fast'?"),
        ((*RUN, "--set", "probe.temperature=1"), 2, "probe.temperature"),
        ((*RUN, "--probe", "hidden-cos", "--set", "probe.temperature=0"), 2, "temperature: expected a number above 0"),
        ((*RUN, "--set", "probe.radius=-1"), 2, "probe.radius: expected a whole number of at least 0, got -1"),
        ((*RUN, "--layers", "9"), 2, "layers 0-1"),
        ((*RUN, "--steps", "a"), 2, "0,10-20"),
        ((*RUN, "--limit", "x"), 2, "not a valid integer"),
        ((*RUN, "--reuse", "maybe"), 2, "never"),
        ((*RUN, "--reuse", "only"), 2, "no such run"),
        ((*RUN, "--weights", "missing"), 4, "Fetch them."),
        ((*RUN, "--executor", "cloud"), 2, "Available in this version: --executor local, ray, submitit"),
        ((*RUN, "--executor", "submitit"), 4, "--set executor.cluster=local"),
        ((*RUN, "--executor", "ray", "--set", "executor.adress=a:1"), 2, "Did you mean 'executor.address'?"),
        ((*RUN, "--data", "video:nowhere.mp4"), 4, "nowhere.mp4"),
        ((*RUN, "--data", "prompts:nowhere.txt"), 4, "nowhere.txt"),
        (("score", "nowhere"), 2, "is not a run"),
        (("show", "model", "sliding-modle"), 2, "Did you mean 'sliding-model'?"),
        (("list", "modles"), 2, "models"),
        (("board", "open", "--out", "nowhere"), 4, "vcorr board build"),
        (("nonsense",), 2, "No such command"),
    ],
)
def test_bad_input_is_one_message_with_its_exit_code(vcorr, tmp_path, arguments, code, message) -> None:
    ended = vcorr(*arguments)
    assert ended.code == code
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert not list(tmp_path.rglob("*.arrow"))


def test_a_shell_completes_commands_and_options(vcorr, monkeypatch) -> None:
    monkeypatch.setenv("_VCORR_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "vcorr run --mod")
    monkeypatch.setenv("COMP_CWORD", "2")
    code, out, err = vcorr()
    assert (code, out.split(), err) == (0, ["plain,--model", "plain,--mode"], "")


def test_debug_shows_the_traceback(vcorr) -> None:
    assert "Traceback" in vcorr("run", "--model", "nobody", "--debug").err


def test_an_out_that_cannot_be_written(vcorr, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    ended = vcorr(*RUN, "--out", "file/runs")
    assert ended.code == 2
    assert "cannot be written" in ended.err


def test_a_run_directory_of_another_spec_is_refused(vcorr) -> None:
    path = Path(vcorr(*RUN).out.splitlines()[-1].removeprefix("Results: "))
    record = json.loads((path / "run.json").read_text())
    record["fingerprints"]["predict"] = "0" * 64
    (path / "run.json").write_text(json.dumps(record))
    ended = vcorr(*RUN)
    assert ended.code == 2
    assert "another spec" in ended.err


def test_a_damaged_shard_stops_scoring_with_its_name(vcorr) -> None:
    path = Path(vcorr(*RUN).out.splitlines()[-1].removeprefix("Results: "))
    (path / "predictions" / "slide-2.arrow").write_bytes(b"no")
    ended = vcorr("score", str(path))
    assert ended.code == 2
    assert "slide-2.arrow is damaged" in ended.err


def test_a_kind_that_nobody_brings_says_so_and_offers_nothing(vcorr, monkeypatch) -> None:
    listed = json.loads(vcorr("list", "guidances", "--json").out)
    assert [each["name"] for each in listed] == ["cag", "cfg-zero", "more-steps", "pag", "random-layers", "slg"]
    monkeypatch.setattr("vcorr.plugins.registry.installed", lambda: Registry([]))
    ended = vcorr("list", "guidances")
    assert (ended.code, ended.out) == (0, "No plugin brings guidances.\n")
    assert json.loads(vcorr("list", "guidances", "--json").out) == []
    assert ["guidances", "0", "vcorr", "list", "guidances"] in [line.split() for line in vcorr("list").out.splitlines()]


def test_lists_name_what_is_installed(vcorr) -> None:
    found = json.loads(vcorr("list", "--json").out)
    assert "sliding-model" in [m["name"] for m in found["models"]]
    assert {"qk", "feature", "feature-fair"} <= {p["name"] for p in found["probes"]}
    assert [p["state"] for p in found["plugins"]] == ["ok", "ok"]
    assert "sliding-model" in vcorr("list", "models").out


def test_show_gives_options_and_their_defaults(vcorr) -> None:
    facts = json.loads(vcorr("show", "probe", "qk", "--json").out)
    assert facts["options"]["heads"]["default"] == "mean"
    assert "sharpness" in vcorr("show", "model", "sliding-model").out
    card = json.loads(vcorr("show", "model", "token-patches", "--json").out)["card"]
    assert card["attention"] == "none"


def test_doctor_finds_this_installation_well(vcorr) -> None:
    ended = vcorr("doctor", "--json")
    findings = {f["what"]: f for f in json.loads(ended.out)}
    assert findings["capture"]["ok"]
    assert findings["torch"]["ok"]
    assert findings["kernels"]["detail"] == "cpu: plain PyTorch"


def test_the_flags_of_run_are_the_contracts() -> None:
    from vcorr.cli.commands.run_command import run

    flags = {option for parameter in run.params for option in parameter.opts if option.startswith("--")}
    assert flags == {
        *("--model", "--probe", "--data", "--prompt", "--mode", "--layers", "--steps", "--limit", "--seed", "--out"),
        *("--device", "--save-videos", "--cfg"),
        *(
            "--dtype",
            "--weights",
            "--offload",
            "--vae-tiling",
            "--reuse",
            "--executor",
            "--workers",
            "--parallel",
            "--config",
            "--set",
        ),
        *("--dry-run", "--json"),
    }


def test_a_known_motion_scores_one_and_a_point_moved_takes_away_its_share(vcorr) -> None:
    def score(moved: float) -> float:
        found = json.loads(vcorr(*RUN, "--layers", "0", "--set", f"data.moved={moved}", "--json").out)
        (best,) = found["best"]
        return best["all_points"]["value"]

    points = 5 * 5
    assert score(0) == 1
    assert score(3.9) == 1  # within half a token of eight pixels
    assert score(4.1) == pytest.approx(1 - 1 / points, abs=1e-7)


def test_both_variants_come_apart_in_table_and_json(vcorr) -> None:
    ended = vcorr(*RUN, "--set", "variant=both")
    header, *lines = [line.split() for line in ended.out.splitlines() if "qk" in line or "probe" in line]
    assert header[:2] == ["probe", "variant"]
    assert [line[:2] for line in lines] == [["qk", "corrected"], ["qk", "difftrack"]]
    found = json.loads(vcorr(*RUN, "--set", "variant=both", "--json").out)
    assert [(b["variant"], b["switches"]) for b in found["best"]] == [("corrected", ""), ("difftrack", "")]
    assert len(found["sites"]) == 4
    assert "variant" not in vcorr(*RUN).out  # nothing to tell apart


def test_scoring_again_keeps_the_variants_of_the_run_unless_others_are_set(vcorr) -> None:
    path = vcorr(*RUN, "--set", "variant=both").out.splitlines()[-1].removeprefix("Results: ")

    def variants(*arguments: str) -> set[str]:
        (found,) = json.loads(vcorr("score", path, *arguments, "--json").out)
        return {site["variant"] for site in found["sites"]}

    assert variants("--set", "metrics=pck") == {"corrected", "difftrack"}
    assert variants("--set", "variant=difftrack") == {"difftrack"}
    assert variants() == {"corrected", "difftrack"}


def test_scoring_again_in_a_variant_that_was_not_read_says_what_to_type(vcorr) -> None:
    path = vcorr(*RUN).out.splitlines()[-1].removeprefix("Results: ")
    ended = vcorr("score", path, "--set", "variant=difftrack")
    assert ended.code == 2
    assert "no predictions of probe 'qk' for variant 'difftrack'" in ended.err
    assert "--set variant=corrected,difftrack" in ended.err
    switched = vcorr("score", path, "--set", "variant=corrected+time_map=stretched", "--json")
    (found,) = json.loads(switched.out)
    assert [b["switches"] for b in found["best"]] == ["time_map=stretched"]


def test_scores_without_skill_are_shown_as_well(vcorr) -> None:
    arguments = ("run", "--model", "sliding-model", "--probe", "attention", "--steps", "last")
    ended = vcorr(*arguments, "--json")
    rows = {(site["metric"], site["layer"]): site["value"] for site in json.loads(ended.out)["sites"]}
    ended = vcorr(*arguments)
    path = ended.out.splitlines()[-1].removeprefix("Results: ")
    values = {layer: rows["attention_cross", layer] for layer in (0, 1)}
    large, small = max((0, 1), key=values.__getitem__), min((0, 1), key=values.__getitem__)
    line = f"attention_cross attention {values[large]:.3f} {large}:9 {values[small]:.3f} {small}:9 2 4"
    for text in (ended.out, vcorr("score", path).out, vcorr("show", "run", path).out):
        assert line in [" ".join(x.split()) for x in text.splitlines()]
    (found, *_) = json.loads(vcorr("score", path, "--json").out)[0]["without_skill"]
    assert (found["largest"]["value"], found["largest"]["skill"], found["sites"]) == (values[large], None, 2)
    assert "Without floor and ceiling" not in vcorr(*RUN).out
    assert json.loads(vcorr(*RUN, "--json").out)["without_skill"] == []


def test_what_does_not_apply_to_a_baseline_is_said(vcorr) -> None:
    still = ("run", "--model", "zero-motion", "--data", "token-slide", "--limit", "1")
    ended = vcorr(*still, "--probe", "qk", "--layers", "2")
    assert ended.code == 0
    assert "has no layers and predicts directly; --probe qk and --layers 2 do not apply." in " ".join(ended.err.split())
    assert "apply" not in vcorr(*still, "--reuse", "never").err
    assert vcorr(*still, "--probe", "nonsense").code == 2


def test_points_that_stand_still_are_why_no_site_is_best(vcorr, tmp_path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    path = write(tmp_path / "still.mkv", np.stack([picture] * 5), codec="ffv1", pixels="bgr0")
    run = ("run", "--model", "sliding-model", "--probe", "qk", "--data", f"video:{path}", "--set", "tracker=lk")
    ended = vcorr(*run)
    assert ended.code == 0
    assert "matching_accuracy of qk: no site has a skill: standing still scores 1.000" in " ".join(ended.out.split())
    assert json.loads(vcorr(*run, "--json").out)["unranked"][0]["reason"].startswith("no site has a skill")
    run_path = ended.out.splitlines()[-1].removeprefix("Results: ")
    assert "no site has a skill" in vcorr("score", run_path).out
    assert "no site has a skill" in vcorr("show", "run", run_path).out


def test_cosine_probes_share_a_run_with_qk(vcorr) -> None:
    """Checks that each probe finds pictures that slide unchanged, and that the temperature is an option of two."""
    words = ("--probe", "qk,feature-cos,feature-cos-token", "--layers", "0", "--set", "probe.temperature=0.03")
    ended = vcorr(*RUN, *words, "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    record = json.loads((Path(found["path"]) / "run.json").read_text())
    options = {probe["name"]: probe["config"].get("temperature") for probe in record["resolved"]["probes"]}
    assert options == {"qk": None, "feature-cos": 0.03, "feature-cos-token": 0.03}
    rows = open_run(Path(found["path"])).read("scores").to_pylist()
    values = {(row["probe"], row["value"]) for row in rows if row["metric"] == "matching_accuracy"}
    assert values == {("qk", 1.0), ("feature-cos", 1.0), ("feature-cos-token", 1.0)}


def test_traits_of_heads_are_columns_without_floor_and_ceiling(vcorr) -> None:
    """Checks that `attention` alone gets no row of a trait, and that `head-traits` has the rows of `attention` too."""
    ended = vcorr(*RUN, "--probe", "attention,head-traits", "--layers", "0", "--set", "probe.heads=each", "--json")
    assert ended.code == 0, ended.err
    rows = open_run(Path(json.loads(ended.out)["path"])).read("scores").to_pylist()
    traits = [row for row in rows if row["metric"].startswith("trait_")]
    assert {row["probe"] for row in traits} == {"head-traits"}
    assert {row["metric"].removeprefix("trait_") for row in traits} == set(TRAITS)
    assert {row["head"] for row in traits} == {row["head"] for row in rows}
    assert all(np.isnan([row["floor"], row["ceiling"]]).all() for row in traits)
    assert all(0 <= row["value"] <= 1 and row["n"] > 0 for row in traits)
    found = {(row["clip"], row["head"], row["metric"], row["probe"]): row["value"] for row in rows}
    for (clip, head, metric, probe), value in found.items():
        if probe == "attention":
            np.testing.assert_allclose(value, found[clip, head, metric, "head-traits"], rtol=1e-5)
    scored = vcorr("score", json.loads(ended.out)["path"], "--json")
    assert scored.code == 0, scored.err


def usages(command: click.Command, path: str, width: int) -> dict[str, str]:
    """The usage lines of a command and of all below it, by the name of the command."""
    context = click.Context(command, info_name=path, **{**command.context_settings, "terminal_width": width})
    found = {path: command.get_usage(context)}
    for name, inner in (command.commands if isinstance(command, click.Group) else {}).items():
        found |= usages(inner, f"{path} {name}", width)
    return found


def test_usage_lines_break_between_words_alone() -> None:
    wide, narrow = (usages(program.cli, "vcorr", width) for width in (1000, 60))
    assert len(wide) > 20
    assert {name: text.split() for name, text in narrow.items()} == {name: text.split() for name, text in wide.items()}
