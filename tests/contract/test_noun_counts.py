"""Numbers of things in words."""

import pytest

from vcorr.contract.noun_counts import say_count


@pytest.mark.parametrize(("number", "text"), [(0, "0 clips"), (1, "1 clip"), (2, "2 clips"), (21, "21 clips")])
def test_only_one_is_singular(number, text):
    assert say_count(number, "clip") == text
