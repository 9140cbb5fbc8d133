"""Makes the tables of docs/findings.md from what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vcorr.stats.intervals import gain_interval
from vcorr.stats.sites import SiteId
from vcorr_tiny import pieces
from vcorr_tiny.network_folder import SEEDS
from vcorr_tiny.pieces import EASY, FEATURES, PIXELS, PROBES, STRATA, TWIN, XFEAT, Place, StoredRuns
from vcorr_tiny.place_results import BEATS, Measured, best_steps, source_of
from vcorr_tiny.reported_rows import ACROSS, QK, Pick, Results, Row, Source, read_results
from vcorr_tiny.seed_statements import NOT_MEASURED, SeedStatement, find_weakest, join_seeds
from vcorr_tiny.sprites.level_names import HARD
from vcorr_tiny.statements import Difference, Statement, correct

MATCHES = 0.1
"""Skill from which a layer counts as matching."""
GROUNDS = ("foreground", "background")
ON_GROUND = "matching_accuracy@layer:{}"
SHOWN_BY_GROUND = (*PIXELS[:3], XFEAT)

Places = Mapping[str, Sequence[Measured]]
"""What was measured at each place, with each seed."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Returns a Markdown table. left: number of columns of text; the others hold numbers."""
    aligned = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, aligned, *rows))


def numbers(values: Sequence[float]) -> str:
    """Returns the numbers of several seeds; a dash for one that is NaN."""
    return ", ".join(NOT_MEASURED if np.isnan(value) else f"{value:.3f}" for value in values)


def place_of(pick: Pick) -> str:
    """Returns a site as LAYER:STEP."""
    return str(SiteId(pick.layer, pick.step))


def places_of(row: Row) -> str:
    """Returns the sites of a row, both if the halves of the clips chose differently.

    Ties are said, and a choice that was not held out.
    """
    if row.on_first.step < 0:
        return NOT_MEASURED
    notes = [f"one of {row.tied} that tie"] * (row.tied > 1) + ["too few clips for halves"] * (not row.held_out)
    return " and ".join(map(place_of, row.picks)) + (f" ({', '.join(notes)})" if notes else "")


def gain_of(row: Row) -> float:
    """Returns the gain of a row over moving points."""
    return float(gain_interval(*row.scores(ACROSS)[:2]).estimate)


# --------------------------------------------------------------------------------------------------------------- gains


def gain_table(places: Places) -> str:
    """Returns the gain of each probe of the network with each seed, and of the baselines, best on `hard` first."""
    rows: dict[Source, dict[str, list[float]]] = {}
    for name, seeds in places.items():
        for source in dict.fromkeys(source for m in seeds for source in m.results.sources):
            with_seeds = seeds if source[0] == "tiny" else seeds[:1]
            rows.setdefault(source, {})[name] = [gain_of(m.results.choose([source])) for m in with_seeds]
    first = HARD if HARD in places else next(iter(places))
    ranked = sorted(rows.items(), key=lambda item: -float(np.nan_to_num(np.mean(item[1].get(first, [np.nan])), nan=-9)))
    lines = [
        [_model_text(source), f"`{source[1]}`", *(numbers(found.get(name, [np.nan])) for name in places)]
        for source, found in ranked
    ]
    return table(["model", "probe", *places], lines, 2)


def _model_text(source: Source) -> str:
    return f"{source[0]} (random weights)" if source[0] == TWIN else source[0]


def site_table(places: Places) -> str:
    """Returns the best site of `qk` with each seed, with its skill and regret."""
    lines = []
    for name, seeds in places.items():
        for m in seeds:
            row = m.results.choose([QK])
            probes = m.results.choose([("tiny", probe) for probe in FEATURES])
            single, _ = m.heads.best
            best = ", ".join(dict.fromkeys(str(single.sites[i]) for i in single.chosen if i is not None))
            lines.append([name, str(m.seed), places_of(row), numbers([row.regret]), best, probes.on_second.probe])
    head = ["data", "seed", "best site", "regret", "best head", "best probe of features"]
    return table(head, lines, 3)


def step_table(places: Places) -> str:
    """Returns the step at which each layer matches best with each seed, by skill over all clips."""
    found = {name: [best_steps(m.results.get(*QK), MATCHES) for m in seeds] for name, seeds in places.items()}
    layers = sorted({layer for seeds in found.values() for steps in seeds for layer in steps})
    lines = [
        [str(layer), *(", ".join(_step(steps.get(layer)) for steps in seeds) for seeds in found.values())]
        for layer in layers
    ]
    return table(["layer", *found], lines)


