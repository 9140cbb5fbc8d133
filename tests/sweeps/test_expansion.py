"""How the file of a sweep becomes runs: compared with a slow, obvious product, and by properties."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vcorr.contract.errors import UsageError
from vcorr.runner.spec import make_spec
from vcorr.sweeps.expansion import MOST_RUNS, expand
from vcorr.sweeps.sweep_file import Axis, SweepFile, read_sweep

FILE = Path("sweep.yaml")
KEYS = ("model", "data", "probe", "seed", "probe.heads")
lists = st.dictionaries(
    st.sampled_from(KEYS), st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True), max_size=4
)


def settings_of(file: SweepFile, **typed: object) -> list[dict]:
    return [dict(one.settings) for one in expand(file, typed)]


def texts(runs) -> list[str]:
    return sorted(json.dumps(one, sort_keys=True) for one in runs)


def axes_of(values: dict[str, list]) -> tuple[Axis, ...]:
    return tuple(Axis(name, tuple({name: item} for item in items)) for name, items in values.items())


def multiply(values: dict[str, list]) -> list[dict]:
    """Returns the product one key after the other, slowly."""
    runs: list[dict] = [{}]
    for name, items in values.items():
        runs = [{**one, name: item} for one in runs for item in items]
    return runs


@given(lists)
def test_lists_are_multiplied(values) -> None:
    file = SweepFile(FILE, {"limit": 2}, axes_of(values))
    assert texts(settings_of(file)) == texts({"limit": 2, **one} for one in multiply(values))


@given(lists, st.data())
def test_excluded_runs_are_those_that_agree_in_every_key(values, data) -> None:
    assume(values)
    product = multiply(values)
    names = data.draw(st.lists(st.sampled_from(sorted(values)), min_size=1, unique=True))
    excluded = {name: data.draw(st.sampled_from(values[name])) for name in names}
    left = [one for one in product if any(one[name] != excluded[name] for name in names)]
    file = SweepFile(FILE, {}, axes_of(values), exclude=(excluded,))
    if left:
        assert texts(settings_of(file)) == texts(left)
    else:
        with pytest.raises(UsageError, match="no run is left"):
            expand(file, {})


@given(lists, st.data())
def test_an_entry_changes_the_runs_that_agree_with_it_and_else_is_a_run_of_its_own(values, data) -> None:
    assume(values)
    names = data.draw(st.lists(st.sampled_from(sorted(values)), min_size=1, unique=True))
    named = {name: data.draw(st.sampled_from([*values[name], "z"])) for name in names}
    entry = {**named, "limit": 1}
    expected = []
    for one in multiply(values):
        agrees = all(one[name] == named[name] for name in names)
        expected.append({**one, "limit": 1} if agrees else {"limit": 2, **one})
    if "z" in named.values():
        expected.append(entry)
    file = SweepFile(FILE, {"limit": 2}, axes_of(values), include=(entry,))
    assert texts(settings_of(file)) == texts(expected)


@given(lists, st.randoms(use_true_random=False))
def test_the_order_of_keys_and_items_changes_no_run(values, chance: random.Random) -> None:
    names = list(values)
    chance.shuffle(names)
    shuffled = {name: chance.sample(values[name], len(values[name])) for name in names}
    before, after = (settings_of(SweepFile(FILE, {"limit": 2}, axes_of(each))) for each in (values, shuffled))
    assert texts(before) == texts(after)


@given(lists)
def test_runs_of_one_model_follow_each_other_and_are_numbered(values) -> None:
    runs = expand(SweepFile(FILE, {}, axes_of(values)), {})
    models = [one.settings.get("model") for one in runs]
    changes = sum(a != b for a, b in itertools.pairwise(models))
    assert changes == len(set(models)) - 1
    assert [one.number for one in runs] == list(range(1, len(runs) + 1))


@given(lists)
def test_labels_tell_runs_apart(values) -> None:
    runs = expand(SweepFile(FILE, {"model": "m"} if "model" not in values else {}, axes_of(values)), {})
    assert len({one.label for one in runs}) == len(runs)


@given(lists)
def test_what_is_typed_overrides_all_runs(values) -> None:
    file = SweepFile(FILE, {"limit": 2}, axes_of(values))
    assert {one["limit"] for one in settings_of(file, limit=7)} == {7}


def read(tmp_path: Path, text: str) -> SweepFile:
    (tmp_path / "sweep.yaml").write_text(text)
    return read_sweep(tmp_path / "sweep.yaml")


SAME = (
    "matrix: {model: [a, b], probe.heads: [mean, each]}\nlimit: 2\n",
    "model: [a, b]\nmatrix: {set: {probe.heads: [mean, each]}}\nlimit: 2\n",
    "model: [a, b]\nmatrix: {set: {probe: {heads: [mean, each]}}}\nlimit: 2\n",
    "model: [a, b]\nmatrix: {set: [{probe.heads: mean}, {probe.heads: each}]}\nset: {limit: 2}\n",
    "model: [a, b]\nset: [{probe.heads: mean}, {probe: {heads: each}}]\nlimit: 2\n",
    (
        "limit: 2\ninclude:\n- {model: a, probe.heads: mean}\n- {model: b, set: {probe.heads: mean}}\n"
        "- {model: a, set: {probe: {heads: each}}}\n- {model: b, probe.heads: each}\n"
    ),
)


@pytest.mark.parametrize("text", SAME)
def test_the_forms_of_a_list_mean_the_same(tmp_path, text) -> None:
    expected = multiply({"limit": [2], "model": ["a", "b"], "probe.heads": ["mean", "each"]})
    assert texts(settings_of(read(tmp_path, text))) == texts(expected)


def test_a_list_that_a_run_takes_is_one_run_and_several_under_matrix(tmp_path) -> None:
    one = read(tmp_path, "model: a\nprobe: [qk, kk]\nlayers: [1, 4]\n")
    (spec,) = [make_spec(each) for each in settings_of(one)]
    assert (spec.probe, spec.layers) == ("qk,kk", "1,4")
    two = read(tmp_path, "model: a\nmatrix: {probe: [[qk, kk], qq], layers: [1, 4]}\n")
    found = {(spec.probe, spec.layers) for spec in map(make_spec, settings_of(two))}
    assert found == {("qk,kk", "1"), ("qk,kk", "4"), ("qq", "1"), ("qq", "4")}


def test_an_entry_changes_single_values_of_the_product(tmp_path) -> None:
    text = "matrix: {model: [a, b], layers: 8, set: {probe.heads: mean}}\n"
    file = read(tmp_path, f"{text}include: [{{model: b, layers: 9, probe.heads: each}}, {{model: c}}]\n")
    expected = [
        {"model": "a", "layers": 8, "probe.heads": "mean"},
        {"model": "b", "layers": 9, "probe.heads": "each"},
        {"model": "c"},
    ]
    assert settings_of(file) == expected
    assert [one["layers"] for one in settings_of(read(tmp_path, text), layers="all")] == ["all", "all"]


def test_values_are_compared_as_they_are_typed(tmp_path) -> None:
    file = read(tmp_path, 'model: a\nmatrix: {layers: [8, "9"], cfg: [6, 7.5]}\nexclude: [{layers: "8", cfg: 6.0}]\n')
    assert len(settings_of(file)) == 3


def test_a_file_without_lists_is_one_run(tmp_path) -> None:
    assert settings_of(read(tmp_path, "model: a\n")) == [{"model": "a"}]


def test_a_huge_product_is_refused_before_it_is_made() -> None:
    items = [str(i) for i in range(1000)]
    with pytest.raises(UsageError, match=f"1000000000 runs, and {MOST_RUNS} are the most"):
        expand(SweepFile(FILE, {}, axes_of({"model": items, "data": items, "probe": items})), {})
