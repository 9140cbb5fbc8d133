"""Makes installed distributions in a folder: module, metadata and entry point, found on sys.path as pip's are."""

from __future__ import annotations

import textwrap
from pathlib import Path

GOOD = "Exact whole-token motion, seen by attention"


def install(folder: Path, distribution: str, source: str, *, version: str = "1.0", entry_point: str = "") -> Path:
    """Puts a module named like the distribution, with its entry point, into `folder`; returns the module's file."""
    module = distribution.replace("-", "_")
    path = folder / f"{module}.py"
    path.write_text(textwrap.dedent(source))
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[vcorr]\n{entry_point or distribution} = {module}\n")
    return path
