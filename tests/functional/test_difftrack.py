"""The published variant: against stored numbers of the published code, and against the formulas written plainly."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr import TokenGrid, UsageError
from vcorr.functional import (
    CORRECTED,
    DIFFTRACK,
    DIFFTRACK_TAPVID,
    AttentionRows,
    Switches,
    attention_rows,
    attention_score,
    confidence_score,
    cross_frame_attention,
    harmonic_mean,
    latent_to_frames,
    match,
    match_features,
    matching_accuracy,
    tapvid,
)
from vcorr.functional.matching import Reading, match_readings
from vcorr.functional.query_points import locate_queries

fast = settings(max_examples=40, deadline=None, derandomize=True)
GRID = TokenGrid(frames=3, rows=30, cols=45, stride=(16, 16), temporal_ratio=4)


@pytest.fixture(scope="module")
def data(pytestconfig):
    folder = pytestconfig.rootpath / "tests" / "data"
    return {
        name: array
        for file in ("difftrack_attention.npz", "difftrack_scores.npz")
        for name, array in np.load(folder / file).items()
    }


def tensors(data, case):
    """Returns q, k, v of the text and of the image, each (H, n, d)."""
    config = json.loads(str(data[f"{case}_config"]))
    heads, width = config["heads"], config["dim"]
    out = []
    for part in ("txt", "img"):
        values = torch.from_numpy(data[f"{case}_{part}_i8"].astype(np.float32) / 32)
        q, k, v = (block.reshape(-1, heads, width).permute(1, 0, 2) for block in values.split(heads * width, dim=1))
        out.append((q * config["q_gain"], k, v))
    return out


def by_frame(tensor, grid=GRID):
    return tensor.reshape(len(tensor), grid.frames, grid.rows, grid.cols, -1)


def test_stored_matches_hold_in_both_variants(data):
    _, (q, k, _) = tensors(data, "a_shift")
    got = match(by_frame(q), by_frame(k), GRID, GRID.centres)[:, 1:]
    np.testing.assert_array_equal(GRID.tokens_at(got.numpy()).T, data["a_shift_qk_match"])
    # the field sampled where a query sits on token i exactly: u (n - 1)/(n - mu) = i
    size, margin = np.array([45, 30]), 45 / 64
    index = np.stack(np.divmod(np.arange(1350), 45)[::-1], axis=-1)
    inside = (index < size - 1).all(axis=1)
    queries = (index * (size - margin) / (size - 1) * 16)[inside]
    field = match(by_frame(q), by_frame(k), GRID, queries, variant="difftrack")[:, 1:].numpy() / 16
    expected = data["a_shift_qk_match"].T[inside]
    error = np.abs(field - np.stack([expected % 45, expected // 45], axis=-1)).max(axis=(1, 2))
    assert np.median(error) < 1e-3


@pytest.mark.parametrize("descriptor", ["qk", "feat"])
@pytest.mark.parametrize(("mode", "points"), [("fg", "grid_20"), ("bg", "grid_10")])
def test_stored_trajectories(data, descriptor, mode, points):
    text, image = tensors(data, "a_shift")
    queries = data[points][0]
    if descriptor == "qk":
        found = match(by_frame(image[0]), by_frame(image[1]), GRID, queries, variant="difftrack")
    else:
        q, k, v = (torch.cat(pair, dim=1)[None] for pair in zip(text, image, strict=True))
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v)[0, :, 8:]
        features = out.permute(1, 0, 2).reshape(3, 30, 45, -1)
        np.testing.assert_allclose(features.reshape(4050, -1)[::9].numpy(), data["a_shift_sdpa_out_cond_rows"], 1e-4)
        tokens = GRID.tokens_at(match_features(features, GRID, GRID.centres)[:, 1:].numpy()).T
        np.testing.assert_array_equal(tokens, data["a_shift_feat_match"])
        found = match_features(features, GRID, queries, variant="difftrack")
    tracks = latent_to_frames(found, GRID, queries, variant="difftrack", video_frames=49)
    expected = data[f"a_shift_{mode}_trajectory_{descriptor}"][0].transpose(1, 0, 2)
    np.testing.assert_allclose(tracks.numpy(), expected, atol=0.01)


@pytest.mark.parametrize(("mode", "grid"), [("fg", "grid_20"), ("bg", "grid_10")])
def test_stored_attention_rows(data, mode, grid):
    (_, k_text, _), (q, k, _) = tensors(data, "a_shift")
    rows = attention_rows(by_frame(q), by_frame(k), k_text, GRID, data[grid][0], variant="difftrack")
    sums, peaks = data[f"a_shift_{mode}_attn_sum"], data[f"a_shift_{mode}_attn_max"]
    for got, expected in (
        (rows.sum_text, sums[:, 0]),
        (rows.sum_self, sums[:, 1]),
        (rows.sum_cross, sums[:, 2:].sum(axis=1)),
        (rows.peak_text, peaks[:, 0]),
        (rows.peak_self, peaks[:, 1]),
        (rows.peak_cross, peaks[:, 2:]),
    ):
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("latents", [1, 4, 13])
def test_stored_time_axis(data, latents):
    xy = data[f"interp_{latents}_in"][0].transpose(1, 0, 2)
    grid = TokenGrid(frames=latents, rows=30, cols=45, stride=(16, 16), temporal_ratio=4)
    got = latent_to_frames(xy, grid, xy[:, 0], variant="difftrack", video_frames=49)
    np.testing.assert_allclose(got.numpy(), data[f"interp_{latents}_out"][0].transpose(1, 0, 2), atol=1e-5)


def test_stored_accuracy(data):
    grid = TokenGrid(frames=13, rows=30, cols=45, stride=(16, 16), temporal_ratio=4)
    reference, visible = data["b_gt_tracks"][0].transpose(1, 0, 2), data["b_visibility"][0].T
    for layer, step in np.ndindex(4, 5):
        tracks = data["b_pred_tracks"][0, layer, step].transpose(1, 0, 2)
        got = matching_accuracy(tracks, reference, visible, grid, variant="difftrack")
        np.testing.assert_allclose(100 * got, data["b_pck"][0, layer, step], atol=1e-4)
    edge = data["b_edge_pred"][0].transpose(1, 0, 2)
    two = TokenGrid(frames=2, rows=30, cols=45, stride=(16, 16))
    got = matching_accuracy(edge, 0 * edge, np.ones((4, 2), bool), two, variant="difftrack")
    assert 100 * got == data["b_edge_pck"].item()


def test_distances_around_the_threshold_round_as_the_published_ones():
    """Places points on a circle of 8 px: the last bit of float32 decides which of them count as nearer."""
    rng = np.random.default_rng(0)
    grid = TokenGrid(frames=13, rows=30, cols=45, stride=(16, 16), temporal_ratio=4)
    angle, reference = rng.uniform(0, 2 * np.pi, (500, 49)), rng.uniform(100, 300, (500, 49, 2)).astype(np.float32)
    circle = 8 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    tracks = (reference + circle.astype(np.float32)).astype(np.float32)
    visible = rng.random((500, 49)) < 0.8
    squares = torch.sum(torch.square(torch.tensor(tracks) - torch.tensor(reference)), dim=-1)
    published = squares.double().sqrt().float() < 8  # some builds of torch do not round the root of float32 correctly
    expected = (published & torch.tensor(visible)).sum() / torch.tensor(visible).sum()
    got = matching_accuracy(tracks, reference, visible, grid, variant="difftrack")
    assert got == pytest.approx(expected.item(), abs=1e-7)
    assert got == matching_accuracy(tracks, reference, visible, grid, variant="difftrack", threshold=8)
    exact = np.hypot(*np.moveaxis(tracks.astype(np.float64) - reference, -1, 0)) < 8
    assert abs(exact[visible].mean() - expected.item()) > 1e-4, "float64 would differ"


def test_stored_score_tables(data):
    text, frames, h, w = data["b_attn_dims"]
    grid = TokenGrid(frames=int(frames), rows=int(h), cols=int(w), stride=(16, 16), temporal_ratio=4)
    visible = data["b_visibility"][0].T
    for layer, step in np.ndindex(4, 5):
        rows = torch.from_numpy(data["b_attn"][0, layer, step].astype(np.float32))
        words, video = rows[:, :text], rows[:, text:].reshape(len(rows), frames, -1)
        peak, total = video.amax(2), video.sum(2)
        got = AttentionRows(peak[:, 1:], peak[:, 0], words.amax(1), total[:, 1:].sum(1), total[:, 0], words.sum(1))
        confidence = confidence_score(got, visible, grid, variant="difftrack")
        attention = attention_score(got, visible, variant="difftrack")
        for i, name in enumerate(("text", "self", "cross")):
            np.testing.assert_allclose(confidence[name], data["b_max_table"][0, step, i, layer], atol=1e-4)
            np.testing.assert_allclose(attention[name], data["b_sum_table"][0, step, i, layer], atol=1e-4)


def test_stored_harmonic_mean(data):
    tables = (data["b_mean_accuracy_csv"][:, 1:], data["b_mean_conf_cross"].T, data["b_mean_attn_cross"].T)
    for variant in ("corrected", "difftrack"):
        np.testing.assert_allclose(harmonic_mean(*tables, variant=variant), data["b_harmonic_mean"].T, atol=1e-9)


@pytest.mark.parametrize("mode", ["first", "strided", "first_all_visible"])
def test_stored_tapvid(data, mode):
    hidden = data["c_b1_pred_occluded"][0]
    got = tapvid(
        data["c_b1_query_points"][0],
        data["c_b1_gt_occluded"][0],
        torch.from_numpy(data["c_b1_gt_tracks"][0]),
        hidden & (mode != "first_all_visible"),
        data["c_b1_pred_tracks"][0],
        mode=mode.removesuffix("_all_visible"),
    )
    names = data[f"c_b1_{mode.removesuffix('_all_visible')}_keys"]
    assert got.keys() == set(names)
    np.testing.assert_allclose([got[name] for name in names], data[f"c_b1_{mode}_values"][:, 0], atol=1e-9)


@pytest.mark.parametrize("kind", ["interval_avg", "stride"])
def test_stored_chunks_of_a_tapvid_clip(data, kind):
    # no frame is in two chunks of these 24, so that one call a chunk is the whole way
    q, k = (
        torch.from_numpy(data[f"d_T24_{name}_i8"][0].astype(np.float32) / 32).transpose(0, 1).reshape(3, 24, 6, 9, 8)
        for name in ("q", "k")
    )
    points = data["d_T24_query_points"][0]
    tracks = np.full((24, 24, 2), np.nan)
    tracks[:, 0] = points[:, 1:]
    for c, chunk in enumerate(json.loads(str(data[f"d_T24_{kind}_chunks"]))):
        grid = TokenGrid(frames=len(chunk), rows=6, cols=9, stride=(16, 16))
        arguments = (q[:, chunk] * (1 + 0.1 * c), k[:, chunk], grid, points[:, 1:])
        found = match(*arguments, variant="difftrack", scale=1 / math.sqrt(3))
        torch.testing.assert_close(match(*arguments, variant=DIFFTRACK_TAPVID), found)
        tracks[:, chunk[1:]] = found[:, 1:].numpy()
    tracks *= [256 / grid.width, 256 / grid.height]
    np.testing.assert_allclose(tracks, data[f"d_T24_{kind}_pred_tracks"][0], atol=0.01)
    occluded = ~data["d_T24_visible"].T
    scores = tapvid(points, occluded, data["d_T24_tracks"].transpose(1, 0, 2), occluded & False, tracks, mode="first")
    names, values = data[f"d_T24_{kind}_metric_keys"], data[f"d_T24_{kind}_metric_values"]
    np.testing.assert_allclose([scores[name] for name in names], values, atol=1e-9)


@pytest.mark.parametrize(("variant", "name"), [("difftrack", "cag_heads"), ("corrected", "derived_renormalised_heads")])
@pytest.mark.parametrize("text_first", [True, False])
def test_stored_guidance(data, variant, name, text_first):
    text, image = tensors(data, "e_plain")
    parts = [tuple(tensor.roll(1, dims=1) for tensor in part) for part in (text, image)]
    q, k, v = (torch.cat(pair if text_first else pair[::-1], dim=1) for pair in zip(*parts, strict=True))
    got = cross_frame_attention(q, k, v, GRID, 8, text_first=text_first, variant=variant)
    if not text_first:
        got = torch.cat([got[:, -8:], got[:, :-8]], dim=1)
    rows = np.concatenate([np.arange(8), 8 + data["e_plain_rows"]])
    np.testing.assert_allclose(got[:, rows].numpy(), data[f"e_plain_{name}"], atol=2e-6)


# ------------------------------------------------------------------------------------------------ the formulas, plainly


def plain_difftrack(q, k, grid, queries, symmetric=True, scale=None):
    """Follows docs/protocol.md, difftrack, with whole matrices and torch's own sampling; (N, F, 2)."""
    _, frames, h, w, d = q.shape
    scale = d**-0.5 if scale is None else scale
    q, k = q.flatten(2, 3), k.flatten(2, 3)
    u = torch.as_tensor(queries, dtype=torch.float32) / torch.tensor(grid.stride, dtype=torch.float32)
    margin = w / 64
    at = torch.stack([u[:, 0] / (w - margin) * 2 - 1, u[:, 1] / (h - margin) * 2 - 1], dim=-1)
    out = [u]
    for j in range(1, frames):
        forward = (q[:, 0] @ k[:, j].mT * scale).softmax(-1).mean(0)
        reverse = (q[:, j] @ k[:, 0].mT * scale).softmax(-1).mean(0)
        correlation = (forward + reverse.mT) / 2 if symmetric else forward
        best = correlation.softmax(-1).max(-1).indices
        field = torch.stack([best % w, best // w]).float().reshape(1, 2, h, w)
        sampled = torch.nn.functional.grid_sample(field, at[None, :, None], align_corners=True)
        out.append(sampled[0, :, :, 0].T)
    return torch.stack(out, dim=1) * torch.tensor(grid.stride, dtype=torch.float32)


cases = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10_000),
        "heads": st.integers(1, 3),
        "frames": st.integers(1, 3),
        "h": st.integers(1, 5),
        "w": st.integers(1, 6),
        "d": st.integers(1, 6),
        "n": st.integers(0, 6),
        "stride": st.sampled_from([(16, 16), (8, 16), (4.5, 2.0)]),
        "dtype": st.sampled_from([torch.float32, torch.bfloat16]),
    }
)


