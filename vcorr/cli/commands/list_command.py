"""Defines `vcorr list` and `vcorr show`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vcorr.cli.commands import run_flags
from vcorr.cli.folder_type import RESULTS
from vcorr.cli.hints import KindChoice, ShowKind
from vcorr.cli.views.terminal import console, print_json, say
from vcorr.contract.errors import UsageError

KINDS = ("models", "probes", "metrics", "datasets", "trackers", "guidances")
RUN = "run"
RUNS = "runs"
EXECUTORS, CONFIGS, PLUGINS = "executors", "configs", "plugins"
LISTED = [*KINDS, EXECUTORS, CONFIGS, PLUGINS, RUNS]
SHOWN = [*(kind.removesuffix("s") for kind in (*KINDS, EXECUTORS, CONFIGS)), RUN]


@click.command("list", short_help=f"List what is installed: {', '.join(LISTED)}.")
@click.argument("kind", required=False, metavar="[KIND]", type=KindChoice(LISTED))
@click.option(
    "--results",
    type=RESULTS,
    default=Path("runs"),
    show_default=True,
    help="Of runs: their folder, or a folder of such folders, or its URL.",
)
@run_flags.FACTS_AS_JSON
def list_(kind: str | None, results: Path, as_json: bool) -> None:
    """List what is installed, or the runs of a folder. Without KIND: how many there are of each kind.

    \b
    KIND is one of these:
      models, probes, metrics, datasets, trackers, guidances,
      executors, configs, plugins, runs
    For example:
      vcorr list models
      vcorr list plugins     every plugin with its version, state and reason
      vcorr list runs        every run in runs/ and below
    """
    from vcorr.cli.views import listing_view

    if kind == RUNS:
        _list_runs(results, as_json)
        return
    others = {EXECUTORS: _executors, CONFIGS: _configs, PLUGINS: _plugins}
    kinds = [kind] if kind else [*KINDS, *others]
    found = {k: others[k]() if k in others else _entries(k) for k in kinds}
    if as_json:
        print_json(found[kind] if kind else found)
    elif kind is None:
        counts = {name: len(rows) for name, rows in found.items()}
        console().print(listing_view.kinds_table(counts, uncounted=[RUNS]))
    elif found[kind]:
        console().print(listing_view.listing(kind, found[kind]))
    else:
        say(f"No plugin brings {kind}.")


def _list_runs(folder: Path, as_json: bool) -> None:
    from vcorr.analysis.run_list import list_runs
    from vcorr.cli.views import listing_view
    from vcorr.store.remote.addresses import place_of

    rows = list_runs(folder)
    if as_json:
        print_json(rows)
    elif rows:
        console().print(listing_view.runs_table(folder, rows))
    else:
        say(f"No runs in {place_of(folder)}. Another folder: vcorr list runs --results DIR")


@click.command(short_help=f"Show everything known about a {', '.join(SHOWN[:-1])} or {SHOWN[-1]}.")
@click.argument("kind", metavar="KIND", type=ShowKind(SHOWN))
@click.argument("name")
@click.option(
    "--metric",
    metavar="M[,M]",
    help="Of a run: columns to rank sites by, or strata to show.  [default: the main metric]",
)
@run_flags.FACTS_AS_JSON
def show(kind: str, name: str, metric: str | None, as_json: bool) -> None:
    """Show everything known about one entry: its card, its options with their defaults, and the plugin it is from.

    KIND is model, probe, metric, dataset, tracker, guidance, executor, config or run.

    For a run, NAME is its folder or URL, or its id or the beginning of it (vcorr list runs). The command then shows the
    run's settings and best sites, how stable their ranking is, and scores by strata.

    \b
    For example:
      vcorr show model tiny
      vcorr show run 3f2a81c09d17 --metric pck_8
    """
    from vcorr.cli.views import listing_view

    if kind == RUN:
        _show_run(name, metric, as_json)
        return
    if metric is not None:
        raise UsageError("--metric belongs to a run.", hint="For example: vcorr show run RUN --metric pck_8")
    others = {CONFIGS: describe_config, EXECUTORS: describe_executor}
    facts = others[f"{kind}s"](name) if f"{kind}s" in others else describe(kind, name)
    if as_json:
        print_json(facts)
    else:
        options = facts.pop("options", {})
        console().print(listing_view.facts(facts))
        if options:
            console().print(listing_view.options_table(kind, options))


def _show_run(name: str, metric: str | None, as_json: bool) -> None:
    from vcorr.analysis.overview import overview
    from vcorr.cli.views import run_view
    from vcorr.store.remote.addresses import folder_of
    from vcorr.store.run_search import open_run

    metrics = [name.strip() for name in (metric or "").split(",") if name.strip()]
    found = overview(open_run(folder_of(name)), metrics)
    if as_json:
        print_json(run_view.overview_dict(found))
    else:
        run_view.overview(found)


def describe(kind: str, name: str) -> dict[str, Any]:
    """Returns what `vcorr show` prints, as plain values."""
    from vcorr.contract.cards import load_card
    from vcorr.contract.entries import ModelEntry, TrackerEntry
    from vcorr.plugins.model_names import find_model
    from vcorr.plugins.option_facts import describe_options
    from vcorr.plugins.registry import installed
    from vcorr.plugins.suggestions import suggest_commands
    from vcorr.store.fingerprint import plain

    models = kind.removesuffix("s") == "model"
    registered = find_model(name, installed()) if models else installed().catalogue(kind).get(name)
    name = registered.entry.name
    entry = registered.entry
    facts: dict[str, Any] = {"kind": kind, "name": name, "summary": entry.summary, "version": entry.version}
    facts["plugin"] = registered.source.label
    if isinstance(entry, ModelEntry):
        facts["default data"] = _default_data(entry.data)
        facts["commands"] = suggest_commands(entry)
        if named := _configs_of(name):
            facts["configs"] = named
        if entry.card:
            with registered.part_name.calling("its card"):
                card = load_card(entry.card, entry.label)
            fields = {**plain(card), **plain(card.extra)}
            facts["card"] = {k: v for k, v in fields.items() if v not in (None, "") and k not in ("name", "extra")}
    if kind == "dataset" and (sets := _list_imports(name)):
        facts["imported"] = sets
    if isinstance(entry, TrackerEntry):
        facts |= {key: text for key in ("licence", "notice") if (text := getattr(entry, key))}
    with registered.part_name.calling("its options"):
        if options := describe_options(entry.config_type()):
            facts["options"] = {each.name: each.to_dict() for each in options}
    return facts


def describe_config(name: str) -> dict[str, Any]:
    """Returns what `vcorr show config` prints: where the config comes from, and its keys."""
    from vcorr.plugins.recipes import find_recipe
    from vcorr.plugins.registry import installed
    from vcorr.runner.spec import read_config

    found = find_recipe(name, installed())
    return {
        "kind": "config",
        "name": name,
        "summary": found.summary,
        "plugin": found.source.label,
        "path": str(found.path),
        "command": f"vcorr run --config {name}",
        "keys": read_config(found.path),
    }


def describe_executor(name: str) -> dict[str, Any]:
    """Returns what `vcorr show executor` prints; raises UsageError if there is no such executor."""
    from vcorr.plugins.option_facts import describe_options
    from vcorr.runner.executors.table import EXECUTORS as KNOWN
    from vcorr.runner.executors.table import check_executor, options_type

    check_executor(name)
    entry = KNOWN[name]
    facts: dict[str, Any] = {"kind": "executor", "name": name, "summary": entry.summary}
    facts["command"] = f"vcorr run --model tiny --probe qk --executor {name}"
    if entry.extra:
        facts["needs"] = f"pip install 'vcorr[{entry.extra}]'"
    if options := describe_options(options_type(name)):
        facts["options"] = {each.name: each.to_dict() for each in options}
    return facts


def _list_imports(dataset: str) -> list[str]:
    from vcorr.data.dataset_home import list_imported_names

    return [name for name in list_imported_names() if name.startswith(f"{dataset}:")]


def _configs_of(model: str) -> list[str]:
    """Returns the names of a model's recipes, which may name it by its hub id."""
    from vcorr.plugins.model_names import is_named
    from vcorr.plugins.recipes import recipes
    from vcorr.plugins.registry import installed
    from vcorr.runner.spec import read_config

    found = [(recipe.name, read_config(recipe.path).get("model")) for recipe in recipes(installed())]
    return [recipe for recipe, named in found if is_named(str(named), model, installed())]


