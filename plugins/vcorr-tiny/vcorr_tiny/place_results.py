"""Reads what was measured at one place with one training seed, and says which statements hold there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.stats.intervals import clip_means, skill, skill_interval
from vcorr.stats.series import Series
from vcorr_tiny import pieces
from vcorr_tiny.heads import Heads
from vcorr_tiny.pieces import (
    BASELINES,
    FEATURES,
    PIXELS,
    TWIN,
    TWIN_PROBES,
    XFEAT,
    XFEAT_PROBE,
    Place,
    StoredRuns,
)
from vcorr_tiny.reported_rows import ACROSS, ALL_POINTS, QK, Results, Row, Source, read_results
from vcorr_tiny.seed_statements import find_weakest
from vcorr_tiny.sprites.level_names import HARD
from vcorr_tiny.statements import Difference, Statement, correct

BEATS = "**The best site beats every pixel and latent baseline**; smallest difference in gain"
"""The purpose of the hard data."""


@dataclass(frozen=True)
class Measured:
    """What was measured at a place with one seed.

    results: of the network, its twin and the baselines. heads: of the run that read single heads. by_layer: the runs
    with scores by layer of the scene, baselines included. inverted: of mode `invert`, None where it was not run.
    """

    place: Place
    seed: int
    results: Results
    heads: Heads
    by_layer: Results
    inverted: Results | None = None

    @classmethod
    def read(cls, stored: StoredRuns, place: Place, seed: int) -> Measured:
        """Reads the runs of a place and a seed.

        Raises:
            StoreError: one of them is missing.
        """
        others = [pieces.baseline(place, model) for model in BASELINES]
        extra = pieces.baseline(place, XFEAT)
        others += [extra] if stored.holds(extra) else []
        compared = [stored.find(piece) for piece in others]
        twin, heads = stored.find(pieces.twin(place)), stored.find(pieces.heads(place, seed))
        return cls(
            place,
            seed,
            read_results([stored.find(pieces.renoise(place, seed)), twin, *compared]),
            Heads.read(heads),
            read_results([heads, *compared], None),
            read_results([stored.find(pieces.invert(seed))]) if place.name == HARD else None,
        )

    @property
    def steps(self) -> list[int]:
        """The steps that were read, the noisiest first."""
        return sorted({site["step"] for site in self.results.get(*QK).sites})

    @property
    def compared(self) -> list[str]:
        """The baselines that were measured here."""
        return [model for model in (*BASELINES, XFEAT) if source_of(model) in self.results.sources]

    def statements(self) -> list[Statement]:
        """Returns every statement with its interval, corrected for all comparisons; the main one first."""
        baselines = self._against_baselines()
        found = correct([*self._skills(), *self._head_statements(), *baselines, *self._invert_statements()])
        by_text = {s.text: s for s in found}
        rivals = [by_text[_gain_text(model)] for model in (*PIXELS, "latent")]
        return [find_weakest(BEATS, rivals), *found]

    def find_rival(self) -> str:
        """Returns the pixel or latent baseline against which the best site has the smallest difference."""
        differences = {s.text: float(s.interval.estimate) for s in self._against_baselines()}
        return min((*PIXELS, "latent"), key=lambda model: differences[_gain_text(model)])

    def _skills(self) -> list[Statement]:
        results, steps = self.results, self.steps
        qk, last, middle = results.choose([QK]), steps[-1], steps[len(steps) // 2]
        at_last = results.choose([QK], steps=[last])
        half = len(steps) // 2
        late, early = results.choose([QK], steps=steps[half:]), results.choose([QK], steps=steps[:half])
        rows = {
            f"Few layers match: best minus median layer at step {last}": (at_last, median_layer(results, QK, last)),
            f"Noise hinders matching: best layer at step {last} minus step {middle}": (
                at_last,
                at_last.at_step(middle),
            ),
            "Late steps match better: best site of the later half of the steps minus the earlier half": (late, early),
            "Queries and keys match better than the best of five probes of features": (
                qk,
                results.choose([("tiny", probe) for probe in FEATURES]),
            ),
            "They match by content: `qk` minus `qk-position`": (qk, results.choose([("tiny", "qk-position")])),
            "The network adds to its input: `qk` minus `latent`": (qk, results.choose([("tiny", "latent")])),
            "Training makes it: `qk` minus the best probe of the untrained twin": (
                qk,
                results.choose([(TWIN, probe) for probe in TWIN_PROBES]),
            ),
        }
        return [
            Statement("Skill of the best site of `qk`", skill_interval(*qk.scores()), 0.5),
            *(Statement.comparing(f"{text}; skill", compare(*pair)) for text, pair in rows.items()),
        ]

    def _head_statements(self) -> list[Statement]:
        text = "The mean over heads hides heads: the head furthest above the mean of its layer, minus this mean; skill"
        best = "The best single head minus the best mean over heads; skill"
        return [
            Statement.comparing(text, self.heads.compare_hidden()),
            Statement.comparing(best, self.heads.compare_best(), None),
        ]

    def _against_baselines(self) -> list[Statement]:
        """Compares the best site with models that were not trained on these videos, and with the latents, as gain."""
        qk = self.results.choose([QK])
        rows = {model: self.results.choose([source_of(model)]) for model in self.compared if model != "zero-motion"}
        rows["latent"] = self.results.choose([("tiny", "latent")])
        still = self.results.choose([source_of("zero-motion")])  # right for no moving point, by definition
        means = Difference.of_means(*(np.asarray(row.scores(ALL_POINTS).score) for row in (qk, still)))
        return [
            *(
                Statement.comparing(_gain_text(name), Difference.of_gains(qk.scores(ACROSS), row.scores(ACROSS)), None)
                for name, row in rows.items()
            ),
            Statement.comparing("`qk` minus `zero-motion`; all points, accuracy", means),
        ]

    def _invert_statements(self) -> list[Statement]:
        if self.inverted is None:
            return []
        inverted = self.inverted.choose([QK])
        noised = self.results.select_clips(self.inverted.get(*QK).clips).choose([QK])
        text = "Inverted latents minus noised ones, best sites on the same clips; skill"
        return [Statement.comparing(text, compare(inverted, noised), None)]


def source_of(model: str) -> Source:
    """Returns model and probe of a baseline."""
    return model, XFEAT_PROBE if model == XFEAT else "direct"


def _gain_text(name: str) -> str:
    return f"`qk` minus `{name}`; gain"


def compare(a: Row, b: Row) -> Difference:
    """Compares the skills of two rows on moving points."""
    return Difference.of_skills(a.scores(), b.scores())


def median_layer(results: Results, source: Source, step: int) -> Row:
    """Returns the row of the layer in the middle of the ranking by skill at a step; of two, the better one.

    Each half of the clips ranks the layers for the other half.
    """

    def choose(s: Series, clips: NDArray[np.int64]) -> tuple[int, int]:
        here = np.array([i for i, site in enumerate(s.sites) if site["step"] == step])
        means, _ = clip_means([array[np.ix_(clips, here)] for array in s.rising])
        ranked = np.argsort(skill(*means), kind="stable")
        return int(s.sites[here[ranked[len(here) // 2]]]["layer"]), step

    return results.choose_by(source, choose)


def best_steps(s: Series, least: float) -> dict[int, Any]:
    """Returns the step with the highest skill of each layer, over all clips; None if it never reaches `least`."""
    found: dict[int, Any] = {}
    for layer in sorted({site["layer"] for site in s.sites}):
        here = [(float(v), site["step"]) for site, v in zip(s.sites, s.skill, strict=True) if site["layer"] == layer]
        value, step = max((value, step) for value, step in here if not np.isnan(value))
        found[layer] = step if value >= least else None
    return found


def read_places(stored: StoredRuns, places: Sequence[Place], seeds: Sequence[int]) -> dict[str, list[Measured]]:
    """Returns what was measured at each place, with each seed."""
    return {place.name: [Measured.read(stored, place, seed) for seed in seeds] for place in places}
