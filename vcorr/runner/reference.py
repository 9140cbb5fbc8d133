"""Says where the reference tracks of a run come from: known by construction, or pseudo tracks that a tracker made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vcorr.contract.records import Clip
from vcorr.runner.parts import Part

EXACT = "exact"
"""The `tracker` of tracks that are known by construction."""


@dataclass(frozen=True)
class Reference:
    """The reference tracks of a run.

    tracker: what made them, `EXACT` if they are known by construction, "" if the data do not say. version: of the
    tracker; 0 if it is not known. stored: whether they came with the data; if not, the run makes them. packages:
    versions of the packages that made them, if the run makes them.
    """

    tracker: str
    version: int = 0
    stored: bool = True
    packages: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, tracker: Part | None, packages: Mapping[str, str], first: Clip | None) -> Reference:
        """Returns the reference of a plan.

        Args:
            tracker: the tracker of the run; None if the tracks come with the data.
            packages: versions of the packages that the tracker needs.
            first: the first clip; None if it could not be read.
        """
        if tracker is not None:
            return cls(tracker.entry.name, tracker.entry.version, stored=False, packages=packages)
        tracks = None if first is None else first.tracks
        return cls("") if tracks is None else cls(tracks.tracker, tracks.version)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Reference:
        """Reads the reference from a run's record. Records of earlier versions only say which tracker the run used."""
        found = record.get("reference")
        if isinstance(found, Mapping):
            return cls(
                str(found.get("tracker", "")),
                found.get("version") or 0,
                found.get("stored") is True,
                found.get("packages") or {},
            )
        tracker = record.get("tracker") or {}
        return cls(tracker.get("name", ""), tracker.get("version", 0), not tracker, tracker.get("versions") or {})

    @property
    def pseudo(self) -> bool:
        """Whether a tracker made the tracks, so that they are estimates and have errors of their own."""
        return self.tracker not in ("", EXACT)

    @property
    def text(self) -> str:
        """Where the tracks come from, in words."""
        if not self.pseudo:
            return "exact, known by construction" if self.tracker else "the data's own"
        version = f" version {self.version}" if self.version else ""
        packages = "".join(f", {name} {each}" for name, each in self.packages.items())
        stored = ", stored with the data" if self.stored else ""
        return f"pseudo tracks by {self.tracker}{version}{packages}{stored}; a tracker's estimate, not ground truth"

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return {
            "tracker": self.tracker,
            "version": self.version,
            "stored": self.stored,
            "pseudo": self.pseudo,
            "packages": dict(self.packages),
        }
