"""Tracks points with any model: by correspondence inside it, or by what it answers (docs/tracking.md)."""
