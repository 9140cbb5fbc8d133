"""The records that describe a model: its attention sites, how tokens lie there, and its card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from vcorr.contract.errors import UsageError
from vcorr.contract.rotary import Rotary

Attention = Literal["full3d", "factorised", "linear", "none"]
"""Kind of attention: over all video tokens; over space or time alone; linear; no attention at all."""
Axes = Literal["bhnd", "bnhd", "bnc"]
"""Order of the axes of queries or keys: b batch, h heads, n tokens, d head width, c = h*d channels of all heads."""

BlockAxes = Literal["bnc", "fnc", "fchw", "fhwc"]
"""Order of the axes of a block's output.

"bnc": the batch rows of the attention call. "fnc": one batch row per frame, whatever the batch rows of the attention
call are. "fchw": one map of c channels per frame. "fhwc": the same, with the channels last.
"""
FactorisedKind = Literal["spatial", "temporal"]
BatchOrder = Literal["branch-major", "interleaved"]

NO_SITE = -1
"""Layer and step of predictions that come from no attention site, as in baselines.

The step is also -1 for models without noise, which have no steps.
"""


@dataclass(frozen=True)
class Unrotated:
    """Says where queries and keys can be read before the rotary embedding turns them.

    q, k: paths, inside the attention module, of the submodules that put them out. These are the query-key norms if the
    norm comes before the embedding, else the projections. Their outputs may hold the video tokens alone or the whole
    sequence of the attention call.
    axes: order of the axes of these outputs.
    """

    q: str = "norm_q"
    k: str = "norm_k"
    axes: Axes = "bhnd"

    def __post_init__(self) -> None:
        if self.axes not in ("bhnd", "bnhd", "bnc"):
            raise UsageError(f"Unrotated: axes must be 'bhnd', 'bnhd' or 'bnc', got {self.axes!r}.")


@dataclass(frozen=True)
class Factorised:
    """Attention over space alone or over time alone, and how it spreads the tokens of a video over the batch.

    kind: "spatial", attention within a frame: a batch row holds the h*w tokens of one frame. "temporal", attention
    along time at one position: a batch row holds the F tokens of that position, one of each latent frame.
    order: order of the batch rows of several guidance branches. "branch-major": all batch rows of one branch, then all
    of the next. "interleaved": the batch rows of all branches for one frame (or position), then for the next.

    Raises:
        UsageError: kind or order has another value than these.
    """

    kind: FactorisedKind
    order: BatchOrder = "branch-major"

    def __post_init__(self) -> None:
        if self.kind not in get_args(FactorisedKind):
            raise UsageError(f"Factorised: kind must be 'spatial' or 'temporal', got {self.kind!r}.")
        if self.order not in get_args(BatchOrder):
            raise UsageError(f"Factorised: order must be 'branch-major' or 'interleaved', got {self.order!r}.")


@dataclass(frozen=True)
class Site:
    """One attention module of a model.

    Args:
        layer: number of the module in the order of execution, from 0.
        name: path of the module inside the denoiser.
        heads: number of attention heads; 0 if unknown before loading.
        attention: kind of attention, which decides what a token can see. "none" for a place whose hidden state can be
            read, but no attention: a layer of a convolutional network, or attention that the tap cannot see. Its name
            is free, because no module of this name is tapped.
        block: path, inside the denoiser, of the module whose output is the hidden state after this attention; "" if
            there is none to read.
        block_output: index of the tensor with the video tokens, if the block puts out several tensors.
        unrotated: where q and k can be read before the rotary embedding; None if there is no such embedding, or they
            cannot be read before it.
        factorised: how spatial or temporal attention lays out its tokens; None if one batch row holds the whole video.
        block_axes: order of the axes of the block's output.
        rotary: how the rotary embedding turns the video tokens; None if there is no such embedding, or its layout is
            unknown.
        unread: for a site without attention, why none is read, such as "SwinLayer attends within windows"; the error
            for probes of attention says it.

    Raises:
        UsageError: the values contradict each other.
    """

    layer: int
    name: str
    heads: int = 0
    attention: Attention = "full3d"
    block: str = ""
    block_output: int = 0
    unrotated: Unrotated | None = None
    factorised: Factorised | None = None
    block_axes: BlockAxes = "bnc"
    rotary: Rotary | None = None
    unread: str = ""

    def __post_init__(self) -> None:
        if self.factorised is not None and self.attention == "full3d":
            raise UsageError(
                f"Site {self.name}: {self.factorised.kind} attention is not full3d attention.",
                hint='Use Site(..., attention="factorised", factorised=...).',
            )
        if self.block_axes not in get_args(BlockAxes):
            raise UsageError(f"Site: block_axes must be one of {get_args(BlockAxes)}, got {self.block_axes!r}.")


@dataclass(frozen=True)
class ModelCard:
    """Facts about a model from its YAML card (docs/model-cards.md explains every field)."""

    name: str
    title: str
    summary: str
    attention: Attention
    licence: str
    hub_id: str | None = None
    revision: str | None = None
    download_gb: float | None = None
    parameters: int | None = None
    resolution: tuple[int, int] | None = None
    frames: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
