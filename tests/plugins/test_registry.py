"""Plugins: found, kept apart, reported."""

from __future__ import annotations

import types
from collections.abc import Callable

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
    assert "also claimed by dist-a" in report_of(found, "dist-b").reasons[0]


def test_a_misspelt_hook_is_reported_with_the_nearest_name() -> None:
    hook = model_hook("x")
    found = registry.Registry([source(make_module("a", vcorr_model=hook), "typo")])
    report = report_of(found, "typo")
    assert report.state == "warning"
    assert report.reasons == ["unknown hook vcorr_model; did you mean vcorr_models?"]


def test_unmarked_functions_are_not_hooks() -> None:
    def vcorr_models() -> list[Entry]:
        raise AssertionError("must not be called")

    found = registry.Registry([source(make_module("a", vcorr_models=vcorr_models), "unmarked")])
    assert report_of(found, "unmarked").state == "ok"


def test_a_hook_that_wants_arguments_is_broken() -> None:
    @vcorr.hookimpl
    def vcorr_models(register: object) -> list[vcorr.ModelEntry]:
        return []

    report = report_of(registry.Registry([source(make_module("a", vcorr_models=vcorr_models), "args")]), "args")
    assert report.state == "broken"
    assert "register" in report.reasons[0]


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
