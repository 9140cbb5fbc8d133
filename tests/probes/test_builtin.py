"""The probes keep the probe contract and read what they are asked for."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from vcorr.capture.captures import Capture
from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Site
from vcorr.functional import head_traits, match, match_features
from vcorr.plugins.builtin import vcorr_probes
from vcorr.probes.attention_probe import Attention
from vcorr.probes.heads import Heads
from vcorr.probes.matching_probes import (
    Feature,
    FeatureFair,
    Hidden,
    HiddenFair,
    KeyKey,
    QueryKey,
    QueryKeyPosition,
    QueryQuery,
    ValueValue,
)
from vcorr.probes.probe_options import ProbeConfig
from vcorr.probes.traits_probe import HeadTraits
from vcorr.store.fingerprint import plain
from vcorr.testing import assert_passed, check_probe

GRID = TokenGrid(frames=3, rows=4, cols=5, stride=(16, 8))
QUERIES = torch.tensor([[3.0, 4.0], [40.5, 20.25], [80.0, 32.0]])
HEADS = 4
SOFTMAX = (QueryKey, QueryKeyPosition, KeyKey, QueryQuery, ValueValue, FeatureFair, HiddenFair)
HEADED = (*SOFTMAX, Feature, Attention, HeadTraits)


@pytest.fixture
def capture():
    generator = torch.Generator().manual_seed(0)
    parts = ("q", "k", "v", "out", "q_unrotated", "k_unrotated", "q_position", "k_position")
    tensors = {part: torch.randn(HEADS, 3, 4, 5, 8, generator=generator) for part in parts}
    hidden = torch.randn(3, 4, 5, HEADS * 6, generator=generator)
    k_text = torch.randn(HEADS, 3, 8, generator=generator)
    return Capture(Site(0, "attn", HEADS, block="block"), GRID, 0, 0.5, **tensors, k_text=k_text, hidden=hidden)


ENTRIES = [
    (entry, heads)
    for entry in vcorr_probes()
    for heads in ("mean", "each", "2", "0,3")
    if entry.config is not None and (entry.name not in ("hidden", "hidden-cos") or heads in ("mean", "each"))
]


@pytest.mark.parametrize(("entry", "heads"), ENTRIES, ids=lambda value: getattr(value, "name", value))
def test_contract(entry, heads):
    assert_passed(
        check_probe(entry, config=entry.config_type()(heads=heads), dtypes=["float32", "bfloat16", "float16"])
    )


@pytest.mark.parametrize("entry", [entry for entry in vcorr_probes() if entry.config is None], ids=lambda e: e.name)
def test_contract_without_options(entry):
    assert_passed(check_probe(entry, dtypes=["float32", "bfloat16"]))


@pytest.mark.parametrize("probe", [QueryKey, KeyKey, QueryQuery])
def test_contract_without_rotary_embedding(probe):
    made = probe(ProbeConfig(rotary=False))
    assert made.needs == {f"{part}_unrotated" for part in probe.needs}
    assert_passed(check_probe(made))


@pytest.mark.parametrize("probe", SOFTMAX)
def test_contract_one_way(probe):
    assert_passed(check_probe(probe(ProbeConfig(symmetric=False))))


@pytest.mark.parametrize("probe", SOFTMAX)
def test_contract_with_a_radius(probe):
    made = probe(ProbeConfig(radius=1))
    assert made.readout == "free"
    assert probe().readout == "token"
    assert_passed(check_probe(made))


def test_needs():
    assert QueryKey.needs == {"q", "k"}
    assert Feature.needs == FeatureFair.needs == {"out"}
    assert Hidden.needs == HiddenFair.needs == {"hidden"}
    assert (KeyKey.needs, QueryQuery.needs, ValueValue.needs) == ({"k"}, {"q"}, {"v"})
    assert Attention.needs == {"q", "k", "mask"}


@pytest.mark.parametrize(("heads", "keys"), [("mean", [-1]), ("each", [-1, 0, 1, 2, 3]), ("2", [2]), ("0, 3", [-1])])
def test_heads_that_are_stored(capture, heads, keys):
    for probe in HEADED:
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


@pytest.mark.parametrize(("probe", "part"), [(KeyKey, "k"), (QueryQuery, "q"), (ValueValue, "v")])
def test_one_tensor_is_matched_with_itself_as_qk_does(capture, probe, part):
    tensor = getattr(capture, part)
    assert torch.equal(probe().read(capture, QUERIES)[-1], match(tensor, tensor, GRID, QUERIES))
    one_way = probe(ProbeConfig(symmetric=False, radius=1)).read(capture, QUERIES)[-1]
    assert torch.equal(one_way, match(tensor, tensor, GRID, QUERIES, radius=1, symmetric=False))


def test_without_rotary_embedding_other_tensors_are_read(capture):
    q, k = capture.q_unrotated, capture.k_unrotated
    config = ProbeConfig(rotary=False)
    assert torch.equal(QueryKey(config).read(capture, QUERIES)[-1], match(q, k, GRID, QUERIES))
    assert torch.equal(KeyKey(config).read(capture, QUERIES)[-1], match(k, k, GRID, QUERIES))
    assert torch.equal(QueryQuery(config).read(capture, QUERIES)[-1], match(q, q, GRID, QUERIES))


def test_the_scale_of_the_model_is_that_of_q_and_k_alone(capture):
    scaled = capture.replace(scale=2.5)
    for probe in (QueryKey, KeyKey, QueryQuery):
        left, right = (getattr(capture, part) for part in (probe.left, probe.right))
        expected = match(left, right, GRID, QUERIES, scale=2.5)
        assert torch.equal(probe().read(scaled, QUERIES)[-1], expected)
    for probe in (ValueValue, FeatureFair, Feature, Hidden, HiddenFair):
        assert torch.equal(probe().read(scaled, QUERIES)[-1], probe().read(capture, QUERIES)[-1])


def test_hidden_is_one_raw_dot_product_over_all_channels(capture):
    answers = Hidden(ProbeConfig("each")).read(capture, QUERIES)
    assert list(answers) == [-1]
    assert torch.equal(answers[-1], match_features(capture.hidden, GRID, QUERIES))


def test_hidden_fair_cuts_the_channels_into_slices(capture):
    slices = torch.stack([capture.hidden[..., 6 * head : 6 * head + 6] for head in range(HEADS)])
    assert torch.equal(HiddenFair().read(capture, QUERIES)[-1], match(slices, slices, GRID, QUERIES))
    for heads in (0, 5):
        with pytest.raises(UsageError, match=f"declares {heads} heads"):
            HiddenFair().read(capture.replace(site=Site(0, "attn", heads, block="block")), QUERIES)


def test_attention_is_the_softmax_of_the_model(capture):
    """Against torch's own attention: values of one hot tokens make its output the weights."""
    k = torch.cat([capture.k_text, capture.k.flatten(1, 3)], dim=1)
    queries = capture.q[:, 0].flatten(1, 2)[:, GRID.tokens_at(QUERIES.numpy())]
    real = torch.tensor([True, False, True])
    mask = torch.cat([real, torch.ones(GRID.tokens, dtype=torch.bool)])
    one_hot = torch.eye(k.shape[1]).expand(HEADS, -1, -1)
    for scale in (None, 0.5, 8**-0.5):
        weights = torch.nn.functional.scaled_dot_product_attention(
            queries, k, one_hot, attn_mask=mask.expand(len(QUERIES), -1), scale=scale
        )
        seen = capture.replace(key_mask=real, scale=scale)
        for heads, chosen in (("mean", [0, 1, 2, 3]), ("0,3", [0, 3])):
            mean = weights[chosen].mean(0)
            video = mean[:, 3:].unflatten(1, (3, 20))
            rows = Attention(ProbeConfig(heads)).read(seen, QUERIES)[-1]
            torch.testing.assert_close(rows.peak_cross, video[:, 1:].amax(2))
            torch.testing.assert_close(rows.peak_self, video[:, 0].amax(1))
            torch.testing.assert_close(rows.peak_text, mean[:, :3].amax(1))
            torch.testing.assert_close(rows.sum_cross, video[:, 1:].sum((1, 2)))
            torch.testing.assert_close(rows.sum_self, video[:, 0].sum(1))
            torch.testing.assert_close(rows.sum_text, mean[:, :3].sum(1))
    each = Attention(ProbeConfig("each")).read(capture, QUERIES)
    assert list(each) == [-1, 0, 1, 2, 3]
    torch.testing.assert_close(torch.stack([each[h].sum_self for h in range(HEADS)]).mean(0), each[-1].sum_self)


