"""Finds the folder in which vcorr keeps what it fetched or converted once, such as imported datasets and weights.

It is `VCORR_HOME`. If the variable is not set, the folder is `$XDG_DATA_HOME/vcorr`; if that is not set either,
`~/.local/share/vcorr`.
"""

from __future__ import annotations

import os
from pathlib import Path

from vcorr.contract.text_files import expand_home

HOME_VARIABLE = "VCORR_HOME"


def home_folder() -> Path:
    """Returns the folder, which need not exist yet."""
    named = os.environ.get(HOME_VARIABLE)
    if named:
        return expand_home(named)
    shared = os.environ.get("XDG_DATA_HOME")
    return (Path(shared) if shared else Path.home() / ".local" / "share") / "vcorr"
