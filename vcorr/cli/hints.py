"""Turns likely slips on the command line into errors that say what to type."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

import click

from vcorr.contract.errors import UsageError, unknown_name


class SpecCommand(click.Command):
    """A command whose flags are fields of a run: for a field without a flag of its own it says how to set it.

    Words that belong to no flag are errors that name the flag which takes them.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.allow_extra_args = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the flags; see the class. Raises UsageError for a slip, and what click raises."""
        try:
            rest = super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise _name_setting(error) from error
        if ctx.args:
            raise _place_words(ctx.args, ctx.command_path)
        return rest


class KindChoice(click.Choice[str]):
    """A choice among kinds of parts, each in the singular or the plural."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the kind as it is listed; raises UsageError with the nearest kind for a word that is none."""
        forms = {form: kind for kind in self.choices for form in _forms(kind)}
        if str(value) not in forms:
            raise unknown_name("kind", str(value), self.choices, hint=f"Kinds: {', '.join(self.choices)}.")
        return super().convert(forms[str(value)], param, ctx)


class ShowKind(KindChoice):
    """The kind of what `vcorr show` shows. For the name of a part in its place, the error says which kind it is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the kind; raises UsageError for the name of a part, and for other words."""
        if not any(value in _forms(kind) for kind in self.choices):
            kinds = _kinds_of(str(value))
            if kinds:
                raise UsageError(
                    f"{value!r} is the name of a {' and of a '.join(kinds)}, not a kind of part.",
                    hint="\n".join(f"Write: vcorr show {kind} {value}" for kind in kinds),
                )
        return super().convert(value, param, ctx)


def _forms(kind: str) -> tuple[str, ...]:
    singular = kind.removesuffix("s")
    return (singular, f"{singular}s")


def _kinds_of(name: str) -> list[str]:
    from vcorr.plugins.registry import HOOKS, installed

    found = installed()
    return [entry.kind for entry in HOOKS.values() if name in found.catalogue(entry.kind).names()]


def _name_setting(error: click.NoSuchOption) -> click.NoSuchOption | UsageError:
    """Returns an error with `--set` if the unknown option is a field of a run, or of all parts; else the same error."""
    from vcorr.runner.spec import FIELDS

    name = error.option_name.lstrip("-").replace("-", "_")
    if name in FIELDS:
        return UsageError(f"There is no flag {error.option_name}.", hint=f"Write: --set {name}=VALUE")
    return error


def _place_words(words: Sequence[str], command: str) -> UsageError:
    flags = [_flag_for(word) for word in words]
    named = ", ".join(repr(word) for word in words)
    hint = f"Write: {' '.join(flags)}" if all(flags) else f"Each word needs a flag in front: {command} --help"
    return UsageError(f"{named}: no flag takes {'this word' if len(words) == 1 else 'these words'}.", hint=hint)


def _flag_for(word: str) -> str:
    """Returns the flag, with the word, that takes such a word; "" if none is known."""
    from vcorr.data.video_names import is_video_name

    kinds = _kinds_of(word)
    if is_video_name(word):
        return f"--data {shlex.quote(word)}"
    if word.endswith((".yaml", ".yml")):
        return f"--config {shlex.quote(word)}"
    flag = _first({"model": "--model", "probe": "--probe", "dataset": "--data"}.get(kind) for kind in kinds)
    return f"{flag} {word}" if flag else ""


def _first(words: Iterable[str | None]) -> str:
    return next((word for word in words if word), "")