def _step(step: Any) -> str:
    return NOT_MEASURED if step is None else str(step)


# -------------------------------------------------------------------------------------------------------------- ground


def ground_gains(m: Measured) -> dict[tuple[str, str], float]:
    """Returns the gain of accuracy by row and ground: of the best site at the last step, of its input, of baselines."""
    last = m.by_layer.choose([QK]), m.by_layer.choose([("tiny", "latent")])
    rows = {"qk": last[0], "latent": last[1]}
    rows |= {model: m.by_layer.choose([source_of(model)]) for model in m.compared if model in SHOWN_BY_GROUND}
    return {
        (name, ground): float(gain_interval(*row.scores(ON_GROUND.format(ground))[:2]).estimate)
        for name, row in rows.items()
        for ground in GROUNDS
        if (*row.on_first.source, ON_GROUND.format(ground)) in m.by_layer.series
    }


def ground_table(places: Places) -> str:
    """Returns the gain of accuracy of points in front and of the background, where the data know which is which."""
    every = {name: [ground_gains(m) for m in seeds] for name, seeds in places.items()}
    found = {name: seeds for name, seeds in every.items() if np.isfinite([*seeds[-1].values()]).any()}
    silent = [f"`{name}`" for name in every if name not in found]
    said = f"The data of {', '.join(silent)} do not say which points are in front." if silent else ""
    shown = dict.fromkeys(name for seeds in found.values() for name, _ in seeds[-1])
    lines = []
    for name in shown:
        own = {place: seeds if name in PROBES else seeds[:1] for place, seeds in found.items()}
        cells = [
            numbers([gains.get((name, ground), np.nan) for gains in seeds])
            for seeds in own.values()
            for ground in GROUNDS
        ]
        lines.append([f"`{name}`", *cells])
    head = ["", *(f"{place}, {ground}" for place in found for ground in GROUNDS)]
    return "\n\n".join(filter(None, [table(head, lines) if lines else "", said]))


# -------------------------------------------------------------------------------------------------------------- strata


def stratum_results(stored: StoredRuns, place: Place, seed: int) -> Results:
    """Returns what was measured on a level with one fault, with one seed."""
    others = [pieces.baseline(place, model) for model in (*PIXELS, XFEAT)]
    runs = [stored.find(pieces.stratum(place, seed)), *(stored.find(p) for p in others if stored.holds(p))]
    return read_results(runs)


def judge_stratum(results: Results) -> Statement:
    """Returns the main statement for one level: the smallest difference from a pixel or latent baseline."""
    qk = results.choose([QK])
    rivals = [("tiny", "latent"), *((model, "direct") for model in PIXELS)]
    differences = [Difference.of_gains(qk.scores(ACROSS), results.choose([source]).scores(ACROSS)) for source in rivals]
    return find_weakest(BEATS, correct([Statement.comparing(str(i), d) for i, d in enumerate(differences)]))


def stratum_gains(stored: StoredRuns) -> list[dict[str, Any]]:
    """Returns a record per level, seed and model: stratum, name, gain, low and high end; seed -1 for baselines."""
    found = []
    for place in STRATA:
        for seed in SEEDS:
            results = stratum_results(stored, place, seed)
            shown = [QK, ("tiny", "latent")] + [s for s in results.sources if s[0] != "tiny"] * (seed == SEEDS[0])
            for source in shown:
                interval = gain_interval(*results.choose([source]).scores(ACROSS)[:2])
                found.append(
                    {
                        "stratum": place.name,
                        "name": source[1] if source[0] == "tiny" else source[0],
                        "seed": seed if source[0] == "tiny" else -1,
                        "gain": float(interval.estimate),
                        "low": float(interval.low),
                        "high": float(interval.high),
                    }
                )
    return found


def stratum_table(stored: StoredRuns, gains: Sequence[Mapping[str, Any]]) -> str:
    """Returns the gains by level, with the verdict of the main statement."""
    names = dict.fromkeys(["qk", "latent", *(g["name"] for g in gains)])
    lines = []
    for place in STRATA:
        own = [g for g in gains if g["stratum"] == place.name]
        cells = [numbers([g["gain"] for g in own if g["name"] == name]) for name in names]
        (judged,) = join_seeds([[judge_stratum(stratum_results(stored, place, seed))] for seed in SEEDS])
        lines.append([place.name, *cells, judged.cell])
    head = ["level", *(f"`{name}`" for name in names), "beats every pixel and latent baseline"]
    return table(head, lines)