def test_head_traits_are_the_attention_summary_and_the_traits_of_each_head(capture):
    scaled = capture.replace(key_mask=torch.tensor([True, False, True]), scale=0.5)
    factor = 0.5 * 8**0.5
    for heads, chosen in (("mean", [0, 1, 2, 3]), ("0,3", [0, 3]), ("each", [0, 1, 2, 3])):
        found = HeadTraits(ProbeConfig(heads)).read(scaled, QUERIES)
        summary = Attention(ProbeConfig(heads)).read(scaled, QUERIES)
        assert list(found) == list(summary)
        sets = {-1: chosen, **({head: [head] for head in chosen} if heads == "each" else {})}
        for head, together in sets.items():
            for part in summary[head]._fields:
                torch.testing.assert_close(getattr(found[head], part), getattr(summary[head], part))
            q, k, text = (part[together] for part in (scaled.q * factor, scaled.k, scaled.k_text))
            expected = head_traits(q, k, text, GRID, QUERIES, key_mask=scaled.key_mask)
            torch.testing.assert_close(found[head].traits, expected, atol=1e-4, rtol=1e-4)


def test_attention_without_text(capture):
    rows = Attention().read(capture.replace(k_text=capture.k_text[:, :0]), QUERIES)[-1]
    assert rows.sum_text.isnan().all()
    torch.testing.assert_close(rows.sum_cross + rows.sum_self, torch.ones(3))


