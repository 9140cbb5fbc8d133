"""Builds what `vcorr run --dry-run` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from vcorr.cli.views.terminal import cell, console, duration, size
from vcorr.contract.index_text import say_ranges
from vcorr.contract.variants import DEFAULT_VARIANT
from vcorr.contract.visible_text import escape

if TYPE_CHECKING:
    from vcorr.analysis.estimate import Estimate, Work
    from vcorr.runner.plan import Plan


def plan(made: Plan, found: Estimate) -> None:
    """Prints a plan with what it would take, then what is missing and the notes."""
    out = console()
    out.print(_plan_table(made, found))
    for gap in made.missing:
        out.print()
        out.print(cell(f"Missing ({gap.kind}): {gap.message}", style="yellow"), soft_wrap=True)
        if gap.hint:
            out.print(Text(escape(gap.hint)), soft_wrap=True)
    notes = (*made.notes, *found.notes, made.parts.notice)
    if any(notes):
        out.print()
        out.print(Text(escape("\n".join(filter(None, notes))), style="dim"), soft_wrap=True)


def _plan_table(made: Plan, found: Estimate) -> RenderableType:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    parts, chosen = made.parts, made.selection
    variants = ", ".join(variant.text for variant in chosen.variants)
    rows = {
        "model": f"{parts.model.entry.name}  (weights {made.identity.weights or 'not in reach'})",
        "data": _data(made, found),
        "mode": _mode(made),
        **(_say_sampling(made) if made.task.makes_videos else _say_reading(made)),
        "computed": _say_work(found.work),
        "metrics": ", ".join(m.entry.name for m in parts.metrics),
        **({} if chosen.variants == (DEFAULT_VARIANT,) else {"variants": variants}),
        "reference": _reference(made),
        "device": _device(made),
        "run": _run(found),
        "time": _time(found),
        "memory": _memory(found),
        "disk": "unknown" if found.disk_bytes is None else f"about {size(found.disk_bytes)}{_per_clip(found)}",
    }
    for name, value in rows.items():
        table.add_row(name, cell(value))
    return table


def _say_reading(made: Plan) -> dict[str, str]:
    """Returns what is read in a run of correspondence or tracking."""
    probes, sites = made.parts.probes, made.selection.sites
    return {
        "probes": ", ".join(p.entry.name for p in probes) or "none: this model predicts directly",
        "layers": f"{len(sites)}: {say_ranges([s.layer for s in sites])}" if sites else "none",
        "steps": _steps(made),
    }


def _say_sampling(made: Plan) -> dict[str, str]:
    """Returns how videos are sampled in a run of generation, which reads no attention."""
    from vcorr.runner.guided import say_guidance

    return {
        "guidance": say_guidance(made.selection.guided),
        "steps": f"{made.selection.settings.num_steps} of the sampler",
    }


def plan_dict(made: Plan, found: Estimate) -> dict[str, Any]:
    """Returns what `--dry-run --json` prints."""
    parts, chosen = made.parts, made.selection
    return {
        "model": parts.model.entry.name,
        "weights": made.identity.weights or None,
        "data": parts.data.entry.name,
        "split": chosen.split or None,
        "mode": chosen.settings.mode,
        "clips": None if found.clips is None else list(chosen.clips),
        "probes": [probe.entry.name for probe in parts.probes],
        "layers": sorted(chosen.layers),
        "steps": list(chosen.settings.steps),
        "num_steps": chosen.settings.num_steps,
        "metrics": [metric.entry.name for metric in parts.metrics],
        "variants": [variant.text for variant in chosen.variants],
        "tracker": parts.tracker.entry.name if parts.tracker else None,
        "reference": made.reference.to_dict(),
        **({} if chosen.guided is None else {"guidance": chosen.guided.columns()}),
        "seed": chosen.settings.seed,
        "noise_draw": chosen.noise_draw,
        "device": made.hardware.name,
        "dtype": made.hardware.dtype,
        **found.to_dict(),
        "missing": [vars(gap) for gap in made.missing],
        "notes": [*made.notes, *found.notes],
    }


def _data(made: Plan, found: Estimate) -> str:
    name, split = made.parts.data.entry.name, made.selection.split
    if found.clips is None:
        return f"{name}; how many clips it has is not known"
    return f"{name}, split {split}: {found.clips} {'clip' if found.clips == 1 else 'clips'}"


def _mode(made: Plan) -> str:
    name = made.selection.settings.mode
    assumed = made.lacks("data") and made.spec.mode is None
    return f"{name}  (assumed: data with videos are renoised, prompts generate)" if assumed else name


def _reference(made: Plan) -> str:
    return made.reference.text if made.reference.tracker or not made.lacks("data") else "depends on the data"


def _steps(made: Plan) -> str:
    settings = made.selection.settings
    if not settings.num_steps:
        return "none: this model adds no noise"
    return f"{len(settings.steps)} of {settings.num_steps} are read: {', '.join(map(str, settings.steps))}"


def _say_work(work: Work) -> str:
    """Returns what is computed per clip."""
    if not work.runs:
        return "no pass of a network"
    branches = f" of {work.branches} guidance branches each" if work.branches > 1 else ""
    passes = f"{work.runs} {'run' if work.runs == 1 else 'runs'} of the denoiser{branches}"
    if work.further:
        passes += f" and {work.further} further {'prediction' if work.further == 1 else 'predictions'} of the guidance"
    coder = [f"{count} {what}" for count, what in ((work.encodes, "encoded"), (work.decodes, "decoded")) if count]
    videos = "video" if work.encodes + work.decodes == 1 else "videos"
    return f"per clip {passes}" + (f", {' and '.join(coder)} {videos}" if coder else "")


def _device(made: Plan) -> str:
    here = "  (not here)" if made.lacks("device") else ""
    shared = made.hardware.shared
    what = "every pass" if made.hardware.ranks > 1 else "clips"
    processes = f", {what} shared by {len(shared)} processes" if shared else ""
    if made.spec.executor != "local":
        processes = f", clips computed through {made.spec.executor}"
    return f"{made.hardware.name}, {made.hardware.dtype}{processes}{here}"


def _run(found: Estimate) -> str:
    if found.path is None:
        return "named when nothing is missing"
    return str(found.path) + ("  (exists: it would be continued)" if found.exists else "")


def _per_clip(found: Estimate) -> str:
    return " per clip" if found.clips is None else ""


def _time(found: Estimate) -> str:
    if not found.work.runs:
        return "unknown, for no pass of a network"
    passes = f"{found.forward_passes} forward {'pass' if found.forward_passes == 1 else 'passes'}{_per_clip(found)}"
    if found.seconds is None:
        return f"unknown, for {passes}"
    return f"at least {duration(found.seconds)} for {passes}, by a speed test of this device just now"


def _memory(found: Estimate) -> str:
    return (
        "unknown" if found.memory_bytes is None else f"about {size(found.memory_bytes)} for the denoiser and one pass"
    )
