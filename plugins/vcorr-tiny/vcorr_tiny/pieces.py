"""Lists what the findings are measured from: independent pieces, one command of `vcorr run` each.

A piece has a name, such as ``renoise-hard-seed1``. Its run is found again in any folder of runs by what it asked for.
So pieces can be measured on several machines, and pages are made again from the small copies in leaderboards/results.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from vcorr import StoreError, installed
from vcorr.runner.spec import RunSpec, build_spec
from vcorr.store.fingerprint import plain
from vcorr.store.rundir import RunDirectory, find_runs
from vcorr_tiny.command_runs import Command, Work
from vcorr_tiny.network_folder import SEEDS
from vcorr_tiny.sprites.level_names import HARD, LEVEL_NAMES
from vcorr_tiny.task_pool import Task

CLIPS, FEW = 64, 16
"""Clips of the main pieces, and of pieces that take long or that a smaller table shows."""


@dataclass(frozen=True)
class Place:
    """Data on which everything is measured. name: in names of pieces and in tables. data: options of `vcorr run`."""

    name: str
    data: str = "sprites"
    options: tuple[str, ...] = ()


EASY = Place("easy")
PLACES = (EASY, Place(HARD, options=(f"data.level={HARD}",)), Place("photos", "photos"))
"""Where everything is measured: two levels of `sprites`, and scenes of photographs."""
STRATA = tuple(
    Place(level, options=(f"data.level={level}",)) for level in LEVEL_NAMES if level not in (EASY.name, HARD)
)
"""The levels with one fault each, after the level without any."""

FEATURES = ("feature", "feature-fair", "feature-cos", "feature-cos-token", "hidden-cos")
"""Probes of features; query-key matching is compared with the best of them."""
CONTROLS = ("latent", "qk-position")
"""Probes of what goes into the network, and of positions without content."""
PROBES = ("qk", *CONTROLS, *FEATURES)
TWIN_PROBES = ("qk", "feature-fair", "feature-cos")
TWIN = "tiny-untrained"
PIXELS = ("zncc-search", "dense-search", "token-patches", "nearest-colour")
"""Models that compare pixels. The best site has to beat each of them, and the probe `latent`."""
BASELINES = (*PIXELS, "position-only", "random-token", "zero-motion")
XFEAT = "xfeat"
"""A released network for matching pictures. It is measured if its plugin is installed."""
XFEAT_PROBE = "hidden-cos"
STRATUM_STEPS = "35,42,49"
SCORED = "matching_accuracy,pck,strata"
"""Metrics of the pieces that say how points in front and points of the background are matched."""
TRACKER, SECOND_TRACKER = "dis", "lk"


@dataclass(frozen=True)
class Piece:
    """One command. flags: of `vcorr run` without dashes. options: assignments of `--set`. clips: how many at most.

    folder: where its run is, below the folder of runs.
    """

    name: str
    flags: Mapping[str, str]
    options: tuple[str, ...] = ()
    clips: int = CLIPS
    folder: str = ""

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.flags["model"]

    @property
    def is_network(self) -> bool:
        """Whether a network runs, which a GPU makes faster."""
        return self.model.startswith("tiny") or self.model == XFEAT

    @property
    def arguments(self) -> list[str]:
        """The words of the command after `vcorr`, without number of clips, device and folder."""
        flags = [word for name, value in self.flags.items() for word in (f"--{name}", value)]
        return ["run", *flags, *(word for option in self.options for word in ("--set", option))]


def _piece(name: str, place: Place, model: str, *options: str, clips: int = CLIPS, **flags: str) -> Piece:
    return Piece(name, {"model": model, "data": place.data, **flags}, (*place.options, *options), clips)


def renoise(place: Place, seed: int) -> Piece:
    """Returns the piece that reads every probe at eight steps."""
    weights, probe = f"seed:{seed}", ",".join(PROBES)
    return _piece(f"renoise-{place.name}-seed{seed}", place, "tiny", weights=weights, probe=probe)


def heads(place: Place, seed: int) -> Piece:
    """Returns the piece that reads every head at the cleanest step, with scores by layer of the scene."""
    options, weights = ("probe.heads=each", f"metrics={SCORED}"), f"seed:{seed}"
    name = f"heads-{place.name}-seed{seed}"
    return _piece(name, place, "tiny", *options, weights=weights, probe="qk,latent", steps="last")


def invert(seed: int) -> Piece:
    """Returns the piece that walks few hard clips back along the sampler."""
    flags = {"weights": f"seed:{seed}", "probe": "qk,latent", "mode": "invert"}
    return _piece(f"invert-{HARD}-seed{seed}", PLACES[1], "tiny", "num_steps=20", clips=FEW, **flags)


def generate(seed: int, tracker: str = TRACKER) -> Piece:
    """Returns the piece that samples videos from the captions of `easy`, with one of two trackers."""
    weights, probe = f"seed:{seed}", ",".join(("qk", "latent", *FEATURES, "attention"))
    options = ("num_steps=20", "cfg=2", f"tracker={tracker}")
    second = tracker != TRACKER
    name = f"generate-{EASY.name}-seed{seed}" + (f"-{tracker}" if second else "")
    piece = _piece(name, EASY, "tiny", *options, weights=weights, probe=probe, mode="generate")
    return dataclasses.replace(piece, folder=f"{tracker}-seed{seed}" if second else "")


def stratum(place: Place, seed: int) -> Piece:
    """Returns the piece of a level with one fault: three clean steps on few clips."""
    flags = {"weights": f"seed:{seed}", "probe": "qk,latent", "steps": STRATUM_STEPS}
    return _piece(f"renoise-{place.name}-seed{seed}", place, "tiny", clips=FEW, **flags)


def twin(place: Place) -> Piece:
    """Returns the piece of the untrained twin."""
    return _piece(f"untrained-{place.name}", place, TWIN, probe=",".join(TWIN_PROBES))


def baseline(place: Place, model: str) -> Piece:
    """Returns the piece of a model without training on these videos."""
    clips = FEW if place in STRATA else CLIPS
    probe = {"probe": XFEAT_PROBE} if model == XFEAT else {}
    options = () if place in STRATA else (f"metrics={SCORED}",)
    return _piece(f"{model}-{place.name}", place, model, *options, clips=clips, **probe)


def list_baselines(place: Place) -> tuple[str, ...]:
    """Returns the models that are compared with the embedded one, and XFeat if it is installed.

    On a level with one fault these are the ones that compare pixels.
    """
    return (*(PIXELS if place in STRATA else BASELINES), *((XFEAT,) if XFEAT in installed().models.names() else ()))


def all_pieces() -> tuple[Piece, ...]:
    """Returns all pieces that do not need another one; the long ones first. `generated` adds what runs on videos."""
    return (
        *(generate(seed) for seed in SEEDS),
        *(invert(seed) for seed in SEEDS),
        *(piece for seed in SEEDS for place in PLACES for piece in (renoise(place, seed), heads(place, seed))),
        *(twin(place) for place in PLACES),
        *(stratum(place, seed) for place in STRATA for seed in SEEDS),
        *(baseline(place, model) for place in (*PLACES, *STRATA) for model in list_baselines(place)),
    )


# ------------------------------------------------------------------------------------------------------------- stored


class StoredRun(NamedTuple):
    """A run and the contents of its run.json."""

    run: RunDirectory
    record: Mapping[str, Any]


@dataclass(frozen=True)
class StoredRuns:
    """The complete runs in a folder and in its folders, the newest first, over at most `limit` clips each."""

    folder: Path
    limit: int
    runs: Sequence[StoredRun] = field(repr=False)

    @classmethod
    def read(cls, folder: Path, limit: int) -> StoredRuns:
        """Reads the records of all runs."""
        inside = sorted(path for path in folder.glob("*") if path.is_dir()) if folder.is_dir() else []
        found = {run.path: run for place in (folder, *inside) for run in find_runs(place)}
        stored = [StoredRun(run, run.record()) for run in found.values()]
        complete = [each for each in stored if each.record["status"] == "complete"]
        return cls(folder, limit, sorted(complete, key=lambda each: str(each.record["updated"]), reverse=True))

    def find(self, piece: Piece) -> RunDirectory:
        """Returns the newest run of a piece.

        Raises:
            StoreError: there is none.
        """
        asked, clips = _comparable(_spec_of(piece)), min(self.limit, piece.clips)
        for run, record in self.runs:
            if record["clips"]["total"] == clips and _comparable(record["spec"]) == asked:
                return run
        raise StoreError(
            f"No complete run of {piece.name} over {clips} clips is in {self.folder}.",
            hint=f"Measure it with: --only {piece.name}",
        )

    def holds(self, piece: Piece) -> bool:
        """Returns whether there is a run of a piece."""
        try:
            self.find(piece)
        except StoreError:
            return False
        return True

    def find_on_videos(self, model: str, made_by: RunDirectory) -> RunDirectory | None:
        """Returns the run of a model without noise on the videos that another run generated; None if there is none."""
        for run, record in self.runs:
            videos = record.get("videos_of") or {}
            if record["spec"]["model"] == model and videos.get("run") == made_by.record()["run"]:
                return run
        return None


def _spec_of(piece: Piece) -> dict[str, Any]:
    return dataclasses.asdict(build_spec(piece.flags, assignments=piece.options))


def _comparable(spec: Mapping[str, Any]) -> str:
    """Returns what a run was asked for as text, without what does not belong to the question: device, clips."""
    left_out = {"limit", "device", "dtype", "executor", "workers", "offload", "vae_tiling", "save_videos"}
    usual = {f.name: f.default for f in dataclasses.fields(RunSpec) if f.default is not dataclasses.MISSING}
    said = {**usual, **json.loads(json.dumps(plain(dict(spec))))}
    return json.dumps({name: value for name, value in said.items() if name not in left_out}, sort_keys=True)


# ---------------------------------------------------------------------------------------------------------- measuring


SECONDS = {"generate": 4.0, "renoise": 2.5, "heads": 2.0, "untrained": 1.5, "invert": 12.0, "zncc-search": 2.5}
"""About how long a clip takes, by the kind of piece; other pieces take half a second."""


def task_of(work: Work, piece: Piece) -> Task:
    """Returns the task of a piece. One that was interrupted goes on."""
    return Task(piece.name, lambda: command_of(work, piece), seconds=estimate(work, piece))


def estimate(work: Work, piece: Piece) -> float:
    """Returns about how many seconds a piece takes."""
    kind = next((kind for kind in SECONDS if piece.name.startswith(kind)), "")
    return 8.0 + SECONDS.get(kind, 0.5) * min(work.limit, piece.clips)


def command_of(work: Work, piece: Piece) -> Command:
    """Returns the command of a piece with folder and number of clips."""
    clips = str(min(work.limit, piece.clips))
    words = (*piece.arguments, "--out", str(work.out / piece.folder), "--limit", clips)
    return Command(words, piece.is_network, optional=piece.model == XFEAT)
