"""The five packages that plugins import from: their names exist, are light, typed, documented, and all that is used."""

import ast
import importlib
import inspect
import pickle
import re
import subprocess
import sys
import textwrap
import traceback
from pathlib import Path

import pytest
from support.pages import ROOT, blocks, name_of, pages

import vcorr
from vcorr.authoring.scaffold.pipelines import adapter_source
from vcorr.contract.lazy_names import lazy_names

PAGES = {
    "vcorr": "plugins",
    "vcorr.capture": "capture",
    "vcorr.diffusion": "diffusers-model",
    "vcorr.functional": "functional",
    "vcorr.guidance": "guidance",
    "vcorr.testing": "testing",
}
PACKAGES = {name: importlib.import_module(name) for name in PAGES}
NAMES = [(package, name) for package in PACKAGES for name in PACKAGES[package].__all__]
ERRORS = [name for name in vcorr.__all__ if name.endswith("Error")]

WITH_TORCH = {
    "vcorr": {
        *("CorrespondenceTracker", "Knockout", "Layout", "knock_out", "record", "run"),
        *("check_finite", "choose_tracker_device", "find_checkpoint", "identify_network", "read_checkpoint"),
        "repeat_exactly",
    },
    "vcorr.capture": {
        *("AttentionCall", "EditableCall", "Pass", "PassListener", "PassWatch", "Recorder", "Tap"),
        *("intercept", "listening", "observing", "show"),
    },
    "vcorr.diffusion": {
        "AttentionWindow",
        *("NoiseSchedule", "component_from_config", "encode_frames", "encode_video", "load_pipeline", "noise_levels"),
        *("open_gates", "pipeline_from_configs", "prompt_noise", "quiet_loading", "seed_generators", "to_model_range"),
        "torch_dtype",
    },
    "vcorr.functional": {
        *("AttentionRows", "QueryPoints", "attention_rows", "attention_score", "confidence_score"),
        *("cross_frame_attention", "descriptor_drift", "harmonic_mean", "head_traits", "latent_to_frames", "match"),
        "match_features",
        *("matching_accuracy", "tapvid", "unit_vectors", "use_kernels"),
    },
    "vcorr.guidance": {"CrossFrameGuidance", "guide"},
    "vcorr.testing": {
        *("check_guidance", "check_model", "check_passes", "check_probe", "check_reading", "find_impulse", "make_local")
    },
}
"""Names that need torch. No other one may import it."""

INTERNAL_ON_PAGES = {
    "docs/statistics.md": {"vcorr.stats"},  # the page is about this room
}
"""Modules that a page may import although they are internal, and why."""

LIGHT = """
import importlib, sys
for package, names in {names!r}.items():
    module = importlib.import_module(package)
    assert "torch" not in sys.modules, package
    for name in names:
        getattr(module, name)
        assert "torch" not in sys.modules, (package, name)
"""


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_a_name_is_there_and_listed(package, name):
    assert getattr(PACKAGES[package], name) is not None
    assert name in dir(PACKAGES[package])


