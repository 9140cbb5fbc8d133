"""Measures knock-outs of the embedded model: ``python -m vcorr_tiny.knockouts --docs docs``.

One run observes every layer and head. Then studies cut attention between frames on other clips: in every layer, in
single heads, and in two layers in several doses. The tables and the picture of docs/knockouts.md come from them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from vcorr import installed
from vcorr.store.rundir import RunDirectory
from vcorr.studies.knockout_agreements import FILE, replace_model
from vcorr.studies.knockout_effects import OUTCOMES, CutEffect, Results
from vcorr.studies.knockout_observed import Observed, read_observed
from vcorr.studies.knockout_page import TITLES, agreement_table, describe_study, effect_table
from vcorr.studies.knockout_plan import KnockoutOptions, KnockoutPlan, plan_study
from vcorr.studies.knockout_run import StudyFolder, finish_study, list_agreements, run_study
from vcorr.studies.knockout_sites import CutSite
from vcorr_tiny.command_runs import end, make_parser, read_work
from vcorr_tiny.statements import write_blocks

RUN = ("run", "--model", "tiny", "--data", "sprites", "--probe", "qk,head-traits", "--set", "probe.heads=each")
OBSERVED_STEPS, OBSERVED_CLIPS = "21,35,49", 16
STEP = "35"
STUDIES = {
    "layers": KnockoutOptions(sites="auto", limit=8, steps=STEP),
    "heads": KnockoutOptions(sites="auto:heads", limit=6, steps=STEP),
    "doses": KnockoutOptions(sites="4,7", limit=6, steps=STEP, doses=(0.5, 1.0)),
}
"""The studies, by the name of their block on the page."""


class Measured(NamedTuple):
    """One study with its results."""

    study: KnockoutPlan
    results: Results


KEPT = Path("leaderboards", "results")
"""Where boards find the causal agreement, next to the folder of the pages."""


def measure(observed: Observed, out: Path, flags: Mapping[str, Any]) -> dict[str, Measured]:
    """Runs every study, or reads what is stored of it."""
    found = {}
    for name, options in STUDIES.items():
        study = plan_study(observed, options, installed(), flags)
        folder = StudyFolder.of(study, out)
        rows = run_study(study, folder, partial(_say, name))
        found[name] = Measured(study, finish_study(study, folder, rows).results)
    return found


def _say(name: str, text: str) -> None:
    sys.stderr.write(f"{name}: {text}\n")


def make_blocks(measured: Mapping[str, Measured]) -> dict[str, str]:
    """Returns the generated blocks of the page, by name."""
    blocks = {f"knockout-{name}": _study_text(one) for name, one in measured.items()}
    for name in ("layers", "heads"):
        blocks[f"knockout-{name}-agreement"] = agreement_table(measured[name].results.agreements)
    return blocks


def _study_text(one: Measured) -> str:
    parts = [describe_study(one.study, one.results)]
    for dose in one.study.options.doses:
        for outcome in OUTCOMES:
            table = effect_table(one.results.effects, outcome, dose)
            parts += [f"{TITLES[outcome]}, dose {dose:g}:", table] if table else []
    return "\n\n".join(parts)


def draw(one: Measured, path: Path) -> None:
    """Draws skill of each layer next to the harm of cutting it, as one picture."""
    import altair as alt

    skills = one.study.observed.mean_skills(one.study.steps, heads=False)
    records = [_bar_of_skill(site, skill) for site, skill in skills.items()]
    records += [_bar_of_effect(effect) for effect in one.results.effects]
    bars = alt.Chart(alt.Data(values=records)).encode(x=alt.X("layer:O", title="layer"))
    marks = bars.mark_bar().encode(y=alt.Y("value:Q", title=None), color=alt.Color("panel:N", legend=None))
    whiskers = bars.mark_rule().encode(y="low:Q", y2="high:Q").transform_filter("isValid(datum.low)")
    layered = alt.layer(marks, whiskers).properties(width=220, height=170)
    chart = layered.facet(facet=alt.Facet("panel:N", title=None, sort=list(PANELS.values()))).resolve_scale(
        y="independent"
    )
    chart.save(str(path), scale_factor=2)


PANELS = {
    "skill": "observed: skill of q-k",
    "matching": "cut: skill lost at later layers",
    "loss": "cut: rise of the denoising loss",
}
"""The titles of the panels of the picture."""


def _bar_of_skill(site: CutSite, skill: float) -> dict[str, Any]:
    return {"layer": site.layer, "panel": PANELS["skill"], "value": skill, "low": None, "high": None}


def _bar_of_effect(effect: CutEffect) -> dict[str, Any]:
    whole = effect.whole
    return {
        "layer": int(effect.sites),
        "panel": PANELS[effect.outcome],
        "value": whole.value,
        "low": whole.low,
        "high": whole.high,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = make_parser("vcorr_tiny.knockouts", __doc__ or "", "runs/knockouts", OBSERVED_CLIPS)
    options: argparse.Namespace = parser.parse_args(arguments)
    work = read_work(options)
    observed_in = work.out / "observed"
    work.run([[*RUN, "--steps", OBSERVED_STEPS, "--out", str(observed_in)]], ("tiny",))
    observed = read_observed(RunDirectory.open(observed_in))
    measured = measure(observed, work.out / "studies", {"device": work.device})
    blocks = make_blocks(measured)
    if options.docs:
        study, results = measured["layers"]
        rows = list_agreements(study, results, StudyFolder.of(study, work.out / "studies").id)
        replace_model(options.docs.parent / KEPT / FILE, rows)
        write_blocks(options.docs / "knockouts.md", blocks)
        draw(measured["layers"], options.docs / "images" / "knockouts.png")
    sys.stdout.write("\n\n".join(blocks.values()) + "\n")
    return 0


if __name__ == "__main__":
    end(main)