def random_case(seed, heads, frames, h, w, d, n, stride=(16, 16), dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(heads, frames, h, w, d, generator=generator).to(dtype) for _ in range(2))
    grid = TokenGrid(frames=frames, rows=h, cols=w, stride=stride, temporal_ratio=4)
    # corners and borders as well
    share = np.random.default_rng(seed).uniform(-0.2, 1.2, (n, 2)).clip(0, 1)
    return q, k, grid, (share * [grid.width, grid.height]).astype(np.float32)


@fast
@given(case=cases, symmetric=st.booleans(), scale=st.sampled_from([None, 0.3]))
def test_matching_agrees_with_the_formulas(case, symmetric, scale):
    q, k, grid, queries = random_case(**case)
    got = match(q, k, grid, queries, variant="difftrack", symmetric=symmetric, scale=scale)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, plain_difftrack(q, k, grid, queries, symmetric, scale), atol=1e-2, rtol=0)


@fast
@given(case=cases)
def test_features_agree_with_the_formulas(case):
    q, _, grid, queries = random_case(**case)
    f = q[0]
    expected = plain_difftrack(f[None], f[None], grid, queries, symmetric=False, scale=1.0)
    torch.testing.assert_close(match_features(f, grid, queries, variant="difftrack"), expected, atol=1e-2, rtol=0)


