"""vcorr propagate --data: masks carried through the clips of a dataset, stored and scored as any other run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.davis import make_davis

import vcorr as api
from vcorr.data.mask_files import Mask, read_mask, usual_palette, write_mask
from vcorr.metrics.mask_scores import score_objects
from vcorr.runner.stored_masks import masks_path, read_masks
from vcorr.store.rundir import RunDirectory

BOTH, REGION, CONTOUR = "region_and_contour", "region_similarity", "contour_accuracy"
MODEL = ("--model", "sliding-model", "--layers", "1", "--steps", "4")


@pytest.fixture
def data(tmp_path):
    """Returns the words that name three small clips with two objects each."""
    return ("--data", "davis17", "--data-root", str(make_davis(tmp_path / "DAVIS", ("bear", "cow", "goat"))))


def find_run(ended, code: int = 0) -> RunDirectory:
    assert ended.code == code, ended.err
    return RunDirectory(Path(ended.out.splitlines()[-1].removeprefix("Results: ")))


def read_values(run, clip: str) -> dict[str, float]:
    return {row["metric"]: row["value"] for row in run.read("scores").to_pylist() if row["clip"] == clip}


def test_rows_have_the_scores_of_every_object_and_their_mean(vcorr, data) -> None:
    ended = vcorr("propagate", *data, "--tracker", "dis")
    run = find_run(ended)
    for clip in ("bear", "cow", "goat"):
        masks = read_masks(run, clip)
        objects = score_objects(masks.predicted, masks.reference)
        expected = {
            f"{name}@object:{each.label}": value
            for each in objects
            for name, value in ((BOTH, each.both), (REGION, each.region), (CONTOUR, each.contour))
        }
        for name in (BOTH, REGION, CONTOUR):
            expected[name] = np.mean([expected[f"{name}@object:{label}"] for label in (1, 2)])
        assert read_values(run, clip) == pytest.approx(expected, abs=1e-6)
    rows = run.read("scores").to_pylist()
    (row,) = [row for row in rows if (row["clip"], row["metric"]) == ("bear", BOTH)]
    assert [row[name] for name in ("task", "model", "layer", "step", "query_frame", "ceiling", "n")] == [
        *("propagation", "dis", -1, -1, 0, 1.0, 4)
    ]
    (stored,) = [row for row in run.read("predictions").to_pylist() if row["clip"] == "bear"]
    assert (stored["kind"], stored["points"], stored["latents"], stored["xy"]) == ("masks", 0, 4, [])
    assert run.record()["cost"]["seconds_per_clip"] > 0
    mean = np.mean([read_values(run, clip)[f"{BOTH}@object:{n}"] for clip in ("bear", "cow", "goat") for n in (1, 2)])
    assert f"Mean over objects, as DAVIS reports it: J&F {mean:.3f}" in ended.out
    assert "DINOv2 0.631" in ended.out


def test_the_mask_that_stays_is_the_floor(vcorr, data) -> None:
    run = find_run(vcorr("propagate", *data, "--model", "zero-motion", "--limit", "1"))
    rows = [row for row in run.read("scores").to_pylist() if row["metric"]]
    assert all(row["floor"] == row["value"] for row in rows)
    values = read_values(run, "bear")
    assert values[f"{REGION}@object:2"] == 1.0, "it never moves"
    assert 0 < values[f"{REGION}@object:1"] < 1
    more = find_run(vcorr("propagate", *data, "--model", "zero-motion"))
    assert "the mask stays where it is" in vcorr("show", "run", str(more.path)).out


def test_a_model_is_stored_with_its_site_and_every_choice_is_in_the_fingerprint(vcorr, data) -> None:
    run = find_run(vcorr("propagate", *data, *MODEL, "--limit", "1", "--top-k", "1"))
    row = run.read("predictions").to_pylist()[0]
    assert [row[name] for name in ("probe", "layer", "step", "attention")] == ["qk", 1, 4, "full3d"]
    assert row["noise"] == pytest.approx(0.5)
    grid = api.TokenGrid.from_dict(json.loads(row["grid"]))
    assert (grid.frames, round(grid.height), round(grid.width)) == (4, 32, 48)
    resolved = run.record()["resolved"]
    assert (resolved["task"], resolved["propagate"]["top_k"], resolved["track"]["order"]) == (
        *("propagation", 1, "interval"),
    )
    changes = [(), ("--top-k", "1"), ("--radius", "2"), ("--context", "1"), ("--layers", "0"), ("--seed", "1")]
    words = ("propagate", *data, *MODEL, "--limit", "1", "--dry-run", "--json")
    planned = [json.loads(vcorr(*words, *more).out) for more in changes]
    assert len({one["path"] for one in planned}) == len(changes)
    assert str(run.path).endswith(Path(planned[1]["path"]).name)
    assert planned[0]["per_clip"]["passes"] > 0


def test_a_run_goes_on_and_makes_lost_masks_again(vcorr, data) -> None:
    words = ("propagate", *data, "--tracker", "lk")
    run = find_run(vcorr(*words, "--limit", "1"))
    again = json.loads(vcorr(*words, "--json").out)
    assert (again["reused"], len(again["objects"])) == (1, 3)
    before = read_values(run, "cow")
    masks_path(run, "cow").write_bytes(b"no masks")
    mended = vcorr(*words)
    assert "does not hold the masks that were made. Clip cow is made again." in mended.err
    assert find_run(mended).path == run.path
    assert read_values(run, "cow") == before
    masks_path(run, "goat").unlink()
    assert "Clip goat is made again." in vcorr(*words).err


def test_stored_masks_are_scored_again_and_compared(vcorr, data) -> None:
    a, b = (find_run(vcorr("propagate", *data, "--tracker", name)) for name in ("dis", "lk"))
    before = a.read("scores").to_pylist()
    assert vcorr("score", str(a.path), "--set", "metrics=masks").code == 0
    after = a.read("scores").to_pylist()
    assert [(row["metric"], row["value"]) for row in after] == [(row["metric"], row["value"]) for row in before]
    ended = vcorr("score", str(a.path), "--set", "metrics=tapvid")
    assert (ended.code, "this run is of the task propagation" in ended.err) == (2, True)
    compared = json.loads(vcorr("compare", str(a.path), str(b.path), "--json").out)
    (row,) = [row for row in compared["rows"] if row["metric"] == BOTH]
    assert row["clips"] == 3
    masks_path(a, "bear").unlink()
    ended = vcorr("score", str(a.path))
    assert ended.code != 0
    assert "only that clip is made again" in ended.err


def test_a_run_is_loaded_shown_and_repeated(vcorr, data) -> None:
    run = find_run(vcorr("propagate", *data, *MODEL, "--limit", "2", "--radius", "3"))
    scores = api.load(run.path).scores(metrics=[BOTH]).to_pylist()
    assert [row["clip"] for row in scores] == ["bear", "cow"]
    shown = vcorr("show", "run", str(run.path)).out
    said = " ".join(shown.split())
    assert "task propagation" in said
    assert "propagate.radius=3" in said
    words = next(line for line in shown.splitlines() if line.startswith("command "))
    assert "vcorr propagate --model sliding-model" in words


def test_pixels_that_do_not_count_are_background_of_the_given_mask(vcorr, tmp_path) -> None:
    root = make_davis(tmp_path / "DAVIS", ("bear",))
    path = root / "Annotations" / "480p" / "bear" / "00000.png"
    labels = read_mask(path).labels.copy()
    labels[:6] = 255
    write_mask(path, Mask(labels, usual_palette()))
    run = find_run(vcorr("propagate", "--data", f"davis17:{root}", "--model", "zero-motion"))
    masks = read_masks(run, "bear")
    assert np.array_equal(masks.predicted[0], np.where(labels == 255, 0, labels))
    assert np.array_equal(masks.reference[0], labels)


def test_a_damaged_clip_fails_and_the_others_are_measured(vcorr, data, tmp_path) -> None:
    (tmp_path / "DAVIS" / "Annotations" / "480p" / "cow" / "00001.png").unlink()
    run = find_run(ended := vcorr("propagate", *data, "--tracker", "lk"), code=1)
    assert "00001.png does not exist" in ended.err
    status = {row["clip"]: row["status"] for row in run.read("predictions").to_pylist()}
    assert status == {"bear": "ok", "cow": "failed", "goat": "ok"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--set", "variant=both"), "masks are carried under variant"),
        (("--steps", "1,2"), "a propagation run reads one"),
        (("--set", "mode=generate"), "Propagation reads videos"),
        (("--top-k", "0"), "top_k"),
        (("--probe", "attention"), "cannot track"),
    ],
)
def test_what_carries_no_masks_is_one_error(vcorr, data, words, said) -> None:
    ended = vcorr("propagate", *data, "--model", "sliding-model", "--layers", "1", *words)
    assert (ended.code, said in ended.err) == (2, True), ended.err


def test_options_of_labels_are_refused_where_points_move_the_mask(vcorr, data) -> None:
    ended = vcorr("propagate", *data, "--tracker", "lk", "--radius", "3")
    assert (ended.code, "propagate.radius does not apply" in ended.err) == (2, True)
    ended = vcorr("run", "--model", "zero-motion", "--data", "sprites", "--set", "propagate.radius=3", "--dry-run")
    assert (ended.code, "this run carries no masks" in ended.err) == (2, True)


def test_data_without_masks_is_a_failure_of_its_clips(vcorr) -> None:
    ended = vcorr("propagate", "--data", "token-slide", "--tracker", "dis", "--limit", "1")
    assert ended.code == 1
    assert "has no masks for clip" in ended.err
