"""A board shows the causal agreement of each model from a small table next to its runs."""

import re
from dataclasses import replace

import numpy as np
import pytest

from vcorr.board.site.site_build import build_site
from vcorr.contract.errors import StoreError
from vcorr.store.arrow_files import write_table
from vcorr.store.columns import arrow_schema, to_table
from vcorr.studies.knockout_agreements import (
    FILE,
    AgreementRow,
    find_main,
    read_agreements,
    replace_model,
    write_agreements,
)

ROW = AgreementRow(
    study="knockout-0123",
    model="made-up-good",
    weights="hub:made-up/model@0123456789abcdef0123",
    dataset="sprites",
    kind="cross-frame",
    heads="layers",
    steps="35",
    observation="skill",
    outcome="loss",
    value=-0.25,
    low=-0.375,
    high=-0.125,
    p=0.0625,
    sites=10,
    clips=8,
    dose=1.0,
    norm="common",
)


def table_cells(site, title):
    """Returns the texts of one column of the first page, one per row, by the text of the row's heading."""
    text = (site.parent / "index.html").read_text(encoding="utf-8")
    found = {}
    for table in re.findall(r"<table class=\"sortable.*?</table>", text, flags=re.S):
        heads = [
            re.sub(r"<[^>]*>", "", one).strip() for one in re.findall(r"<th[^>]*>.*?</th>", table.split("</thead>")[0])
        ]
        if title not in heads:
            continue
        for row in re.findall(r"<tr class.*?</tr>", table.split("</thead>")[1], flags=re.S):
            cells = [
                re.sub(r"<[^>]*>|\s+", " ", one).strip() for one in re.findall(r"<t[dh].*?</t[dh]>", row, flags=re.S)
            ]
            found[cells[1].split(" ")[0], cells[2].split(" ")[0]] = cells[heads.index(title)]
    return found


def test_the_column_has_the_number_of_the_probe_that_was_observed(results, tmp_path, no_plugins):
    write_agreements(results / FILE, [ROW, replace(ROW, outcome="matching", value=0.9), replace(ROW, heads="heads")])
    cells = table_cells(build_site(results, tmp_path / "site", registry=no_plugins), "Causal agreement")
    shown = {key: " ".join(text.split()) for key, text in cells.items()}
    assert {text for (model, probe), text in shown.items() if (model, probe) == ("Made-Up-Good", "qk")} == {
        "-0.25 -0.38 … -0.12"
    }
    assert {text for (model, probe), text in shown.items() if (model, probe) != ("Made-Up-Good", "qk")} == {"–"}


def test_without_a_table_there_is_no_such_column(site):
    assert "Causal agreement" not in (site / "index.html").read_text(encoding="utf-8")


def test_a_damaged_table_is_listed_and_the_board_is_built(results, tmp_path, no_plugins):
    (results / FILE).write_bytes(b"no arrow")
    told = []
    page = build_site(results, tmp_path / "site", registry=no_plugins, tell=told.append)
    assert [one.run_id for one in told] == [FILE]
    assert FILE in page.read_text(encoding="utf-8")
    with pytest.raises(StoreError, match="cannot be read"):
        read_agreements(results / FILE)


def test_the_rows_of_a_model_are_replaced_and_others_stay(tmp_path):
    path = tmp_path / FILE
    other = replace(ROW, model="other")
    write_agreements(path, [ROW, other])
    replace_model(path, [replace(ROW, value=0.5)])
    assert read_agreements(path) == [other, replace(ROW, value=0.5)]
    assert {key[0]: row.value for key, row in find_main(read_agreements(path)).items()} == {
        "other": -0.25,
        "made-up-good": 0.5,
    }


def test_the_number_of_a_model_is_of_skill_and_loss_over_layers():
    others = [
        replace(ROW, **change) for change in ({"heads": "heads"}, {"kind": "text"}, {"observation": "trait_sinks"})
    ]
    assert not find_main(others)
    assert not find_main([replace(ROW, value=float("nan"))])
    assert find_main([ROW])


@pytest.mark.parametrize("change", [{"dose": 0.5}, {"norm": "own"}, {"mode": "generate"}, {"outcome": "flicker"}])
def test_a_part_of_a_cut_another_norm_or_a_video_is_not_the_number_of_a_model(change):
    assert not find_main([replace(ROW, **change)])


def test_a_study_without_an_interval_does_not_reach_a_board():
    assert not find_main([replace(ROW, clips=1, low=float("nan"), high=float("nan"))])


def test_a_table_of_the_first_layout_still_has_its_number(tmp_path):
    table = to_table([ROW], arrow_schema(AgreementRow)).drop_columns(["mode", "dose", "norm"])
    write_table(tmp_path / FILE, table.replace_schema_metadata({"vcorr.schema_version": "1"}))
    (row,) = read_agreements(tmp_path / FILE)
    assert (row.mode, row.norm, np.isnan(row.dose)) == ("renoise", "", True)
    assert [one.value for one in find_main([row]).values()] == [-0.25]


def test_random_weights_have_no_number():
    assert not find_main([replace(ROW, weights="random:0")])
