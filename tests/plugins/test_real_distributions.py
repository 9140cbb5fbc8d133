"""Distributions that pip really installs, good and bad ones together, with all plugins of the repository."""

from __future__ import annotations

import json

import pytest
from support.distributions import Environment, write_source

from vcorr.authoring.scaffold.names import KINDS, new_names
from vcorr.authoring.scaffold.write import write_plugin
from vcorr.plugins.registry import Registry

BAD = {
    "vcorr-raises": "raise RuntimeError('no luck today')",
    "vcorr-claims": """
        import vcorr

        @vcorr.hookimpl
        def vcorr_models():
            for name in ("zero-motion", "of-my-own"):
                yield vcorr.ModelEntry(name=name, summary="Mine.", factory="builtins:object")
    """,
    "vcorr-misspelt": """
        import vcorr

        @vcorr.hookimpl
        def vcorr_probe():
            return []
    """,
    "vcorr-heavy": """
        import torch
        import vcorr

        @vcorr.hookimpl
        def vcorr_guidances():
            return [vcorr.GuidanceEntry(name="heavy", summary="Heavy.", factory="builtins:object")]
    """,
}
CHECK_ALL = """
import json, sys
from vcorr.authoring.check.suites import check_plugin
from vcorr.authoring.check.targets import find_target
from vcorr.cli.views.check_view import to_dict
from vcorr.plugins.registry import installed
print(json.dumps([to_dict(check_plugin(find_target(name, installed()), installed(), {})) for name in sys.argv[1:]]))
"""
LOADED = """
import sys
from vcorr.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code
print("LOADED", *sorted(name for name in sys.modules if "." not in name))
"""


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """One environment with a new plugin of every kind and all the bad ones."""
    folder = tmp_path_factory.mktemp("distributions")
    new = [write_plugin(new_names(f"vcorr-new-{kind}", kind, Registry([])), folder) for kind in KINDS]
    bad = [write_source(folder, name, source) for name, source in BAD.items()]
    made = Environment.create(folder / "environment")
    made.pip_install(*new, *bad)
    return made


@pytest.fixture(scope="session")
def listed(environment):
    """What `vcorr list plugins` says, by distribution."""
    rows = json.loads(environment.run("-m", "vcorr", "list", "plugins", "--json").stdout)
    return {row["distribution"]: row for row in rows}


def test_every_plugin_is_listed_with_version_state_and_reason(environment, listed) -> None:
    said = {name: (listed[name]["version"], listed[name]["state"], listed[name]["reasons"]) for name in BAD}
    assert said["vcorr-raises"] == ("1.0", "broken", ["RuntimeError: no luck today"])
    assert said["vcorr-claims"][1] == "warning"
    assert "also claimed by vcorr 0" in said["vcorr-claims"][2][0]
    assert said["vcorr-misspelt"] == ("1.0", "warning", ["unknown hook vcorr_probe; did you mean vcorr_probes?"])
    assert said["vcorr-heavy"][1] == "warning"
    assert "loads torch" in said["vcorr-heavy"][2][0]
    assert {listed[f"vcorr-new-{kind}"]["state"] for kind in KINDS} == {"ok"}
    text = environment.run("-m", "vcorr", "list", "plugins").stdout
    assert all(name in text for name in listed)
    assert "no luck today" in text


def test_the_rest_works_with_them(environment) -> None:
    clash = environment.run("-m", "vcorr", "show", "model", "zero-motion", check=False)
    assert clash.returncode == 3
    assert "vcorr-claims 1.0" in clash.stderr
    run = ("run", "--model", "token-patches", "--data", "new-dataset", "--limit", "1", "--json")
    done = json.loads(environment.run("-m", "vcorr", *run, "--set", "metrics=new-metric,matching_accuracy").stdout)
    assert (done["status"], done["failed"]) == ("complete", [])


@pytest.mark.parametrize(
    ("selection", "states"),
    [
        ("-vcorr-raises", {"vcorr-raises": "blocked", "vcorr-misspelt": "warning", "vcorr-new-model": "ok"}),
        ("vcorr-new-model", {"vcorr-raises": "blocked", "vcorr-misspelt": "blocked", "vcorr-new-model": "ok"}),
        ("", {"vcorr-raises": "blocked", "vcorr-new-model": "blocked", "vcorr": "ok"}),
    ],
)
def test_plugins_are_selected_and_blocked(environment, selection, states) -> None:
    said = environment.run("-m", "vcorr", "list", "plugins", "--json", VCORR_PLUGINS=selection).stdout
    found = {row["distribution"]: row["state"] for row in json.loads(said)}
    assert {name: found[name] for name in states} == states


def test_help_imports_no_plugin(environment, listed) -> None:
    loaded = set(environment.run("-c", LOADED, "--help").stdout.split("LOADED")[-1].split())
    assert "click" in loaded
    packages = {name.replace("-", "_") for name in listed} - {"vcorr"}
    assert len(packages) > 10
    assert not loaded & (packages | {"torch", "diffusers", "numpy", "rich"})


def test_new_plugins_pass_the_check_and_bad_ones_get_reasons(environment) -> None:
    names = [*(f"vcorr-new-{kind}" for kind in KINDS), *BAD]
    reports = {found["name"]: found for found in json.loads(environment.run("-c", CHECK_ALL, *names).stdout)}
    checks = {name: [c for report in found["reports"] for c in report["checks"]] for name, found in reports.items()}
    failed = {name: [check for check in found if not check["passed"]] for name, found in checks.items()}
    assert {name: failed[name] for name in names if name.startswith("vcorr-new-")} == {
        f"vcorr-new-{kind}": [] for kind in KINDS
    }
    read = {"a change of pixels is found at its token", "the conditional branch is read"}
    assert read <= {check["name"] for check in checks["vcorr-new-model"]}
    assert failed["vcorr-raises"][0]["reason"] == "RuntimeError: no luck today"
    assert "no other plugin claims its names" in {check["name"] for check in failed["vcorr-claims"]}
    assert "did you mean vcorr_probes?" in failed["vcorr-misspelt"][0]["reason"]
    assert "importing vcorr_heavy imports torch" in " ".join(check["reason"] for check in failed["vcorr-heavy"])


def test_the_tests_of_new_plugins_pass(environment) -> None:
    folders = [str(environment.folder.parent / f"vcorr-new-{kind}" / "tests") for kind in KINDS]
    done = environment.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", *folders)
    assert " passed" in done.stdout


def test_check_ends_with_the_code_of_what_it_found(environment) -> None:
    assert environment.run("-m", "vcorr", "plugin", "check", "vcorr-misspelt", check=False).returncode == 3
    unknown = environment.run("-m", "vcorr", "plugin", "check", "vcorr-new-modle", check=False)
    assert unknown.returncode == 2
    assert "Did you mean 'vcorr-new-model'" in unknown.stderr
