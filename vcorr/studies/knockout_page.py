"""The tables of a knock-out study in Markdown, for its page, for the terminal and for docs/knockouts.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from vcorr.contract.noun_counts import say_count
from vcorr.metrics.motion_guard import GUARD
from vcorr.runner.tracking import note_random
from vcorr.stats.sign_flips import SIGNIFICANT
from vcorr.studies.knockout_effects import Agreement, CutEffect, Estimate, Results
from vcorr.studies.knockout_passes import OUTCOMES, find_directions
from vcorr.studies.knockout_plan import KnockoutPlan

TITLES = {
    "loss": "Denoising loss: rise, as a share of the loss without a cut",
    "matching": "Matching: loss of skill at the layers that are read after the cut",
}


def title_of(study: KnockoutPlan, results: Results, outcome: str) -> str:
    """Returns what a table shows: which outcome, and what counts as harm in it."""
    if outcome in TITLES or study.videos is None:
        return TITLES[outcome]
    rises = find_directions(study.videos)[outcome] > 0
    way = "less motion" if outcome == GUARD else "a rise" if rises else "a fall"
    return f"`{outcome}`: {way} counts as harm; {results.plain[outcome]:.4g} without a cut"


def make_page(study: KnockoutPlan, results: Results) -> str:
    """Returns the page of a study."""
    while_sampling = "" if study.videos is None else ", while videos are generated"
    parts = [f"# Knock-outs of {study.plan.spec.model}: {study.kind}{while_sampling}", describe_study(study, results)]
    for dose in study.options.doses:
        for outcome in results.outcomes:
            table = effect_table(results.effects, outcome, dose)
            parts += [f"## {title_of(study, results, outcome)}, dose {dose:g}", table] if table else []
    if any(math.isfinite(one.ranks.value) for one in results.agreements):
        parts += ["## What foresees the effect of a cut", agreement_table(results.agreements)]
    return "\n\n".join(parts) + "\n"


def describe_study(study: KnockoutPlan, results: Results) -> str:
    """Returns in words what was measured, how controls were matched, and what the numbers are about."""
    asked, low_high = study.options, results.norm_made
    chosen = "chosen by their skill in" if study.chosen else "named by the user; the layers that are read come from"
    made = "In the pass" if study.videos is None else "In its video"
    later = ", ".join(map(str, study.readers)) or "none"
    lines = (
        f"{_say_clips(study)} Sites: {chosen} run {study.observed.run}, on other clips.",
        (
            f"{asked.controls} random sets of single heads per size, the same for all cuts; {_say_norm(study)}. "
            f"{made}, a control has {low_high[0]:.2f} to {low_high[1]:.2f} times the norm that it should have."
        ),
        f"Layers that are read: {later}. A cut is measured at those after it.",
        (
            "Harms are positive. Intervals (95 %, Student's t) and p (sign flips, corrected jointly for the cuts of a "
            "table) are about other clips. `beyond` counts the random sets that harm at least as much."
        ),
        *(() if study.videos is None else _VIDEO_LINES),
        *_say_no_interval(results),
    )
    return "\n".join(f"- {line}" for line in (*note_random(study.plan.identity.weights), *lines))


_VIDEO_LINES = (
    (
        "Each score is in its own unit, and p is not corrected for the number of scores. "
        f"A video that moves less scores better by itself: read `{GUARD}` first."
    ),
    "Matching is measured against tracks that a tracker finds in each video, which are no ground truth.",
)


def _say_clips(study: KnockoutPlan) -> str:
    plan, steps = study.plan, ", ".join(map(str, study.steps))
    clips = say_count(len(plan.selection.clips), "clip")
    if study.videos is None:
        return f"{clips} of {plan.dataset}, step {steps}."
    settings = plan.selection.settings
    strength = "the pipeline's own" if settings.cfg is None else f"{settings.cfg:g}"
    number = say_count(settings.num_steps, "step")
    where = "all of them are cut" if len(study.steps) == settings.num_steps else f"cut at {steps}"
    return (
        f"Prompts of {clips} of {plan.dataset}, seed {settings.seed}, {number} of the sampler ({where}), strength of "
        f"classifier-free guidance {strength}. Matching is read at step {settings.steps[0]}."
    )


def _say_norm(study: KnockoutPlan) -> str:
    if study.options.own:
        return "controls have the norm of each cut"
    per = "clip" if study.videos is None else "clip and step"
    return f"cuts and controls are scaled to one norm per {per}, the smallest among the whole cuts"


def _say_no_interval(results: Results) -> tuple[str, ...]:
    """Returns a sentence if no effect has an interval, as with few clips."""
    if any(math.isfinite(one.effect.low) for one in results.effects):
        return ()
    reason = next((one.effect.reason for one in results.effects if one.effect.reason), "")
    why = f" ({reason})" if reason else ""
    return (f"No number has an interval{why}, so none of them is shown on a board.",)


def effect_table(effects: Sequence[CutEffect], outcome: str, dose: float) -> str:
    """Returns the effects on one outcome at one dose as a Markdown table; "" if there are none."""
    chosen = [one for one in effects if (one.outcome, one.asked) == (outcome, dose)]
    if not chosen:
        return ""
    lines = [
        "| cut | whole cut | its dose here | harm | controls | harm beyond controls | 95 % interval | p | beyond |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    number = _number if outcome in TITLES else _digits
    for one in chosen:
        own = f"{number(one.whole.value)} | {one.dose:.2f} | {number(one.matched)} | {number(one.controls)}"
        effect = f"{number(one.effect.value)} | {say_span(one.effect, number)} | {_p(one.p_joint)}"
        beyond = f"{one.beyond} of {one.count}" if one.clips else "–"
        lines.append(f"| {one.sites} | {own} | {effect} | {beyond} |")
    return "\n".join(lines)


def score_table(results: Results, dose: float) -> str:
    """Returns the effects on all outcomes of a study of videos, at one dose, as one Markdown table."""
    lines = [
        "| outcome | without a cut | cut | whole cut | harm beyond controls | 95 % interval | p | beyond |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in (one for one in results.effects if one.asked == dose):
        plain = f"{results.plain[one.outcome]:.4g}" if one.outcome in results.plain else "–"
        effect = f"{_digits(one.effect.value)} | {say_span(one.effect, _digits)} | {_p(one.p_joint)}"
        beyond = f"{one.beyond} of {one.count}" if one.clips else "–"
        lines.append(f"| `{one.outcome}` | {plain} | {one.sites} | {_digits(one.whole.value)} | {effect} | {beyond} |")
    return "\n".join(lines)


def agreement_table(agreements: Sequence[Agreement]) -> str:
    """Returns the agreement of observations with effects as a Markdown table, the strongest of each outcome first."""
    lines = [
        "| observation | effect on | rank correlation per clip | 95 % interval | p | of means | sites |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    known = [one for one in agreements if math.isfinite(one.ranks.value)]
    order = list(dict.fromkeys((*OUTCOMES, *(one.outcome for one in known))))
    for one in sorted(known, key=lambda one: (order.index(one.outcome), -abs(one.ranks.value))):
        ranks = f"{_number(one.ranks.value)} | {say_span(one.ranks)} | {_p(one.p_joint)} | {_number(one.pooled)}"
        lines.append(f"| `{one.observation}` | {one.outcome} | {ranks} | {one.sites} |")
    return "\n".join(lines)


def _number(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:+.3f}"


def _digits(value: float) -> str:
    """Returns a number with three digits that count, for scores of any unit."""
    return "–" if math.isnan(value) else f"{value + 0.0:+.3g}"


def say_span(one: Estimate, number: Callable[[float], str] = _number) -> str:
    """Returns the interval of an estimate, or a dash. number: writes its ends."""
    return "–" if math.isnan(one.low) else f"{number(one.low)} … {number(one.high)}"


def _p(value: float) -> str:
    if math.isnan(value):
        return "–"
    text = "< 0.001" if value < 0.001 else f"{value:.3f}"
    return f"**{text}**" if value <= SIGNIFICANT else text
