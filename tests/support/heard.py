"""What a run says and writes, for tests that compare executors."""

from __future__ import annotations

from vcorr.runner.events import Silent
from vcorr.store.rundir import TABLES, RunDirectory


class Listening(Silent):
    """Keeps notes and clips in the order in which they come.

    interrupt: whether the first clip that is done interrupts the run.
    """

    def __init__(self, *, interrupt: bool = False) -> None:
        self.notes: list[str] = []
        self.ends: list[str] = []
        self.steps: dict[str, int] = {}
        self._interrupt = interrupt

    def step_done(self, clip_id: str) -> None:
        self.steps[clip_id] = self.steps.get(clip_id, 0) + 1

    def clip_done(self, clip_id: str, *, reused: bool) -> None:
        self.ends.append(clip_id)
        if self._interrupt:
            raise KeyboardInterrupt

    def clip_failed(self, clip_id: str, error: str) -> None:
        self.ends.append(f"{clip_id}: {error}")

    def note(self, message: str) -> None:
        self.notes.append(message)


def shards_of(run: RunDirectory) -> dict[str, bytes]:
    """Returns the bytes of every shard, by table and name."""
    return {
        str(path.relative_to(run.path)): path.read_bytes() for table in TABLES for path in (run.path / table).iterdir()
    }
