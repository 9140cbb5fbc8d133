"""Whatever users can type or read is on a page: enumerated from the code, looked for in the text."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import get_args

import click
import numpy as np
import pytest
from support.pages import ROOT, read

import vcorr
from vcorr import functional, testing
from vcorr.cli.main import cli
from vcorr.contract import errors
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.head_traits import TRAITS
from vcorr.contract.protocols import MaskMetric, RowMetric, TrackMetric, VideoMetric
from vcorr.contract.records import RowsPrediction, Tracks
from vcorr.metrics.ceilings import CeilingKind
from vcorr.plugins import builtin
from vcorr.plugins.registry import HOOKS, SELECT_VARIABLE
from vcorr.runner.coordinator import Reuse
from vcorr.runner.spec import COMPONENTS
from vcorr.store.columns import describe_columns
from vcorr.store.rundir import TABLES
from vcorr.store.schema import ScoreRow, schema
from vcorr.testing.mask_metric_checks import make_moving_masks
from vcorr.testing.video_metric_checks import make_sliding_video


def page(name: str) -> str:
    return read(ROOT / "docs" / f"{name}.md")


def missing(names: list[str], text: str) -> list[str]:
    """Returns the names that are nowhere in the text as words of their own."""
    return [name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)]


def all_commands(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        yield command
        if isinstance(command, click.Group):
            yield from all_commands(command)


def test_hooks_and_their_variable() -> None:
    assert missing([*HOOKS, SELECT_VARIABLE], page("plugins")) == []


def test_flags() -> None:
    flags = {opt for command in all_commands(cli) for p in command.params for opt in p.opts if opt.startswith("--")}
    assert [flag for flag in sorted(flags) if flag not in page("cli")] == []


@pytest.mark.parametrize("table", TABLES)
def test_columns(table) -> None:
    section = page("results-format").split(f"## {table}\n")[1].split("\n## ")[0]
    assert missing([f"`{field.name}`"[1:-1] for field in schema(table)], section) == []


def test_every_metric_column_is_defined() -> None:
    """Compares the tables that define columns with the columns that metrics return, without the list of all metrics."""
    tracks = Tracks(*still(), tracker="exact")
    grid = TokenGrid(frames=2, rows=2, cols=2, stride=(8, 8))
    columns: list[str] = []
    for metric in (entry.create() for entry in builtin.vcorr_metrics()):
        if isinstance(metric, RowMetric):
            columns += metric.score_rows(summary_of(grid), tracks, grid)
        elif isinstance(metric, MaskMetric):
            columns += [
                name for name in metric.score_masks(make_moving_masks(), make_moving_masks()) if "@" not in name
            ]
        elif isinstance(metric, VideoMetric):
            columns += metric.score_video(*make_sliding_video())
        elif isinstance(metric, TrackMetric):
            columns += metric.score_tracks(tracks, tracks, (16, 16))
        else:
            columns += metric.score(tracks.xy, tracks, grid)
    said = re.sub("<!-- generated: metrics -->.*?<!-- end -->", "", page("protocol"), flags=re.DOTALL)
    # the table of the page shortens the row of moving thresholds to its ends
    said = said.replace("`pck_1_moving` … `pck_16_moving`", " ".join(f"pck_{t}_moving" for t in (1, 2, 4, 8, 16)))
    assert missing([f"`{column}`"[1:-1] for column in columns], said) == []
    assert set(columns) == {name for entry in builtin.vcorr_metrics() for name in entry.create().columns}


def summary_of(grid):
    """Returns the attention summary of one point, with traits."""
    nothing = np.zeros(1, dtype=np.float32)
    traits = np.zeros((1, len(TRAITS)), dtype=np.float32)
    return RowsPrediction("attention", np.zeros((1, 1), dtype=np.float32), *[nothing] * 5, grid=grid, traits=traits)


def test_the_page_of_probes_defines_every_trait() -> None:
    section = page("probes").split("\n## Traits of heads\n")[1].split("<!-- traits -->")[0]
    assert first_cells(section) == {f"trait_{name}" for name in TRAITS}


def test_the_protocol_has_every_kind_of_ceiling_and_no_other() -> None:
    section = page("protocol").split("\n## Floors, ceilings and skill\n")[1].split("\n### ")[0]
    assert first_cells(section) == {*get_args(CeilingKind), "none"}
    meaning = next(c.meaning for c in describe_columns(ScoreRow) if c.name == "ceiling_kind")
    assert missing([*get_args(CeilingKind), "none"], meaning) == []


def still():
    return np.full((1, 2, 2), 4, dtype=np.float32), np.ones((1, 2), dtype=bool)


def test_names_of_the_built_ins() -> None:
    entries = [*builtin.vcorr_models(), *builtin.vcorr_probes(), *builtin.vcorr_metrics()]
    assert missing([entry.name for entry in entries], page("protocol")) == []


def test_the_page_of_probes_has_all_of_them_and_their_options() -> None:
    """Compares both tables of docs/probes.md with the registry, in both directions."""
    entries = builtin.vcorr_probes()
    options = {field.name for entry in entries if entry.config for field in dataclasses.fields(entry.config_type())}
    sections = page("probes").split("\n## ")
    named = {section: first_cells(text) for section, text in {"probes": sections[0], **by_title(sections)}.items()}
    assert named["probes"] == {entry.name for entry in entries}
    assert named["Options"] == options


def by_title(sections):
    return {text.partition("\n")[0]: text for text in sections}


def first_cells(text):
    """Returns the words in backticks in the first cells of tables."""
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {word for cell in rows for word in cell.split("`")[1::2]}


def test_functions() -> None:
    assert missing(functional.__all__, page("functional")) == []
    assert missing([name for name in testing.__all__ if name != "Check"], page("testing")) == []


def test_exit_codes() -> None:
    codes = [str(value) for name, value in vars(errors).items() if name.startswith("EXIT_")]
    for name in ("cli", "first-run"):
        assert missing(codes, page(name)) == []


def test_reuse_policies_run_states_and_components() -> None:
    assert missing([policy.value for policy in Reuse], page("results-format")) == []
    assert missing(["started", "partial", "complete", "failed"], page("results-format")) == []
    assert [part for part in COMPONENTS if f"`{part}.KEY`" not in page("cli")] == []


def test_fields_of_run_json(tmp_path) -> None:
    import json

    from support import sliding

    from vcorr.plugins import registry
    from vcorr.runner.coordinator import execute
    from vcorr.runner.plan import make_plan
    from vcorr.runner.spec import RunSpec

    found = registry.Registry(
        [registry.PluginSource(m.__name__, m.__name__, "1", lambda m=m: m) for m in (builtin, sliding)]
    )
    spec = RunSpec(model="sliding-model", probe="qk", steps="last", limit=1, options={"data": {"clips": 1}})
    record = json.loads((execute(make_plan(spec, found), tmp_path).run.path / "run.json").read_text())
    section = page("results-format").split("## run.json")[1].split("\n## ")[0]
    assert [field for field in record if f"`{field}`" not in section] == []


def test_errors_of_the_package() -> None:
    public = [name for name in vcorr.__all__ if name.endswith("Error")]
    text = page("plugins") + page("capture")
    assert missing([name for name in public if name != "VcorrError"], text) == []


def test_the_protocol_says_what_every_baseline_does_and_names_no_other() -> None:
    """Compares with the list under the table of models, which has one item per baseline."""
    section = page("protocol").split("- `zero-motion`:")[1].split("\n## ")[0]
    listed = re.findall(r"^- `([\w-]+)`:", f"- `zero-motion`:{section}", re.MULTILINE)
    assert sorted(listed) == sorted(entry.name for entry in builtin.vcorr_models())


def test_every_baseline_has_a_page_and_a_place_in_the_list_of_models() -> None:
    for entry in builtin.vcorr_models():
        assert f"[`{entry.name}`](models/{entry.name}.md)" in page("models")
        assert entry.summary.removesuffix(".") in page("protocol")
        assert f"`vcorr show model {entry.name}`" in page(f"models/{entry.name}")
