"""What the user asked for: merging, types, messages, and the grammar of layers and steps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vcorr
from vcorr.cli.main import cli
from vcorr.plugins.part_options import make_config
from vcorr.runner.index_lists import resolve_layers, resolve_steps
from vcorr.runner.spec import FIELDS, build_spec


@dataclass(frozen=True)
class Options:
    heads: str = "mean"
    radius: int = 0
    scale: float | None = None


@dataclass(frozen=True)
class Mapped:
    sizes: dict[str, Any] = field(default_factory=dict)


def test_flags_override_the_file_and_assignments_override_flags(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: tiny\nseed: 1\nlimit: 5\nset:\n  probe.heads: each\n  model: {height: 64}\n")
    spec = build_spec({"seed": 2, "data": None}, config_file=path, assignments=["limit=7", "probe.radius=1"])
    assert (spec.model, spec.seed, spec.limit, spec.data) == ("tiny", 2, 7, None)
    assert spec.options == {"probe": {"heads": "each", "radius": "1"}, "model": {"height": 64}}
    assert make_config(Options, spec.options["probe"], "probe") == Options(heads="each", radius=1)


@pytest.mark.parametrize(
    ("text", "expected"), [("layers: 3", "3"), ("layers: [1, 4]", "1,4"), ("layers: 1,5-9", "1,5-9")]
)
def test_layers_in_a_file_may_be_numbers_lists_or_text(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"model: tiny\n{text}\n")
    assert build_spec({}, config_file=path).layers == expected


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("probe.heads", "not KEY=VALUE"),
        ("=3", "not KEY=VALUE"),
        ("pobe.heads=each", "Did you mean 'probe.KEY'"),
        ("sed=3", "Did you mean 'seed'"),
        ("seed=three", "seed"),
        ("limit=1.5", "limit"),
        ("probe", "not KEY=VALUE"),
    ],
)
def test_malformed_assignments_say_what_to_type(assignment: str, message: str) -> None:
    with pytest.raises(vcorr.UsageError, match=message):
        build_spec({"model": "tiny"}, assignments=[assignment])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle: tiny", "Did you mean 'mode' or 'model'"),
        ("- a\n- b", "must hold keys"),
        ("a: [", "not valid YAML"),
        ("set: 3", "'set'"),
    ],
)
def test_bad_config_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(vcorr.UsageError, match=message) as caught:
        build_spec({}, config_file=path)
    assert "run.yaml" in str(caught.value)


def test_a_missing_config_file() -> None:
    with pytest.raises(vcorr.UsageError, match=r"nowhere\.yaml cannot be read"):
        build_spec({}, config_file=Path("nowhere.yaml"))


def test_component_options_are_typed() -> None:
    assert make_config(Options, {"radius": 2, "scale": 1}, "probe") == Options(radius=2, scale=1.0)
    assert make_config(Mapped, {"sizes.layers": 2}, "model") == Mapped(sizes={"layers": 2})
    both = {"sizes": {"layers": 1, "heads": 3}, "sizes.layers": 2}
    assert make_config(Mapped, both, "model") == Mapped(sizes={"layers": 2, "heads": 3})
    with pytest.raises(vcorr.UsageError, match=r"model\.sizes: expected keys and values.* got 3"):
        make_config(Mapped, {"sizes": 3, "sizes.layers": 2}, "model")
    with pytest.raises(vcorr.UsageError, match=r"Did you mean 'probe\.radius'"):
        make_config(Options, {"raduis": 2}, "probe")
    with pytest.raises(vcorr.UsageError, match="radius"):
        make_config(Options, {"radius": "wide"}, "probe")
    with pytest.raises(vcorr.UsageError, match="has no options"):
        make_config(None, {"radius": 2}, "probe")


@pytest.mark.parametrize(
    ("text", "total", "expected"),
    [
        ("all", 3, (0, 1, 2)),
        ("last", 50, (49,)),
        ("8-spread", 50, (0, 7, 14, 21, 28, 35, 42, 49)),
        ("1-spread", 50, (49,)),
        ("1,5-7", 10, (1, 5, 6, 7)),
        ("3, 1,3", 10, (1, 3)),
    ],
)
def test_steps(text: str, total: int, expected: tuple[int, ...]) -> None:
    assert resolve_steps(text, total) == expected


@pytest.mark.parametrize("text", ["", ",", "x", "1-", "-1", "5-3", "10", "0-10", "11-spread", "0-spread", "1.5", "1;2"])
def test_steps_out_of_range_or_form(text: str) -> None:
    with pytest.raises(vcorr.UsageError, match="--steps"):
        resolve_steps(text, 10)


@pytest.mark.parametrize(
    ("total", "expected"), [(50, (0, 7, 14, 21, 28, 35, 42, 49)), (8, tuple(range(8))), (4, (0, 1, 2, 3))]
)
def test_the_default_steps_are_eight_or_all_where_there_are_fewer(total: int, expected: tuple[int, ...]) -> None:
    assert resolve_steps(None, total) == expected


@pytest.mark.parametrize("typed", ["8-spread", "7-spread"])
def test_a_typed_spread_never_adapts(typed: str) -> None:
    with pytest.raises(vcorr.UsageError, match=f"--steps {typed} is out of range") as caught:
        resolve_steps(typed, 4)
    assert caught.value.hint == "There are 4 steps: write 'all', or N up to 4."


@pytest.mark.parametrize(("text", "expected"), [("all", (0, 1, 2)), ("2,0-1", (0, 1, 2)), (" 1 ", (1,))])
def test_layers(text: str, expected: tuple[int, ...]) -> None:
    assert resolve_layers(text, 3) == expected


@pytest.mark.parametrize(
    "text", ["x", "last", "2-spread", "0,last", "１", "١", "²", "last-", "1 2", "1-2-3", "1.0", "1_0"]
)
def test_layers_offer_nothing_that_they_refuse(text: str) -> None:
    with pytest.raises(vcorr.UsageError, match="--layers") as caught:
        resolve_layers(text, 10)
    assert caught.value.hint == "Write indices and ranges such as '1,5-9', or 'all'."


@given(st.integers(1, 200), st.data())
def test_a_spread_has_both_ends_and_no_repeats(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, total))
    steps = resolve_steps(f"{count}-spread", total)
    assert len(set(steps)) == len(steps) == count
    assert steps[-1] == total - 1
    assert count == 1 or steps[0] == 0


def test_a_config_file_that_nests_a_plain_key(tmp_path) -> None:
    (tmp_path / "run.yaml").write_text("variant: {a: b}\n")
    with pytest.raises(vcorr.UsageError, match=r"variant: expected text, got \{'a': 'b'\}"):
        build_spec({}, config_file=tmp_path / "run.yaml")


def test_the_strength_of_guidance_under_its_former_name_is_cfg(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: tiny\nguidance: 6\n")
    assert build_spec({}, config_file=path).cfg == 6.0
    assert build_spec({}, assignments=["guidance=2.5"]).cfg == 2.5
    assert build_spec({"cfg": 3.0}, config_file=path).cfg == 3.0


def test_the_strength_of_guidance_is_given_once(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    for text in ("cfg: 3\nguidance: 6\n", "guidance: 6\ncfg: 3\n"):
        path.write_text(f"model: tiny\n{text}")
        with pytest.raises(vcorr.UsageError, match=r"given twice, as cfg \(3\) and as guidance \(6\)"):
            build_spec({}, config_file=path)


@pytest.mark.parametrize("strength", [-1.0, float("nan"), float("inf")])
def test_a_strength_that_is_none_is_refused_before_anything_runs(strength: float) -> None:
    for flags, assignments in (({"cfg": strength}, []), ({}, [f"cfg={strength}"])):
        with pytest.raises(vcorr.UsageError, match=r"--cfg -1 is no strength(.|\n)*at least 0|cfg: expected a number"):
            build_spec(flags, assignments=assignments)
    assert build_spec({"cfg": 0.0}).cfg == 0.0


@pytest.mark.parametrize("text", ["guidance: cag", "set: {guidance: cag}", "guidance: cag\ncfg: 6"])
def test_a_method_of_guidance_is_not_taken_for_a_strength(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"model: tiny\n{text}\n")
    spec = build_spec({}, config_file=path)
    assert (spec.guidance, spec.cfg) == ("cag", 6.0 if "cfg" in text else None)
    path.write_text("guidance: true\n")
    with pytest.raises(vcorr.UsageError, match="guidance"):
        build_spec({}, config_file=path)


def test_a_range_that_runs_backwards_says_how_to_write_it() -> None:
    with pytest.raises(vcorr.UsageError, match=r"--layers 5-2 runs backwards\.\nWrite 2-5\."):
        resolve_layers("1,5-2", 10)


@pytest.mark.parametrize("text", ["9" * 5000, f"0-{'9' * 5000}", f"{'9' * 5000}-spread"])
def test_numbers_longer_than_python_reads_are_out_of_range(text: str) -> None:
    with pytest.raises(vcorr.UsageError, match="is out of range"):
        resolve_steps(text, 10)


@pytest.mark.parametrize("assignment", ["prompt=a\udcff", "probe.heads=\udcff", "model.network={a: \udcff}"])
def test_text_that_is_not_unicode_is_refused_with_its_name(assignment: str) -> None:
    with pytest.raises(vcorr.UsageError, match=f"^{assignment.partition('=')[0]} is not UTF-8 text: .*udcff"):
        build_spec({"model": "tiny"}, assignments=[assignment])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt: 1.10", "prompt: expected text or null, got 1.1.\nTo give it as text, put it in quotes."),
        ("prompt:", "prompt has no value.\nWrite the prompt in quotes"),
        ("prompt: ''", "--prompt is empty."),
        ("limit: 1_0", "limit: expected a whole number or null, got '1_0'."),
        ("seed: -1", "--seed -1 is out of range."),
        ("save-videos: maybe", "save_videos: expected true or false, got 'maybe'."),
        ("layers: [1, true]", "layers: a list of text or whole numbers is needed, and true is in it."),
        ("set: {prob.heads: 1}", "Unknown --set key 'prob.heads'. Did you mean 'probe.KEY'?"),
        ('prompt: "a\\0b"', "prompt holds a zero byte"),
    ],
)
def test_an_error_in_a_config_file_names_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"model: tiny\n{text}\n")
    with pytest.raises(vcorr.UsageError) as caught:
        build_spec({}, config_file=path)
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith(f"It is set in {path}.")


def test_a_flag_that_overrides_the_file_is_not_blamed_on_it(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: tiny\nseed: 1\n")
    for flags, assignments in (({"seed": -1}, []), ({}, ["seed=-1"])):
        with pytest.raises(vcorr.UsageError, match=r"out of range(.|\n)*The config file is .*run\.yaml\.$"):
            build_spec(flags, config_file=path, assignments=assignments)


@pytest.mark.parametrize(
    "name", ["prompt", "data", "model", "mode", "tracker", "steps", "layers", "metrics", "weights"]
)
def test_an_empty_value_is_not_the_default(name: str) -> None:
    for flags, assignments in (({name: ""}, []), ({name: " "}, []), ({}, [f"{name}="])):
        with pytest.raises(vcorr.UsageError, match=rf"^{'' if name == 'metrics' else '--'}{name} is empty"):
            build_spec(flags, assignments=assignments)


def test_messages_name_no_flag_that_does_not_exist() -> None:
    flags = {flag for command in _all_commands(cli) for each in command.params for flag in each.opts}
    for name in FIELDS:
        with pytest.raises(vcorr.UsageError) as raised:
            build_spec({}, assignments=[f"{name}="])
        said = raised.value.message.split(" is empty")[0].split(":")[0]
        assert said in (flags if said.startswith("--") else FIELDS), name


def _all_commands(command: click.Command) -> Iterator[click.Command]:
    yield command
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        yield from _all_commands(inner)


def test_an_option_without_its_kind_is_answered_with_the_whole_key() -> None:
    with pytest.raises(vcorr.UsageError, match="Unknown --set key 'level'") as caught:
        build_spec({"model": "tiny"}, assignments=["level=hard"])
    assert "Write: --set data.level=VALUE" in str(caught.value)
    with pytest.raises(vcorr.UsageError, match=r"Did you mean 'data\.size' or 'tracker\.size' or 'model\.size'\?"):
        build_spec({"model": "tiny"}, assignments=["size=4"])


def test_a_key_with_both_kinds_of_dash_is_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("save-videos: true\nsave_videos: false\n")
    with pytest.raises(vcorr.UsageError, match=r"run\.yaml: the key 'save_videos' is there twice"):
        build_spec({}, config_file=path)


def test_brackets_of_a_list_come_in_pairs() -> None:
    assert build_spec({}, assignments=["layers=[1, 4]"]).layers == "1, 4"
    with pytest.raises(vcorr.UsageError, match=r"--layers '\[1,4' cannot be read at '\[1'"):
        resolve_layers(build_spec({}, assignments=["layers=[1,4"]).layers, 10)


@pytest.mark.parametrize("source", ["/dev/zero", "pipe", "folder"])
def test_a_config_that_is_no_file_is_refused_at_once(tmp_path: Path, source: str) -> None:
    path = Path(source) if source.startswith("/") else tmp_path / source
    os.mkfifo(path) if source == "pipe" else None
    path.mkdir() if source == "folder" else None
    with pytest.raises(vcorr.UsageError, match=r"cannot be read: it is a (pipe or a device|folder)"):
        build_spec({}, config_file=path)
