"""What probes answer: checked as it comes, kept on the device, and brought to the CPU as records.

Shape legend: N query points, F latent frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vcorr.bases import ProbeBase, with_defaults
from vcorr.capture.needs import PARTS
from vcorr.capture.records import Capture
from vcorr.errors import NumericalError, PluginError
from vcorr.geometry import TokenGrid
from vcorr.protocols import Probe, Rows, VariantProbe
from vcorr.records import HEAD_MEAN, Prediction, Readout, RowsPrediction, Site
from vcorr.variants import DEFAULT_VARIANT, NamedVariant

ROW_PARTS = ("peak_self", "peak_text", "sum_cross", "sum_self", "sum_text")
"""The parts of `vcorr.protocols.Rows` with one number a query point, in the order they are packed after peak_cross."""
TEXT_PARTS = ("peak_text", "sum_text")


@dataclass(frozen=True)
class Answer:
    """One probe's answer at one site, still on the device.

    values: float32, positions (N, F, 2), or, with `rows`, attention rows packed as (N, F - 1 + 5).
    """

    values: Tensor
    rows: bool
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
    name: str, probe: Probe, capture: Capture, points: Tensor, variants: Sequence[NamedVariant] = (DEFAULT_VARIANT,)
) -> Iterator[Answer]:
    """The probe's answers for one capture and queries (N, 2) on the CPU, where checking them waits for no device.

    variants: under which it is asked; a probe that is no `VariantProbe` can be asked under `corrected` alone.

    Raises:
        PluginError: an answer has another form than the protocol says.
    """
    readout = with_defaults(probe, ProbeBase).readout
    for variant, answers in zip(variants, _asked(name, probe, capture, points, variants), strict=True):
        if not isinstance(answers, Mapping) or not answers:
            raise PluginError(f"Probe {name!r} must return a mapping of heads to answers, got {answers!r}.")
        for head, answer in answers.items():
            _check_head(name, head)
            rows = not isinstance(answer, Tensor) and isinstance(answer, Rows)
            values = (_packed if rows else _positions)(name, answer, len(points), capture.grid)
            # a copy: an answer that is a view would keep what it is a view of
            kept = values.detach().to(torch.float32, copy=True)
            place = (capture.site, capture.grid, int(capture.step), capture.noise)
            yield Answer(kept, rows, name, variant, readout, int(head), *place)


def _asked(
    name: str, probe: Probe, capture: Capture, points: Tensor, variants: Sequence[NamedVariant]
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


def _positions(name: str, xy: Any, points: int, grid: TokenGrid) -> Tensor:
    expected = (points, grid.frames, 2)
    if not isinstance(xy, Tensor) or tuple(xy.shape) != expected:
        got = tuple(xy.shape) if isinstance(xy, Tensor) else type(xy).__name__
        raise PluginError(
            f"Probe {name!r}: {expected[0]} queries and {expected[1]} latent frames need a tensor of shape "
            f"{expected}, got {got}."
        )
    return xy


def _packed(name: str, rows: Any, points: int, grid: TokenGrid) -> Tensor:
    """(N, F - 1 + 5), so that one transfer brings everything."""
    expected = {"peak_cross": (points, grid.frames - 1), **dict.fromkeys(ROW_PARTS, (points,))}
    for part, shape in expected.items():
        tensor = getattr(rows, part)
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != shape:
            got = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise PluginError(f"Probe {name!r}: {part} of its rows must be a tensor of shape {shape}, got {got}.")
    single = torch.stack([getattr(rows, part).float() for part in ROW_PARTS], dim=-1)
    return torch.cat([rows.peak_cross.float(), single], dim=-1)


def _prediction(answer: Answer, xy: NDArray[np.float32]) -> Prediction:
    if not np.isfinite(xy).all():
        raise _not_finite(answer, "")
    return Prediction(
        probe=answer.probe,
        xy=xy,
        grid=answer.grid,
        layer=answer.site.layer,
        layer_name=answer.site.name,
        step=answer.step,
        head=answer.head,
        noise=answer.noise,
        attention=answer.site.attention,
        readout=answer.readout,
        variant=answer.variant,
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