# ------------------------------------------------------------------------------------------------ the first version


BEFORE: Mapping[str, str] = {
    "Skill of the best site of `qk`; > 0.5": "**yes**: 0.709 (0.669 … 0.748)",
    "Few layers match: best minus median layer": "**yes**: 0.682 (0.642 … 0.721)",
    "Noise hinders matching": "**yes**: 0.102 (0.070 … 0.135)",
    "Queries and keys match better than the best of five probes of features": "**yes**: 0.265 (0.228 … 0.302)",
    "They match by content": "**yes**: 0.653 (0.612 … 0.693)",
    "The network adds to its input": "**yes**: 0.565 (0.529 … 0.600)",
    "Training makes it": "**yes**: 0.643 (0.605 … 0.681)",
    "`qk` minus `zncc-search`": "**lower**: -0.136 (-0.168 … -0.104)",
    "`qk` minus `dense-search`": "**lower**: -0.092 (-0.141 … -0.042)",
    "`qk` minus `token-patches`": "**higher**: 0.300 (0.264 … 0.337)",
    "`qk` minus `zero-motion`": "**yes**: 0.430 (0.378 … 0.483)",
}
"""The first version of the page, by beginning of text: one seed, trained on `easy` alone, on 64 clips of it."""


BEFORE_GENERATED: Mapping[str, str] = {
    "Queries and keys match better than the best of five probes of features": "**yes**: 0.135 (0.119 … 0.150)",
    "Few layers match": "**yes**: 0.599 (0.553 … 0.645)",
    "Matching improves in the second half of sampling": "**yes**: 0.055 (0.039 … 0.070)",
    "Another tracker agrees": "**yes**: 0.624 (0.583 … 0.664)",
    "The network adds to its input": "**yes**: 0.547 (0.506 … 0.588)",
    "The best layer is more confident than the mean of the others": "**yes**: 0.054 (0.049 … 0.059)",
    "The best layer attends more to later frames than the mean of the others": "**yes**: 0.268 (0.255 … 0.280)",
    "Its attention to later frames grows during sampling": "**no**: -0.003 (-0.013 … 0.006)",
    "Its confidence grows during sampling": "**yes**: 0.052 (0.048 … 0.057)",
    "Its attention to the text falls during sampling": "**yes**: 0.007 (0.006 … 0.009)",
    "`qk` minus `zncc-search`": "**undecided**: -0.011 (-0.033 … 0.011)",
}
"""The same of the generated videos, whose captions are from `easy` then and now."""


def survival_table(found: Mapping[str, Sequence[SeedStatement]], generated: Sequence[SeedStatement]) -> str:
    """Returns the findings of the first version, with their numbers then and what is said of them now."""
    lines = []
    for beginning, before in BEFORE.items():
        now = [_verdict(statements, beginning.split(";")[0]) for statements in found.values()]
        lines.append([beginning, before, *now, _survives(before, now)])
    for beginning, before in BEFORE_GENERATED.items():
        verdict = _verdict(generated, beginning)
        now = [verdict if name == EASY.name else NOT_MEASURED for name in found]
        lines.append([f"While it generates: {beginning}", before, *now, _survives(before, [verdict])])
    return table(["finding", "before, on easy", *(f"now, {name}" for name in found), "same verdict"], lines, 2)


def _survives(before: str, now: Sequence[str]) -> str:
    return "yes" if set(now) == {before.split("**")[1]} else "**no**"


def _verdict(statements: Sequence[SeedStatement], beginning: str) -> str:
    return next((s.verdict for s in statements if s.text.startswith(beginning)), NOT_MEASURED)


def say_clips(places: Places) -> str:
    """Returns on how many clips the tables stand, and how many of them have no moving points."""
    said = []
    for name, (first, *_) in places.items():
        still = first.results.still_clips
        clips = len(first.results.get(*QK).clips)
        said.append(f"`{name}` {clips}" + (f" (without moving points: {still})" if still else ""))
    return f"Clips: {', '.join(said)}."