@pytest.mark.parametrize("stride", [(16, 16), (8, 24)])
@pytest.mark.parametrize(("h", "w"), [(4, 6), (6, 4), (1, 3), (3, 1)])
def test_corners_borders_halves_and_duplicates(h, w, stride):
    q, k, grid, _ = random_case(5, 2, 3, h, w, 8, 0, stride=stride)
    x, y = np.meshgrid(np.arange(4 * w + 1) / 4, np.arange(4 * h + 1) / 4)
    queries = np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2) * stride, 2, axis=0).astype(np.float32)
    got = match(q, k, grid, queries, variant="difftrack")
    torch.testing.assert_close(got, plain_difftrack(q, k, grid, queries), atol=1e-2, rtol=0)
    assert torch.equal(got[::2], got[1::2])
    rows = attention_rows(q, k, torch.zeros(2, 0, 8), grid, queries, variant="difftrack")
    for (x, y), peak in zip(queries, rows.peak_self, strict=True):
        # Python rounds half to even as well
        row, col = (min(round(float(value)), size - 1) for value, size in ((x / stride[0], h), (y / stride[1], w)))
        weights = torch.softmax(q[:, 0, row, col, None] @ k.flatten(1, 3).mT * 8**-0.5, dim=-1).mean(0)[0]
        torch.testing.assert_close(peak, weights[: h * w].max())


