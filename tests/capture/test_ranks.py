"""Processes that share a pass: what is refused. `tests/runner/test_shared_passes.py` runs them."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from vcorr.capture import TokenLayout
from vcorr.capture.ranks import ALONE, Ranks, find_ranks
from vcorr.contract.errors import CaptureError


def denoiser(ulysses=2, ring=1, *, uneven=False):
    module = nn.Linear(1, 1)
    mesh = SimpleNamespace(get_group=lambda: "group")
    context = SimpleNamespace(ring_degree=ring, ulysses_degree=ulysses, ulysses_anything=uneven, _ulysses_mesh=mesh)
    module._parallel_config = SimpleNamespace(context_parallel_config=context)
    return module


def test_the_processes_are_those_that_diffusers_was_told_of():
    tensor = nn.Linear(1, 1)
    tensor._parallel_config = SimpleNamespace(context_parallel_config=None)
    assert find_ranks([nn.Linear(1, 1), tensor], TokenLayout("before")) == ALONE
    assert find_ranks([denoiser(4), denoiser(4)], TokenLayout()) == Ranks(4, "group")


@pytest.mark.parametrize(
    ("denoisers", "layout", "said"),
    [
        ([denoiser(1, ring=2)], TokenLayout(), "Under ring attention"),
        ([denoiser(uneven=True)], TokenLayout(), "with uneven shares"),
        ([denoiser(2), denoiser(4)], TokenLayout(), "different numbers of processes: 2, 4"),
        ([denoiser(2), nn.Linear(1, 1)], TokenLayout(), "different numbers of processes: 2, 1"),
        ([denoiser()], TokenLayout("before"), "Text and video tokens are in one sequence"),
    ],
)
def test_shares_that_cannot_be_joined_are_refused(denoisers, layout, said):
    with pytest.raises(CaptureError, match=said):
        find_ranks(denoisers, layout)


def test_one_process_has_everything_already():
    whole = torch.arange(6.0).view(2, 3)
    assert ALONE.join_heads(whole) is ALONE.join_tokens(whole, 1, 3) is ALONE.mean(whole) is whole


@pytest.mark.parametrize("total", [3, 7])
def test_tensors_that_are_no_share_of_the_tokens_stay_as_they_are(total):
    whole = torch.zeros(2, 3)
    assert Ranks(2).join_tokens(whole, 1, total) is whole