@pytest.mark.parametrize("package", PACKAGES)
def test_the_type_checker_sees_the_same_names_from_the_same_modules(package):
    (branch,) = [node for node in ast.parse(inspect.getsource(PACKAGES[package])).body if isinstance(node, ast.If)]
    seen = {
        alias.asname: node.module for node in branch.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert sorted(seen) == PACKAGES[package].__all__
    different = {
        name
        for name, module in seen.items()
        if getattr(importlib.import_module(module), name) is not getattr(PACKAGES[package], name)
    }
    assert different == set()


@pytest.mark.parametrize(("package", "page"), PAGES.items())
def test_every_name_is_on_its_page(package, page):
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    said = {word for code in re.findall(r"`[^`\n]+`", text) for word in re.findall(r"\w+", code)}
    assert [name for name in PACKAGES[package].__all__ if name not in said] == []


def test_names_that_need_no_torch_import_none():
    light = {package: sorted(set(module.__all__) - WITH_TORCH[package]) for package, module in PACKAGES.items()}
    command = [sys.executable, "-c", LIGHT.format(names=light)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(names <= set(PACKAGES[package].__all__) for package, names in WITH_TORCH.items())


def test_an_unknown_name_is_an_attribute_error_that_says_where():
    with pytest.raises(AttributeError, match=r"module 'vcorr\.capture' has no attribute 'Recoder'"):
        PACKAGES["vcorr.capture"].Recoder  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Clips' from 'vcorr'"):
        exec("from vcorr import Clips")


def test_a_name_is_imported_when_it_is_first_used(tmp_path, monkeypatch):
    (tmp_path / "holding_one_name.py").write_text("made = object()")
    (tmp_path / "holder").mkdir()
    (tmp_path / "holder" / "__init__.py").write_text(
        "from vcorr.contract.lazy_names import lazy_names\n"
        "__getattr__, __dir__, __all__ = lazy_names(__name__, {'holding_one_name': 'made', '': 'part'})"
    )
    (tmp_path / "holder" / "part.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    holder = importlib.import_module("holder")
    assert holder.__all__ == dir(holder) == ["made", "part"]
    assert "holding_one_name" not in sys.modules
    assert holder.made is sys.modules["holding_one_name"].made
    assert holder.__dict__["made"] is holder.made
    assert holder.part is sys.modules["holder.part"]
    for name in ("holder", "holder.part", "holding_one_name"):
        monkeypatch.delitem(sys.modules, name)


def test_the_version_is_that_of_the_installed_package():
    assert vcorr.__version__ == importlib.import_module("importlib.metadata").version("vcorr")


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_shows_the_path_it_is_imported_from_and_survives_pickling(name):
    error = getattr(vcorr, name)("It broke.", hint="Mend it.")
    assert "".join(traceback.format_exception_only(error)) == f"vcorr.{name}: It broke.\nMend it.\n"
    found = pickle.loads(pickle.dumps(error))
    assert (type(found), str(found), found.message, found.hint) == (type(error), str(error), "It broke.", "Mend it.")


def test_every_error_that_vcorr_defines_is_exported():
    defined = vars(importlib.import_module("vcorr.contract.errors")).values()
    errors = {each.__name__ for each in defined if isinstance(each, type) and issubclass(each, Exception)}
    assert errors == set(ERRORS)


def has_source(thing: object) -> bool:
    """Returns whether a thing is a class or a function of vcorr, whose source can be asked for."""
    return (inspect.isfunction(thing) or isinstance(thing, type)) and thing.__module__.startswith("vcorr.")


@pytest.mark.parametrize("package", PACKAGES)
def test_the_source_of_classes_and_functions_is_found(package):
    things = {name: getattr(PACKAGES[package], name) for name in PACKAGES[package].__all__}
    written = {name: inspect.getsource(thing) for name, thing in things.items() if has_source(thing)}
    assert len(written) >= min(7, len(things))
    assert [
        name for name, text in written.items() if not re.search(rf"^(class|def) {name}\b", text, re.MULTILINE)
    ] == []


def internal(source: str) -> set[str]:
    """Returns the modules of vcorr that Python source imports and that are none of the five packages."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return {module for module in found if module.split(".")[0] == "vcorr"} - PAGES.keys()


def code(block) -> str:
    """Returns the Python of a block, without prompts and without what is printed."""
    lines = block.text.splitlines()
    typed = [line[4:] for line in lines if line.startswith((">>> ", "... "))]
    return "\n".join(typed) if any(line.startswith(">>>") for line in lines) else textwrap.dedent(block.text)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_code_on_pages_imports_public_names_alone(page):
    used = {module for block in blocks(page) if block.info[:1] == ("python",) for module in internal(code(block))}
    assert used == INTERNAL_ON_PAGES.get(name_of(page), set())


TEMPLATES = sorted((Path(vcorr.__file__).parent / "authoring" / "scaffold" / "templates").rglob("*.py.j2"))


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: "/".join(path.parts[-3:]))
def test_a_new_plugin_imports_public_names_alone(template):
    source = re.sub(r"\{\{.*?\}\}", "made_up", template.read_text(encoding="utf-8"))
    assert internal(source) == set()


def test_an_adapter_written_from_a_pipeline_imports_public_names_alone():
    texts = [
        node.value for node in ast.walk(ast.parse(inspect.getsource(adapter_source))) if isinstance(node, ast.Constant)
    ]
    imported = {module for text in texts for module in re.findall(r"from (vcorr[\w.]*) import", str(text))}
    assert imported == {"vcorr", "vcorr.diffusion"}


def test_entries_of_plugins_name_public_paths_alone():
    registry = vcorr.installed()
    kinds = ("model", "probe", "metric", "dataset", "tracker", "guidance", "page")
    found = [registered for kind in kinds for registered in registry.catalogue(kind).all()]
    entries = [registered.entry for registered in found if registered.source.package.startswith("vcorr_")]
    named = {str(text).partition(":")[0] for entry in entries for text in (entry.factory, entry.config)}
    assert len(entries) > 40
    assert {module for module in named if module.split(".")[0] == "vcorr"} <= PAGES.keys()
    assert "vcorr.diffusion" in named


def test_templates_and_examples_are_looked_at():
    assert len(TEMPLATES) > 15
    assert internal("from vcorr.capture.tap import show\nimport vcorr.data\nfrom vcorr import Clip") == {
        "vcorr.capture.tap",
        "vcorr.data",
    }


def test_lazy_names_refuses_what_is_not_listed():
    get, _, names = lazy_names("vcorr", {"vcorr.contract.records": "Clip"})
    assert names == ["Clip"]
    with pytest.raises(AttributeError, match="no attribute 'Site'"):
        get("Site")
