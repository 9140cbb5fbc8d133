"""The page of a study of guidances: strips of frames side by side, and every difference with its interval.

The page is static: it opens from disk, and its pictures lie next to it.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.noun_counts import say_count
from vcorr.contract.visible_text import escape_line
from vcorr.data.video.browser_videos import enlarge
from vcorr.metrics.motion_guard import GUARD, say_better
from vcorr.runner.spec import NO_GUIDANCE
from vcorr.runner.track import is_video_kept, read_video
from vcorr.stats.sign_flips import SIGNIFICANT, show_p, smallest_p
from vcorr.store.atomic_files import atomic_file, make_folder, write_text
from vcorr.studies.guidance_rows import CONTROLS, GuidanceRow
from vcorr.studies.guidance_study import ArmRuns, GuidanceStudy

PAGE, STRIPS = "index.html", "strips"
FRAMES_SHOWN, PROMPTS_SHOWN = 6, 4
FRAME_WIDTH = 128
"""Least width in pixels of a frame in a strip; smaller videos are enlarged by a whole factor."""

_META = '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">'
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem; color: #1a1a1a; }
p { max-width: 68rem; }
table { border-collapse: collapse; margin: 1rem 0 2rem; }
th, td { padding: .25rem .5rem; text-align: right; border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums;
         white-space: nowrap; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
td .note { font-size: .87em; }
.better { color: #05603a; font-weight: 600; } .worse { color: #9b1c1c; font-weight: 600; }
figure { margin: 0 0 .6rem; display: flex; align-items: center; gap: .8rem; }
figcaption { width: 9rem; flex: none; overflow-wrap: anywhere; } img { max-width: 100%; image-rendering: auto; }
.note { color: #555; } .wide { overflow-x: auto; }
@media (max-width: 40rem) { figure { display: block; } figcaption { width: auto; } td .note { display: block; } }
"""


def write_page(study: GuidanceStudy) -> Path:
    """Writes the page and its pictures, and returns the path of the page.

    Raises:
        StoreError: a video is damaged, or a file cannot be written.
    """
    make_folder(study.folder / STRIPS)
    parts = [*_intro(study), *_prompts(study)]
    for control in CONTROLS:
        parts += _table_of(study, control)
    title = f"Guidance of {study.facts['model']}"
    body = "\n".join(parts)
    page = f'<!doctype html>\n<html lang="en">\n{_META}\n<title>{_text(title)}</title>\n'
    write_text(study.folder / PAGE, f"{page}<style>{_STYLE}</style>\n<h1>{_text(title)}</h1>\n{body}\n</html>\n")
    return study.folder / PAGE


def _intro(study: GuidanceStudy) -> Iterator[str]:
    facts = study.facts
    seeds = ", ".join(map(str, facts["seeds"]))
    strength = "the pipeline's own" if facts["cfg"] is None else f"{facts['cfg']:g}"
    prompts, steps = say_count(len(study.clips), "prompt"), say_count(facts["num_steps"], "step")
    named = "seed" if len(facts["seeds"]) == 1 else "seeds"
    yield (
        f"<p>{prompts} of {_text(facts['dataset'])}, {named} {_text(seeds)}, {steps}, "
        f"strength of classifier-free guidance {_text(strength)}. "
        "Every guidance starts from the same noise.</p>"
    )
    yield (
        '<p class="note">Differences are means over prompts, with 95 % intervals by Student’s t. p is of a '
        "sign-flip test, corrected by Holm over the guidances of a table and score. "
        "A video that moves less scores better by itself: "
        f"compare {GUARD} first.</p>"
    )
    for note in study.notes:
        yield f'<p class="note">{_text(note)}</p>'


def _prompts(study: GuidanceStudy) -> Iterator[str]:
    """Yields the strips of the first prompts, one per arm, from the first seed."""
    yield "<h2>Videos</h2>"
    for number, (clip, prompt) in enumerate(list(study.clips.items())[:PROMPTS_SHOWN]):
        yield f"<h3>{_text(prompt or clip)}</h3>"
        for place, one in enumerate(study.arms):
            run = next(iter(one.runs.values()))
            if not is_video_kept(run, clip):
                yield f'<p class="note">{_text(one.arm.label)}: no video.</p>'
                continue
            name = f"{number}-{place}.png"
            write_png(study.folder / STRIPS / name, make_strip(_enlarge(read_video(run, clip))))
            label = _text(one.arm.label)
            caption = f"{label}<br><span class=note>{_text(_say_cost(one))}</span>"
            yield f'<figure><figcaption>{caption}</figcaption><img src="{STRIPS}/{name}" alt="{label}"></figure>'


