"""What a run reports while it goes on."""

from __future__ import annotations

from typing import Protocol


class Events(Protocol):
    """What a run reports while it goes on. All methods return at once."""

    def clip_started(self, clip_id: str) -> None:
        """A clip goes into the model."""

    def step_done(self) -> None:
        """One step of the clip is through the model."""

    def clip_done(self, clip_id: str, *, reused: bool) -> None:
        """A clip's shards are on disk."""

    def clip_failed(self, clip_id: str, error: str) -> None:
        """A clip could not be predicted; its failure is a row."""

    def note(self, message: str) -> None:
        """Something the user should know."""


class Silent:
    """Events nobody listens to."""

    def clip_started(self, clip_id: str) -> None:
        """Ignored."""

    def step_done(self) -> None:
        """Ignored."""

    def clip_done(self, clip_id: str, *, reused: bool) -> None:
        """Ignored."""

    def clip_failed(self, clip_id: str, error: str) -> None:
        """Ignored."""

    def note(self, message: str) -> None:
        """Ignored."""
