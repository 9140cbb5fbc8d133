"""Probes of one call share sums: each predicts, to the bit, what it predicts alone, and no sum is computed twice."""

from __future__ import annotations

import itertools
import weakref

import pytest
import torch
from support.kernel_cases import Case

from vcorr import Site
from vcorr.capture import Capture
from vcorr.functional import QueryPoints
from vcorr.functional.shared_sums import SharedSums
from vcorr.kernels import descriptors, segment_rows, token_matches
from vcorr.kernels.kernel_choice import use_kernels
from vcorr.probes.attention_probe import Attention
from vcorr.probes.cosine_probes import FeatureCosine
from vcorr.probes.matching_probes import Feature, FeatureFair, KeyKey, QueryKey
from vcorr.probes.probe_options import ProbeConfig

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

PROBES = {
    "qk": QueryKey(),
    "qk, refined": QueryKey(ProbeConfig(radius=1)),
    "qk, one direction": QueryKey(ProbeConfig(symmetric=False)),
    "qk, two heads": QueryKey(ProbeConfig("0,2")),
    "kk": KeyKey(),
    "attention": Attention(),
    "attention, one head": Attention(ProbeConfig("1")),
    "feature": Feature(),
    "feature-fair": FeatureFair(),
    "feature-cos": FeatureCosine(),
}


def make_capture(seed=0, scale=None):
    case = Case.draw(seed=seed, heads=3, frames=2, rows=2, cols=5, width=16, points=3, dtype=torch.bfloat16)
    text = case.k[:, 1].flatten(1, 2)[:, :7]
    out = case.q.flip(2)
    capture = Capture(Site(0, "attn", 3), case.grid, 0, 0.5, q=case.q, k=case.k, out=out, k_text=text, scale=scale)
    return capture, [QueryPoints(case.points), QueryPoints(case.points[:2], frame=4)]


def read(names, capture, points):
    with use_kernels("fused"):
        return {
            (name, frame): PROBES[name].read(capture, queries) for name in names for frame, queries in enumerate(points)
        }


def tensors(answer):
    return [*itertools.chain.from_iterable([one] if isinstance(one, torch.Tensor) else one for one in answer.values())]


@pytest.mark.parametrize(
    ("turned", "scale"),
    [pytest.param(False, None, id="in order", marks=pytest.mark.slow), pytest.param(True, 0.7, id="backwards, scaled")],
)
def test_together_probes_predict_what_they_predict_alone(turned, scale):
    names = [*PROBES][:: -1 if turned else 1]
    together = read(names, *make_capture(scale=scale))
    for name in names:
        for key, alone in read([name], *make_capture(scale=scale)).items():
            assert together[key].keys() == alone.keys()
            assert all(map(torch.equal, tensors(together[key]), tensors(alone))), key


@pytest.mark.parametrize("names", [("qk", "attention", "qk, refined"), ("attention", "qk")], ids=" ".join)
def test_sums_and_copies_of_one_pair_are_made_once(names, monkeypatch):
    made = []

    def count(module, name):
        compute = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, **o: (made.append(name), compute(*a, **o))[1])

    for module in (token_matches, segment_rows):
        count(module, "sum_frames")
    count(token_matches, "take_tokens")
    capture, points = make_capture()
    read(names, capture, points[:1])
    # forward and reverse; of attention, the text and the own frame; the query tokens
    assert sorted(made) == ["sum_frames"] * 4 + ["take_tokens"] * descriptors.can_describe(capture.q.flatten(2, 3))


def test_nothing_is_shared_about_tensors_that_are_not_of_the_capture():
    capture, _ = make_capture()
    assert capture.sums_of(capture.q, capture.k) is capture.sums_of(capture.q, capture.k)
    assert capture.sums_of(capture.q, capture.k) is not capture.sums_of(capture.k, capture.q)
    assert capture.restrict_to(frozenset("qk")).sums_of(capture.q, capture.k) is capture.sums_of(capture.q, capture.k)
    made = capture.q.clone()
    assert capture.sums_of(made, made) is not capture.sums_of(made, made)
    changed = capture.replace(q=made)
    assert changed.sums_of(made, capture.k) is not capture.sums_of(capture.q, capture.k)


def test_sums_are_freed_with_the_capture():
    capture, points = make_capture()
    answers = read(["qk", "attention"], capture, points)
    sums = weakref.ref(capture.sums_of(capture.q, capture.k))
    assert sums() is not None
    del capture
    assert sums() is None
    assert answers


def test_a_result_belongs_to_what_it_was_computed_for():
    shared, first, second = SharedSums(), [1], [1]
    found = [shared.once("sum", object, of=each) for each in (first, second, first)]
    assert found[0] is found[2]
    assert found[0] is not found[1]
    assert shared.once("sum", object) is not found[0]
    assert shared.of_heads((0,)) is shared.of_heads((0,))
    assert shared.of_heads((0,)).once("sum", object, of=first) is not found[0]