@pytest.mark.parametrize(
    ("dtype", "other"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16), (torch.float64, torch.float16)],
)
def test_keys_are_read_in_the_dtype_of_queries(dtype, other):
    q, k, grid, queries = random_case(4, 2, 3, 5, 6, 8, 12)
    q, k = q.to(dtype), k.to(other)
    assert torch.equal(
        match(q, k, grid, queries, variant="difftrack"), match(q, k.to(dtype), grid, queries, variant="difftrack")
    )
    torch.testing.assert_close(match(q, k, grid, queries), match(q.float(), k.float(), grid, queries))


@fast
@given(case=cases, symmetric=st.booleans(), heads=st.sampled_from(["mean", "each", 0]))
def test_several_variants_from_one_reading_are_to_the_bit_what_each_is_alone(case, symmetric, heads):
    q, k, grid, queries = random_case(**case)
    variants = ["corrected", "difftrack", "corrected+scale=heads", "corrected+second_softmax=true", "corrected"]
    readings = [Reading(locate_queries(grid, queries, "cpu", variant=v), v) for v in variants]
    together = match_readings(q, k, grid, readings, symmetric=symmetric, heads=heads)
    for variant, found in zip(variants, together, strict=True):
        alone = match(q, k, grid, queries, variant=variant, symmetric=symmetric, heads=heads)
        assert torch.equal(found, alone)


