"""Chooses one of several finished denoisers that share an autoencoder: the seed to ship.

The rule: of all whose loss is within 1 % of the lowest, the one that matches best. Loss is the mean squared error of
the velocity, mean over kinds of validation clips and over timesteps; the noise is the same for all. Matching is the
mean over kinds of the best layer's skill, which is its mean over timesteps. Both come from ``evaluation.json``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from vcorr import MissingError

TOLERANCE = 0.01
"""Largest relative difference of losses that does not decide: losses of two seeds differ by about as much by chance."""


@dataclass(frozen=True)
class Candidate:
    """A finished denoiser: its loss and its matching per kind of validation clips."""

    name: str
    losses: dict[str, float]
    skills: dict[str, float]

    @property
    def loss(self) -> float:
        """Mean of the losses."""
        return fmean(self.losses.values())

    @property
    def skill(self) -> float:
        """Mean of the skills."""
        return fmean(self.skills.values())


def read_candidate(folder: Path) -> Candidate:
    """Reads the evaluation of a finished training.

    Raises:
        MissingError: the folder holds none.
    """
    path = folder / "evaluation.json"
    if not path.is_file():
        raise MissingError(
            f"{folder} holds no evaluation.json.",
            hint=f"Finish the training first, or run: python -m vcorr_tiny.train evaluate --out {folder}",
        )
    matching: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["matching"]
    losses = {kind: fmean(found["loss"].values()) for kind, found in matching.items()}
    skills = {kind: find_best_layer(found["query_key"]).skill for kind, found in matching.items()}
    return Candidate(str(folder), losses, skills)


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """Returns the candidate that the rule chooses."""
    lowest = min(candidate.loss for candidate in candidates)
    near = [candidate for candidate in candidates if candidate.loss <= lowest * (1 + TOLERANCE)]
    return max(near, key=lambda candidate: candidate.skill)


def comparison(candidates: Sequence[Candidate]) -> str:
    """Returns the table that `compare` prints, and the choice."""
    lines = [_line(candidate) for candidate in candidates]
    return "\n".join([*lines, f"chosen: {choose(candidates).name}"]) + "\n"


def _line(candidate: Candidate) -> str:
    kinds = [f"{kind} {candidate.losses[kind]:.4f} {candidate.skills[kind]:.3f}" for kind in candidate.losses]
    detail = ", ".join(kinds)
    return f"{candidate.name}: loss {candidate.loss:.4f}, skill {candidate.skill:.3f} (loss and skill: {detail})"


def rank_layers(matching: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]) -> list[int]:
    """Returns the layers, the one with the highest skill first: mean over timesteps, then over kinds of clips.

    matching: by kind of clips, `query_key` with one list of layers per timestep.
    """
    kinds = [[fmean(layer) for layer in zip(*each["query_key"].values(), strict=True)] for each in matching.values()]
    means = [fmean(layer) for layer in zip(*kinds, strict=True)]
    return sorted(range(len(means)), key=lambda layer: -means[layer])


class BestLayer(NamedTuple):
    """The layer with the highest skill, and this skill, mean over timesteps."""

    skill: float
    layer: int


def find_best_layer(by_timestep: Mapping[str, Sequence[float]]) -> BestLayer:
    """Returns the layer that matches best, from one list of layers per timestep; the first one of several."""
    means = [fmean(layer) for layer in zip(*by_timestep.values(), strict=True)]
    return BestLayer(max(means), means.index(max(means)))
