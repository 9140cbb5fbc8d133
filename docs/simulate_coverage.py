"""Simulates what intervals, tests, choices and regret of vcorr.stats reach, for docs/statistics.md.

    python docs/simulate_coverage.py --docs docs            also write them into the page
    python docs/simulate_coverage.py --sites-from RUN       first store the scores of a run

The shipped functions are called on samples whose truth is known. Sites to choose from are real: `tests/data/sites.npz`
holds the scores of all layers and steps of the embedded model. Its clips are taken as the population: samples are drawn
from them with replacement, so the true skill of every site is known. The percentile bootstrap, which vcorr does
not use, is kept here for comparison.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcorr.stats.choice import CrossFit, cross_fit
from vcorr.stats.halves import split_clips
from vcorr.stats.intervals import Bounded, Interval, compare_skills, mean_interval, skill, skill_interval
from vcorr.stats.sign_flips import holm, sign_flip_test

Floats = NDArray[np.float64]
Generator = np.random.Generator

SIZES = (6, 8, 16, 32, 64)
"""Numbers of clips of the coverage table."""
FEW = (2, 4, 6, 8, 16)
"""Numbers of clips of the test's false positives."""
LEVEL = 0.05
REQUIRED = 0.93, 0.97
"""Coverage that is required of 95 % intervals from 8 clips on, where a scenario says so."""
FAMILY = 10
"""Number of comparisons in a family: "best of ten layers"."""
SITES_FILE = Path(__file__).resolve().parents[1] / "tests" / "data" / "sites.npz"
SITES_METRIC = "matching_accuracy_moving"
MARKERS = ("<!-- coverage -->", "<!-- /coverage -->")


@dataclass(frozen=True)
class Effort:
    """How many samples are drawn. 7500 samples give a coverage of 0.95 to 0.005, with 95 % confidence."""

    samples: int = 7500
    choices: int = 7500
    """Samples in which sites are chosen, one call each."""
    tests: int = 7500
    families: int = 3000
    resamples: int = 1000
    """Resamples of the percentile bootstrap."""


SMALL = Effort(samples=2000, choices=200, tests=2000, families=200, resamples=200)
"""Enough to see a large fault, in a few seconds."""


# ------------------------------------------------------------------------------------------------------------ scenarios


@dataclass(frozen=True)
class Scenario:
    """Samples with a known truth. `draw(generator, clips, samples)` returns arrays (clips, samples)."""

    name: str
    draw: Callable[[Generator, int, int], list[Floats]]
    truth: float
    required: bool = False
    """Whether a coverage of 0.93 to 0.97 is required from 8 clips."""

    def interval(self, arrays: list[Floats]) -> Interval:
        """Returns the shipped interval: of one array the mean, of three the skill, of six the difference of skills."""
        if len(arrays) == 1:
            return mean_interval(arrays[0])
        if len(arrays) == 3:
            return skill_interval(*arrays)
        return compare_skills(Bounded(*arrays[:3]), Bounded(*arrays[3:]))

    def statistic(self, means: list[Floats]) -> Floats:
        """Returns the statistic of means over clips, for the bootstrap."""
        if len(means) == 1:
            return means[0]
        first = skill(*means[:3])
        return first if len(means) == 3 else first - skill(*means[3:])


def scenarios(sites: Sites) -> list[Scenario]:
    """Returns the scenarios of the coverage table."""
    best, second = np.argsort(-sites.skills)[[0, 10]]
    return [
        Scenario("accuracy near 1: Beta(27, 3)", _mean_of(lambda g, *n: g.beta(27, 3, n)), 0.9, True),
        Scenario("accuracy in the middle: Beta(4, 4)", _mean_of(lambda g, *n: g.beta(4, 4, n)), 0.5, True),
        Scenario("skill, floors and ceilings differ", _draw_skills, _true_skill(), True),
        Scenario("skill of one site of `tiny`", sites.sampler([best]), float(sites.skills[best]), True),
        Scenario(
            "skill of one site minus another",
            sites.sampler([best, second]),
            float(sites.skills[best] - sites.skills[second]),
            True,
        ),
        Scenario("accuracy near 1 with a long tail: Beta(9, 1)", _mean_of(lambda g, *n: g.beta(9, 1, n)), 0.9),
        Scenario("heavy tail: log-normal", _mean_of(lambda g, *n: g.lognormal(0, 1, n)), float(np.exp(0.5))),
        Scenario("ties: nine clips of ten have 1", _mean_of(_draw_ties), 0.95),
    ]


def _mean_of(draw: Callable[..., Floats]) -> Callable[[Generator, int, int], list[Floats]]:
    return lambda generator, clips, samples: [draw(generator, clips, samples)]


