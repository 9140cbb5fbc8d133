"""Reads boards from YAML: which datasets one ranks, which metrics it shows, which runs it admits (docs/board.md)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from vcorr.contract.errors import UsageError, unknown_name
from vcorr.contract.text_files import read_text
from vcorr.contract.yaml_text import read_yaml

ANY = "any"
"""Value of `datasets` for the board that ranks every dataset that no other board names."""


@dataclass(frozen=True)
class MetricColumn:
    """A metric of a board: its name in the tables, the title of its column, one sentence on what it measures."""

    name: str
    title: str
    summary: str = ""


@dataclass(frozen=True)
class Admission:
    """What a run needs to be ranked. No board ranks runs with random weights.

    min_clips: least number of scored clips; a run with fewer is shown without a rank.
    """

    min_clips: int = 1


RankedBy = Literal["gain", "skill"]
"""What ranks rows. Gain compares models with tokens of any size; skill forgives coarse tokens."""


@dataclass(frozen=True)
class BoardConfig:
    """One board.

    datasets: names; empty for the board that ranks what no other board names. primary: the metric whose gain or skill
    (`by`) ranks the rows. chosen_by: the metric that chooses the sites of a row.
    """

    title: str
    summary: str
    datasets: tuple[str, ...]
    metrics: tuple[MetricColumn, ...]
    primary: str
    by: RankedBy
    chosen_by: str
    admission: Admission

    @property
    def primary_column(self) -> MetricColumn:
        """Metric that decides the ranking."""
        return self.column(self.primary)

    @property
    def others(self) -> tuple[MetricColumn, ...]:
        """The other metrics, in the order of the columns."""
        return tuple(column for column in self.metrics if column.name != self.primary)

    def column(self, name: str) -> MetricColumn:
        """Returns the column of a metric that the board shows."""
        return next(column for column in self.metrics if column.name == name)


def load_board(path: Path) -> BoardConfig:
    """Reads a board from a YAML file.

    Raises:
        UsageError: the file cannot be read, is not YAML, or a key is missing, unknown or has a wrong value.
    """
    label = f"Board {path}"
    return parse_board(read_text(path, label), label)


def parse_board(text: str, label: str) -> BoardConfig:
    """Reads a board from YAML text; error messages begin with `label`.

    Raises:
        UsageError: as `load_board`.
    """
    try:
        values = read_yaml(text)
    except ValueError as error:
        raise UsageError(f"{label} is not valid YAML: {error}.") from error
    required = ("title", "datasets", "metrics", "primary")
    _check_keys(values, label, required, ("summary", "by", "chosen_by", "admission"))
    metrics = _metrics(values["metrics"], label)
    primary = _text(values, "primary", label)
    chosen_by = _text(values, "chosen_by", label, default=primary)
    for key, name in {"primary metric": primary, "metric chosen_by": chosen_by}.items():
        if name not in [column.name for column in metrics]:
            raise unknown_name(f"{key} in {label}:", name, [column.name for column in metrics])
    return BoardConfig(
        title=_text(values, "title", label),
        summary=_text(values, "summary", label, default=""),
        datasets=_datasets(values["datasets"], label),
        metrics=metrics,
        primary=primary,
        by=_read_by(values.get("by", "gain"), label),
        chosen_by=chosen_by,
        admission=_admission(values.get("admission", {}), label),
    )


def builtin_boards() -> tuple[BoardConfig, ...]:
    """Returns the boards that come with vcorr, sorted by file name; the one for any dataset is last."""
    folder = resources.files("vcorr.board").joinpath("boards")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    boards = [parse_board(f.read_text(encoding="utf-8"), f"Board {f.name}") for f in files]
    return tuple(sorted(boards, key=lambda board: not board.datasets))


def boards_of(dataset: str, boards: Iterable[BoardConfig]) -> list[BoardConfig]:
    """Returns the boards that rank a dataset: boards that name it, else boards for any dataset."""
    boards = list(boards)
    return [b for b in boards if dataset in b.datasets] or [b for b in boards if not b.datasets]


def metric_names(boards: Iterable[BoardConfig]) -> tuple[str, ...]:
    """Returns the names of all metrics that some board shows, in order of appearance."""
    return tuple(dict.fromkeys(column.name for board in boards for column in board.metrics))


def check_metrics(board: BoardConfig, label: str, known: Collection[str]) -> None:
    """Checks that a board shows metrics that somebody knows; error messages begin with `label`.

    known: columns of the runs and of the installed metrics.

    Raises:
        UsageError: it shows another one.
    """
    for i, column in enumerate(board.metrics):
        if column.name not in known:
            raise unknown_name(f"metric in {label}: metrics[{i}].name:", column.name, known)


def _metrics(value: Any, label: str) -> tuple[MetricColumn, ...]:
    if not isinstance(value, list) or not value:
        raise UsageError(f"{label}: metrics must be a list with at least one metric, got {value!r}.")
    columns = []
    for i, item in enumerate(value):
        where = f"{label}: metrics[{i}]"
        _check_keys(item, where, ("name", "title"), ("summary",))
        name, title = _text(item, "name", where), _text(item, "title", where)
        columns.append(MetricColumn(name, title, _text(item, "summary", where, default="")))
    names = [column.name for column in columns]
    if len(set(names)) < len(names):
        raise UsageError(f"{label}: metrics lists a metric twice: {', '.join(names)}.")
    return tuple(columns)


def _datasets(value: Any, label: str) -> tuple[str, ...]:
    if value == ANY:
        return ()
    if not isinstance(value, list) or not value or not all(isinstance(name, str) and name for name in value):
        raise UsageError(f"{label}: datasets must be a list of dataset names, or the word any; got {value!r}.")
    return tuple(value)


def _read_by(value: Any, label: str) -> RankedBy:
    for known in get_args(RankedBy):
        if value == known:
            return known  # type: ignore[no-any-return]  # get_args has no types
    raise UsageError(f"{label}: by must be {' or '.join(get_args(RankedBy))}, got {value!r}.")


def _admission(value: Any, label: str) -> Admission:
    _check_keys(value, f"{label}: admission", (), ("min_clips",))
    clips = value.get("min_clips", 1)
    if isinstance(clips, bool) or not isinstance(clips, int) or clips < 1:
        raise UsageError(f"{label}: admission.min_clips must be a whole number of at least 1, got {clips!r}.")
    return Admission(clips)


def _text(values: Mapping[str, Any], key: str, label: str, *, default: str | None = None) -> str:
    value = values.get(key, default)
    if not isinstance(value, str) or (default is None and not value.strip()):
        raise UsageError(f"{label}: {key} must be text, got {value!r}.", hint="Quote it if YAML reads it as a number.")
    return value.strip()


def _check_keys(values: Any, label: str, required: tuple[str, ...], optional: tuple[str, ...]) -> None:
    if not isinstance(values, dict):
        raise UsageError(f"{label} must be a mapping, got {values!r}.")
    for key in values:
        if key not in required + optional:
            raise unknown_name(f"key in {label}:", str(key), required + optional)
    missing = [key for key in required if key not in values]
    if missing:
        raise UsageError(f"{label} lacks {', '.join(missing)}.")
