"""Recipes of plugins: found by name, listed, shown, and run; files of one's own go before them."""

from __future__ import annotations

import json
import sys
import types

import pytest
from support import sliding

from vcorr.cli import main as program
from vcorr.contract.errors import PluginError, UsageError
from vcorr.plugins import builtin, registry
from vcorr.plugins.recipes import config_path, find_recipe, recipes
from vcorr.plugins.registry import PluginSource, Registry

TEXT = "# A run of the sliding pictures,\n# at its last step.\nmodel: sliding-model\nprobe: qk\nsteps: last\n# more\n"


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Makes a registry of the built-ins, the sliding plugin, and packages with the recipes given."""

    def use(packages: dict[str, dict[str, str]], broken: tuple[str, ...] = ()) -> Registry:
        monkeypatch.syspath_prepend(str(tmp_path / "packages"))
        sources = [PluginSource(registry.BUILTIN, "vcorr", "0", lambda: builtin, "vcorr")]
        sources.append(PluginSource("sliding", "sliding", "1", lambda: sliding, ""))
        for package, files in packages.items():
            folder = tmp_path / "packages" / package
            (folder / "configs").mkdir(parents=True)
            (folder / "__init__.py").touch()
            for name, text in files.items():
                (folder / "configs" / name).write_text(text)
            load = _fails if package in broken else lambda: types.ModuleType("empty")
            sources.append(PluginSource(f"{package}_plugin", f"dist-{package}", "3", load, package))
        return Registry(sources)

    yield use
    for name in ("recipes_one", "recipes_two"):
        sys.modules.pop(name, None)


def _fails():
    raise RuntimeError("no luck")


def test_found_by_name_with_its_comment_as_summary(make):
    made = make(
        {"recipes_one": {"slide-last.yaml": TEXT, "notes.txt": "", "Not A Name.yaml": TEXT, "bare.yaml": "probe: qk"}}
    )
    assert [(r.name, r.summary) for r in recipes(made)] == [
        ("bare", ""),
        ("slide-last", "A run of the sliding pictures, at its last step."),
    ]
    assert find_recipe("slide-last", made).source.distribution == "dist-recipes_one"
    with pytest.raises(UsageError, match="Did you mean 'slide-last'"):
        find_recipe("slide-lst", made)


def test_a_plugin_with_two_entry_points_brings_its_recipes_once(make):
    made = make({"recipes_one": {"slide-last.yaml": TEXT}})
    made.plugins.append(registry.PluginReport(PluginSource("again", "dist-recipes_one", "3", _fails, "recipes_one")))
    assert [r.name for r in recipes(made)] == ["slide-last"]


def test_one_name_twice_names_both_and_leaves_the_others_alone(make):
    made = make({"recipes_one": {"slide.yaml": TEXT, "own.yaml": TEXT}, "recipes_two": {"slide.yaml": TEXT}})
    with pytest.raises(PluginError, match=r"dist-recipes_one 3 and by dist-recipes_two 3"):
        find_recipe("slide", made)
    assert find_recipe("own", made).name == "own"


def test_a_plugin_that_does_not_work_brings_none(make):
    assert recipes(make({"recipes_one": {"slide.yaml": TEXT}}, broken=("recipes_one",))) == []


def test_files_go_before_names(make, tmp_path, monkeypatch):
    made = make({"recipes_one": {"slide.yaml": TEXT}})
    monkeypatch.chdir(tmp_path)
    assert config_path("slide", made) == find_recipe("slide", made).path
    for text in ("own.yaml", "own.yml", "folder/own", "./own"):
        assert str(config_path(text, made)) in (text, "own")
    (tmp_path / "slide").write_text(TEXT)
    assert str(config_path("slide", made)) == "slide"


def test_through_the_command_line(make, tmp_path, monkeypatch, capsys):
    made = make({"recipes_one": {"slide-last.yaml": TEXT, "wrong.yaml": "modle: sliding-model\n"}})
    monkeypatch.setattr(registry, "installed", lambda: made)
    monkeypatch.chdir(tmp_path)

    def vcorr(*arguments):
        with pytest.raises(SystemExit) as ended:
            program.main(arguments)
        return int(ended.value.code or 0), *capsys.readouterr()

    code, out, _ = vcorr("run", "--config", "slide-last", "--limit", "1", "--json")
    assert (code, json.loads(out)["clips"]) == (0, 1)
    listed = json.loads(vcorr("list", "configs", "--json")[1])
    assert [row["name"] for row in listed] == ["slide-last", "wrong"]
    shown = json.loads(vcorr("show", "config", "slide-last", "--json")[1])
    assert (shown["command"], shown["keys"]["steps"]) == ("vcorr run --config slide-last", "last")
    assert "configs" in vcorr("show", "model", "sliding-model")[1]
    code, _, err = vcorr("run", "--config", "slide-lst")
    assert (code, "Did you mean 'slide-last'?" in err, "slide-lst.yaml" in err) == (2, True, True)
    code, _, err = vcorr("run", "--config", "wrong")
    assert (code, "Unknown key 'modle'" in err, "wrong.yaml" in err) == (2, True, True)
    code, _, err = vcorr("run", "--config", "missing.yaml")
    assert (code, "missing.yaml cannot be read" in err) == (2, True)
