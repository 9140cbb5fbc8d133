"""Runs the probes on a capture, checks their predictions, keeps them on the device, and turns them into records.

Shape legend: N query points, F latent frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vcorr.capture.captures import Capture, count_heads, version_of
from vcorr.contract.bases import ProbeBase, with_defaults
from vcorr.contract.errors import NumericalError, PluginError
from vcorr.contract.geometry import FARTHEST, TokenGrid
from vcorr.contract.head_traits import TRAITS
from vcorr.contract.part_calls import PartName, show_value
from vcorr.contract.probe_protocols import Positions, Probe, Rows, VariantProbe
from vcorr.contract.records import HEAD_MEAN, Prediction, Readout, RowsPrediction, Site
from vcorr.contract.variants import DEFAULT_VARIANT, NamedVariant
from vcorr.functional.query_points import QueryPoints

SUMMARY_PARTS = ("peak_self", "peak_text", "sum_cross", "sum_self", "sum_text")
"""The parts of an attention summary with one number per query point, in the order they are packed after peak_cross."""
TEXT_PARTS = ("peak_text", "sum_text")
TRAIT_PART = "traits"
"""The part of an attention summary that only some probes give: (N, K), one number per point and trait."""
_OUT_OF_PLACE = "Compute out of place: x = x * 2 in place of x *= 2, softmax(x) in place of softmax_(x), or clone it."
EXTRAS = ("visible", "confidence")
"""What a probe may return with its positions: one number per query point and latent frame."""
_NATURE = {TRAIT_PART: "a share, or a size of an eigenvalue, of a head"}
ROUNDING = 0.05
"""By how much a share of attention may leave [0, 1], because half precision rounds each of its terms."""


@dataclass(frozen=True)
class PackedPrediction:
    """One probe's prediction at one site, packed into one float32 tensor on the device.

    values: an attention summary (`is_summary`) as (N, F - 1 + 5), or positions as (N, F, 2). `visible` and `confidence`
    follow x and y if `extras` names them, and the traits of a head follow its summary.
    """

    values: Tensor
    is_summary: bool
    extras: tuple[str, ...]
    probe: str
    variant: NamedVariant
    readout: Readout
    head: int
    site: Site
    grid: TokenGrid
    step: int
    noise: float

    @property
    def where(self) -> str:
        """Layer, step and head, in words for messages."""
        return f"layer {self.site.layer}, step {self.step}, head {self.head}"


def predict(
    name: str,
    probe: Probe,
    capture: Capture,
    points: QueryPoints,
    variants: Sequence[NamedVariant] = (DEFAULT_VARIANT,),
) -> list[PackedPrediction]:
    """Runs the probe on one capture for the query points of one frame.

    variants: to predict under; a probe that is not a `VariantProbe` predicts under `corrected` alone.

    Raises:
        PluginError: a prediction has another form than the protocol says, or the probe wrote to its inputs.
    """
    capture.watch_writes()
    by_variant = _read(name, probe, capture, points, variants)
    _check_untouched(name, capture, points)
    heads = count_heads(capture)
    return [
        _pack(name, probe, capture, len(points), variant, head, prediction)
        for variant, predictions in zip(variants, by_variant, strict=True)
        for head, prediction in _by_head(name, predictions, heads, capture.site.name)
    ]


def _check_untouched(name: str, capture: Capture, points: QueryPoints) -> None:
    """Raises PluginError if a probe has written to its inputs."""
    written = capture.find_write()
    if written is not None:
        raise PluginError(
            f"Probe {name!r} wrote into {written} of {capture.site.name}, which is the model's own memory.",
            hint=_OUT_OF_PLACE,
        )
    if version_of(points.xy):
        raise PluginError(f"Probe {name!r} wrote into the query points, which all probes share.", hint=_OUT_OF_PLACE)


def _by_head(name: str, predictions: Any, heads: int, site: str) -> Iterable[tuple[int, Any]]:
    """Returns the predictions with their heads. heads: how many `site` has; 0 if unknown."""
    if not isinstance(predictions, Mapping) or not predictions:
        raise PluginError(
            f"Probe {name!r} must return a mapping of heads to predictions, got {show_value(predictions)}."
        )
    for head in predictions:
        _check_head(name, head)
        if heads and head >= heads:
            raise PluginError(f"Probe {name!r} returned a prediction for head {head}; {site} has {heads}, from 0.")
    return predictions.items()


def _pack(
    name: str, probe: Probe, capture: Capture, points: int, variant: NamedVariant, head: int, prediction: Any
) -> PackedPrediction:
    is_summary = not isinstance(prediction, (Tensor, Positions)) and isinstance(prediction, Rows)
    pack = _pack_summary if is_summary else _pack_positions
    values, extras = pack(name, prediction, points, capture.grid)
    return PackedPrediction(
        # a copy, because a view would keep the memory of its base alive
        values.detach().to(torch.float32, copy=True),
        is_summary,
        extras,
        name,
        variant,
        with_defaults(probe, ProbeBase).readout,
        int(head),
        capture.site,
        capture.grid,
        int(capture.step),
        capture.noise,
    )


Group = tuple[NDArray[np.intp], list[PackedPrediction]]
"""The indices of the query points of one frame, and the predictions for them."""


def join_points(groups: Sequence[Group], points: int) -> list[PackedPrediction]:
    """Joins the predictions for the points of each frame into predictions for all points of a clip.

    Args:
        groups: one per frame, in the same order of variants and heads.
        points: number of query points of the clip.

    Raises:
        PluginError: a probe returned different heads, or a different form, for the points of different frames.
    """
    if len(groups) == 1:
        return groups[0][1]
    return [_join([index for index, _ in groups], parts, points) for parts in _align(groups)]


def _align(groups: Sequence[Group]) -> Iterable[tuple[PackedPrediction, ...]]:
    forms = {tuple((p.variant, p.head, p.is_summary, p.extras) for p in predictions) for _, predictions in groups}
    if len(forms) > 1:
        raise PluginError(
            f"Probe {groups[0][1][0].probe!r} must return the same heads, in the same form, for the points of every "
            "frame."
        )
    return zip(*(predictions for _, predictions in groups), strict=True)


def _join(indices: Sequence[NDArray[np.intp]], parts: Sequence[PackedPrediction], points: int) -> PackedPrediction:
    first = parts[0].values
    values = first.new_empty(points, *first.shape[1:])
    for index, part in zip(indices, parts, strict=True):
        values.index_copy_(0, torch.from_numpy(index).to(first.device, non_blocking=True), part.values)
    return replace(parts[0], values=values)


def _read(
    name: str, probe: Probe, capture: Capture, points: QueryPoints, variants: Sequence[NamedVariant]
) -> Sequence[Any]:
    if tuple(variants) == (DEFAULT_VARIANT,):
        return [probe.read(capture, points)]
    assert isinstance(probe, VariantProbe)  # the plan of a run checks this
    found = list(probe.read_each(capture, points, [variant.values for variant in variants]))
    if len(found) != len(variants):
        raise PluginError(f"Probe {name!r}: read_each must return {len(variants)} variants, got {len(found)}.")
    return found


def to_records(
    predictions: Sequence[PackedPrediction], names: Mapping[str, PartName] | None = None
) -> list[Prediction | RowsPrediction]:
    """Brings the predictions to the CPU and returns them as records, in the same order.

    names: what messages call each probe, by its name.

    Raises:
        NumericalError: a prediction holds NaN or infinity where it must not, or a position far outside the frame.
        PluginError: a confidence or a share of attention is not in [0, 1].
    """
    arrays = _to_numpy([packed.values for packed in predictions])
    records: list[Prediction | RowsPrediction] = []
    for packed, array in zip(predictions, arrays, strict=True):
        with (names or {}).get(packed.probe, PartName(f"probe {packed.probe!r}")).calling("read()"):
            records.append(_unpack_summary(packed, array) if packed.is_summary else _unpack_positions(packed, array))
    return records


def _check_head(name: str, head: Any) -> None:
    if isinstance(head, bool) or not isinstance(head, (int, np.integer)) or head < HEAD_MEAN:
        raise PluginError(f"Probe {name!r}: heads are -1 (the mean) or counted from 0, got {show_value(head)}.")


def _pack_positions(name: str, found: Any, points: int, grid: TokenGrid) -> tuple[Tensor, tuple[str, ...]]:
    """Packs positions, followed by visibility and confidence if the probe returned them, and names these extras."""
    xy = found.xy if isinstance(found, Positions) else found
    expected = (points, grid.frames, 2)
    if not isinstance(xy, Tensor) or tuple(xy.shape) != expected:
        got = tuple(xy.shape) if isinstance(xy, Tensor) else type(xy).__name__
        raise PluginError(
            f"Probe {name!r}: {expected[0]} queries and {expected[1]} latent frames need a tensor of shape "
            f"{expected}, got {got}."
        )
    if xy.dtype == torch.bool or xy.is_complex():
        raise PluginError(f"Probe {name!r}: positions are numbers of pixels, got {xy.dtype}.")
    if not isinstance(found, Positions):
        return xy, ()
    extras = {part: values for part in EXTRAS if (values := getattr(found, part)) is not None}
    for part, values in extras.items():
        if not isinstance(values, Tensor) or tuple(values.shape) != expected[:2]:
            got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise PluginError(f"Probe {name!r}: {part} must be a tensor of shape {expected[:2]}, got {got}.")
    if found.visible is not None and found.visible.dtype != torch.bool:
        raise PluginError(f"Probe {name!r}: visible must be bool, got {found.visible.dtype}.")
    columns = [xy.float(), *(values.float()[..., None] for values in extras.values())]
    return torch.cat(columns, dim=-1), tuple(extras)


def _pack_summary(name: str, summary: Any, points: int, grid: TokenGrid) -> tuple[Tensor, tuple[str, ...]]:
    """Packs an attention summary into (N, F - 1 + 5) for a single transfer; with K traits, (N, F - 1 + 5 + K)."""
    expected: dict[str, tuple[int, ...]] = {
        "peak_cross": (points, grid.frames - 1),
        **dict.fromkeys(SUMMARY_PARTS, (points,)),
    }
    traits = getattr(summary, TRAIT_PART, None)
    if traits is not None:
        expected[TRAIT_PART] = (points, len(TRAITS))
    for part, shape in expected.items():
        tensor = getattr(summary, part)
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != shape:
            got = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise PluginError(f"Probe {name!r}: {part} must be a tensor of shape {shape}, got {got}.")
    single = torch.stack([getattr(summary, part).float() for part in SUMMARY_PARTS], dim=-1)
    packed = torch.cat([summary.peak_cross.float(), single], dim=-1)
    return (packed, ()) if traits is None else (torch.cat([packed, traits.float()], dim=-1), (TRAIT_PART,))


def _unpack_positions(packed: PackedPrediction, values: NDArray[np.float32]) -> Prediction:
    if not np.isfinite(values).all():
        raise _not_finite(packed, "")
    _check_positions(packed, values[..., :2])
    extras = {part: np.ascontiguousarray(values[..., 2 + index]) for index, part in enumerate(packed.extras)}
    confidence = extras.get("confidence")
    if confidence is not None and not ((confidence >= 0) & (confidence <= 1)).all():
        raise PluginError(
            f"Probe {packed.probe!r}: confidence must lie in [0, 1], got {confidence.min():g} to {confidence.max():g} "
            f"at {packed.where}."
        )
    return Prediction(
        probe=packed.probe,
        xy=np.ascontiguousarray(values[..., :2]),
        grid=packed.grid,
        layer=packed.site.layer,
        layer_name=packed.site.name,
        step=packed.step,
        head=packed.head,
        noise=packed.noise,
        attention=packed.site.attention,
        readout=packed.readout,
        variant=packed.variant,
        visible=extras["visible"] > 0 if "visible" in extras else None,
        confidence=confidence,
    )


def _check_positions(packed: PackedPrediction, xy: NDArray[np.float32]) -> None:
    width, height = packed.grid.width, packed.grid.height
    largest = np.abs(xy).reshape(-1, 2).max(axis=0, initial=0)
    if (largest > (FARTHEST + 1) * np.array([width, height])).any():
        raise NumericalError(
            f"Probe {packed.probe!r} returned a position {largest.max():.4g} pixels from the corner of a frame of "
            f"{width:g}x{height:g} at {packed.where}.",
            hint="Positions are raster pixels of the clip (docs/conventions.md).",
        )


def _unpack_summary(packed: PackedPrediction, values: NDArray[np.float32]) -> RowsPrediction:
    peaks, single = packed.grid.frames - 1, len(SUMMARY_PARTS)
    parts = {"peak_cross": values[:, :peaks]}
    parts |= {part: values[:, peaks + index] for index, part in enumerate(SUMMARY_PARTS)}
    if TRAIT_PART in packed.extras:
        parts[TRAIT_PART] = values[:, peaks + single :]
    for part, numbers in parts.items():
        missing = np.isnan(numbers).all() and part in TEXT_PARTS  # a sequence without text
        finite = np.isfinite(numbers) | (np.isnan(numbers) if part == TRAIT_PART else False)
        if not missing and not finite.all():
            raise _not_finite(packed, f" as {part}")
        if not missing and ((numbers < -ROUNDING) | (numbers > 1 + ROUNDING)).any():
            raise PluginError(
                f"Probe {packed.probe!r}: {part} is {_NATURE.get(part, 'a share of attention')} and must lie in "
                f"[0, 1], got {np.nanmin(numbers):g} to {np.nanmax(numbers):g} at {packed.where}."
            )
    return RowsPrediction(
        probe=packed.probe,
        **{part: np.ascontiguousarray(numbers) for part, numbers in parts.items()},
        grid=packed.grid,
        layer=packed.site.layer,
        layer_name=packed.site.name,
        step=packed.step,
        head=packed.head,
        noise=packed.noise,
        attention=packed.site.attention,
        variant=packed.variant,
    )


def _not_finite(packed: PackedPrediction, part: str = "") -> NumericalError:
    return NumericalError(
        f"Probe {packed.probe!r} returned NaN or infinity{part} at {packed.where}.",
        hint="The model probably overflowed: try --dtype bfloat16 or float32.",
    )


def _to_numpy(tensors: Sequence[Tensor]) -> list[NDArray[np.float32]]:
    """Brings tensors to the CPU with one transfer per device and shape, in place of one per tensor."""
    groups: dict[tuple[torch.device, torch.Size], list[int]] = {}
    for index, tensor in enumerate(tensors):
        groups.setdefault((tensor.device, tensor.shape), []).append(index)
    arrays: dict[int, NDArray[np.float32]] = {}
    for members in groups.values():
        stacked = torch.stack([tensors[index] for index in members]).cpu().numpy()
        arrays.update(zip(members, stacked, strict=True))
    return [arrays[index] for index in range(len(tensors))]
