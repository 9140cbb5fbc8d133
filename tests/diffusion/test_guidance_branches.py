"""A dry run counts the guidance branches that a pipeline really computes in each step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.scale import scale_count

import vcorr
from vcorr.capture.recorder import Recorder
from vcorr.diffusion.adapter import DiffusersVideoModel
from vcorr.plugins.registry import installed

STEPS = 2
NO_POINTS = np.zeros((0, 2), np.float32)


def choose_models() -> list[str]:
    """Returns one model per way of declaring branches that the installed models have; all of them at a large scale."""
    chosen: dict[object, str] = {}
    for registered in installed().models.all():
        entry = registered.entry
        adapter = entry.create()
        if isinstance(adapter, DiffusersVideoModel) and "generate" in adapter.modes and entry.check:
            way = (adapter.branches, adapter.passes, adapter.guided_branches)
            chosen.setdefault(way if scale_count(1) == 1 else entry.name, entry.name)
    return sorted(chosen.values())


def count_rows(model: DiffusersVideoModel, cfg: float | None) -> list[int]:
    """Samples a clip and returns the batch rows of every call of a denoiser."""
    rows: list[int] = []

    def see(module: object, arguments: tuple[object, ...], options: dict[str, object]) -> None:
        rows.append(next(v for v in (*arguments, *options.values()) if isinstance(v, torch.Tensor)).shape[0])

    grid = model.grid(vcorr.Clip("clip", "", NO_POINTS), None)
    image = np.zeros((1, round(grid.height), round(grid.width), 3), np.uint8) if model.needs_image else None
    clip = vcorr.Clip("clip", "a boat", NO_POINTS, image)
    settings = vcorr.RunSettings("generate", (0,), STEPS, 0, cfg)
    hooks = [getattr(model.pipe, name).register_forward_pre_hook(see, with_kwargs=True) for name in model.denoisers]
    try:
        model.run(clip, settings, Recorder({}, clip.queries, layers=frozenset()))
    finally:
        for hook in hooks:
            hook.remove()
    return rows


@pytest.mark.filterwarnings("ignore:In CPU autocast")  # one pipeline asks for float32, which torch does not need
@pytest.mark.parametrize("name", choose_models())
def test_declared_branches_are_computed(name) -> None:
    entry = installed().models.get(name).entry
    model = entry.create(entry.config_type()(**entry.check))
    model.load("cpu", "float32", "random")
    borrowed = 1  # the pass that the pipeline stops before, when the schedule is read; kept for the second strength
    for cfg in (None, 1.0):
        declared = model.guidance_branches(vcorr.RunSettings("generate", (0,), STEPS, 0, cfg))
        assert sum(count_rows(model, cfg)) - borrowed == STEPS * declared
        borrowed = 0
