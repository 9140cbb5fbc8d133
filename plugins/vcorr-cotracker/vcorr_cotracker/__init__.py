"""Brings CoTracker3 to vcorr as trackers. CoTracker is under CC-BY-NC 4.0 and is not part of this package."""
