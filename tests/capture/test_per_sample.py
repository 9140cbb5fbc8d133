"""Models that attend row by row of the batch, because their prompts differ in length: the conditional call is read."""

import numpy as np
import pytest
import torch
from torch import nn

from vcorr.capture import TokenLayout
from vcorr.capture.recorder import Recorder
from vcorr.contract.errors import CaptureError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Site

GRID = TokenGrid(frames=2, rows=2, cols=3, stride=(8, 8))
SITES = (Site(0, "attend", 2),)
LAYOUT = TokenLayout("after", ("uncond", "cond"), per_sample=True)


class Attend(nn.Module):
    """Attention of each sample by itself, over its video tokens and its own number of text tokens."""

    def forward(self, video, text):
        rows = [torch.cat([one, words], dim=1)[None] for one, words in zip(video, text, strict=True)]
        return [nn.functional.scaled_dot_product_attention(row, row, row) for row in rows]


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.attend = Attend()

    def forward(self, video, text):
        return self.attend(video, text=text)


class Keep:
    needs = frozenset({"q", "k"})

    def __init__(self):
        self.seen = []

    def read(self, capture, queries):
        self.seen.append((capture.q.clone(), capture.k_text.clone()))
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}


@pytest.fixture
def keep():
    return Keep()


def record(keep, video, text, layout=LAYOUT):
    recorder = Recorder({"keep": keep}, np.array([[4, 4]], dtype=np.float32))
    model = Model()
    with recorder.attach(model, SITES, layout, GRID), recorder.step(0, noise=0.5):
        model(video, text)
    return recorder.predictions


def batch(*words):
    generator = torch.Generator().manual_seed(0)
    video = torch.randn(len(words), 2, GRID.tokens, 4, generator=generator)
    return video, [torch.randn(2, count, 4, generator=generator) for count in words]


@pytest.mark.parametrize(("branches", "row"), [(("uncond", "cond"), 1), (("cond", "uncond"), 0)])
def test_the_conditional_call_is_the_one_at_its_place(keep, branches, row):
    video, text = batch(1, 4)
    assert len(record(keep, video, text, TokenLayout("after", branches, per_sample=True))) == 1
    (q, k_text) = keep.seen[0]
    assert torch.equal(q.flatten(1, 3), video[row])
    assert torch.equal(k_text, text[row])


def test_one_sample_is_the_conditional_one(keep):
    video, text = batch(3)
    record(keep, video, text)
    assert torch.equal(keep.seen[0][0].flatten(1, 3), video[0])


@pytest.mark.parametrize("words", [(1, 2, 3), (1, 1, 1, 1)])
def test_as_many_calls_as_branches(keep, words):
    with pytest.raises(CaptureError, match=rf"call 1 for a batch of {len(words)}(.|\n)*2 branch\(es\)"):
        record(keep, *batch(*words))


def test_calls_that_are_not_declared_are_refused(keep):
    with pytest.raises(CaptureError, match="computed attention twice"):
        record(keep, *batch(1, 2), TokenLayout("after", ("uncond", "cond")))


def test_more_calls_than_rows_are_refused(keep):
    class Twice(Attend):
        def forward(self, video, text):
            return super().forward(video, text) + super().forward(video, text)

    recorder = Recorder({"keep": keep}, np.array([[4, 4]], dtype=np.float32))
    model = Model()
    model.attend = Twice()
    with (
        pytest.raises(CaptureError, match="call 3 for a batch of 2"),
        recorder.attach(model, SITES, LAYOUT, GRID),
        recorder.step(0),
    ):
        model(*batch(1, 2))
