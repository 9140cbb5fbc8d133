"""Plugins: found, kept apart, reported."""

from __future__ import annotations

import os
import types
from collections.abc import Callable

import click
import pytest

import vcorr
from vcorr.contract import entries
from vcorr.contract.entries import Entry
from vcorr.plugins import registry


def make_module(name: str, **members: object) -> types.ModuleType:
    module = types.ModuleType(name)
    for key, value in members.items():
        setattr(module, key, value)
    return module


def model_hook(*names: str) -> Callable[[], list[vcorr.ModelEntry]]:
    @vcorr.hookimpl
    def vcorr_models() -> list[vcorr.ModelEntry]:
        return [vcorr.ModelEntry(name=n, summary="", factory="builtins:object") for n in names]

    return vcorr_models


def source(module: object, distribution: str) -> registry.PluginSource:
    return registry.PluginSource("plugin", distribution, "1.0", lambda: module)


def failing_source(error: BaseException) -> registry.PluginSource:
    def load() -> object:
        raise error

    return registry.PluginSource("plugin", "bad", "0.1", load)


def report_of(found: registry.Registry, distribution: str) -> registry.PluginReport:
    return next(r for r in found.plugins if r.source.distribution == distribution)


def test_entries_carry_their_provenance() -> None:
    found = registry.Registry([source(make_module("a", vcorr_models=model_hook("one")), "dist-a")])
    assert found.models.get("one").source.label == "dist-a 1.0"
    assert report_of(found, "dist-a").provides == ["model:one"]


@pytest.mark.parametrize(
    "error", [ImportError("no such thing"), RuntimeError("boom"), SystemExit(3), SyntaxError("bad")]
)
def test_a_plugin_that_cannot_be_imported_is_listed_and_the_rest_works(error: BaseException) -> None:
    good = source(make_module("a", vcorr_models=model_hook("one")), "good")
    found = registry.Registry([failing_source(error), good])
    assert found.models.names() == ["one"]
    report = report_of(found, "bad")
    assert report.state == "broken"
    assert type(error).__name__ in report.reasons[0]


def test_a_hook_that_raises_half_way_is_broken_and_registers_nothing() -> None:
    @vcorr.hookimpl
    def vcorr_models():
        yield vcorr.ModelEntry(name="first", summary="", factory="builtins:object")
        raise RuntimeError("half way")

    found = registry.Registry([source(make_module("a", vcorr_models=vcorr_models), "half")])
    assert found.models.names() == []
    assert report_of(found, "half").reasons == ["vcorr_models: RuntimeError: half way"]


def test_generator_hooks_work() -> None:
    @vcorr.hookimpl
    def vcorr_probes():
        yield vcorr.ProbeEntry(name="p", summary="", factory="builtins:object")

    assert registry.Registry([source(make_module("a", vcorr_probes=vcorr_probes), "gen")]).probes.names() == ["p"]


def test_a_clash_names_both_distributions_and_spares_other_names() -> None:
    one = source(make_module("a", vcorr_models=model_hook("same", "only-a")), "dist-a")
    two = source(make_module("b", vcorr_models=model_hook("same")), "dist-b")
    found = registry.Registry([one, two])
    with pytest.raises(vcorr.PluginError, match=r"dist-a 1\.0.*dist-b 1\.0"):
        found.models.get("same")
    assert [r.entry.name for r in found.models.all()] == ["only-a"]
    assert report_of(found, "dist-a").reasons == ["model 'same' is also claimed by dist-b 1.0"]
    assert report_of(found, "dist-b").reasons == ["model 'same' is also claimed by dist-a 1.0"]


def test_a_clash_says_how_to_leave_out_each_of_the_plugins() -> None:
    one = source(make_module("a", vcorr_models=model_hook("same")), "dist-a")
    two = source(make_module("b", vcorr_models=model_hook("same")), "dist-b")
    with pytest.raises(
        vcorr.PluginError, match=r"None of them is used.*VCORR_PLUGINS=-dist-a or VCORR_PLUGINS=-dist-b"
    ):
        registry.Registry([one, two]).models.get("same")
    for left, selection in (("dist-b", "-dist-a"), ("dist-a", "-dist-b")):
        assert registry.Registry([one, two], selection=selection).models.get("same").source.distribution == left


