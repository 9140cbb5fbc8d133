"""Writes dataset cards: README.md of a dataset folder, for the Hugging Face hub and `datasets.load_dataset`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from vcorr.data.clip_row import ClipRow
from vcorr.data.clip_table import COLUMNS, MEANINGS, SUFFIX

_USE = """\
```python
from datasets import load_dataset

table = load_dataset("DIR_OR_HUB_ID", split="{split}")
```

Videos are stored next to the table as FFV1 in Matroska, bit for bit. `video_sha256` is the hash of the frames that the
tracks were made on. Positions are raster pixels (x right, y down, the outer corner of the first pixel at 0), flattened
row-major: `queries` is N x 2, `xy` N x T x 2, `visible` N x T, with N = `points` and T = `frames`.

With vcorr: `vcorr run --model MODEL --probe qk --data DIR`
"""


def card(name: str, rows: Sequence[ClipRow], about: str, origin: Mapping[str, Any]) -> str:
    """Returns the text of the card.

    Args:
        name: name of the dataset.
        rows: its clips.
        about: a paragraph on what the dataset is, and on which videos its tracks hold for.
        origin: facts on how the dataset was made; they are listed as they are.
    """
    split = rows[0].split
    parts = [
        f"---\n{yaml.safe_dump(_front(name, split), sort_keys=False, allow_unicode=True)}---",
        f"# {name}",
        about,
        "\n".join(f"- {fact}" for fact in [*_facts(rows), *(f"{key}: {value}" for key, value in origin.items())]),
        "## Use",
        _USE.format(split=split).strip(),
        "## Columns",
        "\n".join(f"- `{field.name}` ({field.type}): {MEANINGS[field.name]}" for field in COLUMNS),
    ]
    return "\n\n".join(parts) + "\n"


def _front(name: str, split: str) -> dict[str, Any]:
    # without `configs`, the hub would read the videos next to the table as the data
    files = [{"split": split, "path": f"data/*{SUFFIX}"}]
    return {
        "pretty_name": name,
        "license": "other",
        "tags": ["vcorr", "video", "point-tracking"],
        "configs": [{"config_name": "default", "data_files": files}],
    }


def _facts(rows: Sequence[ClipRow]) -> list[str]:
    counts = Counter(row.status for row in rows)
    videos = sum(bool(row.video) for row in rows)
    sizes = sorted({f"{row.frames} frames of {row.width} x {row.height}" for row in rows if row.frames})
    return [
        "clips: " + ", ".join(f"{count} {status}" for status, count in counts.items()) + f"; {videos} with a video",
        f"size: {'; '.join(sizes) or 'none'}",
        f"model: {_each(rows, 'model')}, weights {_each(rows, 'weights')}",
        f"tracker: {_each(rows, 'tracker')}, licence {_each(rows, 'tracker_licence')}",
    ]


def _each(rows: Sequence[ClipRow], column: str) -> str:
    return ", ".join(sorted({str(getattr(row, column)) for row in rows} - {""})) or "none"
