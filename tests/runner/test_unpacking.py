"""Predictions read back from the tables equal what the probe returned, with visibility and confidence."""

from __future__ import annotations

import dataclasses
import json
import sys
import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vcorr
from vcorr import Clip, Prediction, RowsPrediction, TokenGrid
from vcorr.contract.head_traits import TRAITS
from vcorr.contract.variants import NamedVariant
from vcorr.functional import match
from vcorr.runner.coordinator import execute
from vcorr.runner.plan import make_plan
from vcorr.runner.predict import prediction_rows
from vcorr.runner.row_words import ROWS
from vcorr.runner.spec import RunSpec
from vcorr.runner.unpacking import unpack_positions, unpack_rows
from vcorr.store.arrow_rows import rows_of
from vcorr.store.columns import to_table
from vcorr.store.schema import schema
from vcorr.store.shard_checks import check_rows

GRID = TokenGrid(frames=3, rows=4, cols=4, stride=(8, 8), temporal_ratio=2)
CLIP = Clip("c", "", np.float32([[4, 4, 4], [0, 9, 9]]), np.zeros((5, 32, 32, 3), np.uint8))


def unpack(row):
    grid = TokenGrid.from_dict(json.loads(row["grid"]))
    return unpack_rows(row, grid) if row["kind"] == ROWS else unpack_positions(row, grid)


def through_a_table(prediction):
    (row,) = rows_of(to_table(prediction_rows("r", CLIP, [prediction]), schema("predictions")))
    assert row["query_frames"].tolist() == [4, 0]
    return unpack(row)


@settings(deadline=None)
@given(data=st.data(), visible=st.booleans(), confidence=st.booleans(), frames=st.booleans())
def test_positions_come_back_as_they_were(data, visible, confidence, frames):
    numbers = np.random.default_rng(data.draw(st.integers(0, 99)))
    prediction = Prediction(
        probe="p",
        xy=numbers.normal(size=(2, 3, 2)).astype(np.float32),
        grid=GRID,
        layer=data.draw(st.integers(-1, 9)),
        layer_name="a.b",
        step=3,
        head=data.draw(st.integers(-1, 3)),
        noise=0.25,
        attention="full3d",
        readout=data.draw(st.sampled_from(["token", "free"])),
        variant=NamedVariant.parse(data.draw(st.sampled_from(["corrected", "corrected+readout=field", "difftrack"]))),
        visible=numbers.integers(0, 2, (2, 3)).astype(bool) if visible else None,
        confidence=numbers.random((2, 3), dtype=np.float32) if confidence else None,
        noise_frames=numbers.random(3, dtype=np.float32) if frames else None,
    )
    same(through_a_table(prediction), prediction)


@pytest.mark.parametrize("has_traits", [False, True])
def test_attention_rows_come_back_as_they_were(has_traits):
    numbers = np.random.default_rng(0)
    traits = numbers.random((2, len(TRAITS)), dtype=np.float32) if has_traits else None
    single = {
        name: numbers.random(2, dtype=np.float32)
        for name in ("peak_self", "peak_text", "sum_cross", "sum_self", "sum_text")
    }
    peaks = numbers.random((2, 2), dtype=np.float32)
    prediction = RowsPrediction(
        "p", peaks, **single, grid=GRID, layer=2, step=1, noise=0.5, noise_frames=np.float32([0, 1, 1]), traits=traits
    )
    if has_traits:
        prediction.traits[1, 3] = np.nan  # a trait that does not exist
    table = to_table(prediction_rows("r", CLIP, [prediction]), schema("predictions"))
    check_rows(table, "predictions")
    same(through_a_table(prediction), prediction)


def same(found, expected):
    assert type(found) is type(expected)
    for field in dataclasses.fields(expected):
        np.testing.assert_equal(getattr(found, field.name), getattr(expected, field.name))


class Sure(vcorr.ProbeBase):
    """Predicts like q-k, with less confidence in every later latent."""

    needs = frozenset({"q", "k"})

    def read(self, capture, queries):
        xy = match(capture.q, capture.k, capture.grid, queries)
        confidence = (1 / (1 + torch.arange(xy.shape[1]))).expand(xy.shape[:2])
        return {-1: vcorr.Positions(xy, visible=confidence > 0.3, confidence=confidence)}


@vcorr.hookimpl
def vcorr_probes():
    return [vcorr.ProbeEntry(name="sure", summary="", factory="sure_plugin:Sure")]


def test_a_run_stores_the_visibility_and_confidence_of_a_probe(plugins, tmp_path, monkeypatch):
    module = types.ModuleType("sure_plugin")
    module.Sure, module.vcorr_probes = Sure, vcorr_probes
    monkeypatch.setitem(sys.modules, "sure_plugin", module)
    spec = RunSpec(model="sliding-model", probe="sure,qk", steps="last", layers="0", limit=1)
    run = execute(make_plan(spec, plugins(module)), tmp_path).run
    stored = {row["probe"]: unpack(row) for row in rows_of(run.read("predictions"))}
    confidence = np.float32([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])
    assert (stored["sure"].confidence == confidence).all()
    assert (stored["sure"].visible == (confidence > 0.3)).all()
    assert (stored["sure"].xy == stored["qk"].xy).all()
    assert (stored["qk"].visible, stored["qk"].confidence) == (None, None)
