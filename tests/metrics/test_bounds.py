"""The floor."""

from __future__ import annotations

import numpy as np

from vcorr.metrics import zero_motion


def test_zero_motion_stays():
    queries = np.float32([[1, 2], [3, 4]])
    still = zero_motion(queries, 3)
    assert still.shape == (2, 3, 2)
    assert still.dtype == np.float32
    assert (still == queries[:, None]).all()
