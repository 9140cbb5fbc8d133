"""Knock-outs while videos are sampled: what is cut at which step, what is scored, and that a study goes on."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from studies.test_knockout_run import observe

import vcorr
from vcorr.capture import intercept
from vcorr.contract.errors import UsageError
from vcorr.interventions.knockout_edits import Knockout
from vcorr.runner.predict import sample_clip
from vcorr.studies.guidance_page import make_strip
from vcorr.studies.knockout_effects import find_results
from vcorr.studies.knockout_options import KnockoutOptions
from vcorr.studies.knockout_page import make_page
from vcorr.studies.knockout_passes import find_directions
from vcorr.studies.knockout_plan import adapter_of, plan_study
from vcorr.studies.knockout_rows import NORM
from vcorr.studies.knockout_run import StudyFolder, finish_study, run_study

STEPS, CUT_STEP = 2, 1
SCORES = ("track_survival", "dynamic_degree")
OPTIONS = {"sites": "0,1", "mode": "generate", "limit": 1, "steps": str(CUT_STEP)}


def plan(assignments=("metrics=track-survival,dynamic-degree",), flags=None, **options):
    asked = KnockoutOptions(**{**OPTIONS, **options})
    return plan_study(observe(), asked, vcorr.installed(), {"num_steps": STEPS, **(flags or {})}, assignments)


@pytest.fixture(scope="module", name="finished")
def make_finished(tmp_path_factory):
    study = plan()
    folder = StudyFolder.of(study, tmp_path_factory.mktemp("studies"))
    said = []
    rows = run_study(study, folder, said.append)
    return SimpleNamespace(study=study, folder=folder, rows=rows, said=said, done=finish_study(study, folder, rows))


def read_strip(finished, name):
    (clip,) = finished.study.plan.selection.clips
    return np.asarray(Image.open(finished.folder.path / "strips" / clip / f"{name}.png"))


def values_of(rows, **key):
    return {row["metric"]: row["value"] for row in rows if all(row[name] == value for name, value in key.items())}


def test_the_video_without_a_cut_is_the_one_of_an_ordinary_run(finished):
    (clip,) = finished.study.plan.selection.clips
    made, _ = sample_clip(finished.study.videos, clip)
    assert np.array_equal(read_strip(finished, "plain"), make_strip(made.video))


def test_a_whole_cut_cuts_its_layer_at_its_steps_in_both_branches(finished):
    study, videos = finished.study, finished.study.videos
    (clip,) = study.plan.selection.clips
    model = adapter_of(study.plan)
    prompt = study.plan.live.dataset.clip(clip)
    grid, layout = model.grid(prompt.with_video(None), None), model.layout()
    cut = Knockout("cross-frame", {1: ()}, grid, layout, steps=frozenset({CUT_STEP}))
    with intercept(model.pipe.transformer, [model.sites()[1]], cut, layout=layout):
        made, _ = sample_clip(videos, clip)
    found = read_strip(finished, "cut 1 at dose 1")
    assert np.array_equal(found, make_strip(made.video))
    assert not np.array_equal(found, read_strip(finished, "plain"))


def test_every_video_has_all_scores_and_matching_at_the_layers_that_are_read(finished):
    (layer,) = finished.study.readers
    (step,) = finished.study.plan.selection.settings.steps
    for role, count in (("plain", 1), ("cut", 2 * 2), ("control", 20)):
        own = [row for row in finished.rows if row["role"] == role and row["metric"] != NORM]
        for name in SCORES:
            assert [(row["layer"], row["step"]) for row in own if row["metric"] == name] == [(-1, -1)] * count
        read = [(row["layer"], row["step"]) for row in own if row["metric"] == "matching_accuracy_moving"]
        assert read == [(layer, step)] * count


def test_cuts_and_controls_have_the_smallest_norm_of_the_cuts_at_every_step(finished):
    norms = {(row["layer"], row["head"]): row["value"] for row in finished.rows if row["metric"] == NORM}
    assert {row["step"] for row in finished.rows if row["metric"] == NORM} == {CUT_STEP}
    full = [np.sqrt(sum(norms[layer, head] ** 2 for head in range(4))) for layer in (0, 1)]
    common = [row for row in finished.rows if row["matched"] == "common" and row["metric"] == SCORES[0]]
    assert len(common) == 2 + 20
    assert [row["norm"] for row in common] == pytest.approx([min(full)] * len(common), rel=1e-5)
    one_layer = [row for row in common if row["cut_sites"] in ("0", "1")]
    assert [row["norm_made"] / row["norm"] for row in one_layer] == pytest.approx([1, 1], rel=1e-3)
    assert [row["dose"] for row in one_layer] == pytest.approx([min(full) / each for each in full], rel=1e-4)


def test_a_study_goes_on_from_what_is_stored_and_says_a_total(finished):
    (clip,) = finished.study.plan.selection.clips
    assert finished.said[0] == f"{clip}, plain: 1 of 23 cells, 1 video so far"
    assert finished.said[-1].startswith(f"clip 1/1 ({clip}): 23 of 23 cells")
    lost = finished.folder.cells.file(clip, "control 4 7")
    lost.unlink()
    said = []
    again = run_study(finished.study, finished.folder, said.append)
    assert [str(row) for row in again] == [str(row) for row in finished.rows]
    assert said[-1] == f"clip 1/1 ({clip}): 23 of 23 cells, 1 video so far"


def test_the_page_has_pictures_and_the_record_says_the_mode(finished):
    page = (finished.folder.path / "page.md").read_text()
    assert "![cut 1 at dose 1, first to last frame](<strips/test-0001/cut 1 at dose 1.png>)" in page
    assert "`track_survival`: a fall counts as harm" in page
    assert "`dynamic_degree`: less motion counts as harm" in page
    assert "1 clip, and an interval needs 6), so none of them is shown on a board" in page
    assert "![" not in finished.done.page
    assert json.loads((finished.folder.path / "study.json").read_text())["mode"] == "generate"


def test_harms_are_worse_scores_paired_by_clip(finished):
    clips = tuple(f"clip-{i}" for i in range(7))
    selection = replace(finished.study.plan.selection, clips=clips)
    study = replace(finished.study, plan=replace(finished.study.plan, selection=selection))
    rows = []
    for number, clip in enumerate(clips):
        for row in finished.rows:
            harm = {"plain": 0.0, "cut": 0.2 + 0.01 * number, "control": 0.05}[row["role"]]
            made = {"value": 0.5 + number - harm} if row["metric"] in SCORES else {}  # clips differ more than cuts do
            rows.append({**row, **made, "clip": clip})
    found = find_results(study, rows)
    assert len(found.effects) == 2 * len(SCORES) + 2
    for one in (one for one in found.effects if one.outcome in SCORES):
        assert one.effect.value == pytest.approx(0.23 - 0.05)
        assert one.effect.low < 0.18 < one.effect.high
        assert one.whole.value == pytest.approx(0.23)
        assert one.p == pytest.approx(2 / 2**7)
        assert (one.beyond, one.count, one.clips) == (0, 20, 7)
    assert found.plain["track_survival"] == pytest.approx(3.5)
    assert "95 %" in make_page(study, found)
    assert "so none of them is shown" not in make_page(study, found)


def test_a_control_without_a_value_is_left_out(finished):
    clips = tuple(f"clip-{i}" for i in range(6))
    selection = replace(finished.study.plan.selection, clips=clips)
    study = replace(finished.study, plan=replace(finished.study.plan, selection=selection))
    rows = []
    for clip in clips:
        for row in finished.rows:
            value = {"plain": 0.8, "cut": 0.5, "control": 0.7}[row["role"]]
            value = np.nan if (row["control"], clip) == (3, "clip-2") else value
            rows.append({**row, "clip": clip, "value": value, "floor": 0.0, "ceiling": 1.0})
    found = {(one.sites, one.outcome): one for one in find_results(study, rows).effects}
    for outcome, harm in (("track_survival", 0.2), ("matching", 0.2)):
        assert found["1", outcome].effect.value == pytest.approx(harm)
        assert found["1", outcome].clips == 6


def test_each_score_names_the_direction_that_harms(finished):
    rising = plan(["metrics=frame-changes,track-survival,dynamic-degree"]).videos
    assert find_directions(rising) == {"warp_error": 1, "flicker": 1, "track_survival": -1, "dynamic_degree": -1}


def test_what_changes_a_video_is_another_study():
    made = [
        plan(),
        plan(steps=None),
        plan(flags={"cfg": 2.0}),
        plan(flags={"tracker": "lk"}),
        plan(["metrics=track-survival"]),
        plan(mode="renoise", steps=None, assignments=(), flags={"num_steps": None}),
    ]
    assert len({one.fingerprint() for one in made}) == len(made)


@pytest.mark.parametrize(
    ("options", "flags", "said"),
    [
        ({"mode": "invert"}, {}, "--mode invert: knock-outs are studied in the modes renoise and generate"),
        ({"sites": "0:1"}, {}, "0:1 names a step, and in mode generate all cuts have the same steps"),
        ({"steps": "2"}, {}, "2"),
        (
            {"mode": "renoise", "steps": None},
            {"cfg": 2.0, "num_steps": None},
            "--cfg is set, and mode renoise makes",
        ),
    ],
)
def test_what_makes_no_study_of_videos_is_refused(options, flags, said):
    with pytest.raises(UsageError, match=said):
        plan(assignments=(), flags=flags, **options)
