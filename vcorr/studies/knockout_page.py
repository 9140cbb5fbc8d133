"""The tables of a knock-out study in Markdown, for its page, for the terminal and for docs/knockouts.md."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vcorr.contract.noun_counts import say_count
from vcorr.runner.tracking import note_random
from vcorr.stats.sign_flips import SIGNIFICANT
from vcorr.studies.knockout_effects import OUTCOMES, Agreement, CutEffect, Estimate, Outcome, Results
from vcorr.studies.knockout_plan import KnockoutPlan

TITLES: dict[Outcome, str] = {
    "loss": "Denoising loss: rise, as a share of the loss without a cut",
    "matching": "Matching: loss of skill at the layers that are read after the cut",
}


def make_page(study: KnockoutPlan, results: Results) -> str:
    """Returns the page of a study."""
    parts = [f"# Knock-outs of {study.plan.spec.model}: {study.kind}", describe_study(study, results)]
    for dose in study.options.doses:
        for outcome in OUTCOMES:
            table = effect_table(results.effects, outcome, dose)
            parts += [f"## {TITLES[outcome]}, dose {dose:g}", table] if table else []
    if any(math.isfinite(one.ranks.value) for one in results.agreements):
        parts += ["## What foresees the effect of a cut", agreement_table(results.agreements)]
    return "\n\n".join(parts) + "\n"


def describe_study(study: KnockoutPlan, results: Results) -> str:
    """Returns in words what was measured, how controls were matched, and what the numbers are about."""
    asked, low_high = study.options, results.norm_made
    chosen = "chosen by their skill in" if study.chosen else "named by the user; the layers that are read come from"
    norm = (
        "controls have the norm of each cut"
        if asked.own
        else "cuts and controls are scaled to one norm per clip, the smallest among the whole cuts"
    )
    later = ", ".join(map(str, study.readers)) or "none"
    clips = say_count(len(study.plan.selection.clips), "clip")
    lines = (
        (
            f"{clips} of {study.plan.dataset}, step {', '.join(map(str, study.steps))}. Sites: {chosen} run "
            f"{study.observed.run}, on other clips."
        ),
        (
            f"{asked.controls} random sets of single heads per size, the same for all cuts; {norm}. In the pass, a "
            f"control has {low_high[0]:.2f} to {low_high[1]:.2f} times the norm that it should have."
        ),
        f"Layers that are read: {later}. A cut is measured at those after it.",
        (
            "Harms are positive. Intervals (95 %, Student's t) and p (sign flips, corrected jointly for the cuts of a "
            "table) are about other clips. `beyond` counts the random sets that harm at least as much."
        ),
    )
    return "\n".join(f"- {line}" for line in (*note_random(study.plan.identity.weights), *lines))


def effect_table(effects: Sequence[CutEffect], outcome: Outcome, dose: float) -> str:
    """Returns the effects on one outcome at one dose as a Markdown table; "" if there are none."""
    chosen = [one for one in effects if (one.outcome, one.asked) == (outcome, dose)]
    if not chosen:
        return ""
    lines = [
        "| cut | whole cut | its dose here | harm | controls | harm beyond controls | 95 % interval | p | beyond |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in chosen:
        own = f"{_number(one.whole.value)} | {one.dose:.2f} | {_number(one.matched)} | {_number(one.controls)}"
        effect = f"{_number(one.effect.value)} | {say_span(one.effect)} | {_p(one.p_joint)}"
        beyond = f"{one.beyond} of {one.count}" if one.clips else "–"
        lines.append(f"| {one.sites} | {own} | {effect} | {beyond} |")
    return "\n".join(lines)


def agreement_table(agreements: Sequence[Agreement]) -> str:
    """Returns the agreement of observations with effects as a Markdown table, the strongest of each outcome first."""
    lines = [
        "| observation | effect on | rank correlation per clip | 95 % interval | p | of means | sites |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    known = [one for one in agreements if math.isfinite(one.ranks.value)]
    for one in sorted(known, key=lambda one: (OUTCOMES.index(one.outcome), -abs(one.ranks.value))):
        ranks = f"{_number(one.ranks.value)} | {say_span(one.ranks)} | {_p(one.p_joint)} | {_number(one.pooled)}"
        lines.append(f"| `{one.observation}` | {one.outcome} | {ranks} | {one.sites} |")
    return "\n".join(lines)


def say_span(one: Estimate) -> str:
    """Returns the interval of an estimate, or a dash."""
    return "–" if math.isnan(one.low) else f"{_number(one.low)} … {_number(one.high)}"


def _number(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:+.3f}"


def _p(value: float) -> str:
    if math.isnan(value):
        return "–"
    text = "< 0.001" if value < 0.001 else f"{value:.3f}"
    return f"**{text}**" if value <= SIGNIFICANT else text
