"""qk, feature and feature-fair keep the probe contract and read the heads they are asked for."""

import numpy as np
import pytest
import torch

from vcorr.builtin import vcorr_probes
from vcorr.capture.records import Capture
from vcorr.errors import UsageError
from vcorr.functional import match, match_features
from vcorr.geometry import TokenGrid
from vcorr.probes.builtin import Feature, FeatureFair, QueryKey
from vcorr.probes.config import ProbeConfig
from vcorr.records import Site
from vcorr.testing import assert_passed, check_probe

GRID = TokenGrid(frames=3, rows=4, cols=5, stride=(16, 8))
QUERIES = torch.tensor([[3.0, 4.0], [40.5, 20.25], [80.0, 32.0]])
HEADS = 4


@pytest.fixture
def capture():
    generator = torch.Generator().manual_seed(0)
    tensors = {part: torch.randn(HEADS, 3, 4, 5, 8, generator=generator) for part in ("q", "k", "v", "out")}
    return Capture(Site(0, "attn"), GRID, 0, 0.5, **tensors, k_text=torch.zeros(HEADS, 0, 8))


@pytest.mark.parametrize("entry", vcorr_probes(), ids=lambda entry: entry.name)
@pytest.mark.parametrize("heads", ["mean", "each", "2", "0,3"])
def test_contract(entry, heads):
    assert_passed(check_probe(entry, config=ProbeConfig(heads=heads), dtypes=["float32", "bfloat16", "float16"]))


@pytest.mark.parametrize("probe", [QueryKey, FeatureFair])
def test_contract_with_a_radius(probe):
    made = probe(ProbeConfig(radius=1))
    assert made.readout == "free"
    assert probe().readout == "token"
    assert_passed(check_probe(made))


def test_needs():
    assert QueryKey.needs == {"q", "k"}
    assert Feature.needs == FeatureFair.needs == {"out"}


@pytest.mark.parametrize(("heads", "keys"), [("mean", [-1]), ("each", [-1, 0, 1, 2, 3]), ("2", [2]), ("0, 3", [-1])])
def test_heads_that_are_stored(capture, heads, keys):
    for probe in (QueryKey, Feature, FeatureFair):
        assert list(probe(ProbeConfig(heads=heads)).read(capture, QUERIES)) == keys


def test_qk_is_the_symmetric_match(capture):
    q, k = capture.q, capture.k
    each = QueryKey(ProbeConfig("each")).read(capture, QUERIES)
    assert torch.equal(each[-1], match(q, k, GRID, QUERIES))
    for head in range(HEADS):
        assert torch.equal(each[head], match(q[head : head + 1], k[head : head + 1], GRID, QUERIES))
    assert torch.equal(QueryKey(ProbeConfig("1")).read(capture, QUERIES)[1], each[1])
    chosen = QueryKey(ProbeConfig("0,3", radius=1)).read(capture, QUERIES)[-1]
    assert torch.equal(chosen, match(q[[0, 3]], k[[0, 3]], GRID, QUERIES, radius=1))


def test_feature_is_one_raw_dot_product_over_all_heads(capture):
    """Against a loop over tokens."""
    answer = Feature().read(capture, QUERIES)[-1].numpy()
    vectors = capture.out.numpy()
    tokens = GRID.tokens_at(QUERIES.numpy())
    for n, token in enumerate(tokens):
        row, col = divmod(int(token), GRID.cols)
        for frame in range(1, GRID.frames):
            products = np.zeros((GRID.rows, GRID.cols))
            for r in range(GRID.rows):
                for c in range(GRID.cols):
                    products[r, c] = sum(vectors[a, 0, row, col] @ vectors[a, frame, r, c] for a in range(HEADS))
            best_row, best_col = np.unravel_index(products.argmax(), products.shape)
            expected = QUERIES[n].numpy() + np.array([(best_col - col) * 16, (best_row - row) * 8])
            np.testing.assert_allclose(answer[n, frame], expected)


def test_feature_of_single_and_chosen_heads(capture):
    each = Feature(ProbeConfig("each")).read(capture, QUERIES)
    for head in range(HEADS):
        assert torch.equal(each[head], match_features(capture.out[head], GRID, QUERIES))
    assert torch.equal(Feature(ProbeConfig("2")).read(capture, QUERIES)[2], each[2])
    pair = torch.cat([capture.out[0], capture.out[3]], dim=-1)
    assert torch.equal(Feature(ProbeConfig("0,3")).read(capture, QUERIES)[-1], match_features(pair, GRID, QUERIES))


def test_feature_fair_treats_features_as_qk_treats_queries_and_keys(capture):
    answer = FeatureFair().read(capture, QUERIES)[-1]
    assert torch.equal(answer, match(capture.out, capture.out, GRID, QUERIES))


@pytest.mark.parametrize("heads", ["", "all", "-1", "0,,2", "1.5", "0,0", "²"])
def test_heads_that_make_no_sense_are_refused(heads):
    with pytest.raises(UsageError, match="heads"):
        ProbeConfig(heads=heads)


@pytest.mark.parametrize("radius", [-1, 1.5, True])
def test_radii_that_make_no_sense_are_refused(radius):
    with pytest.raises(UsageError, match="radius"):
        ProbeConfig(radius=radius)


def test_feature_has_no_radius():
    with pytest.raises(UsageError, match="feature-fair"):
        Feature(ProbeConfig(radius=1))


@pytest.mark.parametrize("probe", [QueryKey, Feature, FeatureFair])
def test_heads_that_are_not_there_are_refused(capture, probe):
    with pytest.raises(UsageError, match="out of range"):
        probe(ProbeConfig("1,4")).read(capture, QUERIES)
