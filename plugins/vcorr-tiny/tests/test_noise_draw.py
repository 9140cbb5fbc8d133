"""The latents from which `tiny` samples: drawn for every clip by itself, or once for all."""

from __future__ import annotations

import pytest
import torch

from vcorr.contract.seeds import stable_seed
from vcorr.plugins.registry import installed
from vcorr.runner.coordinator import execute
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec

SEED = 7
"""Another seed than the default one, with which the schedule of the pipeline is read."""


@pytest.fixture
def latents(monkeypatch):
    """Collects the latents that the pipeline draws."""
    from diffusers import CogVideoXPipeline

    found: list[torch.Tensor] = []
    own = CogVideoXPipeline.prepare_latents

    def prepare(*args, **kwargs):
        found.append(own(*args, **kwargs))
        return found[-1]

    monkeypatch.setattr(CogVideoXPipeline, "prepare_latents", prepare)
    return found


def sample(out, **changes) -> None:
    path = out / "prompts.txt"
    path.write_text("a red ball\na blue box\n")
    options = {"data": {"path": str(path)}}
    spec = RunSpec(
        model="tiny",
        probe="qk",
        data="prompts",
        layers="0",
        steps="0",
        num_steps=1,
        seed=SEED,
        options=options,
        **changes,
    )
    execute(make_plan(spec, installed()), out)


def are_among(latents: list[torch.Tensor], seeds) -> list[int]:
    """Returns how often the draw from each seed is among the latents, as bits."""
    return [
        sum(
            torch.equal(one.cpu(), torch.randn(one.shape, generator=torch.Generator().manual_seed(seed)))
            for one in latents
        )
        for seed in seeds
    ]


@pytest.mark.slow
def test_two_clips_have_two_draws_and_a_shared_draw_is_the_seed_itself(latents, tmp_path):
    own = [stable_seed(SEED, f"prompt-000{number}") for number in range(2)]
    sample(tmp_path)
    assert are_among(latents, [*own, SEED]) == [1, 1, 0]
    latents.clear()
    sample(tmp_path, noise_draw="shared")
    assert are_among(latents, [*own, SEED]) == [0, 0, 2]