def test_a_clash_within_one_distribution_names_its_entry_points() -> None:
    sources = [
        registry.PluginSource(name, "dist", "1.0", lambda name=name: make_module(name, vcorr_models=model_hook("same")))
        for name in ("one", "two")
    ]
    with pytest.raises(vcorr.PluginError, match="VCORR_PLUGINS=-one or VCORR_PLUGINS=-two"):
        registry.Registry(sources).models.get("same")
    twice = source(make_module("a", vcorr_models=model_hook("same", "same")), "dist")
    with pytest.raises(vcorr.PluginError, match=r"claimed twice by dist 1\.0"):
        registry.Registry([twice]).models.get("same")


def test_a_clash_with_the_core_can_only_leave_out_the_plugin() -> None:
    own = registry.PluginSource("builtin", "vcorr", "1", lambda: make_module("b", vcorr_models=model_hook("same")))
    other = source(make_module("a", vcorr_models=model_hook("same")), "dist-a")
    with pytest.raises(vcorr.PluginError, match=r"of a command: VCORR_PLUGINS=-dist-a$"):
        registry.Registry([own, other]).models.get("same")


def test_two_entry_points_of_one_module_register_it_once() -> None:
    module = make_module("a", vcorr_models=model_hook("one"))
    found = registry.Registry([registry.PluginSource(name, "dist", "1.0", lambda: module) for name in ("x", "y")])
    assert [(r.source.name, r.state, r.provides) for r in found.plugins] == [
        ("x", "ok", ["model:one"]),
        ("y", "warning", []),
    ]
    assert found.plugins[1].reasons == ["it is the same module as 'x' of dist 1.0"]
    assert found.models.get("one").source.name == "x"


@pytest.mark.parametrize("name", ["mine", "vcorr-mine", "mine-5b"])
def test_a_name_of_a_broken_plugin_says_so(name: str) -> None:
    broken = registry.PluginSource("plugin", "vcorr-mine", "2", failing_source(ImportError("no torchcodec")).load)
    found = registry.Registry([broken, source(make_module("a", vcorr_models=model_hook("other")), "good")])
    with pytest.raises(vcorr.PluginError, match=r"of vcorr-mine 2, which is broken: ImportError: no torchcodec"):
        found.models.get(name)
    with pytest.raises(vcorr.UsageError, match=r"Broken plugins, whose models are not known: vcorr-mine 2"):
        found.models.get("unheard-of")