def test_variants_are_spelled_as_runs_spell_them():
    q, k, grid, queries = random_case(2, 3, 3, 5, 6, 8, 20, dtype=torch.bfloat16)
    spelled = match(q, k, grid, queries, variant="corrected+readout=field+scale=heads")
    assert torch.equal(spelled, match(q, k, grid, queries, variant=Switches(readout="field", scale="heads")))
    with pytest.raises(UsageError, match=r"(?s)Unknown switch 'lokup'. Did you mean 'lookup'\?.*docs/switches.md"):
        match(q, k, grid, queries, variant="corrected+lokup=own")


def test_flat_rows_tie_in_bfloat16_and_fall_to_the_first_token():
    q, k, grid, queries = random_case(0, 2, 2, 30, 45, 16, 60, dtype=torch.bfloat16)
    q, k = q * 0.1, k * 0.1
    rounded = match(q, k, grid, queries, variant="difftrack")
    assert (rounded[:, 1] == 0).all()
    single = match(q, k, grid, queries, variant=dataclasses.replace(DIFFTRACK, second_softmax=False))
    assert (single[:, 1] != 0).any(dim=-1).all()
    assert (match(q.float(), k.float(), grid, queries, variant="difftrack")[:, 1] != 0).any(dim=-1).all()


def test_a_perfect_matcher_is_shrunk():
    generator = torch.Generator().manual_seed(0)
    f = torch.nn.functional.normalize(torch.randn(1, 1, 30, 45, 32, generator=generator), dim=-1) * 8
    f = f.expand(1, 2, 30, 45, 32)
    grid = TokenGrid(frames=2, rows=30, cols=45, stride=(16, 16))
    queries = np.random.default_rng(0).uniform(0, 1, (50, 2)) * [700, 460]
    got = match(f, f, grid, queries, variant="difftrack")[:, 1].numpy()
    np.testing.assert_allclose(got, queries * [44 / (45 - 45 / 64), 29 / (30 - 45 / 64)], atol=1e-3)
    np.testing.assert_allclose(got / queries, np.broadcast_to([0.9933, 0.9899], (50, 2)), atol=1e-4)


