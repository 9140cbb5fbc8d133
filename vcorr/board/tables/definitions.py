"""Reads boards from YAML: which datasets one ranks, which metrics it shows, which runs it admits (docs/board.md)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from vcorr.board.tables.board_keys import check_keys, read_names, read_text_value
from vcorr.board.tables.reported_numbers import ReportedTable, read_reported
from vcorr.contract.errors import UsageError, unknown_name
from vcorr.contract.tasks import CORRESPONDENCE, TASKS
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


RankedBy = Literal["gain", "skill", "value"]
"""What ranks rows. Gain compares models with tokens of any size; skill forgives coarse tokens. The value orders rows of
one table as their gain does where all have the same floor, as in tracking."""


@dataclass(frozen=True)
class BoardConfig:
    """One board.

    datasets: names; empty for the board that ranks what no other board names. primary: the metric whose gain, skill or
    value (`by`) ranks the rows. chosen_by: the metric that chooses the sites of a row. task: the task of its runs.
    cost: whether it shows seconds and memory. ceilings, floors: models and trackers that are shown without a rank,
    because they were trained for the task, or because they predict that nothing moves. reported: numbers of others.
    """

    title: str
    summary: str
    datasets: tuple[str, ...]
    metrics: tuple[MetricColumn, ...]
    primary: str
    by: RankedBy
    chosen_by: str
    admission: Admission
    task: str = CORRESPONDENCE
    cost: bool = False
    ceilings: tuple[str, ...] = ()
    floors: tuple[str, ...] = ()
    reported: tuple[ReportedTable, ...] = ()

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
    optional = ("summary", "by", "chosen_by", "admission", "task", "cost", "ceilings", "floors", "reported")
    check_keys(values, label, required, optional)
    metrics = _metrics(values["metrics"], label)
    primary = read_text_value(values, "primary", label)
    chosen_by = read_text_value(values, "chosen_by", label, default=primary)
    for key, name in {"primary metric": primary, "metric chosen_by": chosen_by}.items():
        if name not in [column.name for column in metrics]:
            raise unknown_name(f"{key} in {label}:", name, [column.name for column in metrics])
    task = _read_task(values.get("task", CORRESPONDENCE), label)
    return BoardConfig(
        title=read_text_value(values, "title", label),
        summary=read_text_value(values, "summary", label, default=""),
        datasets=_datasets(values["datasets"], label),
        metrics=metrics,
        primary=primary,
        by=_read_by(values.get("by", "gain"), label),
        chosen_by=chosen_by,
        admission=_admission(values.get("admission", {}), label),
        task=task,
        cost=_read_cost(values.get("cost", False), label),
        ceilings=read_names(values.get("ceilings", []), f"{label}: ceilings"),
        floors=read_names(values.get("floors", []), f"{label}: floors"),
        reported=read_reported(values.get("reported", []), [column.name for column in metrics], task, label),
    )


def builtin_boards() -> tuple[BoardConfig, ...]:
    """Returns the boards that come with vcorr, sorted by file name; the one for any dataset is last."""
    folder = resources.files("vcorr.board").joinpath("boards")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    boards = [parse_board(f.read_text(encoding="utf-8"), f"Board {f.name}") for f in files]
    return tuple(sorted(boards, key=lambda board: not board.datasets))


def boards_of(dataset: str, boards: Iterable[BoardConfig], task: str = CORRESPONDENCE) -> list[BoardConfig]:
    """Returns the boards that rank a dataset in a task: boards that name it, else boards for any dataset."""
    boards = [board for board in boards if board.task == task]
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
        check_keys(item, where, ("name", "title"), ("summary",))
        name, title = read_text_value(item, "name", where), read_text_value(item, "title", where)
        columns.append(MetricColumn(name, title, read_text_value(item, "summary", where, default="")))
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


def _read_task(value: Any, label: str) -> str:
    if value not in TASKS:
        raise unknown_name(f"task in {label}:", str(value), TASKS)
    return str(value)


def _read_cost(value: Any, label: str) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{label}: cost must be true or false, got {value!r}.")
    return value


def _admission(value: Any, label: str) -> Admission:
    check_keys(value, f"{label}: admission", (), ("min_clips",))
    clips = value.get("min_clips", 1)
    if isinstance(clips, bool) or not isinstance(clips, int) or clips < 1:
        raise UsageError(f"{label}: admission.min_clips must be a whole number of at least 1, got {clips!r}.")
    return Admission(clips)
