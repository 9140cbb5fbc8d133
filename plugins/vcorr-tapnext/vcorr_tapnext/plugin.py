"""Lists the tracker for vcorr. Imports neither torch nor tapnet."""

from __future__ import annotations

from collections.abc import Iterable

from vcorr import TrackerEntry, hookimpl
from vcorr_tapnext.config import NAME, VERSION

LICENCE = "Apache-2.0"


@hookimpl
def vcorr_trackers() -> Iterable[TrackerEntry]:
    """Returns the entry of TAPNext++."""
    return [
        TrackerEntry(
            name=NAME,
            summary="TAPNext++, frame by frame; supervised on tracks. Needs the package tapnet and its weights.",
            factory="vcorr_tapnext.tracker:TapNext",
            config="vcorr_tapnext.config:TapNextConfig",
            version=VERSION,
            licence=LICENCE,
            notice=f"{NAME}: TAPNext++ of Google DeepMind, code and weights under {LICENCE}. It was trained on tracks: "
            "compare it as a ceiling and not as a zero-shot method.",
        )
    ]
