"""Measures knock-outs of the embedded model: ``python -m vcorr_tiny.knockouts --docs docs``.

One run observes every layer and head. Then studies cut attention between frames on other clips: in every layer, in
single heads, in two layers in several doses, and in the same two while videos are sampled. The tables and pictures of
docs/knockouts.md come from them.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vcorr import StoreError, installed
from vcorr.store.atomic_files import write_text
from vcorr.store.run_search import open_run
from vcorr.studies.guidance_page import write_png
from vcorr.studies.knockout_agreements import FILE, read_agreements, replace_model, write_agreements
from vcorr.studies.knockout_effects import CutEffect, Results
from vcorr.studies.knockout_observed import read_observed
from vcorr.studies.knockout_options import KnockoutOptions
from vcorr.studies.knockout_page import TITLES, agreement_table, describe_study, effect_table, score_table
from vcorr.studies.knockout_passes import OUTCOMES
from vcorr.studies.knockout_plan import KnockoutPlan, plan_study
from vcorr.studies.knockout_rows import file_name
from vcorr.studies.knockout_run import STRIPS, StudyFolder, finish_study, list_agreements, run_study
from vcorr.studies.knockout_sites import CutSite
from vcorr_tiny.command_runs import Call, Command, Work, end
from vcorr_tiny.measurements import Kept, Measurement
from vcorr_tiny.statements import write_blocks
from vcorr_tiny.task_pool import Task

RUN = ("run", "--model", "tiny", "--data", "sprites", "--probe", "qk,head-traits", "--set", "probe.heads=each")
OBSERVED_STEPS, OBSERVED_CLIPS = "21,35,49", 16
STEP = "35"
STUDIES = {
    "layers": KnockoutOptions(sites="auto", limit=8, steps=STEP),
    "heads": KnockoutOptions(sites="auto:heads", limit=6, steps=STEP),
    "own-heads": KnockoutOptions(limit=6, steps=STEP, own=True),
    "doses": KnockoutOptions(limit=6, steps=STEP, doses=(0.5, 1.0)),
    "videos": KnockoutOptions(limit=6, mode="generate"),
}
"""The studies, by the name of their block on the page. `CHOSEN_BY` says which of them cut what others found."""
VIDEO_FLAGS = {"num_steps": 4, "cfg": 1.0}
"""Few steps, and no second branch of guidance: so a video takes seconds."""


class Measured(NamedTuple):
    """One study with its results."""

    study: KnockoutPlan
    results: Results


KEPT_IN = Path("leaderboards", "results")
"""Where boards find the causal agreement, next to the folder of the pages."""
OBSERVED = "observed"
"""The task that observes, and the folder of its run."""
SECONDS = {"layers": 20.0, "heads": 20.0, "own-heads": 45.0, "doses": 30.0, "videos": 160.0}
"""About how long a clip takes, by study."""
DRAWN, AGREED, SAMPLED = "layers", ("layers", "heads"), "videos"
"""The study of the chart and the board, the studies whose agreement the page shows, and the one with strips."""
CHOSEN_BY = {"own-heads": "heads", "doses": DRAWN, SAMPLED: DRAWN}
"""By study: the study whose results choose its sites."""
MOST_HEADS = 3
"""Number of single heads that are cut at their own norm."""
STRIPS_FILE = "knockout-videos.png"
STUDY_FOLDERS = "studies"
PAGE, AGREEMENT = "page-{}.json", "agreement-{}.arrow"
"""Files that the page and boards need of a study."""


def list_tasks(work: Work) -> list[Task]:
    """Returns the tasks: the run that observes, and a study each."""
    words = (*RUN, "--steps", OBSERVED_STEPS, "--limit", str(work.limit), "--out", str(work.out / OBSERVED))
    studies = [
        Task(
            name,
            partial(Call, "vcorr_tiny.knockouts:measure_study", (name, work.out, work.limit), on_device=True),
            (OBSERVED, CHOSEN_BY[name]) if name in CHOSEN_BY else (OBSERVED,),
            10 + SECONDS[name] * min(options.limit, work.limit),
        )
        for name, options in STUDIES.items()
    ]
    return [Task(OBSERVED, lambda: Command(words, on_device=True), seconds=8 + 10.0 * work.limit), *studies]


def measure_study(name: str, out: str, limit: int, device: str) -> None:
    """Runs a study, or goes on with it, and writes what its part of the page needs into a file.

    limit: number of clips; `STUDIES` has the largest that counts. The clips of the run that observed are left out.
    """
    options = replace(STUDIES[name], limit=min(limit, STUDIES[name].limit))
    if name in CHOSEN_BY:
        options = replace(options, sites=read_page(Path(out), CHOSEN_BY[name])["chosen"])
    observed = read_observed(open_run(Path(out, OBSERVED)))
    flags = {"device": device, "dtype": "float32", **(VIDEO_FLAGS if options.generates else {})}
    study = plan_study(observed, options, installed(), flags)
    folder = StudyFolder.of(study, Path(out, STUDY_FOLDERS))
    rows = run_study(study, folder, partial(_say, name))
    found = Measured(study, finish_study(study, folder, rows).results)
    write_text(Path(out, PAGE.format(name)), json.dumps(describe(name, found), indent=1) + "\n")
    write_agreements(Path(out, AGREEMENT.format(name)), list_agreements(*found, folder.id))
    if options.generates:
        draw_videos(study, folder, Path(out, STRIPS_FILE))


def describe(name: str, one: Measured) -> dict[str, Any]:
    """Returns what the page needs of a study, as plain values: its generated blocks, and the bars of the picture."""
    blocks = {f"knockout-{name}": _study_text(one)}
    if name in AGREED:
        blocks[f"knockout-{name}-agreement"] = agreement_table(one.results.agreements)
    drawn = {"bars": list_bars(one)} if name == DRAWN else {}
    chosen = {DRAWN: choose_dosed, "heads": choose_heads}
    return {"blocks": blocks, **drawn, **({"chosen": chosen[name](one)} if name in chosen else {})}


def choose_dosed(one: Measured) -> str:
    """Returns the layers that are cut in doses, as `--sites` has them: the best one, and the most harmful other one."""
    skills = one.study.observed.mean_skills(one.study.steps, heads=False)
    best = max(skills, key=lambda site: np.nan_to_num(skills[site], nan=-np.inf)).layer
    losses = [effect for effect in one.results.effects if effect.outcome == "loss" and int(effect.sites) != best]
    worst = max(losses, key=lambda effect: np.nan_to_num(effect.whole.value, nan=-np.inf))
    return ",".join(map(str, sorted((best, int(worst.sites)))))


def choose_heads(one: Measured) -> str:
    """Returns the heads whose whole cuts harm the loss most, as `--sites` has them."""
    losses = [effect for effect in one.results.effects if effect.outcome == "loss"]
    ranked = sorted(losses, key=lambda effect: -np.nan_to_num(effect.whole.value, nan=-np.inf))
    return ",".join(sorted(effect.sites for effect in ranked[:MOST_HEADS]))


def _say(name: str, text: str) -> None:
    sys.stderr.write(f"{name}: {text}\n")


def _study_text(one: Measured) -> str:
    parts = [describe_study(one.study, one.results)]
    for dose in one.study.options.doses:
        if one.study.videos is not None:
            parts.append(score_table(one.results, dose))
            continue
        for outcome in OUTCOMES:
            table = effect_table(one.results.effects, outcome, dose)
            parts += [f"{TITLES[outcome]}, dose {dose:g}:", table] if table else []
    return "\n\n".join(parts)


def list_bars(one: Measured) -> list[dict[str, Any]]:
    """Returns the bars of the picture: the skill of each layer, and the harm of cutting it. None stands for NaN."""
    skills = one.study.observed.mean_skills(one.study.steps, heads=False)
    bars = [_bar_of_skill(site, skill) for site, skill in skills.items()]
    bars += [_bar_of_effect(effect) for effect in one.results.effects]
    return [{name: _without_nan(value) for name, value in bar.items()} for bar in bars]


def _without_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def draw(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws skill of each layer next to the harm of cutting it, as one picture."""
    import altair as alt

    bars = alt.Chart(alt.Data(values=list(records))).encode(x=alt.X("layer:O", title="layer"))
    marks = bars.mark_bar().encode(y=alt.Y("value:Q", title=None), color=alt.Color("panel:N", legend=None))
    whiskers = bars.mark_rule().encode(y="low:Q", y2="high:Q").transform_filter("isValid(datum.low)")
    layered = alt.layer(marks, whiskers).properties(width=220, height=170)
    # skill and shares of the loss have one range, so the charts share an axis and start at the same height
    chart = layered.facet(facet=alt.Facet("panel:N", title=None, sort=list(PANELS.values())))
    path.parent.mkdir(parents=True, exist_ok=True)
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