def _draw_ties(generator: Generator, *shape: int) -> Floats:
    return 1 - (generator.random(shape) < 0.1) * generator.random(shape)


def _draw_skills(generator: Generator, clips: int, samples: int) -> list[Floats]:
    """Draws clips that are still to different degrees; the stiller a clip, the higher its floor and its skill."""
    still = generator.random((clips, samples))
    floor = 0.8 * still
    ceiling = 1 - (1 - floor) * generator.beta(2, 10, still.shape)
    reached = np.clip(0.55 + 0.3 * still + 0.2 * generator.standard_normal(still.shape), -0.5, 1)
    return [floor + (ceiling - floor) * reached, floor, ceiling]


def _true_skill() -> float:
    arrays = _draw_skills(np.random.default_rng(1), 2000, 2000)
    return float(skill(*(array.mean() for array in arrays)))


# ---------------------------------------------------------------------------------------------------------------- sites


@dataclass(frozen=True)
class Sites:
    """The sites of one run over its clips.

    score, floor, ceiling: (clips, sites). still: (clips,), the share of all pairs that zero motion gets right. skills:
    (sites,), the skill over all clips, which is the truth.
    """

    score: Floats
    floor: Floats
    ceiling: Floats
    still: Floats
    skills: Floats

    @classmethod
    def load(cls, path: Path = SITES_FILE) -> Sites:
        """Reads the stored sites."""
        with np.load(path) as stored:
            score, floor, ceiling = (stored[name].astype(np.float64) for name in ("score", "floor", "ceiling"))
            still = stored["still"].astype(np.float64)
        bounds = [np.repeat(bound[:, None], score.shape[1], axis=1) for bound in (floor, ceiling)]
        return cls(score, *bounds, still, skill(*(array.mean(axis=0) for array in (score, *bounds))))

    @property
    def arrays(self) -> tuple[Floats, Floats, Floats]:
        """Score, floor and ceiling."""
        return self.score, self.floor, self.ceiling

    def sampler(self, columns: Sequence[int]) -> Callable[[Generator, int, int], list[Floats]]:
        """Returns a function that draws clips: score, floor and ceiling of each of these sites."""

        def draw(generator: Generator, clips: int, samples: int) -> list[Floats]:
            rows = generator.integers(0, len(self.score), (clips, samples))
            return [array[rows, column] for column in columns for array in self.arrays]

        return draw


def store_sites(run: Path, path: Path = SITES_FILE) -> None:
    """Stores the scores of all sites of `qk` in a run over its clips with moving points, float32."""
    import pyarrow.compute as pc

    from vcorr.stats.series import series
    from vcorr.store.rundir import RunDirectory

    scores = RunDirectory(run).read("scores").filter(pc.field("probe") == "qk")
    (moving,), (points,) = (series(scores, metric=name) for name in (SITES_METRIC, "pck_8"))
    bounds = {"floor": moving.floor[:, 0], "ceiling": moving.ceiling[:, 0], "still": points.floor[:, 0]}
    arrays = {"score": moving.score, **bounds}
    used = np.isfinite(moving.score).all(axis=1)
    np.savez_compressed(path, **{name: array[used].astype(np.float32) for name, array in arrays.items()})


# ------------------------------------------------------------------------------------------------------------- coverage


def coverage(scenario: Scenario, clips: int, effort: Effort) -> tuple[float, float]:
    """Returns the share of samples whose interval holds the truth, and the share of samples without an interval."""
    found = scenario.interval(scenario.draw(_generator(scenario.name, clips), clips, effort.samples))
    return _share_inside(found.low, found.high, scenario.truth)


def bootstrap_coverage(scenario: Scenario, clips: int, effort: Effort) -> float:
    """Returns the coverage of the percentile bootstrap on the same samples."""
    arrays = scenario.draw(_generator(scenario.name, clips), clips, effort.samples)
    low, high = _bootstrap(arrays, scenario.statistic, effort.resamples)
    return _share_inside(low, high, scenario.truth)[0]


def _share_inside(low: Floats, high: Floats, truth: float | Floats) -> tuple[float, float]:
    there = np.isfinite(low)
    inside = (low <= truth) & (truth <= high)
    return float(inside[there].mean()) if there.any() else np.nan, float((~there).mean())


def _bootstrap(
    arrays: list[Floats], statistic: Callable[[list[Floats]], Floats], resamples: int
) -> tuple[Floats, Floats]:
    """Returns the percentile interval of each sample, (samples,)."""
    clips = len(arrays[0])
    counts = np.random.default_rng(0).multinomial(clips, np.full(clips, 1 / clips), resamples).astype(np.float64)
    used = np.logical_and.reduce([np.isfinite(array) for array in arrays])
    with np.errstate(invalid="ignore", divide="ignore"):
        means = [counts @ np.where(used, array, 0.0) / (counts @ used) for array in arrays]
    low, high = np.nanquantile(statistic(means), [LEVEL / 2, 1 - LEVEL / 2], axis=0)
    return low, high