def _say_cost(one: ArmRuns) -> str:
    layers = f"layers {one.layers}" if one.layers else ""
    seconds = "" if math.isnan(one.seconds) else f"{one.seconds:.3g} s per video"
    return ", ".join(word for word in (layers, seconds) if word)


def make_strip(video: NDArray[np.uint8], count: int = FRAMES_SHOWN, gap: int = 4) -> NDArray[np.uint8]:
    """Returns frames of a video (T, H, W, 3) side by side, evenly spaced from the first to the last, on white.

    gap: pixels between two frames.
    """
    chosen = np.unique(np.round(np.linspace(0, len(video) - 1, count)).astype(int))
    white = np.full((video.shape[1], gap, 3), 255, np.uint8)
    parts = [part for index in chosen for part in (video[index], white)]
    return np.concatenate(parts[:-1], axis=1)


def _enlarge(video: NDArray[np.uint8]) -> NDArray[np.uint8]:
    factor = -(-FRAME_WIDTH // video.shape[2])
    return np.stack([enlarge(frame, factor) for frame in video])


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Writes an image (H, W, 3) uint8 as PNG; atomic. Raises StoreError if it cannot be written."""
    from PIL import Image

    with atomic_file(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG")


def _table_of(study: GuidanceStudy, control: str) -> Iterator[str]:
    rows = [row for row in study.rows if row.control == control]
    if not rows:
        return
    yield f"<h2>Compared with {_text(control)}</h2>"
    heads = ("score", "guidance", "mean", _text(control), "difference", "95 % interval", "p", "prompts", "cost")
    yield f'<div class="wide"><table><tr>{"".join(f"<th>{head}</th>" for head in heads)}</tr>'
    for row in rows:
        yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in _cells(row))}</tr>"
    yield "</table></div>"


def _cells(row: GuidanceRow) -> Iterator[str]:
    better = say_better(row.metric, lower=row.better == "lower")
    meaning = better if row.metric == GUARD else f"{better} is better"
    yield f"{_text(row.metric)} <span class=note>({meaning})</span>"
    yield _text(row.guidance)
    yield show(row.value)
    yield show(row.control_value)
    kind = ("better" if row.improves else "worse") if row.is_significant and row.metric != GUARD else ""
    yield f'<span class="{kind}">{show(row.difference, signed=True)}</span>'
    yield show_interval(row)
    yield _text(show_p(row.p_holm))
    yield str(row.prompts)
    ratio = row.seconds / row.control_seconds if row.control_seconds else math.nan
    yield "–" if math.isnan(ratio) else f"{ratio:.2f}x"


def show(value: float, *, signed: bool = False) -> str:
    """Returns a score with four digits that count, a difference (`signed`) with three; a dash for NaN."""
    if math.isnan(value):
        return "–"
    return f"{value + 0.0:+.3g}" if signed else f"{value + 0.0:.4g}"


def show_interval(row: GuidanceRow) -> str:
    """Returns the interval of a difference; a dash where there is none."""
    return "–" if math.isnan(row.low) else f"{show(row.low, signed=True)} … {show(row.high, signed=True)}"


def _text(value: object) -> str:
    return html.escape(escape_line(str(value)))


def summarise_study(study: GuidanceStudy) -> Sequence[str]:
    """Returns what the study found against `none`, in words: one line per arm, the guard first."""
    return [_summarise_arm(study, one.arm.label) for one in study.arms if one.arm.label != NO_GUIDANCE]


def _say_nothing(study: GuidanceStudy, rows: Sequence[GuidanceRow]) -> str:
    """Returns why no score is reported as different: the test finds nothing, or has too few prompts to find it."""
    prompts, family = max((row.prompts for row in rows), default=0), len(study.arms) - 1
    least = min(1.0, smallest_p(prompts) * family)
    if least > SIGNIFICANT:
        return f"{say_count(prompts, 'prompt')} cannot give the test a p under {least:.2g}, so it says nothing"
    return "no score differs by more than chance"


def _summarise_arm(study: GuidanceStudy, label: str) -> str:
    rows = [row for row in study.rows if (row.guidance, row.control) == (label, NO_GUIDANCE)]
    told = [row for row in rows if row.is_significant]
    better = [row.metric for row in told if row.improves and row.metric != GUARD]
    worse = [row.metric for row in told if not row.improves and row.metric != GUARD]
    words = [f"better: {', '.join(better)}" if better else "", f"worse: {', '.join(worse)}" if worse else ""]
    found = "; ".join(word for word in words if word) or _say_nothing(study, rows)
    guard = next((row for row in told if row.metric == GUARD), None)
    moves = "" if guard is None else ("; it moves more" if guard.difference > 0 else "; it moves less")
    return f"{label}: {found}{moves}"
