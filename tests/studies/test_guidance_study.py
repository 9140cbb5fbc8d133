"""`vcorr study guidance`: the same prompts and seeds for every arm, paired differences, a page; resumed as a whole."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from support import guiding, sliding
from support.program import vcorr as program

from vcorr.cli.views.study_progress import StudyWatch
from vcorr.contract.errors import UsageError
from vcorr.plugins.registry import PluginSource, Registry
from vcorr.stats.intervals import compare_means
from vcorr.studies.guidance_arms import parse_arms
from vcorr.studies.guidance_page import make_strip
from vcorr.studies.guidance_rows import GuidanceRow, compare_arms, pair_by_prompt

__all__ = ["program"]
STUDY = (
    *("study", "guidance", "--model", "drawer", "--tracker", "sure", "--set", "metrics=brightness"),
    *("--prompts", "p.txt", "--out", "study", "--num-steps", "2"),
)
FEW = ("--limit", "2")
"""Prompts for tests of what a study stores, which need no intervals."""
PROMPTS = "\n".join(f"picture {i}" for i in range(7)) + "\n"


@pytest.fixture
def study(program, plugins):
    """Runs a study of seven prompts and returns what it printed as JSON."""
    plugins(guiding)
    Path("p.txt").write_text(PROMPTS, encoding="utf-8")

    def run(*flags: str) -> dict:
        ended = program(*STUDY, *flags, "--json")
        assert ended.code == 0, ended.err
        return json.loads(ended.out)

    return run


def rows_by_arm(found: dict, metric: str = "brightness") -> dict:
    return {row["guidance"]: row for row in found["rows"] if row["metric"] == metric and row["control"] == "none"}


def test_differences_are_paired_by_prompt_over_all_seeds(study) -> None:
    found = study("--guidances", "lamp,lamp+scale=0.5", "--seeds", "1,2")
    rows = rows_by_arm(found)
    assert [rows[arm]["difference"] for arm in ("lamp", "lamp+scale=0.5")] == pytest.approx([20, 10])
    assert (rows["lamp"]["low"], rows["lamp"]["prompts"]) == (None, 7)  # all prompts differ alike
    assert rows["lamp"]["p_holm"] == pytest.approx(2 * 2 / 2**7)
    assert (rows["lamp"]["seeds"], rows["lamp"]["layers"], found["clips"]) == ("1,2", "0", 7)
    assert found["found"] == [f"{arm}: better: brightness" for arm in ("lamp", "lamp+scale=0.5")]


def test_every_arm_has_runs_that_compare_by_themselves(study, program) -> None:
    found = study("--guidances", "lamp")
    plain, guided = (Path("study/runs") / next(iter(arm["runs"].values())) for arm in found["arms"])
    compared = program("compare", str(guided), str(plain), "--metric", "brightness", "--json")
    (row,) = json.loads(compared.out)["rows"]
    (own,) = rows_by_arm(found).values()
    assert row["difference"]["estimate"] == pytest.approx(own["difference"])
    assert row["difference"]["p"] == pytest.approx(own["p"])


def test_a_study_goes_on_and_keeps_what_it_measured(study) -> None:
    marker = (*FEW, "--set", f"model.marker={Path('marker').resolve()}")
    first = study("--guidances", "lamp", *marker)
    made = Path("marker").read_text()
    again = study("--guidances", "lamp", *marker)
    assert Path("marker").read_text() == made
    assert again["rows"] == first["rows"]
    assert all(row["seconds"] > 0 for row in again["rows"])
    study("--guidances", "lamp,lamp+scale=3", *marker)
    assert len(Path("marker").read_text().splitlines()) == len(made.splitlines()) * 3 // 2


def test_ctrl_c_says_what_is_kept_and_the_study_goes_on(study, program, monkeypatch) -> None:
    draw = guiding.Drawer.run

    def stop_once(self, clip, settings, recorder):
        if clip.prompt == "picture 3" and settings.guidance is not None:
            raise KeyboardInterrupt
        return draw(self, clip, settings, recorder)

    monkeypatch.setattr(guiding.Drawer, "run", stop_once)
    ended = program(*STUDY, "--guidances", "lamp")
    assert (ended.code, ended.out) == (130, "")
    said = " ".join(ended.err.split())
    assert "Interrupted. 1 of 2 arms are finished and kept in study. 3 of 7 clips are finished and kept in" in said
    assert said.endswith("The same command goes on from there.")
    assert {path.name for path in Path("study").iterdir()} == {"runs", "measured.json"}
    assert not [path for path in Path("study").rglob("*") if path.name.startswith(".") and path.name != ".lock"]
    monkeypatch.setattr(guiding.Drawer, "run", draw)
    found = study("--guidances", "lamp")
    assert (found["clips"], len(rows_by_arm(found))) == (7, 1)


def test_a_study_that_stopped_before_its_end_still_knows_its_seconds(study) -> None:
    first = study("--guidances", "lamp", *FEW)
    for name in ("study.json", "guidance.arrow"):
        Path("study", name).unlink()
    again = study("--guidances", "lamp", *FEW)
    assert [row["seconds"] for row in again["rows"]] == [row["seconds"] for row in first["rows"]]
    assert all(row["seconds"] > 0 for row in again["rows"])


def test_one_model_is_loaded_once_for_all_arms_and_seeds(study, monkeypatch) -> None:
    loads: list[tuple[str, ...]] = []
    monkeypatch.setattr(guiding.Drawer, "load", lambda self, *asked: loads.append(asked))
    study("--guidances", "lamp,lamp+scale=2", "--seeds", "1,2", *FEW)
    assert len(loads) == 1


def test_the_table_is_arrow_and_holds_the_rows(study) -> None:
    found = study("--guidances", "lamp")
    table = pa.ipc.open_file("study/guidance.arrow").read_all()
    assert table.num_rows == len(found["rows"])
    assert table["difference"].to_pylist() == pytest.approx([row["difference"] for row in found["rows"]])
    assert table.schema.metadata[b"vcorr.table"] == b"guidance"
    record = json.loads(Path("study/study.json").read_text())
    assert [arm["label"] for arm in record["arms"]] == ["none", "lamp"]


def test_the_page_shows_strips_of_the_same_prompt_and_every_difference(study) -> None:
    study("--guidances", "lamp,lamp+scale=0")
    page = Path("study/index.html").read_text(encoding="utf-8")
    pictures = sorted(Path("study/strips").iterdir())
    assert len(pictures) == 4 * 3
    assert all(f'src="strips/{picture.name}"' in page for picture in pictures)
    plain, guided, same = (np.asarray(Image.open(f"study/strips/0-{arm}.png")).astype(int) for arm in range(3))
    inside = (plain < 255).all(axis=-1)  # and not the gaps
    assert set((guided - plain)[inside].ravel()) == {20}
    assert np.array_equal(plain, same)
    assert "lamp+scale=0 changed no video" in page
    assert '<span class="better">+20</span>' in page
    assert '<meta name="viewport" content="width=device-width' in page
    assert "seed 42, 2 steps," in page


def test_text_of_prompts_is_escaped(study) -> None:
    Path("p.txt").write_text('<script>alert("x")</script>\n', encoding="utf-8")
    study("--guidances", "lamp")
    page = Path("study/index.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_the_terminal_says_what_was_found(study, program) -> None:
    ended = program(*STUDY, "--guidances", "lamp")
    assert ended.code == 0, ended.err
    assert "lamp: better: brightness" in ended.out
    assert "Page: study/index.html" in ended.out
    assert "+20 " in ended.out
    assert "95 % interval" not in ended.out  # all prompts differ alike


def test_what_several_runs_note_is_said_once(capsys) -> None:
    selection = SimpleNamespace(settings=SimpleNamespace(steps=()), sites=(), clips=("clip-0",))
    watch = StudyWatch()
    for title in ("none (1 of 2)", "lamp (2 of 2)"):
        with watch.watch_run(SimpleNamespace(selection=selection), title) as events:
            events.note("the same for all")
            events.note(f"about {title}")
    first, second = ("none (1 of 2)", "about none (1 of 2)"), ("lamp (2 of 2)", "about lamp (2 of 2)")
    assert capsys.readouterr().err.splitlines() == [first[0], "the same for all", first[1], *second]


def test_the_terminal_calls_the_guard_a_guard(study, program) -> None:
    Path("p.txt").write_text("one picture\n", encoding="utf-8")
    ended = program(*STUDY, "--guidances", "lamp", "--set", "metrics=brightness,dynamic-degree")
    assert ended.code == 0, ended.err
    (guard,) = [line for line in ended.out.splitlines() if "dynamic_degree" in line]
    assert guard.rstrip().endswith("a guard")
    assert "1 prompt gives no intervals; 6 do." in ended.out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--guidances", "none"), "nothing to compare"),
        (("--guidances", "lamp,lamp"), "there twice"),
        (("--guidances", "lump"), "Did you mean 'lamp'"),
        (("--guidances", "lamp+scale"), "no guidance with options"),
        (("--guidances", "lamp+scales=2"), "guidance.scales"),
        (("--guidances", "lamp+layers=7"), "no layer 7"),
        (("--guidances", "lamp", "--set", "guidance.heads=1"), "guidance.heads"),
        (("--guidances", "lamp", "--seeds", "1,1"), "each once"),
        (("--guidances", "lamp", "--seeds", "one"), "no whole number"),
        (("--guidances", "lamp", "--data", "sprites"), "exclude each other"),
    ],
)
def test_a_study_that_cannot_be_meant_is_refused_before_anything_is_made(study, program, flags, said) -> None:
    ended = program(*STUDY, *flags)
    assert ended.code == 2
    assert said in ended.err
    assert not Path("study/runs").exists()


def test_commas_inside_options_do_not_split_arms() -> None:
    registry = Registry([PluginSource("guiding", "guiding", "1", lambda: guiding)])
    arms = parse_arms("lamp+layers=0,1+scale=2, lamp", registry)
    assert [arm.label for arm in arms] == ["none", "lamp+layers=0,1+scale=2", "lamp"]
    assert arms[1].options == {"layers": "0,1", "scale": "2"}
    assert [arm.label for arm in parse_arms(None, registry)] == ["none", "lamp"]
    with pytest.raises(UsageError, match="there twice"):
        parse_arms("none,none,lamp", registry)


def test_differences_agree_with_a_slow_reference() -> None:
    rng = np.random.default_rng(0)
    values = {
        arm: {f"p{i}": float(value) for i, value in enumerate(rng.normal(shift, 1, 9))}
        for arm, shift in (("none", 0), ("cag", 1), ("random-layers", 0.5))
    }
    values["cag"]["p3"] = float("nan")
    by_seed = {arm: [one] for arm, one in values.items()}
    rows = {(row.guidance, row.control): row for row in compare_arms(GuidanceRow(metric="m"), by_seed)}
    assert set(rows) == {("cag", "none"), ("random-layers", "none"), ("cag", "random-layers")}
    pairs = [(values["cag"][p], values["none"][p]) for p in sorted(values["none"]) if p != "p3"]
    expected = compare_means(*(np.array(side) for side in zip(*pairs, strict=True)))
    row = rows["cag", "none"]
    assert row.prompts == 8
    assert row.difference == pytest.approx(np.mean([a - b for a, b in pairs]))
    assert (row.low, row.high) == pytest.approx((float(expected.low), float(expected.high)))


def test_a_prompt_counts_once_by_the_seeds_that_both_arms_have() -> None:
    nan = float("nan")
    own = [{"a": 1.0, "b": 2.0, "c": nan}, {"a": 3.0, "b": nan, "c": 1.0}]
    other = [{"a": 5.0, "b": 4.0, "c": 1.0, "d": 1.0}, {"a": 9.0, "b": 90.0}]
    mine, yours = pair_by_prompt(own, other)
    assert (mine.tolist(), yours.tolist()) == ([2.0, 2.0], [7.0, 4.0])
    assert [len(side) for side in pair_by_prompt([{}, {}], other)] == [0, 0]


def test_a_seed_that_one_arm_lacks_changes_no_difference() -> None:
    prompts = [f"p{i}" for i in range(7)]
    plain = [dict.fromkeys(prompts, 10.0 * seed) for seed in (1, 2)]
    guided = [{prompt: value + 1 for prompt, value in one.items()} for one in plain]
    del guided[1]["p0"]  # this video failed
    (row,) = compare_arms(GuidanceRow(metric="m"), {"none": plain, "lamp": guided})
    assert (row.difference, row.prompts) == (pytest.approx(1), 7)


def test_what_random_weights_made_is_marked(study) -> None:
    found = study("--guidances", "lamp", "--weights", "random", *FEW)
    assert "Random weights" in found["notes"][0]
    assert found["notes"][0] in Path("study/index.html").read_text(encoding="utf-8")


def test_arms_without_a_video_are_not_called_equal(program, plugins) -> None:
    plugins(guiding)
    Path("p.txt").write_text("broken\n", encoding="utf-8")
    ended = program(*STUDY, "--guidances", "lamp", "--json")
    assert ended.code == 1
    assert json.loads(ended.out)["notes"] == ["1 videos of none failed.", "1 videos of lamp failed."]


def test_a_strip_has_the_first_and_the_last_frame() -> None:
    video = sliding.slide(0)[0]
    strip = make_strip(video, count=3, gap=2)
    assert strip.shape == (sliding.SIDE, 3 * sliding.SIDE + 4, 3)
    assert np.array_equal(strip[:, : sliding.SIDE], video[0])
    assert np.array_equal(strip[:, -sliding.SIDE :], video[-1])
    assert (strip[:, sliding.SIDE : sliding.SIDE + 2] == 255).all()
