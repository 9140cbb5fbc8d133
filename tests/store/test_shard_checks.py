"""Rows of shards that cannot be right are refused when they are read."""

from __future__ import annotations

import pytest

from vcorr.store.schema import schema
from vcorr.store.shard_checks import check_rows


@pytest.mark.parametrize("table", ["predictions", "scores"])
def test_a_table_without_a_row_is_refused(table) -> None:
    with pytest.raises(ValueError, match="it has no row"):
        check_rows(schema(table).empty_table(), table)


def test_a_clip_may_have_no_tracks() -> None:
    check_rows(schema("tracks").empty_table(), "tracks")