def _default_data(name: str | None) -> str:
    from vcorr.data.dataset_home import is_within_reach

    if name is None:
        return "none of its own; without --data it gets prompts"
    return name if is_within_reach(name) else f"{name}, once it is imported; until then prompts"


def _entries(kind: str) -> list[dict[str, Any]]:
    from vcorr.contract.entries import TrackerEntry
    from vcorr.plugins.registry import installed

    return [
        {
            "name": registered.entry.name,
            "summary": registered.entry.summary,
            "version": registered.entry.version,
            "plugin": registered.source.label,
            **({"licence": registered.entry.licence} if isinstance(registered.entry, TrackerEntry) else {}),
        }
        for registered in installed().catalogue(kind).all()
    ]


def _executors() -> list[dict[str, Any]]:
    from vcorr.runner.executors.table import EXECUTORS as KNOWN

    return [{"name": name, "summary": entry.summary, "plugin": "vcorr"} for name, entry in KNOWN.items()]


def _configs() -> list[dict[str, Any]]:
    from vcorr.plugins.recipes import recipes
    from vcorr.plugins.registry import installed

    found = recipes(installed())
    return [{"name": recipe.name, "summary": recipe.summary, "plugin": recipe.source.label} for recipe in found]


def _plugins() -> list[dict[str, Any]]:
    from vcorr.plugins.registry import installed

    return [
        {
            "name": report.source.name,
            "distribution": report.source.distribution,
            "version": report.source.version,
            "state": report.state,
            "reasons": report.reasons,
            "provides": report.provides,
        }
        for report in installed().plugins
    ]