@pytest.mark.parametrize("heads", ["", "all", "-1", "0,,2", "1.5", "0,0", "²"])
def test_heads_that_make_no_sense_are_refused(heads):
    with pytest.raises(UsageError, match="heads"):
        ProbeConfig(heads=heads)


@pytest.mark.parametrize("radius", [-1, 1.5, True])
def test_radii_that_make_no_sense_are_refused(radius):
    with pytest.raises(UsageError, match="radius"):
        ProbeConfig(radius=radius)


@pytest.mark.parametrize("option", ["rotary", "symmetric"])
def test_switches_must_be_switches(option):
    with pytest.raises(UsageError, match=option):
        ProbeConfig(**{option: 1})


@pytest.mark.parametrize(
    ("probe", "options", "message"),
    [
        (Feature, {"radius": 1}, "'feature' does not take this 'radius'(.|\n)*'feature-fair'"),
        (Feature, {"rotary": False}, "'feature' does not take this 'rotary'(.|\n)*'qk', 'kk' and 'qq'"),
        (FeatureFair, {"rotary": False}, "'feature-fair' does not take this 'rotary'"),
        (ValueValue, {"rotary": False}, "'vv' does not take this 'rotary'"),
        (QueryKeyPosition, {"rotary": False}, "'qk-position' does not take this 'rotary'"),
        (Hidden, {"radius": 2}, "'hidden' does not take this 'radius'(.|\n)*'hidden-fair'"),
        (Hidden, {"rotary": False}, "'hidden' does not take this 'rotary'"),
        (Hidden, {"heads": "0,3"}, "'hidden' does not take this 'heads'(.|\n)*'hidden-fair'"),
        (HiddenFair, {"rotary": False}, "'hidden-fair' does not take this 'rotary'"),
        (Attention, {"radius": 1}, "'attention' does not take this 'radius'"),
        (Attention, {"rotary": False}, "'attention' does not take this 'rotary'"),
        (HeadTraits, {"radius": 1}, "'head-traits' does not take this 'radius'"),
        (Attention, {"symmetric": False}, "'attention' does not take this 'symmetric'"),
    ],
)
def test_options_a_probe_does_not_have_are_refused(probe, options, message):
    with pytest.raises(UsageError, match=message):
        probe(ProbeConfig(**options))


@pytest.mark.parametrize("probe", HEADED)
def test_heads_that_are_not_there_are_refused(capture, probe):
    with pytest.raises(UsageError, match="out of range"):
        probe(ProbeConfig("1,4")).read(capture, QUERIES)


# -------------------------------------------------------------------------------------------- options as typed values


@pytest.mark.parametrize(
    ("text", "choice", "column", "count"),
    [("mean", "mean", -1, 1), ("each", "each", -1, 5), ("2", (2,), 2, 1), ("3, 0", (3, 0), -1, 1)],
)
def test_heads_as_a_value(text, choice, column, count):
    heads = Heads.parse(text)
    assert (heads.choice, heads.column, heads.count(4)) == (choice, column, count)


def test_heads_are_parsed_once_however_often_they_are_asked(capture, monkeypatch):
    parsed = []
    parse = Heads.parse
    monkeypatch.setattr(Heads, "parse", lambda text: parsed.append(text) or parse(text))
    config = ProbeConfig(heads="0,3")
    for probe in (QueryKey(config), Feature(config), Attention(config)):
        probe.check_sites([capture.site])
        probe.read(capture, QUERIES)
        probe.read(capture, QUERIES)
    assert parsed == ["0,3"]


def test_the_typed_value_is_no_part_of_the_options():
    assert [field.name for field in fields(ProbeConfig)] == ["heads", "radius", "rotary", "symmetric"]
    assert plain(ProbeConfig(heads="0,3")) == {"heads": "0,3", "radius": 0, "rotary": True, "symmetric": True}


def test_disk_is_reckoned_with_the_answers_a_probe_gives():
    each = ProbeConfig(heads="each")
    assert [probe(each).answers_per_site(8) for probe in (QueryKey, Attention, Hidden)] == [9, 9, 1]
