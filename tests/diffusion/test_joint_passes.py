"""Processes that share every pass of Wan and LTX-Video predict what one process predicts, with every probe."""

import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from support import joint_passes
from support.joint_passes import Found
from support.processes import PATIENCE

ADDED = {
    *("qk", "qk-position", "kk unrotated", "qq", "vv", "feature", "feature-fair", "feature-cos", "hidden-fair"),
    *("qk radius", "attention", "head-traits"),
}
"""What is a mean over heads: the processes add it up. For anything else they join the heads."""
SHARED = [(model, count) for model, (_, counts) in joint_passes.MODELS.items() for count in counts[1:]]
FRAMES_OF_QUERIES, SITES = 2, 2
ROUNDING = 1e-5
"""The largest difference, in pixels or in attention: sums over heads are rounded in another order."""


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[tuple[str, int], list[Found]]:
    """What each process of one, two and four has found, by model and number of processes."""
    folder, program = tmp_path_factory.mktemp("found"), Path(joint_passes.__file__)
    done = subprocess.run(
        [sys.executable, str(program), str(folder)], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    return {
        (model, count): [
            Found(**pickle.loads((folder / f"{model}-{count}-{rank}.pickle").read_bytes())) for rank in range(count)
        ]
        for model, (_, counts) in joint_passes.MODELS.items()
        for count in counts
    }


@pytest.mark.parametrize(("model", "count"), SHARED)
def test_every_process_predicts_what_one_process_predicts(found, model, count):
    (alone,) = found[model, 1]
    assert {head for *_, head in alone.predictions} == {-1, 0, 1, 2, 3}
    for process in found[model, count]:
        assert process.predictions.keys() == alone.predictions.keys()
        for key, expected in alone.predictions.items():
            np.testing.assert_allclose(process.predictions[key], expected, rtol=0, atol=ROUNDING, err_msg=str(key))


@pytest.mark.parametrize(("model", "count"), SHARED)
def test_a_sum_over_heads_is_one_call_per_reading_and_each_tensor_is_joined_once_at_most(found, model, count):
    assert found[model, 1][0].calls == []
    for process in found[model, count]:
        calls = Counter("sums" if name == "all_reduce" else "joins" for name, _ in process.calls)
        means = SITES * len("qk")  # for qk-position: the mean content of the tokens of all processes
        assert calls["sums"] == FRAMES_OF_QUERIES * SITES * len(ADDED) + means
        # q, k, v, out, keys of the (empty) text, the hidden state, and q and k before the rotary embedding
        assert calls["joins"] <= SITES * 8
        assert process.calls == found[model, count][0].calls
