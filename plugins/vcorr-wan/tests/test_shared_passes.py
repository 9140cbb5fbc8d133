"""Runs Wan in two processes that share every pass through diffusers' Ulysses parallelism."""

from dataclasses import replace

import numpy as np
import pytest

import vcorr
from vcorr.runner.coordinator import execute
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec

PROBES = "qk,vv,feature,hidden-cos,qk-position,attention,latent"
SPEC = RunSpec(
    model="wan2.1-1.3b",
    probe=PROBES,
    data="sprites",
    limit=1,
    steps="last",
    device="cpu",
    weights="random",
    options={"model": {"size": "small", "network.num_attention_heads": 4}, "probe": {"heads": "each"}},
)
ROUNDING = 1e-5
"""The largest difference of an attention weight: products of other shapes are rounded in another order."""


def plan(**changes):
    return make_plan(replace(SPEC, **changes), vcorr.installed())


def predictions_of(outcome):
    """Returns the values of every prediction, by probe, layer, step and head."""
    rows = outcome.run.read("predictions").to_pylist()
    keys = ("probe", "layer", "step", "head")
    return {tuple(row[key] for key in keys): (row["xy"], row["rows"]) for row in rows}


def test_every_probe_reads_what_it_reads_in_one_process(tmp_path):
    alone = predictions_of(execute(plan(), tmp_path))
    outcome = execute(plan(parallel="ulysses:2"), tmp_path)
    shared = predictions_of(outcome)
    assert outcome.status == "complete"
    assert {probe for probe, *_ in shared} == set(PROBES.split(","))
    assert {head for *_, head in shared} == {-1, 0, 1, 2, 3}
    assert shared.keys() == alone.keys()
    for key, (xy, rows) in alone.items():
        assert shared[key][0] == xy, key
        if rows is not None:
            np.testing.assert_allclose(shared[key][1], rows, rtol=0, atol=ROUNDING, err_msg=str(key))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"parallel": "ulysses:3"}, r"has 4 heads and 72 video tokens here(.|\n)*that work: 2, 4\."),
        (
            {"parallel": "ulysses:2", "model": "skyreels-v2-14b-540p"},
            r"SkyReelsV2Transformer3DModel of diffusers has no plan for it(.|\n)*can be shared: (.*, )?wan2\.1-1\.3b, ",
        ),
        (
            {"parallel": "ulysses:2", "options": {"model": {"size": "small", "accelerate": "windowed"}}},
            r"under model\.accelerate=windowed",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused_before_anything_is_loaded(changes, said):
    with pytest.raises(vcorr.UsageError, match=said):
        plan(**changes)
