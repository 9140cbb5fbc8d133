"""Files of sweeps that cannot be used: one clear error with the file and the place, before anything runs."""

from __future__ import annotations

import pytest

GOOD = "model: [sliding-model, zero-motion]\nprobe: qk\nlimit: 1\n"
RUNS = "model: sliding-model\nprobe: qk\nlimit: 1\n"

WRONG = [
    ("modle: tiny", "Unknown key 'modle'. Did you mean 'mode' or 'model'?\nIn sweep.yaml. Keys: matrix, include"),
    (
        "model: [sliding-model, slidding-model]\nprobe: qk",
        "Unknown model 'slidding-model'. Did you mean 'sliding-model'?",
    ),
    ("model: [sliding-model, slidding-model]\nprobe: qk", "It is run 2 of sweep.yaml: model slidding-model."),
    (f"{GOOD}data: [token-slide, token-slid]", "Unknown dataset 'token-slid'. Did you mean 'token-slide'?"),
    ("model: sliding-model\nmatrix: {probe: [qk, quark]}", "It is run 2 of sweep.yaml: probe quark."),
    (
        f"{RUNS}matrix: {{layers: [0, 9]}}",
        "--layers 9 is out of range.\nThere are layers 0-1.\nIt is run 2 of sweep.yaml",
    ),
    (f"{RUNS}matrix: {{prob.heads: [mean]}}", "Did you mean 'probe.KEY'?"),
    (f"{RUNS}matrix: {{prob.heads: [mean]}}", "In sweep.yaml, matrix."),
    (f"{RUNS}matrix: {{lyers: [1]}}", "Unknown key 'lyers'. Did you mean 'layers'?\nIn sweep.yaml, matrix. Keys:"),
    (f"{RUNS}matrix: {{probe.hads: [mean]}}", "Unknown option 'probe.hads'. Did you mean 'probe.heads'"),
    (f"{RUNS}matrix: [layers]", "sweep.yaml, matrix must hold keys and values"),
    (f"{RUNS}matrix: {{layers: []}}", "sweep.yaml, matrix: layers is an empty list, so there is no run."),
    (f"{RUNS}seed: []", "sweep.yaml: seed is an empty list"),
    (f"{RUNS}matrix: {{limit: [1, 2]}}", "sweep.yaml: limit is there twice, for all runs and in a list"),
    (
        f"{RUNS}seed: [1, 2]\nmatrix: {{seed: 3}}",
        "sweep.yaml: seed is there twice, for all runs and in a list, or in two lists.",
    ),
    (f"{RUNS}include: {{seed: 1}}", "sweep.yaml: include must be a list."),
    (f"{RUNS}include: [seed]", "sweep.yaml, include, entry 1 must hold keys and values"),
    (f"{RUNS}include: [{{}}]", "sweep.yaml, include, entry 1 is empty."),
    (f"{GOOD}include: [{{seed: 3}}]", "entry 1 names no list of the sweep, so it would change every run."),
    (f"{GOOD}include: [{{model: zero-motion}}]", "entry 1 changes nothing: the lists already give this run."),
    (
        f"{GOOD}include: [{{modl: zero-motion}}]",
        "Unknown key 'modl'. Did you mean 'model' or 'mode'?\nIn sweep.yaml, incl",
    ),
    (f"{GOOD}exclude: [{{seed: 3}}]", "sweep.yaml, exclude, entry 1: seed is no list of the sweep.\nIts lists: model."),
    (f"{GOOD}exclude: [{{model: tiny}}]", "sweep.yaml, exclude, entry 1 leaves out nothing."),
    (f"{GOOD}exclude: [{{model: zero-motion}}, {{model: sliding-model}}]", "sweep.yaml: no run is left."),
    ("model: [sliding-model, sliding-model]\nprobe: qk", "runs 1 and 2 are the same (model sliding-model; model slid"),
    (
        "model: [sliding-model, zero-motion]\nmatrix: {probe: [qk, kk]}\ndata: token-slide",
        (
            "They differ only in probe, which makes no other run.\nTake one of them out, for example with exclude: "
            '[{model: "zero-motion", probe: "kk"}]'
        ),
    ),
    (f"{RUNS}seed: ['1', 1]", "(model sliding-model; model sliding-model).\nTake one of them out.\n"),
    (f"{GOOD}include: [{{model: tiny}}, {{model: tiny}}]", "(model tiny; model tiny).\nTake one of them out.\n"),
    (f"{RUNS}matrix: {{probe.heads: [mean], set: {{probe.heads: [each]}}}}", "matrix: probe.heads is there twice."),
    (
        f"{RUNS}matrix: {{set: {{probe: {{heads: [mean]}}, probe.heads: [each]}}}}",
        "matrix: probe.heads is there twice.",
    ),
    (f"{RUNS}matrix: {{set: {{true: [mean]}}}}", "Unknown key 'true'."),
    (f"{RUNS}layers: []", "--layers is empty."),
    (f"{RUNS}matrix: {{metrics: [[], pck]}}", "It is run 1 of sweep.yaml: model sliding-model."),
    ("model: sliding-model\nprobe: qk\nlimit: [1, 2]", "They differ only in limit, which makes no other run."),
    ("model: sliding-model\nprobe: qk\nseed: [1, -2]", "--seed -2 is out of range."),
    ("- model", "sweep.yaml must hold keys and values"),
    ("a: [", "sweep.yaml is not valid YAML"),
    ("model: a\nmodel: b", "the key 'model' is there twice (line 2)"),
    ("", "sweep.yaml must hold keys and values"),
    ("probe: qk", "No model was named."),
    (f"{RUNS}executor: lokal", "Unknown executor 'lokal'. Did you mean 'local'?"),
    (f"{RUNS}mode: invert", "invert"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_file_that_cannot_be_used_is_one_error_before_anything_runs(sweep, tmp_path, text, message) -> None:
    ended = sweep(text)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("Error: ")
    assert message in ended.err
    assert "sweep.yaml" in ended.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("text", "message"), WRONG[:8:2])
def test_a_dry_run_refuses_it_as_well(sweep, text, message) -> None:
    ended = sweep(text, "--dry-run")
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err


def test_a_file_that_is_not_there(vcorr) -> None:
    ended = vcorr("sweep", "nowhere.yaml")
    assert (ended.code, ended.err) == (2, "Error: nowhere.yaml cannot be read: it does not exist.\n")


def test_weights_that_are_missing_end_with_the_code_of_a_run_and_the_dry_run_lists_them(sweep, tmp_path) -> None:
    text = f"{GOOD}data: [token-slide, 'video:nowhere.mp4', 'prompts:nowhere.txt']\nexclude: [{{model: zero-motion}}]\n"
    ended = sweep(text)
    assert (ended.code, ended.out) == (4, "")
    assert "It is run 2 of sweep.yaml: data video:nowhere.mp4. --dry-run lists what the other runs lack." in ended.err
    assert not (tmp_path / "runs").exists()
    dry = sweep(text, "--dry-run")
    assert dry.code == 0
    assert "Missing (data) for run 2: The video nowhere.mp4 does not exist." in dry.out
    assert "Missing (data) for run 3: The prompt file nowhere.txt does not exist." in dry.out


@pytest.mark.parametrize("flags", [("--model", "sliding-model"), ("--set", "model=sliding-model")])
def test_a_flag_for_a_list_of_the_file_is_refused(sweep, flags) -> None:
    ended = sweep(GOOD, *flags)
    assert (ended.code, ended.out) == (2, "")
    assert "model is given on the command line, and sweep.yaml has a list of it." in ended.err


def test_words_after_the_file_are_refused(sweep) -> None:
    ended = sweep(GOOD, "sliding-model")
    assert ended.code == 2
    assert "'sliding-model': no flag takes this word." in ended.err