def test_a_packaged_card_says_which_broken_plugin_brings_a_model(tmp_path, monkeypatch) -> None:
    cards = tmp_path / "carded_pack" / "cards"
    cards.mkdir(parents=True)
    (cards / "grand.yaml").write_text("name: grand\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    load = failing_source(SyntaxError("bad")).load
    found = registry.Registry([registry.PluginSource("p", "dist-c", "1", load, "carded_pack", "carded_pack.plugin")])
    with pytest.raises(vcorr.PluginError, match=r"'grand' seems to be of dist-c 1, which is broken: SyntaxError: bad"):
        found.models.get("grand")


def test_a_name_of_a_plugin_that_is_left_out_says_so() -> None:
    found = registry.Registry([source(make_module("a", vcorr_models=model_hook("mine")), "vcorr-mine")], selection="")
    with pytest.raises(vcorr.PluginError, match=r"of vcorr-mine 1\.0, which is left out by VCORR_PLUGINS"):
        found.models.get("mine")


def test_a_misspelt_function_without_decorator_is_reported_too() -> None:
    def vcorr_model() -> list[Entry]:
        return []

    def vcorr_version_of() -> str:
        return "no hook, and not near one"

    found = registry.Registry(
        [source(make_module("a", vcorr_model=vcorr_model, vcorr_version_of=vcorr_version_of), "d")]
    )
    (reason,) = report_of(found, "d").reasons
    assert reason.startswith("vcorr_model has no @vcorr.hookimpl above it, so it is not called")
    assert reason.endswith("did you mean vcorr_models?")


@pytest.mark.parametrize(
    ("returned", "said"),
    [(None, "must return a list of ModelEntry, got None"), ("tiny", "must return a list of ModelEntry, got 'tiny'")],
)
def test_a_hook_that_returns_no_list_is_broken(returned: object, said: str) -> None:
    hook = vcorr.hookimpl(lambda: returned)
    report = report_of(registry.Registry([source(make_module("a", vcorr_models=hook), "d")]), "d")
    assert (report.state, said in report.reasons[0]) == ("broken", True)


def test_a_hook_with_defaults_is_broken() -> None:
    @vcorr.hookimpl
    def vcorr_models(names=("a",)):
        return []

    report = report_of(registry.Registry([source(make_module("a", vcorr_models=vcorr_models), "d")]), "d")
    assert report.reasons == ["PluginError: vcorr_models takes arguments (names), and hooks take none."]


def test_an_import_that_changes_the_process_is_reported_and_set_back(tmp_path) -> None:
    before = os.getcwd()

    def load() -> object:
        os.chdir(tmp_path)
        return make_module("a", vcorr_models=model_hook("one"))

    found = registry.Registry([registry.PluginSource("p", "mover", "1", load)])
    assert os.getcwd() == before
    assert report_of(found, "mover").reasons == ["importing it changes the working folder, which was set back"]


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


class MutedError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MutedError(), "MutedError (its message cannot be shown)"),
        (ValueError(), "ValueError"),
        (ValueError("\x1b[31mred\x1b[0m"), "ValueError: \\x1b[31mred\\x1b[0m"),
        (GeneratorExit(), "GeneratorExit"),
        (RecursionError("deep"), "RecursionError: deep"),
        (click.exceptions.Exit(0), "Exit: 0"),
        (click.UsageError("odd"), "UsageError: odd"),
    ],
)
def test_whatever_an_import_raises_is_a_reason(error: BaseException, said: str) -> None:
    assert report_of(registry.Registry([failing_source(error)]), "bad").reasons == [said]


def test_the_reason_of_a_broken_plugin_is_short() -> None:
    report = report_of(registry.Registry([failing_source(ValueError("x" * 10_000_000))]), "bad")
    assert len(report.reasons[0]) < 400


def test_an_entry_without_a_repr_is_described_by_its_type() -> None:
    hook = vcorr.hookimpl(lambda: [Unprintable()])
    report = report_of(registry.Registry([source(make_module("a", vcorr_models=hook), "d")]), "d")
    assert "an object of type Unprintable" in report.reasons[0]


def test_a_misspelt_hook_is_reported_with_the_nearest_name() -> None:
    hook = model_hook("x")
    found = registry.Registry([source(make_module("a", vcorr_model=hook), "typo")])
    report = report_of(found, "typo")
    assert report.state == "warning"
    assert report.reasons == ["unknown hook vcorr_model; did you mean vcorr_models?"]


def test_unmarked_functions_are_not_hooks_and_that_is_said() -> None:
    def vcorr_models() -> list[Entry]:
        raise AssertionError("must not be called")

    found = registry.Registry([source(make_module("a", vcorr_models=vcorr_models), "unmarked")])
    report = report_of(found, "unmarked")
    assert (report.state, report.provides) == ("warning", [])
    assert report.reasons == ["vcorr_models has no @vcorr.hookimpl above it, so it is not called"]


def test_a_hook_that_wants_arguments_is_broken() -> None:
    @vcorr.hookimpl
    def vcorr_models(register: object) -> list[vcorr.ModelEntry]:
        return []

    report = report_of(registry.Registry([source(make_module("a", vcorr_models=vcorr_models), "args")]), "args")
    assert report.state == "broken"
    assert report.reasons == ["PluginError: vcorr_models takes arguments (register), and hooks take none."]


