"""Events that a run reports while it works."""

from __future__ import annotations

from typing import Protocol


class Events(Protocol):
    """Receives what a run reports while it works. Every method must return at once."""

    def clip_started(self, clip_id: str) -> None:
        """Says that the model begins to work on a clip."""

    def step_done(self, clip_id: str) -> None:
        """Says that the model has finished one step of a clip. Several clips can be worked on at a time."""

    def clip_done(self, clip_id: str, *, reused: bool) -> None:
        """Says that the shards of a clip are on disk. reused: whether the clip was predicted by an earlier command."""

    def clip_failed(self, clip_id: str, error: str) -> None:
        """Says that a clip could not be predicted; a row holds the error."""

    def note(self, message: str) -> None:
        """Says something that the user should know."""


class Silent:
    """Ignores all events."""

    def clip_started(self, clip_id: str) -> None:
        """Ignores the event."""

    def step_done(self, clip_id: str) -> None:
        """Ignores the event."""

    def clip_done(self, clip_id: str, *, reused: bool) -> None:
        """Ignores the event."""

    def clip_failed(self, clip_id: str, error: str) -> None:
        """Ignores the event."""

    def note(self, message: str) -> None:
        """Ignores the event."""