def coverage_table(sites: Sites, effort: Effort, chosen: Mapping[int, Chosen]) -> str:
    """Returns the coverage of 95 % intervals by number of clips as a Markdown table."""
    found = {s.name: [coverage(s, clips, effort) for clips in SIZES] for s in scenarios(sites)}
    before = {s.name: f"{bootstrap_coverage(s, 8, effort):.3f}" for s in scenarios(sites)}
    best = f"skill of the cross-fitted best of {len(sites.skills)} sites"
    found[best] = [(chosen[clips].coverage, 0.0) for clips in SIZES]
    rows = [[name, *(_coverage_cell(*cell) for cell in cells), before.get(name, "–")] for name, cells in found.items()]
    required = [best, *(s.name for s in scenarios(sites) if s.required)]
    reached = _say_reached({name: [inside for inside, _ in found[name]] for name in required})
    table = _table(["95 % interval of", *(f"{clips} clips" for clips in SIZES), "bootstrap, 8 clips"], rows)
    return f"{table}\n\n{reached}"


def _coverage_cell(inside: float, without: float) -> str:
    return f"{inside:.3f}" if without < 0.005 else f"{inside:.3f} (none: {100 * without:.0f} %)"


def _say_reached(required: Mapping[str, Sequence[float]]) -> str:
    """Returns whether coverages by number of clips lie in the required range from 8 clips on, in words."""
    missed = [
        f"{name}, {clips} clips: {inside:.3f}"
        for name, coverages in required.items()
        for clips, inside in zip(SIZES, coverages, strict=True)
        if clips >= 8 and not REQUIRED[0] <= round(inside, 3) <= REQUIRED[1]
    ]
    text = f"Outside are: {'; '.join(missed)}." if missed else "All have."
    wanted = f"{REQUIRED[0]} to {REQUIRED[1]}"
    rows = f"{len(required)} rows should have {wanted} from 8 clips on: skill, accuracy near 1 and in the middle"
    return f"{rows}. {text}"


# ---------------------------------------------------------------------------------------------------- choice and regret


@dataclass(frozen=True)
class Chosen:
    """What choosing among the sites reaches with some number of clips, over all samples.

    coverage: share of intervals that hold the true skill of what was reported: each half of the clips at the site that
    the other half chose. true_regret: mean of the best true skill minus that skill. regret: mean of the shipped
    regret. old_regret: mean of the largest value on the reporting half minus the value that is reported.
    """

    coverage: float
    true_regret: float
    regret: float
    old_regret: float


def choose(sites: Sites, clips: int, effort: Effort) -> Chosen:
    """Chooses and reports on samples of the clips."""
    generator = _generator("choice", clips)
    inside, regrets = [], []
    for _ in range(effort.choices):
        rows = generator.integers(0, len(sites.score), clips)
        score, floor, ceiling = (array[rows] for array in sites.arrays)
        ids = [f"{place:03d}" for place in range(clips)]
        halves = split_clips(ids, sites.still[rows], [str(row) for row in rows], mode="renoise")
        found = cross_fit(score, floor, ceiling, halves)
        truth = _true_skill_of(sites, found)
        interval = skill_interval(*found.pooled)
        if np.isfinite(interval.low):
            inside.append(interval.low <= truth <= interval.high)
        regrets.append((sites.skills.max() - truth, found.regret, _old_regret(score, floor, ceiling)))
    true, new, old = np.mean(regrets, axis=0)
    return Chosen(float(np.mean(inside)) if inside else np.nan, float(true), float(new), float(old))


def _true_skill_of(sites: Sites, found: CrossFit) -> float:
    """Returns the true skill of what was reported: every clip counts with the true means of the site it is read at."""
    return float(skill(*(array.mean(axis=0)[found.reports].mean() for array in sites.arrays)))


def _old_regret(score: Floats, floor: Floats, ceiling: Floats) -> float:
    """Returns the regret as it was: every other clip chooses, and the best choice is the best one of the others."""
    halves = [[array[start::2] for array in (score, floor, ceiling)] for start in (0, 1)]
    choosing, reporting = (skill(*(array.mean(axis=0) for array in half)) for half in halves)
    return float(reporting.max() - reporting[choosing.argmax()])


def regret_table(chosen: Mapping[int, Chosen]) -> str:
    """Returns the mean regret by number of clips, true and estimated, as a Markdown table."""
    found = list(chosen.values())
    rows = [
        ["true: best true skill minus the true skill of the choice", *(f"{one.true_regret:.3f}" for one in found)],
        ["regret as vcorr reports it", *(f"{one.regret:.3f}" for one in found)],
        ["largest value on the reporting half minus the reported one", *(f"{one.old_regret:.3f}" for one in found)],
    ]
    return _table(["mean over samples", *(f"{clips} clips" for clips in chosen)], rows)


