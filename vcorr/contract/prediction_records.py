"""The records of what probes read at a site, and of the scores that metrics give.

Shapes: N query points, F latent frames. Positions are (x, y) raster pixels (docs/conventions.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.geometry import TokenGrid
from vcorr.contract.model_records import NO_SITE, Attention
from vcorr.contract.variants import DEFAULT_VARIANT, NamedVariant

Readout = Literal["token", "free"]
"""Which positions can be predicted: the query moved by whole tokens, or any position."""

HEAD_MEAN = -1
"""Head of the mean over heads."""


@dataclass(frozen=True)
class Prediction:
    """The positions that one probe predicts at one site, for N query points at F latent times.

    Args:
        probe: name of the probe.
        xy: (N, F, 2) float32 pixels (x, y). For the latent frame j that covers the query's frame, [:, j] is the query.
        grid: token grid of the site.
        layer: -1 if the prediction comes from no attention site; so for `step` (docs/results-format.md).
        layer_name: path of the attention module; "" if there is none.
        step: 0-based index into the scheduler's timesteps.
        head: -1 for the mean over heads.
        noise: noise level of the step, sigma / (alpha + sigma) in [0, 1]; NaN for a model without noise.
        attention: kind of attention at the site.
        readout: "token" if the query can move by whole tokens alone: its position is query + centre(y) - centre(x), in
            float32, with x its own token and y any token. "free" if any position is possible. It decides the ceiling.
        variant: variant under which the positions were read. It changes nothing where there is no attention site.
        visible: (N, F) bool, True where the point can be seen; None if the probe does not say.
        confidence: (N, F) float32 in [0, 1], how sure the probe is; None if it does not say.
        noise_frames: (F,) noise level of each latent frame; None if all have the same. If given, `noise` is the mean
            over the target latents.
    """

    probe: str
    xy: NDArray[np.float32]
    grid: TokenGrid
    layer: int = NO_SITE
    layer_name: str = ""
    step: int = NO_SITE
    head: int = HEAD_MEAN
    noise: float = float("nan")
    attention: Attention = "none"
    readout: Readout = "token"
    variant: NamedVariant = DEFAULT_VARIANT
    visible: NDArray[np.bool_] | None = None
    confidence: NDArray[np.float32] | None = None
    noise_frames: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class RowsPrediction:
    """The attention summary of one probe at one site: how N query points' tokens spread their attention.

    The attention of a token is a softmax over all tokens of the sequence, text and video, averaged over heads. So all
    values are in [0, 1], and the three sums add up to 1. The query latent is the latent frame that covers the query's
    frame. The other fields are as in `Prediction`.

    Args:
        peak_cross: (N, F - 1) float32, the largest attention to a token of each latent frame but the query latent.
        peak_self: (N,) float32, the largest attention to a token of the query latent.
        peak_text: (N,) float32, the largest attention to a text token; NaN if there is no text.
        sum_cross: (N,) float32, the attention to all latent frames but the query latent.
        sum_self: (N,) float32, the attention to the query latent.
        sum_text: (N,) float32, the attention to all text tokens; NaN if there is no text.
        traits: (N, K) float32 in [0, 1], what `vcorr.functional.head_traits` returns, NaN where a trait does not exist.
            None if the probe gives no traits.
    """

    probe: str
    peak_cross: NDArray[np.float32]
    peak_self: NDArray[np.float32]
    peak_text: NDArray[np.float32]
    sum_cross: NDArray[np.float32]
    sum_self: NDArray[np.float32]
    sum_text: NDArray[np.float32]
    grid: TokenGrid
    layer: int = NO_SITE
    layer_name: str = ""
    step: int = NO_SITE
    head: int = HEAD_MEAN
    noise: float = float("nan")
    attention: Attention = "none"
    variant: NamedVariant = DEFAULT_VARIANT
    noise_frames: NDArray[np.float32] | None = None
    traits: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Score:
    """The value of a metric for one clip and site.

    value: NaN if nothing could be scored. n: number of scored items, such as pairs of a point and a frame.
    """

    value: float
    n: int
