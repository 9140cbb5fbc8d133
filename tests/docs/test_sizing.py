"""The page of sizes: its script on sizes that are known, and sums of its tables."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
from support.pages import ROOT, read

from vcorr.plugins.registry import installed


@pytest.fixture(scope="module")
def sizing() -> Iterator[ModuleType]:
    """Loads docs/sizing.py as a module."""
    spec = importlib.util.spec_from_file_location("docs_sizing", ROOT / "docs" / "sizing.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for their module there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def table_of(name: str) -> list[list[str]]:
    """Returns the cells of a table of the page, without its head."""
    text = read(ROOT / "docs" / "sizing.md").split(f"<!-- sizing: {name} -->\n")[1].split("<!-- end -->")[0]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]


def number(text: str) -> float:
    return float(text.replace(",", "").removesuffix(" %"))


def test_measured_passes_are_of_models_that_are_known(sizing) -> None:
    found = sizing.read_measured(read(ROOT / "docs" / "performance.md"))
    assert set(found) <= set(installed().models.names())
    assert len(found) >= 5
    assert all(branches in (1, 2, 3) and ms > 0 for branches, ms in found.values())


def test_a_model_takes_the_speed_of_its_own_pass_and_others_the_median(sizing) -> None:
    sizes = [sizing.Size(name, tera=100.0, passes=10, sites=5, disk=1.0) for name in ("a", "b", "c", "d")]
    # a pass of one branch has 10 tera operations
    rates = sizing.find_rates(sizes, {"a": (2, 1000.0), "b": (1, 1000.0), "c": (4, 1000.0), "z": (1, 1.0)})
    assert rates == {"a": 20.0, "b": 10.0, "c": 40.0}
    tables = sizing.render(sizes, rates)
    rows = {line.split("|")[1].strip(): line.split("|")[3].strip() for line in tables["models"].splitlines()[2:]}
    assert rows == {"a": "20", "b": "10", "c": "40", "d": "20"}
    hours = sum(sizing.CLIPS * 100 / rate * sizing.PROBING / 3600 for rate in (20, 10, 40, 20))
    assert f"| GPU hours | {hours:,.0f} | {hours * sizing.MODELS / 4:,.0f} |" in tables["whole"]


def test_gpus_beyond_the_clips_of_a_run_change_nothing() -> None:
    rows = {row[0]: row for row in table_of("gpus")}
    assert rows["400"][1] == rows["1,000"][1]
    for gpus, hours, ideal, share in rows.values():
        assert number(hours) >= number(ideal), gpus
        # the shown hours are rounded to a tenth
        assert number(share) == pytest.approx(100 * number(ideal) / number(hours), abs=100 * 0.1 / number(hours) + 0.5)


def test_the_sums_of_the_page_are_sums_of_its_rows(sizing) -> None:
    models = table_of("models")
    whole = {row[0]: [number(cell) for cell in row[1:]] for row in table_of("whole")}
    hours = sum(number(row[4]) for row in models)
    assert whole["GPU hours"][0] == pytest.approx(hours, abs=0.05 * len(models) + 0.5)
    of_disk = sum(number(row[5]) for row in models) / 1000
    assert whole["predictions and lossless videos (TB)"][0] == pytest.approx(of_disk, abs=0.1)
    ratio = sizing.MODELS / len(models)
    assert math.isclose(whole["GPU hours"][1], ratio * whole["GPU hours"][0], rel_tol=0.01)


def test_every_model_of_the_page_is_installed_and_the_page_says_what_the_script_uses(sizing) -> None:
    text = read(ROOT / "docs" / "sizing.md")
    assert {row[0] for row in table_of("models")} <= set(installed().models.names())
    assert f"Probing** adds {100 * (sizing.PROBING - 1):.1f} %" in text
    assert f"here in {sizing.LOAD_SECONDS:.0f} s" in text
    assert f"takes {sizing.ROW_BYTES:.1f} bytes on disk" in text
