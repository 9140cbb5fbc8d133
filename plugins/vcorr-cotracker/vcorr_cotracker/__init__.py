"""CoTracker3 as trackers of vcorr. CoTracker is under CC-BY-NC 4.0 and is not part of this package."""