def draw_videos(study: KnockoutPlan, folder: StudyFolder, path: Path) -> None:
    """Draws strips of the first clip below each other, as one picture: without a cut, then every whole cut."""
    from PIL import Image

    names = ["plain", *(f"cut {one.name} at dose {max(study.options.doses):g}" for one in study.sets)]
    strips = folder.path / STRIPS / file_name(study.plan.selection.clips[0])
    parts = [np.asarray(Image.open(strips / f"{name}.png")) for name in names]
    gap = np.full((4, *parts[0].shape[1:]), 255, np.uint8)
    write_png(path, np.concatenate([part for strip in parts for part in (strip, gap)][:-1]))


def title_videos(strips: Path, chosen: str, path: Path) -> None:
    """Writes above the strips that `draw_videos` drew what is cut. chosen: the layers, as `--sites` has them."""
    from vcorr_tiny.training.sheets import title_strips

    title_strips(strips, ["no cut", *(f"layer {layer} cut" for layer in chosen.split(","))], path)


def read_page(out: Path, name: str) -> dict[str, Any]:
    """Reads what one study wrote for the page; raises StoreError if it did not."""
    path = out / PAGE.format(name)
    if not path.is_file():
        raise StoreError(f"{path} does not exist.", hint="Leave --tables-only out to measure it.")
    page: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return page


