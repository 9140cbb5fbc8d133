"""The probes that match unit vectors: against loops, whatever the scale of the features, and through a run."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr.capture.captures import Capture
from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Site
from vcorr.functional import correlation, match, unit_vectors
from vcorr.functional import matching as kernels
from vcorr.probes.cosine_probes import FeatureCosine, FeatureCosineToken, HiddenCosine
from vcorr.probes.matching_probes import FeatureFair
from vcorr.probes.probe_options import CosineConfig
from vcorr.testing import assert_passed, check_probe

GRID = TokenGrid(frames=3, rows=3, cols=4, stride=(16, 8))
QUERIES = torch.tensor([[3.0, 4.0], [40.5, 20.25], [64.0, 24.0], [33.0, 1.0]])
HEADS = 3
PROBES = (FeatureCosine, FeatureCosineToken, HiddenCosine)


def make_capture(seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    out = torch.randn(HEADS, 3, 3, 4, 5, generator=generator).to(dtype)
    hidden = torch.randn(3, 3, 4, 7, generator=generator).to(dtype)
    return Capture(Site(0, "attn", HEADS, block="block"), GRID, 0, 0.5, out=out, hidden=hidden)


def unit(vector):
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length for x in vector] if length else list(vector)


def slow_match(heads, temperature=0.07):
    """Follows docs/protocol.md in loops of Python floats. heads: for each, (F, P, c) vectors that are not yet unit."""
    heads = [[[unit(token) for token in frame] for frame in head] for head in heads]
    found = np.empty((len(QUERIES), GRID.frames, 2))
    centres = [((token % 4 + 0.5) * 16, (token // 4 + 0.5) * 8) for token in range(12)]
    for n, x in enumerate(int(token) for token in GRID.tokens_at(QUERIES.numpy())):
        found[n, 0] = QUERIES[n]
        for j in range(1, GRID.frames):
            cost = [0.0] * 12
            for head in heads:
                similar = [
                    [math.exp(sum(a * b for a, b in zip(one, two, strict=True)) / temperature) for two in head[j]]
                    for one in head[0]
                ]
                for y in range(12):
                    forward = similar[x][y] / sum(similar[x])
                    reverse = similar[x][y] / sum(row[y] for row in similar)
                    cost[y] += (forward + reverse) / 2 / len(heads)
            best = cost.index(max(cost))
            found[n, j] = [QUERIES[n][axis] + centres[best][axis] - centres[x][axis] for axis in range(2)]
    return found


def per_head(capture):
    return capture.out.double().flatten(2, 3).tolist()


def whole_token(capture):
    return [capture.out.double().flatten(2, 3).permute(1, 2, 0, 3).flatten(2).tolist()]


def hidden(capture):
    return [capture.hidden.double().flatten(1, 2).tolist()]


@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), temperature=st.sampled_from([0.03, 0.07, 1.5]))
def test_agrees_with_the_loops(seed, temperature):
    capture, config = make_capture(seed), CosineConfig(temperature=temperature)
    for probe, reference in ((FeatureCosine, per_head), (FeatureCosineToken, whole_token), (HiddenCosine, hidden)):
        answer = probe(config).read(capture, QUERIES)[-1]
        np.testing.assert_allclose(answer, slow_match(reference(capture), temperature), atol=1e-4)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), powers=st.lists(st.integers(-60, 60), min_size=1, max_size=4))
def test_no_factor_on_a_vector_changes_a_prediction(seed, powers):
    """Checks powers of two: they leave every mantissa as it is, so refined predictions are equal to the bit too."""
    capture, generator = make_capture(seed), torch.Generator().manual_seed(seed)
    factors = torch.tensor([2.0**power for power in powers])
    picked = factors[torch.randint(len(factors), (HEADS, 3, 3, 4, 1), generator=generator)]
    scaled = capture.replace(out=capture.out * picked, hidden=capture.hidden * picked[0])
    for probe in (FeatureCosine, HiddenCosine):
        made = probe(CosineConfig(radius=1))
        assert torch.equal(made.read(scaled, QUERIES)[-1], made.read(capture, QUERIES)[-1])
    token = FeatureCosineToken(CosineConfig(radius=1))
    together = capture.replace(out=capture.out * picked[:1])  # one factor per token, because it is one vector
    assert torch.equal(token.read(together, QUERIES)[-1], token.read(capture, QUERIES)[-1])


def test_a_factor_changes_what_feature_fair_predicts():
    capture = make_capture()
    scaled = capture.replace(out=capture.out * 50)
    assert not torch.equal(FeatureFair().read(scaled, QUERIES)[-1], FeatureFair().read(capture, QUERIES)[-1])


def test_a_loud_head_outvotes_the_others_in_the_whole_token_alone():
    """Checks three heads: two see the picture stand still, the third, 1000 times as large, sees it move a column."""
    picture = torch.randn(HEADS, 3, 4, 5, generator=torch.Generator().manual_seed(5))
    out = torch.stack([picture] * 3, dim=1)
    out[2] = 1000 * torch.stack([picture[2].roll(frame, dims=1) for frame in range(3)])
    capture, inside = make_capture().replace(out=out), torch.tensor([[20.0, 12.0]])
    assert FeatureCosine().read(capture, inside)[-1][0, 1].tolist() == [20.0, 12.0]
    assert FeatureCosineToken().read(capture, inside)[-1][0, 1].tolist() == [36.0, 12.0]


def test_heads():
    capture = make_capture()
    vectors = unit_vectors(capture.out)
    each = FeatureCosine(CosineConfig("each")).read(capture, QUERIES)
    assert list(each) == [-1, 0, 1, 2]
    assert torch.equal(each[-1], match(vectors, vectors, GRID, QUERIES, scale=1 / 0.07))
    tokens = FeatureCosineToken(CosineConfig("each")).read(capture, QUERIES)
    assert torch.equal(tokens[-1], FeatureCosineToken().read(capture, QUERIES)[-1])
    for head in range(HEADS):
        one = vectors[head : head + 1]
        assert torch.equal(each[head], match(one, one, GRID, QUERIES, scale=1 / 0.07))
        assert torch.equal(tokens[head], each[head])
    pair = unit_vectors(torch.cat([capture.out[0], capture.out[2]], dim=-1))[None]
    expected = match(pair, pair, GRID, QUERIES, scale=1 / 0.07)
    assert torch.equal(FeatureCosineToken(CosineConfig("0,2")).read(capture, QUERIES)[-1], expected)
    assert list(HiddenCosine(CosineConfig("each")).read(capture, QUERIES)) == [-1]
    assert HiddenCosine(CosineConfig("each")).answers_per_site(4) == 1
    for probe in (FeatureCosine, FeatureCosineToken):
        assert list(probe(CosineConfig("1")).read(capture, QUERIES)) == [1]
        with pytest.raises(UsageError, match="out of range"):
            probe(CosineConfig("1,7")).read(capture, QUERIES)
    with pytest.raises(UsageError, match="'hidden-cos' does not take this 'heads'"):
        HiddenCosine(CosineConfig("0"))


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_accumulated_in_float32(probe, dtype):
    half = make_capture(dtype=dtype)
    exact = half.replace(out=half.out.float(), hidden=half.hidden.float())
    for name in ("corrected", "difftrack"):
        one, other = (
            probe().read_each(capture, QUERIES, [kernels.switches_of(name)])[0][-1] for capture in (half, exact)
        )
        assert torch.equal(one, other)


@pytest.mark.parametrize("probe", PROBES)
def test_the_variant_never_takes_the_temperature(probe):
    """Checks that the scale of the model's attention does not either."""
    capture = make_capture()
    heads = kernels.switches_of("corrected+scale=heads")
    assert torch.equal(
        probe().read_each(capture, QUERIES, [heads])[0][-1],
        probe().read(capture.replace(scale=3.0), QUERIES)[-1],
    )


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("config", [CosineConfig(radius=1), CosineConfig(symmetric=False)])
def test_contract_with_options(probe, config):
    assert_passed(check_probe(probe(config)))