# ---------------------------------------------------------------------------------------------------------------- tests

NULLS: dict[str, Callable[..., Floats]] = {
    "normal": lambda g, *n: g.standard_normal(n),
    "heavy tails: Student's t with 2 degrees": lambda g, *n: g.standard_t(2, n),
    "ties: half of the clips differ by nothing": lambda g, *n: g.integers(0, 2, n) * g.standard_normal(n),
    "skewed: exponential minus its mean": lambda g, *n: g.exponential(1, n) - 1,
}
"""Differences per clip of two rows that are equally good: their mean is zero. All but the last are symmetric."""


def false_positives(null: str, clips: int, effort: Effort) -> tuple[float, float]:
    """Returns how often equally good rows differ at the 5 % level: by the sign-flip test, and by the bootstrap."""
    differences = NULLS[null](_generator(null, clips), clips, effort.tests)
    low, high = _bootstrap([differences], lambda means: means[0], effort.resamples)
    p = np.concatenate([sign_flip_test(part) for part in np.array_split(differences, 20, axis=1)])
    return float((p <= LEVEL).mean()), float(((low > 0) | (high < 0)).mean())


def test_table(effort: Effort) -> str:
    """Returns the share of false positives by number of clips as a Markdown table."""
    rows = []
    for null in NULLS:
        rates = [false_positives(null, clips, effort) for clips in FEW]
        rows.append([f"{null}; sign-flip test", *(f"{test:.3f}" for test, _ in rates)])
        rows.append([f"{null}; bootstrap without 0", *(f"{bootstrap:.3f}" for _, bootstrap in rates)])
    return _table(["differences per clip; method", *(f"{clips} clips" for clips in FEW)], rows)


def family_rates(clips: int, effort: Effort) -> tuple[float, float]:
    """Returns how often at least one of ten null comparisons is positive: without a correction, and with Holm's.

    The comparisons share one side, as ten layers that are compared with one baseline do.
    """
    generator = _generator("family", clips)
    shared = generator.standard_normal((clips, effort.families, 1))
    differences = generator.standard_normal((clips, effort.families, FAMILY)) - shared
    p = np.concatenate([sign_flip_test(part) for part in np.array_split(differences, 20, axis=1)])
    corrected = np.array([holm(family) for family in p])
    plain, adjusted = (float((found <= LEVEL).any(axis=1).mean()) for found in (p, corrected))
    return plain, adjusted


def family_table(effort: Effort) -> str:
    """Returns the family-wise false positives as a Markdown table."""
    sizes = (8, 10, 12)
    rates = [family_rates(clips, effort) for clips in sizes]
    rows = [
        ["each test at 0.05", *(f"{plain:.3f}" for plain, _ in rates)],
        ["corrected by Holm", *(f"{adjusted:.3f}" for _, adjusted in rates)],
    ]
    return _table([f"at least one of {FAMILY} equally good rows differs", *(f"{clips} clips" for clips in sizes)], rows)


# ---------------------------------------------------------------------------------------------------------------- page


def _generator(name: str, clips: int) -> Generator:
    """Returns a generator with a seed of its own for every name and number of clips."""
    return np.random.default_rng([*name.encode(), clips])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def block(sites: Sites, effort: Effort) -> str:
    """Returns the generated block of docs/statistics.md."""
    chosen = {clips: choose(sites, clips, effort) for clips in (4, *SIZES)}
    parts = [
        coverage_table(sites, effort, chosen),
        "Mean regret over samples, of sites chosen crosswise:",
        regret_table(chosen),
        f"Share of comparisons of equally good rows that come out different at the {LEVEL} level:",
        test_table(effort),
        f"Share of families of {FAMILY} such comparisons with one baseline in which any comes out different:",
        family_table(effort),
    ]
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--docs", type=Path, help="docs folder whose statistics.md is updated")
    parser.add_argument("--small", action="store_true", help="few samples, to see whether it works")
    parser.add_argument("--sites-from", type=Path, metavar="RUN", help="store the scores of this run as the sites")
    options = parser.parse_args(arguments)
    if options.sites_from:
        store_sites(options.sites_from)
    text = block(Sites.load(), SMALL if options.small else Effort())
    if options.docs:
        page = options.docs / "statistics.md"
        head, rest = page.read_text(encoding="utf-8").split(MARKERS[0], 1)
        page.write_text(f"{head}{MARKERS[0]}\n\n{text}\n\n{MARKERS[1]}{rest.split(MARKERS[1], 1)[1]}", encoding="utf-8")
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
