"""Makes the prediction of a model or tracker that answers with positions of its own, after checking them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vcorr.contract.errors import PluginError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Prediction


def make_answer(
    points: int,
    probe: str,
    xy: ArrayLike,
    grid: TokenGrid,
    *,
    visible: ArrayLike | None,
    confidence: ArrayLike | None,
    **site: Any,
) -> Prediction:
    """Returns the prediction; see `Recorder.answer`. points: number of queries. site: further fields of `Prediction`.

    Raises:
        PluginError: a shape is wrong, a position is not finite, or a confidence is outside [0, 1].
    """
    shape = (points, grid.frames)
    positions = np.array(xy, dtype=np.float32)
    if positions.shape != (*shape, 2):
        raise PluginError(
            f"recorder.answer(): {points} queries and {grid.frames} latent frames need shape {(*shape, 2)}, got "
            f"{positions.shape}."
        )
    if not np.isfinite(positions).all():
        raise PluginError("recorder.answer(): a position is NaN or infinite.")
    shown = None if visible is None else _check_shape("visible", np.array(visible, dtype=np.bool_), shape)
    sure = None if confidence is None else _check_shape("confidence", np.array(confidence, dtype=np.float32), shape)
    if sure is not None and not ((sure >= 0) & (sure <= 1)).all():
        raise PluginError("recorder.answer(): confidence must be in [0, 1].")
    return Prediction(probe, positions, grid, visible=shown, confidence=sure, **site)


def _check_shape(name: str, values: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    if values.shape != shape:
        raise PluginError(f"recorder.answer(): {name} must have shape {shape}, got {values.shape}.")
    return values
