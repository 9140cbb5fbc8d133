"""Attention that torch's function does not compute is seen if the adapter shows it."""

import numpy as np
import pytest
import torch
from torch import nn

from vcorr.capture import TokenLayout
from vcorr.capture.recorder import Recorder
from vcorr.capture.tap import Tap, listening, observing, show
from vcorr.contract.errors import CaptureError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Site
from vcorr.probes.attention_probe import Attention
from vcorr.probes.matching_probes import QueryKey

GRID = TokenGrid(frames=2, rows=2, cols=3, stride=(8, 8))
SITES = (Site(0, "attend", 2, "linear"),)


class Linear(nn.Module):
    """Linear attention that shows its tensors while a tap is open."""

    def __init__(self, *, shows=True):
        super().__init__()
        self.shows, self.shown = shows, 0

    def forward(self, x):
        out = x.relu() @ (x.relu().transpose(-1, -2) @ x)
        if self.shows and listening():
            self.shown += 1
            show(x.relu(), x.relu(), x, out)
        return out


def model(**options):
    network = nn.Module()
    network.attend = Linear(**options)
    return network


def tokens():
    return torch.randn(1, 2, GRID.tokens, 4, generator=torch.Generator().manual_seed(0))


def test_what_is_shown_is_seen_as_a_call_of_the_module_that_runs():
    network, calls, x = model(), [], tokens()
    with Tap(network, ["attend"], observing(calls.append)):
        out = network.attend(x)
    assert [call.name for call in calls] == ["attend"]
    for mine, shown in ((x.relu(), calls[0].q), (x.relu(), calls[0].k), (x, calls[0].v), (out, calls[0].out)):
        assert torch.equal(mine, shown)


def test_nothing_is_shown_while_nobody_listens_or_an_observer_computes():
    network, inner = model(), Linear()
    network.attend(tokens())
    assert network.attend.shown == 0
    with Tap(network, ["attend"], observing(lambda call: inner(tokens()))):
        network.attend(tokens())
    assert (network.attend.shown, inner.shown) == (1, 0)


def record(network, probes):
    recorder = Recorder(probes, np.array([[4, 4]], dtype=np.float32))
    with recorder.attach(network, SITES, TokenLayout(), GRID), recorder.step(0, noise=0.5):
        network.attend(tokens())
    return recorder.predictions


def test_predictions_say_that_attention_is_linear():
    assert [p.attention for p in record(model(), {"qk": QueryKey()})] == ["linear"]


def test_linear_attention_that_shows_nothing_is_refused():
    with pytest.raises(CaptureError, match=r"attend \(Linear\)(.|\n)*adapter has to show it"):
        record(model(shows=False), {"qk": QueryKey()})


def test_it_has_no_rows():
    with pytest.raises(UsageError, match="linear attention, which computes none"):
        record(model(), {"attention": Attention()})
