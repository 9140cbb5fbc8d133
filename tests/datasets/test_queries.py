"""Query grids, and the clips that ask for one."""

import numpy as np
import pytest

from vcorr import Clip, UsageError
from vcorr.data import query_grid


def test_the_grid_keeps_its_margin():
    grid = query_grid(20, 128, 128)
    assert grid.shape == (400, 2)
    assert grid.dtype == np.float32
    assert grid.min() == 2
    assert grid.max() == 126
    assert grid[1, 0] > grid[0, 0]
    assert grid[1, 1] == grid[0, 1]
    assert query_grid(1, 100, 60).tolist() == [[30, 50]]


def test_the_margin_is_of_the_width():
    grid = query_grid(3, 480, 720)
    assert grid[0].tolist() == [11.25, 11.25]
    assert grid[-1].tolist() == [720 - 11.25, 480 - 11.25]


def test_a_clip_has_queries_or_a_side():
    with pytest.raises(UsageError, match="query_side"):
        Clip("a", "", np.float32([[1, 2]]), query_side=3)
    with pytest.raises(UsageError, match="query_side"):
        Clip("a", "", np.zeros((0, 2), np.float32), query_side=-1)
