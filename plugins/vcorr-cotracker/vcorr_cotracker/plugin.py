"""The plugin: which trackers there are. Imports neither torch nor cotracker."""

from __future__ import annotations

from collections.abc import Iterable

from vcorr import TrackerEntry, hookimpl
from vcorr_cotracker.config import OFFLINE, ONLINE, VERSION

LICENCE = "CC-BY-NC-4.0"


@hookimpl
def vcorr_trackers() -> Iterable[TrackerEntry]:
    """CoTracker3, which sees the whole video at once or a window of it at a time."""
    kinds = {OFFLINE: ("Offline", "the whole video at once"), ONLINE: ("Online", "sixteen frames at a time")}
    return [
        TrackerEntry(
            name=name,
            summary=f"CoTracker3, {how}; needs the package cotracker and its weights.",
            factory=f"vcorr_cotracker.tracker:{kind}",
            config=f"vcorr_cotracker.config:{kind}Config",
            version=VERSION,
            licence=LICENCE,
            notice=f"{name}: the code and the weights of CoTracker are under {LICENCE}, for non-commercial use only. "
            "Tracks made with it are marked with that licence, and every score computed from them names the tracker.",
        )
        for name, (kind, how) in kinds.items()
    ]
