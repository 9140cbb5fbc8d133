"""The files that a code host reads: issue forms, the pull-request template, SECURITY.md and CITATION.cff."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml
from support.pages import ROOT, read

from vcorr.cli.main import cli

TEMPLATES = ROOT / ".github" / "ISSUE_TEMPLATE"
FORMS = sorted(path for path in TEMPLATES.glob("*.yml") if path.name != "config.yml")
FIELDS = {"markdown", "textarea", "input", "dropdown", "checkboxes"}
"""Kinds of fields that an issue form may have."""


def load_form(name: str) -> dict[str, Any]:
    """Returns an issue form."""
    form: dict[str, Any] = yaml.safe_load(read(TEMPLATES / f"{name}.yml"))
    return form


def test_there_is_a_form_for_each_kind_of_issue() -> None:
    assert {path.stem for path in FORMS} == {"bug", "wrong-number", "model", "feature"}
    assert set(yaml.safe_load(read(TEMPLATES / "config.yml"))) == {"blank_issues_enabled"}


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_forms_have_what_the_host_needs(path) -> None:
    form = load_form(path.stem)
    assert set(form) == {"name", "description", "labels", "body"}
    identifiers = [field["id"] for field in form["body"]]
    assert len(set(identifiers)) == len(identifiers)
    for field in form["body"]:
        assert field["type"] in FIELDS
        assert set(field) <= {"type", "id", "attributes", "validations"}
        assert field["attributes"]["label"]
    assert any(field.get("validations", {}).get("required") for field in form["body"])


@pytest.mark.parametrize("name", ["bug", "wrong-number"])
def test_reports_ask_for_the_command_the_installation_and_the_run(name) -> None:
    labels = [field["attributes"]["label"] for field in load_form(name)["body"]]
    assert {"Command", "Output of `vcorr doctor --json`", "run.json"} <= set(labels)


def test_commands_that_templates_name_exist() -> None:
    texts = [read(path) for path in (*FORMS, ROOT / ".github" / "PULL_REQUEST_TEMPLATE.md")]
    named = {command for text in texts for command in re.findall(r"vcorr ([a-z]+)", text)} - {"should", "cannot"}
    assert named == {"doctor", "plugin"}
    assert named <= cli.commands.keys()


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load(read(ROOT / "CITATION.cff"))
    project = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["cff-version"] == "1.2.0"
    assert citation["keywords"] == project["keywords"]
    (paper,) = citation["references"]
    assert paper["url"] == project["urls"]["Paper"]


def test_reports_go_through_the_host_and_to_no_address() -> None:
    for path in (*TEMPLATES.glob("*.yml"), ROOT / "SECURITY.md", ROOT / "CITATION.cff"):
        assert re.findall(r"[\w.]+@[\w.]+", read(path)) == []
    assert "security advisories" in read(ROOT / "SECURITY.md")
