"""What no function can use: one clear error that names the argument, for every function and in both variants."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

import vcorr.functional as functional
from vcorr import TokenGrid, UsageError

GRID = TokenGrid(frames=3, rows=4, cols=5, stride=(16, 16), temporal_ratio=4)
QUERIES = np.array([[1.0, 2.0], [70.0, 60.0], [80.0, 64.0]])


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def good(name):
    """Arguments that the function can use."""
    q, k, k_text, joint = noise(2, 3, 4, 5, 8), noise(2, 3, 4, 5, 8) * 1.1, noise(2, 3, 8), noise(2, 63, 8)
    tracks, visible = np.random.default_rng(0).uniform(0, 60, (3, 9, 2)), np.ones((3, 9), dtype=bool)
    table = np.random.default_rng(1).random((2, 3))
    rows = functional.attention_rows(q, k, k_text, GRID, QUERIES)
    return {
        "match": {"q": q, "k": k, "grid": GRID, "queries": QUERIES},
        "match_features": {"f": noise(3, 4, 5, 8), "grid": GRID, "queries": QUERIES},
        "latent_to_frames": {"xy": tracks[:, :3], "grid": GRID, "queries": QUERIES},
        "attention_rows": {"q": q, "k": k, "k_text": k_text, "grid": GRID, "queries": QUERIES},
        "matching_accuracy": {"tracks": tracks, "reference": tracks + 1, "visible": visible, "grid": GRID},
        "confidence_score": {"rows": rows, "visible": visible, "grid": GRID},
        "attention_score": {"rows": rows, "visible": visible},
        "harmonic_mean": {"accuracy": table, "confidence": table.T.reshape(2, 3), "attention": table[::-1]},
        "tapvid": {
            "query_points_tyx": np.zeros((3, 3)),
            "occluded": ~visible,
            "tracks": tracks,
            "pred_occluded": ~visible,
            "pred_tracks": tracks + 1,
            "mode": "first",
        },
        "cross_frame_attention": {"q": joint, "k": joint, "v": joint, "grid": GRID, "n_text": 3},
        "unit_vectors": {"tensor": noise(3, 4, 8)},
        "descriptor_drift": {"descriptors": np.random.default_rng(2).random((5, 8))},
        "head_traits": {"q": q, "k": k, "k_text": k_text, "grid": GRID, "queries": QUERIES},
    }[name]


TENSORS = {
    "match": ("q", "k"),
    "match_features": ("f",),
    "attention_rows": ("q", "k", "k_text"),
    "head_traits": ("q", "k", "k_text"),
    "cross_frame_attention": ("q", "k", "v"),
}
NUMBERS = {
    "match": ("queries",),
    "match_features": ("queries",),
    "latent_to_frames": ("xy", "queries"),
    "attention_rows": ("queries",),
    "head_traits": ("queries",),
    "matching_accuracy": ("tracks", "reference"),
    "harmonic_mean": ("accuracy", "confidence", "attention"),
    "tapvid": ("query_points_tyx", "tracks", "pred_tracks"),
    "descriptor_drift": ("descriptors",),
}
MASKS = {
    "matching_accuracy": ("visible",),
    "confidence_score": ("visible",),
    "attention_score": ("visible",),
    "tapvid": ("occluded", "pred_occluded"),
}
NO_GRID = ("attention_score", "harmonic_mean", "tapvid", "unit_vectors", "descriptor_drift")
NO_VARIANT = ("tapvid", "unit_vectors", "descriptor_drift")
FUNCTIONS = [name for name in functional.__all__ if name.islower() and name != "use_kernels"]
"""The functions on tensors; `use_kernels` is a block, and tests/kernels has its bad input."""
GRIDS = [name for name in FUNCTIONS if name not in NO_GRID]


def pairs(table):
    return [(name, argument) for name, arguments in table.items() for argument in arguments]


def check_refused(name, argument, value):
    for variant in ({},) if name in NO_VARIANT else ({"variant": "corrected"}, {"variant": "difftrack"}):
        with pytest.raises(UsageError, match=rf"^{argument}\b"):
            getattr(functional, name)(**{**good(name), argument: value, **variant})


def test_every_function_is_here():
    for name in FUNCTIONS:
        getattr(functional, name)(**good(name))


@pytest.mark.parametrize(("name", "argument"), pairs(TENSORS))
def test_tensors_of_another_kind(name, argument):
    tensor = good(name)[argument]
    for value in (
        None,
        tensor.numpy(),
        tensor.int(),
        tensor.to(torch.complex64),
        tensor.to(torch.float8_e4m3fn),
        tensor.to_sparse(),
        tensor[None],
        tensor[:0],
        tensor[..., :0],
    ):
        check_refused(name, argument, value)


@pytest.mark.parametrize(("name", "argument"), pairs(NUMBERS))
def test_numbers_of_another_kind(name, argument):
    tensor = torch.as_tensor(good(name)[argument].copy())
    others = (
        None,
        "text",
        3,
        {},
        object(),
        [[1, 2], [3]],
        np.full(tensor.shape, "a"),
        np.full(tensor.shape, None),
        tensor.to(torch.complex64),
        tensor.to(torch.complex64).numpy(),
        tensor.to_sparse(),
        tensor[0] if argument == "xy" else tensor.to("meta"),
        tensor[0] if argument == "xy" else tensor[None],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in others:
            if name == "harmonic_mean" and argument == "accuracy" and getattr(value, "ndim", 0) == 3:
                continue  # the first table says what shape the others must have
            check_refused(name, argument, value)


@pytest.mark.parametrize(("name", "argument"), pairs(MASKS))
def test_visibility_of_another_kind(name, argument):
    mask = good(name)[argument]
    for value in (
        None,
        "text",
        mask.astype(int),
        mask.astype(object),
        [[True], [True, False]],
        torch.from_numpy(mask).bfloat16(),
        torch.from_numpy(mask).float(),
        torch.from_numpy(mask).to_sparse(),
        torch.from_numpy(mask).to("meta"),
    ):
        check_refused(name, argument, value)


@pytest.mark.parametrize("name", GRIDS)
def test_grids_of_another_kind(name):
    for value in (None, (3, 4, 5), GRID.to_dict()):
        check_refused(name, "grid", value)


@pytest.mark.parametrize("name", ["match", "match_features", "latent_to_frames", "attention_rows"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_queries_that_are_nowhere(name, value):
    for make in (np.array, torch.tensor):
        check_refused(name, "queries", make([[value, 1.0], [1.0, 1.0], [2.0, 2.0]]))


@pytest.mark.parametrize("name", ["match", "match_features", "attention_rows"])
def test_queries_far_outside_are_refused_without_a_warning(name):
    check_refused(name, "queries", np.array([[1e300, 1.0]]))


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in NO_VARIANT])
def test_unknown_variants(name):
    for variant in ("diftrack", None, 3, b"corrected"):
        with pytest.raises(UsageError, match="Unknown variant"):
            getattr(functional, name)(**good(name), variant=variant)


@pytest.mark.parametrize(
    ("name", "option", "values"),
    [
        ("match", "heads", (None, 1.0, {}, torch.tensor(0), (0, "a"), np.int64(5))),
        ("match", "scale", ("0.5", [1], 10**400, math.inf, 1j, np.complex64(1))),
        ("matching_accuracy", "threshold", ("8", [8], 10**400, math.inf, torch.tensor(8.0))),
        ("latent_to_frames", "video_frames", ("9", 9.0, True, -1)),
        ("tapvid", "mode", (None, np.zeros(2), "last")),
    ],
)
def test_options_of_another_kind(name, option, values):
    for value in values:
        with pytest.raises(UsageError, match=option):
            getattr(functional, name)(**{**good(name), option: value})


@pytest.mark.parametrize(
    ("name", "part"),
    [("confidence_score", part) for part in ("peak_cross", "peak_self", "peak_text")]
    + [("attention_score", part) for part in ("sum_cross", "sum_self", "sum_text")],
)
def test_rows_that_do_not_belong_together(name, part):
    arguments = good(name)
    shorter = arguments["rows"]._replace(**{part: getattr(arguments["rows"], part)[:2]})
    for variant in ("corrected", "difftrack"):
        with pytest.raises(UsageError, match=rf"^(visible|rows\.{part}): expected"):
            getattr(functional, name)(**{**arguments, "rows": shorter, "variant": variant})
    for value in (None, tuple(arguments["rows"]), arguments["rows"]._asdict()):
        check_refused(name, "rows", value)
    check_refused(name, "rows", arguments["rows"]._replace(**{part: "text"}))
