"""Finds the guidance branches of a pipeline, and the form of the latents that its denoiser gets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vcorr.authoring.scaffold.pipelines.facts import Guess, Ratios
from vcorr.authoring.scaffold.pipelines.find import Found
from vcorr.authoring.scaffold.pipelines.measure import GUIDANCE, LATENTS, STEPS, Pass, Stage, run
from vcorr.capture.labels import BATCHED


def find_branches(
    stage: Stage, passes: Sequence[Pass], guesses: list[Guess]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the branches of a batch's rows, and the branches of a step's passes if the passes have no label."""
    other = run(stage, prompt=1)
    step = max(len(passes) // STEPS, 1)
    if step == 1 or passes[0].label == BATCHED:
        rows = _count_rows(passes[0])
        return _name_branches([_row_changes(passes[0], other[0], row, rows) for row in range(rows)], guesses), ()
    if passes[0].label is not None:
        return ("cond",), ()
    changed = [_row_changes(one, two, 0, 1) for one, two in zip(passes[:step], other[:step], strict=True)]
    return ("cond",), _name_branches(changed, guesses)


def _count_rows(one: Pass) -> int:
    """Returns the number of batch rows of a pass."""
    first = next(iter(one.arguments.values()))
    return len(first) if isinstance(first, Tensor) else 1


def _name_branches(changed: Sequence[bool], guesses: list[Guess]) -> tuple[str, ...]:
    """Returns a branch per batch row or pass: "cond" for the one that the prompt changes."""
    if len(changed) == 1:
        return ("cond",)
    if sum(changed) != 1:
        guesses.append(
            Guess(
                "model.py: branches",
                f"the prompt changes {sum(changed)} of {len(changed)} branches; the last one is read as conditional",
            )
        )
        return (*(f"other{index}" for index in range(len(changed) - 1)), "cond")
    names = iter(["uncond", "perturbed", "other", "further"])
    return tuple("cond" if each else next(names) for each in changed)


def _row_changes(one: Pass, other: Pass, row: int, rows: int) -> bool:
    """Returns whether any argument of a pass differs in that batch row between two prompts."""
    return any(
        isinstance(value, Tensor)
        and value.ndim > 1
        and len(value) == rows
        and not torch.equal(value[row], other.arguments[name][row])
        for name, value in one.arguments.items()
    )


def find_latent_axes(stage: Stage, first: Pass, ratios: Ratios, guesses: list[Guess]) -> str:
    """Returns the order of the axes of the denoiser's latents; "" when they are packed into tokens."""
    latents = next(iter(first.arguments.values()))
    frames = LATENTS[0] * ratios.temporal_patch
    rows, cols = (count * ratios.patch for count in LATENTS[1:])
    if latents.ndim == 5 and tuple(latents.shape[3:]) == (rows, cols):
        return "bcfhw" if latents.shape[2] == frames else "bfchw"
    if latents.ndim == 5 and tuple(latents.shape[1:4]) == (frames, rows, cols):
        return "bfhwc"
    if not hasattr(stage.pipe, "_pack_latents"):
        guesses.append(
            Guess(
                "model.py: denoiser_input",
                f"the denoiser gets latents of shape {tuple(latents.shape)}: write how they are made",
            )
        )
    return ""


def note_other_latents(passes: Sequence[Pass], guesses: list[Guess]) -> None:
    """Notes other arguments than latents and timestep that change from step to step, such as latents of sound."""
    first = passes[0].arguments
    last = next(one.arguments for one in reversed(passes) if one.label == passes[0].label)
    latents = next(iter(first), "")
    changing = [
        name
        for name, value in first.items()
        if isinstance(value, Tensor)
        and name != latents
        and "timestep" not in name
        and isinstance(last.get(name), Tensor)
        and not torch.equal(value, last[name])
    ]
    if changing:
        guesses.append(
            Guess(
                "branches",
                f"{', '.join(changing)} change from step to step; in renoise mode they stay as at the first step",
            )
        )


def has_guider(found: Found) -> bool:
    """Returns whether a component holds the strength of guidance, instead of an argument of the call."""
    return "guider" in found.components and not any(name in found.call for name in GUIDANCE)


def find_guidance_argument(found: Found, guesses: list[Guess]) -> str:
    """Returns the name of the argument for the strength of guidance in the pipeline's call."""
    taken = next((name for name in GUIDANCE if name in found.call), "")
    if not taken and not has_guider(found):
        guesses.append(Guess("guidance_argument", "the call takes no strength of guidance; guidance_scale is written"))
    return taken or GUIDANCE[0]