def test_a_wrong_return_value_names_the_hook() -> None:
    @vcorr.hookimpl
    def vcorr_models():
        return ["cogvideox"]

    report = report_of(registry.Registry([source(make_module("a", vcorr_models=vcorr_models), "wrong")]), "wrong")
    assert report.state == "broken"
    assert "vcorr_models returned 'cogvideox'" in report.reasons[0]


def test_unknown_names_get_the_nearest_one() -> None:
    found = registry.Registry([source(make_module("a", vcorr_models=model_hook("cogvideox", "tiny")), "d")])
    with pytest.raises(vcorr.UsageError, match="Did you mean 'cogvideox'"):
        found.models.get("cogvidoex")
    with pytest.raises(vcorr.UsageError, match="Known models: cogvideox, tiny"):
        found.models.get("zzz")


@pytest.mark.parametrize(
    ("selection", "loaded"),
    [
        (None, {"a", "b"}),
        ("", set()),
        ("dist-a", {"a"}),
        ("-dist-a", {"b"}),
        ("dist-a,dist-b", {"a", "b"}),
        ("nobody", set()),
    ],
)
def test_selection(selection: str | None, loaded: set[str]) -> None:
    sources = [source(make_module(n, vcorr_models=model_hook(n)), f"dist-{n}") for n in ("a", "b")]
    found = registry.Registry(sources, selection=selection)
    assert set(found.models.names()) == loaded
    blocked = {r.source.distribution for r in found.plugins if r.state == "blocked"}
    assert blocked == {f"dist-{n}" for n in {"a", "b"} - loaded}


@pytest.mark.parametrize("name", ["", "Upper", "with space", "-lead", "trail-", "ümlaut", 3])
def test_invalid_names_are_refused(name: object) -> None:
    with pytest.raises(vcorr.PluginError, match="name"):
        vcorr.ModelEntry(name=name, summary="", factory="builtins:object")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "said"), [(99, "up to version 1.*\n.*pip install -U vcorr"), (0, "at least 1"), ("1", "'1'")]
)
def test_entries_of_another_hook_version_are_refused(asked, said) -> None:
    with pytest.raises(vcorr.PluginError, match=said):
        vcorr.ModelEntry(name="x", summary="", factory="builtins:object", api_version=asked)


def test_an_entry_that_was_written_for_an_older_version_says_that_the_plugin_is_old(monkeypatch) -> None:
    monkeypatch.setattr(entries, "HOOK_API_VERSION", 2)
    with pytest.raises(vcorr.PluginError, match=r"version 1 of the hooks(.|\n)*Upgrade the plugin"):
        vcorr.ModelEntry(name="x", summary="", factory="builtins:object", api_version=1)


def test_a_plugin_of_a_newer_hook_version_is_broken_and_the_others_work() -> None:
    @vcorr.hookimpl
    def vcorr_models() -> list[vcorr.ModelEntry]:
        return [vcorr.ModelEntry(name="new", summary="", factory="builtins:object", api_version=99)]

    sources = [source(make_module("new", vcorr_models=vcorr_models), "dist-new")]
    sources.append(source(make_module("old", vcorr_models=model_hook("old")), "dist-old"))
    found = registry.Registry(sources)
    states = {report.source.distribution: (report.state, " ".join(report.reasons)) for report in found.plugins}
    assert states["dist-new"][0] == "broken"
    assert (
        "written for version 99 of the hooks; the installed vcorr knows them up to version 1" in states["dist-new"][1]
    )
    assert states["dist-old"] == ("ok", "")
    assert found.models.names() == ["old"]


def test_factories_that_cannot_be_imported_name_the_entry() -> None:
    entry = vcorr.ModelEntry(name="x", summary="", factory="no_such_module:Thing")
    with pytest.raises(vcorr.PluginError, match=r"model 'x'.*no_such_module"):
        entry.create()
