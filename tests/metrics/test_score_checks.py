"""What a metric returns fits into the table of scores, or is an error that names the column."""

import pytest

from vcorr import MetricBase, PluginError, Score
from vcorr.metrics.score_checks import check_scores


def test_a_count_that_the_table_cannot_hold_is_refused() -> None:
    assert check_scores(MetricBase(), {"near": Score(0.5, 2**31 - 1)})["near"].n == 2**31 - 1
    with pytest.raises(PluginError, match="The n of near is 2147483648; a table holds 2147483647 at most"):
        check_scores(MetricBase(), {"near": Score(0.5, 2**31)})
