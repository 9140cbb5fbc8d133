"""Checks the contract of entries: what an entry says is true, and importing its plugin loads nothing heavy."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Collection
from functools import cached_property
from typing import Any

from vcorr.contract.cards import load_card
from vcorr.contract.entries import Entry, ModelEntry, resolve
from vcorr.contract.records import ModelCard
from vcorr.plugins.option_facts import list_unexplained
from vcorr.plugins.option_values import check_option_types
from vcorr.plugins.part_options import make_config
from vcorr.plugins.registry import HEAVY
from vcorr.testing.members import missing_members, wrong_members
from vcorr.testing.report import CheckFunction, Report, expect, run_checks

_IMPORT = (
    "import sys, importlib; importlib.import_module(sys.argv[1]); print(*(m for m in sys.argv[2:] if m in sys.modules))"
)

MADE = "the factory makes an object of the right kind"


def check_entry(entry: Entry, *, plugin: str | None = None, skip: Collection[str] = ()) -> Report:
    """Checks what an entry declares: its summary, its options, its factory, its card.

    Args:
        entry: as the hook returns it; its constructor has already refused bad names.
        plugin: the module listed as entry point, to check that importing it loads none of torch, diffusers and
            transformers.
        skip: names of checks to leave out.
    """
    suite = _EntrySuite(entry)
    checks: list[tuple[str, CheckFunction]] = [
        ("the summary is one line", suite.summary),
        ("options are a dataclass that --set can fill", suite.options),
        ("every option has an explanation", suite.explanations),
        ("the options to check with exist", suite.check_options),
        (MADE, suite.factory),
    ]
    if isinstance(entry, ModelEntry):
        checks.append(("the card is valid and belongs to this model", suite.card))
    if plugin is not None:
        checks.insert(0, ("importing the plugin loads nothing heavy", lambda: light(plugin)))
    return run_checks(entry.label, checks, skip)


def light(plugin: str) -> None:
    """Fails unless a new process can import `plugin` without torch, diffusers and transformers."""
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT, plugin, *HEAVY], capture_output=True, text=True, check=False, timeout=120
    )
    expect(done.returncode == 0, f"importing {plugin} failed: {done.stderr.strip().splitlines()[-1:]}")
    expect(
        not done.stdout.split(),
        f"importing {plugin} imports {done.stdout.strip()}; import it inside the functions that use it.",
    )


class _EntrySuite:
    def __init__(self, entry: Entry) -> None:
        self._entry = entry

    def summary(self) -> None:
        text = self._entry.summary
        expect(isinstance(text, str) and bool(text.strip()), "summary is empty, so lists show nothing.")
        expect(len(text.splitlines()) == 1, "summary has several lines, but lists show one.")

    def options(self) -> str:
        if self._type is None:
            return "no options"
        check_option_types(self._type)
        make_config(self._type, self._required, self._entry.kind)
        return f"options: {len(dataclasses.fields(self._type))}"

    def explanations(self) -> str:
        missing = list_unexplained(self._type)
        what = f"{', '.join(missing)}: `vcorr show` says nothing about {'it' if len(missing) == 1 else 'them'};"
        expect(not missing, f"{what} write `name: type = vcorr.option(default, 'What it does.')`.")
        return "all" if self._type is not None else "no options"

    def check_options(self) -> str:
        make_config(self._type, self._entry.check, self._entry.kind)
        return ", ".join(self._entry.check) or "none"

    def factory(self) -> None:
        factory = resolve(self._entry.factory, self._entry.label)
        expect(callable(factory), f"{self._entry.factory} cannot be called.")
        made = self._entry.create(make_config(self._type, self._entry.check, self._entry.kind))
        missing = missing_members(made, self._entry.kind)
        expect(not missing, f"{type(made).__name__} lacks {', '.join(missing)}.")
        wrong = wrong_members(made, self._entry.kind)
        expect(not wrong, f"{type(made).__name__}: {' '.join(wrong)}")

    def card(self) -> str:
        assert isinstance(self._entry, ModelEntry)
        if self._entry.card is None:
            return "no card"
        card = load_card(self._entry.card, self._entry.label)
        expect(isinstance(card, ModelCard), "the card is not a vcorr.ModelCard.")
        return f"{card.name}, {card.licence}"

    @cached_property
    def _type(self) -> type | None:
        return self._entry.config_type()

    @property
    def _required(self) -> dict[str, Any]:
        """Options in `check` that have no default."""
        missing = dataclasses.MISSING
        needed = {f.name for f in dataclasses.fields(self._type or object) if f.default is missing is f.default_factory}
        return {key: value for key, value in self._entry.check.items() if key in needed}
