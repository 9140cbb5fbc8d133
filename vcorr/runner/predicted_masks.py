"""The predict stage of propagation: carries the mask of frame 0 through a clip."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import PluginError, UsageError
from vcorr.contract.records import NO_QUERIES
from vcorr.runner.plan import Plan
from vcorr.runner.predict import MasksPrediction, Predicted, Prepared
from vcorr.runner.stored_masks import StoredMasks, clear_void


def predict_masks(plan: Plan, prepared: Prepared) -> Predicted:
    """Carries the mask of frame 0 through one clip. The prediction says at which site; the clip has no points.

    Raises:
        UsageError: the mask has no object.
        PluginError: the labels have another size than the clip.
    """
    reference, adapter = prepared.masks, plan.live.adapter
    assert reference is not None  # `prepare_clip` reads them in propagation
    given = clear_void(reference[0])
    if not given.any():
        raise UsageError(f"The mask of clip {prepared.clip.id} in frame 0 has no object.")
    began = time.monotonic()
    with adapter.probe_changes.watch(), adapter.name.calling("carry()"):
        labels = _check(adapter.made.carry(prepared.clip, given), reference)
    seconds = time.monotonic() - began
    answer = MasksPrediction(adapter.made.facts, prepared.grid)
    clip = prepared.clip.with_queries(NO_QUERIES)
    return Predicted(
        clip, [answer], prepared.facts, prepared.grid, seconds=seconds, masks=StoredMasks(labels, reference)
    )


def _check(labels: Any, reference: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if not isinstance(labels, np.ndarray) or labels.shape != reference.shape or labels.dtype != np.uint8:
        raise PluginError(f"Masks must be uint8 labels of shape {reference.shape}.")
    return labels