def test_a_vector_of_zeros_is_similar_to_nothing():
    tensor = torch.tensor([[0.0, 0.0], [3.0, -4.0], [float("nan"), 1.0], [float("inf"), 1.0]])
    found = unit_vectors(tensor)
    assert found[:2].tolist() == [[0.0, 0.0], pytest.approx([0.6, -0.8])]
    assert found[2:].isnan().all()
    capture = make_capture()
    silent = capture.replace(out=torch.zeros_like(capture.out), hidden=torch.zeros_like(capture.hidden))
    for probe in PROBES:  # all tokens are equally similar, and the first one wins a tie
        answer = probe().read(silent, QUERIES)[-1]
        first = QUERIES + torch.tensor(GRID.centres[0]) - torch.tensor(GRID.centres[GRID.tokens_at(QUERIES.numpy())])
        assert torch.equal(answer[:, 1], first)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(power=st.integers(-140, 126), seed=st.integers(0, 1000))
def test_vectors_of_any_size_get_length_one(power, seed):
    vectors = torch.randn(6, 3, generator=torch.Generator().manual_seed(seed)).clamp(-1.9, 1.9) * 2.0**power
    lengths = unit_vectors(vectors).norm(dim=-1)
    torch.testing.assert_close(lengths, (vectors != 0).any(-1).float())


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf"), True, "warm"])
def test_temperatures_that_make_no_sense_are_refused(temperature):
    with pytest.raises(UsageError, match="temperature"):
        CosineConfig(temperature=temperature)


@pytest.mark.parametrize("probe", PROBES)
def test_rotary_is_refused(probe):
    with pytest.raises(UsageError, match="does not take this 'rotary'"):
        probe(CosineConfig(rotary=False))


def test_a_tensor_with_itself_is_multiplied_once(monkeypatch):
    """Counts the products: the reverse softmax of a tensor with itself has the products of the forward one."""
    counted = []
    multiply = correlation.scale_products
    monkeypatch.setattr(correlation, "scale_products", lambda *args: counted.append(1) or multiply(*args))
    out = make_capture().out
    same = match(out, out, GRID, QUERIES)
    shared = len(counted)
    assert torch.equal(same, match(out, out.clone(), GRID, QUERIES))
    assert (shared, len(counted) - shared) == (2 * 2, 2 * 3)  # per later frame: whole-frame sums, then one or two
