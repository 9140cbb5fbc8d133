"""Lists the trackers for vcorr. Imports neither torch nor cotracker."""

from __future__ import annotations

from collections.abc import Iterable

from vcorr import TrackerEntry, hookimpl
from vcorr_cotracker.config import OFFLINE, ONLINE, VERSION

LICENCE = "CC-BY-NC-4.0"


@hookimpl
def vcorr_trackers() -> Iterable[TrackerEntry]:
    """Returns the entries of CoTracker3, which reads the whole video at once, or one window at a time."""
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
            "Its tracks carry this licence, and every score that is computed from them names the tracker.",
        )
        for name, (kind, how) in kinds.items()
    ]