def write_tables(work: Work, docs: Path | None) -> dict[str, str]:
    """Makes the blocks of docs/knockouts.md, and writes them, the pictures, and the agreement that boards show.

    Raises:
        StoreError: a study was not measured; what there is of the others is written.
    """
    missing = [name for name in STUDIES if not (work.out / PAGE.format(name)).is_file()]
    pages = {name: read_page(work.out, name) for name in STUDIES if name not in missing or name == DRAWN}
    blocks = {name: text for page in pages.values() for name, text in page["blocks"].items()}
    if docs:
        (docs.parent / KEPT_IN).mkdir(parents=True, exist_ok=True)
        replace_model(docs.parent / KEPT_IN / FILE, read_agreements(work.out / AGREEMENT.format(DRAWN)))
        write_blocks(docs / "knockouts.md", blocks)
        draw(pages[DRAWN]["bars"], docs / "images" / "knockouts.png")
        if SAMPLED in pages:
            title_videos(work.out / STRIPS_FILE, pages[DRAWN]["chosen"], docs / "images" / STRIPS_FILE)
    for name in missing:
        read_page(work.out, name)
    return blocks


KEPT = Kept(files=(PAGE.format("*"), AGREEMENT.format("*"), STRIPS_FILE), going_on=(f"{STUDY_FOLDERS}/**/*",))
MEASUREMENT = Measurement("knockouts", OBSERVED_CLIPS, list_tasks, write_tables, KEPT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return MEASUREMENT.run(MEASUREMENT.make_parser("knockouts", __doc__ or "").parse_args(arguments))


if __name__ == "__main__":
    end(main)
