"""What probes answer: checked as it comes, kept on the device, and brought to the CPU as records.

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

from vcorr.capture.captures import Capture, version_of
from vcorr.capture.needs import PARTS
from vcorr.contract.bases import ProbeBase, with_defaults
from vcorr.contract.errors import NumericalError, PluginError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.probe_protocols import Positions, Probe, Rows, VariantProbe
from vcorr.contract.records import HEAD_MEAN, Prediction, Readout, RowsPrediction, Site
from vcorr.contract.variants import DEFAULT_VARIANT, NamedVariant
from vcorr.functional.query_points import QueryPoints

ROW_PARTS = ("peak_self", "peak_text", "sum_cross", "sum_self", "sum_text")
"""The parts of `vcorr.contract.protocols.Rows` with one number per query point, as packed after peak_cross."""
TEXT_PARTS = ("peak_text", "sum_text")
_OUT_OF_PLACE = "Compute out of place: x = x * 2 in place of x *= 2, softmax(x) in place of softmax_(x), or clone it."
EXTRAS = ("visible", "confidence")
"""What a probe may answer with its positions, one number per point and latent frame."""


@dataclass(frozen=True)
class Answer:
    """One probe's answer at one site, still on the device.

    values: float32, what it answered packed into one tensor: attention rows as (N, F - 1 + 5); positions as (N, F, 2),
    with `visible` and `confidence` behind x and y where `extras` names them.
    """

    values: Tensor
    rows: bool
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
    def place(self) -> str:
        """How messages say where it was read."""
        return f"layer {self.site.layer}, step {self.step}, head {self.head}"


def probe_needs(name: str, probe: Probe) -> frozenset[str]:
    """What the probe asks for.

    Raises:
        PluginError: it asks for something that cannot be had.
    """
    needs = getattr(probe, "needs", None)
    if not isinstance(needs, (frozenset, set)) or not needs <= PARTS:
        raise PluginError(f"Probe {name!r}: needs must be a frozenset of {sorted(PARTS)}, got {needs!r}.")
    return frozenset(needs)


def ask(
    name: str,
    probe: Probe,
    capture: Capture,
    points: QueryPoints,
    variants: Sequence[NamedVariant] = (DEFAULT_VARIANT,),
) -> list[Answer]:
    """The probe's answers for one capture and the query points of one frame.

    variants: under which it is asked; a probe that is no `VariantProbe` can be asked under `corrected` alone.

    Raises:
        PluginError: an answer has another form than the protocol says, or the probe wrote into what it was shown.
    """
    capture.watch_writes()
    asked = _asked(name, probe, capture, points, variants)
    _check_untouched(name, capture, points)
    return [
        _answer(name, probe, capture, len(points), variant, head, answer)
        for variant, answers in zip(variants, asked, strict=True)
        for head, answer in _by_head(name, answers)
    ]


def _check_untouched(name: str, capture: Capture, points: QueryPoints) -> None:
    """Raises PluginError when a probe has written into what it was shown."""
    written = capture.written()
    if written is not None:
        raise PluginError(
            f"Probe {name!r} wrote into {written} of {capture.site.name}, which is the model's own memory.",
            hint=_OUT_OF_PLACE,
        )
    if version_of(points.xy):
        raise PluginError(f"Probe {name!r} wrote into the query points, which all probes share.", hint=_OUT_OF_PLACE)


def _by_head(name: str, answers: Any) -> Iterable[tuple[int, Any]]:
    if not isinstance(answers, Mapping) or not answers:
        raise PluginError(f"Probe {name!r} must return a mapping of heads to answers, got {answers!r}.")
    for head in answers:
        _check_head(name, head)
    return answers.items()


def _answer(
    name: str, probe: Probe, capture: Capture, points: int, variant: NamedVariant, head: int, answer: Any
) -> Answer:
    rows = not isinstance(answer, (Tensor, Positions)) and isinstance(answer, Rows)
    packed = _packed(name, answer, points, capture.grid) if rows else _positions(name, answer, points, capture.grid)
    values, extras = packed
    return Answer(
        # a copy: an answer that is a view would keep what it is a view of
        values.detach().to(torch.float32, copy=True),
        rows,
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


def joined(groups: Sequence[tuple[NDArray[np.intp], list[Answer]]], points: int) -> list[Answer]:
    """The answers for all points of a clip from those for the points of each frame.

    Args:
        groups: the indices of the points, and the answers for them, in the same order of variants and heads.
        points: how many there are.

    Raises:
        PluginError: a probe answered other heads, or in another form, for some points than for others.
    """
    if len(groups) == 1:
        return groups[0][1]
    return [_join([index for index, _ in groups], parts, points) for parts in _aligned(groups)]


def _aligned(groups: Sequence[tuple[NDArray[np.intp], list[Answer]]]) -> Iterable[tuple[Answer, ...]]:
    forms = {tuple((a.variant, a.head, a.rows, a.extras) for a in answers) for _, answers in groups}
    if len(forms) > 1:
        raise PluginError(
            f"Probe {groups[0][1][0].probe!r} answered other heads, or in another form, for the points of one frame "
            "than for those of another."
        )
    return zip(*(answers for _, answers in groups), strict=True)


def _join(indices: Sequence[NDArray[np.intp]], parts: Sequence[Answer], points: int) -> Answer:
    first = parts[0].values
    values = first.new_empty(points, *first.shape[1:])
    for index, part in zip(indices, parts, strict=True):
        values.index_copy_(0, torch.from_numpy(index).to(first.device, non_blocking=True), part.values)
    return replace(parts[0], values=values)


def _asked(
    name: str, probe: Probe, capture: Capture, points: QueryPoints, variants: Sequence[NamedVariant]
) -> Sequence[Any]:
    if tuple(variants) == (DEFAULT_VARIANT,):
        return [probe.read(capture, points)]
    assert isinstance(probe, VariantProbe)  # what a run asks of its probes was checked when it was planned
    answers = probe.read_each(capture, points, [variant.values for variant in variants])
    if len(answers) != len(variants):
        raise PluginError(f"Probe {name!r}: read_each must answer {len(variants)} variants, got {len(answers)}.")
    return answers


def to_records(answers: Sequence[Answer]) -> list[Prediction | RowsPrediction]:
    """The answers as records on the CPU, in their order.

    Raises:
        NumericalError: an answer holds NaN or infinity where it must not.
    """
    arrays = _to_numpy([answer.values for answer in answers])
    return [
        _rows(answer, array) if answer.rows else _prediction(answer, array)
        for answer, array in zip(answers, arrays, strict=True)
    ]


def _check_head(name: str, head: Any) -> None:
    if isinstance(head, bool) or not isinstance(head, (int, np.integer)) or head < HEAD_MEAN:
        raise PluginError(f"Probe {name!r}: heads are -1 (the mean) or counted from 0, got {head!r}.")


def _positions(name: str, answer: Any, points: int, grid: TokenGrid) -> tuple[Tensor, tuple[str, ...]]:
    """Positions, with visibility and confidence behind them where they were answered; and which of the two were."""
    xy = answer.xy if isinstance(answer, Positions) else answer
    expected = (points, grid.frames, 2)
    if not isinstance(xy, Tensor) or tuple(xy.shape) != expected:
        got = tuple(xy.shape) if isinstance(xy, Tensor) else type(xy).__name__
        raise PluginError(
            f"Probe {name!r}: {expected[0]} queries and {expected[1]} latent frames need a tensor of shape "
            f"{expected}, got {got}."
        )
    if not isinstance(answer, Positions):
        return xy, ()
    extras = {part: values for part in EXTRAS if (values := getattr(answer, part)) is not None}
    for part, values in extras.items():
        if not isinstance(values, Tensor) or tuple(values.shape) != expected[:2]:
            got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise PluginError(f"Probe {name!r}: {part} must be a tensor of shape {expected[:2]}, got {got}.")
    columns = [xy.float(), *(values.float()[..., None] for values in extras.values())]
    return torch.cat(columns, dim=-1), tuple(extras)


def _packed(name: str, rows: Any, points: int, grid: TokenGrid) -> tuple[Tensor, tuple[str, ...]]:
    """(N, F - 1 + 5), so that one transfer brings everything; and nothing besides."""
    expected = {"peak_cross": (points, grid.frames - 1), **dict.fromkeys(ROW_PARTS, (points,))}
    for part, shape in expected.items():
        tensor = getattr(rows, part)
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != shape:
            got = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise PluginError(f"Probe {name!r}: {part} of its rows must be a tensor of shape {shape}, got {got}.")
    single = torch.stack([getattr(rows, part).float() for part in ROW_PARTS], dim=-1)
    return torch.cat([rows.peak_cross.float(), single], dim=-1), ()


def _prediction(answer: Answer, packed: NDArray[np.float32]) -> Prediction:
    if not np.isfinite(packed).all():
        raise _not_finite(answer, "")
    extras = {part: np.ascontiguousarray(packed[..., 2 + index]) for index, part in enumerate(answer.extras)}
    confidence = extras.get("confidence")
    if confidence is not None and not ((confidence >= 0) & (confidence <= 1)).all():
        raise PluginError(
            f"Probe {answer.probe!r}: confidence must lie in [0, 1], got {confidence.min():g} to {confidence.max():g} "
            f"at {answer.place}."
        )
    return Prediction(
        probe=answer.probe,
        xy=np.ascontiguousarray(packed[..., :2]),
        grid=answer.grid,
        layer=answer.site.layer,
        layer_name=answer.site.name,
        step=answer.step,
        head=answer.head,
        noise=answer.noise,
        attention=answer.site.attention,
        readout=answer.readout,
        variant=answer.variant,
        visible=extras["visible"] > 0 if "visible" in extras else None,
        confidence=confidence,
    )


def _rows(answer: Answer, packed: NDArray[np.float32]) -> RowsPrediction:
    single = len(ROW_PARTS)
    parts = {"peak_cross": packed[:, :-single]}
    parts |= {part: packed[:, index - single] for index, part in enumerate(ROW_PARTS)}
    for part, values in parts.items():
        missing = np.isnan(values).all() and part in TEXT_PARTS  # a sequence without text
        if not missing and not np.isfinite(values).all():
            raise _not_finite(answer, f" as {part}")
    return RowsPrediction(
        probe=answer.probe,
        **{part: np.ascontiguousarray(values) for part, values in parts.items()},
        grid=answer.grid,
        layer=answer.site.layer,
        layer_name=answer.site.name,
        step=answer.step,
        head=answer.head,
        noise=answer.noise,
        attention=answer.site.attention,
        variant=answer.variant,
    )


def _not_finite(answer: Answer, part: str = "") -> NumericalError:
    return NumericalError(
        f"Probe {answer.probe!r} answered NaN or infinity{part} at {answer.place}.",
        hint="The model overflowed, probably: try --dtype bfloat16 or float32.",
    )


def _to_numpy(tensors: Sequence[Tensor]) -> list[NDArray[np.float32]]:
    """One transfer for all tensors of one device and shape, in place of one for each."""
    groups: dict[tuple[torch.device, torch.Size], list[int]] = {}
    for index, tensor in enumerate(tensors):
        groups.setdefault((tensor.device, tensor.shape), []).append(index)
    arrays: dict[int, NDArray[np.float32]] = {}
    for members in groups.values():
        stacked = torch.stack([tensors[index] for index in members]).cpu().numpy()
        arrays.update(zip(members, stacked, strict=True))
    return [arrays[index] for index in range(len(tensors))]
