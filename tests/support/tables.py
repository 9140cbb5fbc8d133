"""Tables compared bit by bit: NaN is NaN, which Arrow's own `equals` denies."""

from __future__ import annotations

import pyarrow as pa


def same(first: pa.Table, second: pa.Table) -> bool:
    """Whether two tables have the same columns and the same values in them."""
    return first.schema.equals(second.schema) and repr(first.to_pydict()) == repr(second.to_pydict())
