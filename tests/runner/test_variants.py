"""Runs under both variants and with single switches, on a model whose predictions are known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from support import sliding

import vcorr
from vcorr.functional import (
    attention_rows,
    attention_score,
    confidence_score,
    latent_to_frames,
    match,
    match_features,
    matching_accuracy,
)
from vcorr.metrics import DIFFTRACK, NamedVariant
from vcorr.runner.coordinator import Outcome, execute
from vcorr.runner.plan import make_plan
from vcorr.runner.rescore import rescore
from vcorr.runner.scored_variants import run_variants
from vcorr.runner.spec import RunSpec
from vcorr.stats.series import series
from vcorr.stats.summary import best_sites, summarise

PROBES = "qk,feature,attention"


@pytest.fixture
def found(plugins):
    return plugins()


def spec(**changes) -> RunSpec:
    return RunSpec(**{"model": "sliding-model", "probe": PROBES, "steps": "9", "limit": 2, **changes})


def run(found, out: Path, **changes) -> Outcome:
    return execute(make_plan(spec(**changes), found), out)


def rows_of(outcome: Outcome, table="scores", **wanted) -> list[dict]:
    rows = outcome.run.read(table).drop_columns(["run"]).to_pylist()
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def same(one: list[dict], other: list[dict]) -> bool:
    assert one
    return repr(one) == repr(other)  # as text, NaN equals NaN


def descriptors(clip_id: str, layer: int):
    """Returns q = k of a clip as the model computes them, (H, F, h, w, d), with the clip and its grid."""
    clip = sliding.SlidingData(sliding.DataConfig()).clip(clip_id)
    model = sliding.SlidingModel(sliding.ModelConfig())
    grid = model.grid(clip, None)
    tokens = torch.from_numpy(clip.video).float().div(255).sub(0.5)
    tokens = tokens.reshape(grid.frames, grid.rows, 8, grid.cols, 8, 3).transpose(2, 3).flatten(3)
    flat = torch.nn.functional.normalize(tokens, dim=-1)
    places = torch.eye(grid.tokens_per_frame).reshape(1, grid.rows, grid.cols, -1).expand(grid.frames, -1, -1, -1)
    x = (flat if layer == 0 else places) * sliding.ModelConfig().sharpness
    return x.expand(2, *x.shape), clip, grid


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_both_scores_what_either_scores_alone_from_one_pass(found, tmp_path, dtype) -> None:
    marker = {"options": {"model": {"marker": str(tmp_path / "marker")}}, "dtype": dtype}
    both = run(found, tmp_path / "both", variant="both", **marker)
    assert (tmp_path / "marker").read_text().split() == ["slide-0", "slide-1"]
    for variant in ("corrected", "difftrack"):
        alone = run(found, tmp_path / variant, variant=variant, **marker)
        assert alone.run.run_id != both.run.run_id
        for table in ("predictions", "scores"):
            assert same(rows_of(both, table, variant=variant), rows_of(alone, table))
    assert {row["variant"] for row in rows_of(both)} == {"corrected", "difftrack"}


def test_corrected_scores_a_whole_token_motion_with_one_and_difftrack_what_its_formulas_say(found, tmp_path) -> None:
    rows = rows_of(run(found, tmp_path, variant="both"), metric="matching_accuracy")
    for row in rows:
        q, clip, grid = descriptors(row["clip"], row["layer"])
        variant = row["variant"]
        if row["probe"] == "qk":
            xy = match(q, q, grid, clip.queries.xy, variant=variant)
        else:
            out = torch.nn.functional.scaled_dot_product_attention(*[q.flatten(1, 3)[None]] * 3)[0]
            features = out.transpose(0, 1).reshape(grid.frames, grid.rows, grid.cols, -1)
            xy = match_features(features, grid, clip.queries.xy, variant=variant)
        tracks = latent_to_frames(xy, grid, clip.queries.xy, variant=variant)
        expected = matching_accuracy(tracks, clip.tracks.xy, clip.tracks.visible, grid, variant=variant)
        assert row["value"] == pytest.approx(expected, abs=1e-6)
    exact = [row for row in rows if row["variant"] == "corrected" and row["layer"] == 0 and row["probe"] == "qk"]
    assert {(row["value"], row["floor"], row["ceiling"]) for row in exact} == {(1.0, 0.0, 1.0)}


def test_floor_ceiling_and_n_follow_the_variant(found, tmp_path) -> None:
    outcome = run(found, tmp_path, probe="qk", variant="both")
    published = rows_of(outcome, variant="difftrack", metric="matching_accuracy")
    # the query frame is scored too, and there zero motion is right: one frame of five
    assert {row["floor"] for row in published} == {np.float32(0.2)}
    points = published[0]["n"] // sliding.FRAMES
    corrected = rows_of(outcome, variant="corrected", metric="matching_accuracy")
    assert {row["n"] for row in corrected} == {points * (sliding.FRAMES - 1)}
    # the margin shifts motions of whole tokens by up to half a token, so that no score can be perfect
    for row in published:
        assert row["floor"] < row["ceiling"] <= 1
        assert row["value"] <= row["ceiling"]


def test_attention_rows_follow_the_variant(found, tmp_path) -> None:
    outcome = run(found, tmp_path, probe="attention", variant="both")
    for row in rows_of(outcome, layer=0):
        q, clip, grid = descriptors(row["clip"], 0)
        variant, visible = row["variant"], clip.tracks.visible
        rows = attention_rows(q, q, q[:, 0, 0, :0], grid, clip.queries.xy, variant=variant)
        scores = {f"confidence_{k}": v for k, v in confidence_score(rows, visible, grid, variant=variant).items()}
        scores |= {f"attention_{k}": v for k, v in attention_score(rows, visible, variant=variant).items()}
        assert row["value"] == pytest.approx(scores[row["metric"]], rel=1e-5, nan_ok=True)
    by_variant = {row["variant"]: row["value"] for row in rows_of(outcome, layer=0, metric="confidence_cross")}
    assert by_variant["corrected"] != pytest.approx(by_variant["difftrack"], rel=1e-3)


FLIPS = {
    "readout": "field",
    "time_map": "stretched",
    "lookup": "exchanged",
    "pooling": "everything",
    "second_softmax": "true",
    "scale": "heads",
}


@pytest.mark.parametrize("name", FLIPS)
def test_a_single_switch_is_scored_and_marked(found, tmp_path, name) -> None:
    variant = f"corrected+{name}={FLIPS[name]}"
    outcome = run(found, tmp_path, variant=f"corrected,{variant}")
    rows = rows_of(outcome)
    assert {(row["variant"], row["switches"]) for row in rows} == {
        ("corrected", ""),
        ("corrected", f"{name}={FLIPS[name]}"),
    }
    alone = rows_of(run(found, tmp_path / "alone", variant=variant))
    assert same(alone, [row for row in rows if row["switches"]])


def test_the_difftrack_preset_is_all_of_its_switches(found, tmp_path) -> None:
    spelled = "+".join(["corrected", *(f"{k}={v}" for k, v in FLIPS.items() if k != "scale"), "guidance_mask=after"])
    assert run_variants(spelled) == (NamedVariant("difftrack"),)
    assert NamedVariant.parse(spelled).values == DIFFTRACK


def test_what_only_the_scoring_does_needs_neither_model_nor_another_run(found, tmp_path) -> None:
    options = {"options": {"model": {"marker": str(tmp_path / "marker")}}}
    first = run(found, tmp_path, probe="qk", **options)
    before = rows_of(first)
    second = run(found, tmp_path, probe="qk", variant="corrected,corrected+pooling=everything", **options)
    assert (second.run.run_id, second.reused) == (first.run.run_id, 2)
    assert (tmp_path / "marker").read_text().split() == ["slide-0", "slide-1"]
    assert same(rows_of(second, switches=""), before)
    assert {row["switches"] for row in rows_of(second)} == {"", "pooling=everything"}
    assert {row["switches"] for row in rows_of(second, "predictions")} == {""}


def test_how_variants_are_written_does_not_matter(found) -> None:
    spellings = ["both", "difftrack,corrected", " corrected , difftrack ", "corrected,both"]
    assert len({run_variants(text) for text in spellings}) == 1
    assert run_variants("corrected+pooling=everything+time_map=stretched") == run_variants(
        "corrected + time_map = stretched + pooling=everything"
    )
    assert run_variants("corrected+time_map=centres") == (NamedVariant(),)


def test_a_corrected_run_is_the_run_it_was(found) -> None:
    identity = make_plan(spec(probe="qk"), found).predict_identity()
    assert [set(probe) for probe in identity["probes"]] == [{"name", "version", "config"}]
    prints = {v: make_plan(spec(variant=v), found).fingerprints() for v in ("corrected", "difftrack", "both")}
    assert len({p["predict"] for p in prints.values()}) == len({p["score"] for p in prints.values()}) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variant": "diftrack"}, "Did you mean 'difftrack'"),
        ({"variant": ""}, "No variant was named"),
        ({"variant": "corrected+timemap=stretched"}, "Did you mean 'time_map'"),
        ({"variant": "corrected+time_map=streched"}, "Did you mean 'stretched'"),
        ({"variant": "corrected+second_softmax=yes"}, "Unknown value of the switch second_softmax"),
        ({"variant": "corrected+time_map"}, "Unknown value of the switch time_map"),
        ({"variant": "corrected+guidance_mask=after"}, "'guidance_mask' .* changes nothing in this run"),
        (
            {"variant": "corrected+lookup=exchanged", "probe": "qk"},
            r"(?s)'lookup' .* changes nothing.*pooling, readout",
        ),
        ({"variant": "corrected+readout=field", "probe": "attention"}, "'readout' .* changes nothing"),
        (
            {"variant": "corrected+readout=field", "model": "zero-motion", "data": "token-slide", "steps": "last"},
            "nothing",
        ),
        ({"variant": "both", "probe": "qk", "options": {"probe": {"radius": 1}}}, "(?s)'radius'.*variant=corrected"),
        ({"variant": "both", "options": {"metric": {"variant": "difftrack"}}}, r"metric\.variant"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(found, changes, message) -> None:
    with pytest.raises(vcorr.UsageError, match=message):
        make_plan(spec(**changes), found)


def test_a_radius_goes_with_switches_that_keep_whole_tokens(found, tmp_path) -> None:
    outcome = run(
        found, tmp_path, probe="qk", variant="corrected+second_softmax=true", options={"probe": {"radius": 1}}
    )
    assert {row["readout"] for row in rows_of(outcome, "predictions")} == {"free"}


@pytest.mark.parametrize("heads", ["each", "1", "0,1"])
def test_heads_are_chosen_in_either_variant(found, tmp_path, heads) -> None:
    outcome = run(found, tmp_path, probe="qk", variant="both", limit=1, options={"probe": {"heads": heads}})
    expected = {"each": {-1, 0, 1}, "1": {1}, "0,1": {-1}}[heads]
    for variant in ("corrected", "difftrack"):
        assert {row["head"] for row in rows_of(outcome, variant=variant)} == expected


class CorrectedOnly:
    """A probe without `read_each`, as plugins had before there were variants."""

    needs = frozenset({"k"})

    def read(self, capture, queries):
        return {-1: match(capture.k, capture.k, capture.grid, queries)}


@vcorr.hookimpl
def vcorr_probes():
    return [vcorr.ProbeEntry(name="old", summary="Keys.", factory=f"{__name__}:CorrectedOnly")]


def test_a_probe_that_knows_one_variant_says_so(plugins, tmp_path) -> None:
    import sys

    registry = plugins(sys.modules[__name__])
    with pytest.raises(vcorr.UsageError, match=r"Probe 'old' cannot predict under variant 'difftrack'"):
        make_plan(spec(probe="old,qk", variant="both"), registry)
    outcome = run(registry, tmp_path, probe="old", variant="corrected,corrected+time_map=stretched")
    assert {row["switches"] for row in rows_of(outcome)} == {"", "time_map=stretched"}


# --------------------------------------------------------------------------------------------------------- scored again


def again(found, outcome: Outcome, **changes) -> None:
    rescore(outcome.run, found, RunSpec(**changes))


def test_scoring_again_reaches_every_variant_that_the_stored_predictions_serve(found, tmp_path) -> None:
    stored = run(found, tmp_path / "a", probe="qk", variant="both")
    for variant in ("corrected", "difftrack", "both", "difftrack+time_map=centres,corrected+pooling=everything"):
        again(found, stored, variant=variant)
        fresh = run(found, tmp_path / "b", probe="qk", variant=variant)
        key = lambda row: (row["variant"], row["switches"], row["clip"], row["layer"], row["metric"])  # noqa: E731
        assert same(sorted(rows_of(stored), key=key), sorted(rows_of(fresh), key=key))
        assert stored.run.record()["variants"] == [v.text for v in run_variants(variant)]


COMMAND = ["vcorr", "run", "--set", "variant=corrected", "--model", "sliding-model"]


def test_scoring_again_refuses_what_needs_the_model_and_leaves_the_scores(found, tmp_path) -> None:
    outcome = execute(make_plan(spec(probe="qk"), found), tmp_path, command=COMMAND)
    before = rows_of(outcome)
    with pytest.raises(vcorr.UsageError) as refused:
        again(found, outcome, variant="difftrack+pooling=queries")
    assert "for variant 'difftrack+pooling=queries'" in refused.value.message
    assert "vcorr run --model sliding-model --set variant=corrected,difftrack+pooling=queries" in refused.value.hint
    assert same(rows_of(outcome), before)


def test_baselines_are_scored_in_every_variant_without_running_again(found, tmp_path) -> None:
    outcome = run(found, tmp_path, model="zero-motion", probe="", data="token-slide", steps="last")
    again(found, outcome, variant="both")
    rows = rows_of(outcome, metric="matching_accuracy")
    assert {(row["variant"], row["value"], row["floor"]) for row in rows} == {
        ("corrected", 0.0, 0.0),
        ("difftrack", np.float32(0.2), np.float32(0.2)),
    }
    assert {row["ceiling"] for row in rows} == {1.0}  # of the baseline's own read-out, which samples no field


def test_records_from_before_variants_are_scored_again(found, tmp_path) -> None:
    outcome = run(found, tmp_path, probe="qk")
    record = outcome.run.record()
    record["row_context"]["variant"] = record.pop("variants")[0]
    outcome.run.write_record(record, "complete")
    before = rows_of(outcome)
    again(found, outcome)
    assert same(rows_of(outcome), before)


def test_a_failed_clip_is_one_row_whatever_the_variants(found, tmp_path) -> None:
    outcome = run(found, tmp_path, variant="both", options={"data": {"fail": "slide-0"}})
    (failed,) = rows_of(outcome, status="failed")
    assert (failed["clip"], failed["variant"], failed["metric"]) == ("slide-0", "corrected", "")


# -------------------------------------------------------------------------------------------------------------- apart


def test_summaries_never_mix_variants(found, tmp_path) -> None:
    outcome = run(found, tmp_path, probe="qk", variant="corrected,difftrack,corrected+pooling=everything", limit=4)
    scores = outcome.run.read("scores")
    names = {s.name for s in series(scores)}
    assert names == {"qk", "qk, difftrack", "qk, corrected+pooling=everything"}
    best = {b.summary.variant_text: b.summary for b in best_sites(scores)}
    alone = run(found, tmp_path / "alone", probe="qk", limit=4).run.read("scores")
    (expected,) = best_sites(alone)
    assert repr(best["corrected"]) == repr(expected.summary)
    assert len(best) == 3
    sites = [dataclasses.asdict(s) for s in summarise(scores)]
    assert {(s["variant"], s["switches"], s["layer"]) for s in sites} == {
        (variant, switches, layer)
        for variant, switches in (("corrected", ""), ("difftrack", ""), ("corrected", "pooling=everything"))
        for layer in (0, 1)
    }