def test_the_zero_padding_pulls_the_corner_in():
    q, k, grid, _ = random_case(0, 1, 2, 30, 45, 4, 0)
    corner = match(q * 0, k * 0, grid, [[720.0, 480.0]], variant="difftrack")[0, 1]
    assert corner.tolist() == [0, 0]  # ties: the first token
    f = torch.nn.functional.normalize(torch.randn(1, 1, 30, 45, 32, generator=torch.Generator().manual_seed(0)), dim=-1)
    f = f.expand(1, 2, 30, 45, 32) * 8
    x, y = match(f, f, grid, [[720.0, 480.0]], variant="difftrack")[0, 1].tolist()
    assert max(x, y) < 100


def test_every_switch_alone_changes_what_it_names_and_nothing_else():
    q, k, grid, queries = random_case(1, 3, 4, 6, 9, 8, 40, dtype=torch.bfloat16)
    generator = np.random.default_rng(0)
    visible = generator.random((40, 13)) < 0.6
    reference = generator.uniform(0, 90, (40, 13, 2))
    k_text = torch.randn(3, 5, 8, dtype=torch.bfloat16, generator=torch.Generator().manual_seed(2))
    joint = torch.cat([k_text, k.flatten(1, 3)], dim=1)

    def measure(variant):
        found = match(q * 0.3, k * 0.3, grid, queries, variant=variant)
        mask = torch.tensor([True, True, True, False, False])
        rows = attention_rows(q, k, k_text, grid, queries, variant=variant, key_mask=mask)
        guided = cross_frame_attention(joint, joint, joint, grid, 5, variant=variant)
        frames = latent_to_frames(match(q, k, grid, queries), grid, queries, variant=variant)
        accuracy = matching_accuracy(frames * 0 + 40, reference, visible, grid, variant=variant, threshold=30)
        confidence = confidence_score(attention_rows(q, k, k_text, grid, queries), visible, grid, variant=variant)
        return {
            "found": found,
            "rows": rows.sum_self,
            "guided": guided.float(),
            "frames": frames,
            "pooled": torch.tensor([accuracy, confidence["cross"], confidence["self"]]),
        }

    plain = measure(CORRECTED)
    expected = {
        "readout": ("field", {"found"}),
        "time_map": ("stretched", {"frames"}),
        "lookup": ("exchanged", {"rows"}),
        "pooling": ("everything", {"rows", "pooled"}),
        "second_softmax": (True, {"found"}),
        "scale": ("heads", {"found"}),
        "guidance_mask": ("after", {"guided"}),
    }
    assert expected.keys() == {field.name for field in dataclasses.fields(Switches)}
    for name, (value, changed) in expected.items():
        got = measure(dataclasses.replace(CORRECTED, **{name: value}))
        assert {key for key in plain if not torch.equal(got[key], plain[key])} == changed, name
    assert Switches() == CORRECTED
    for name, (value, _) in expected.items():
        assert getattr(DIFFTRACK_TAPVID, name) == value


def test_switches_refuse_other_values():
    with pytest.raises(UsageError, match="lookup must be 'own' or 'exchanged', got 'swapped'"):
        Switches(lookup="swapped")
    with pytest.raises(UsageError, match="second_softmax must be False or True"):
        Switches(second_softmax="yes")


def test_grids_on_which_the_margin_has_no_value():
    q, k, grid, queries = random_case(0, 1, 2, 1, 64, 4, 3)
    with pytest.raises(UsageError, match="no value on 1 x 64 tokens"):
        match(q, k, grid, queries, variant="difftrack")
    assert match(q, k, grid, queries).isfinite().all()


def test_broken_activations_give_nan():
    q, k, grid, queries = random_case(3, 2, 3, 4, 5, 8, 10)
    q = q.clone()
    q[:, 1] = math.nan
    got = match(q, k, grid, queries, variant="difftrack")
    assert got[:, 1].isnan().all()
    assert got[:, [0, 2]].isfinite().all()
