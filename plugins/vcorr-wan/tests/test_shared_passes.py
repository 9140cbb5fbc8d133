"""Wan in processes that share every pass: what can be combined with it, and what is refused."""

from dataclasses import replace

import pytest

import vcorr
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec

SPEC = RunSpec(
    model="wan2.1-1.3b",
    probe="qk",
    data="sprites",
    limit=1,
    steps="last",
    device="cpu",
    weights="random",
    options={"model": {"size": "small", "network.num_attention_heads": 4}},
)


def plan(**changes):
    return make_plan(replace(SPEC, **changes), vcorr.installed())


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
        (
            {"parallel": "ulysses:2", "options": {"model": {"size": "small", "offload": True}}},
            r"the device is the CPU already\.\nLeave out --offload",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused_before_anything_is_loaded(changes, said):
    with pytest.raises(vcorr.UsageError, match=said):
        plan(**changes)


@pytest.mark.parametrize("accelerate", ["fp8", "int8", "nf4"])
def test_weights_in_fewer_bits_can_be_shared(accelerate):
    network = {"size": "small", "network.num_attention_heads": 4, "accelerate": accelerate}
    assert plan(parallel="ulysses:4", options={"model": network}).hardware.ranks == 4
