"""Makes the generated parts of the pages, by name; used by generate.py."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import class_reference
import model_pages
import reported_page
from command_output import run_program
from page_words import CARD_EXTRAS, CARD_FIELDS, ENTRY_FIELDS, SWITCH_SOURCES

ROOT = Path(__file__).resolve().parents[1]
OWN = {"vcorr", *(project.parent.name for project in ROOT.glob("plugins/*/pyproject.toml"))}
"""The distributions of this repository."""
MANY = 5
"""Up to this many options are listed; `vcorr show` has longer lists."""


def cli() -> str:
    """Returns the --help of every command."""
    from vcorr.cli.main import cli as root

    names = ["", *_command_names(root)]
    return "\n".join(
        f"## vcorr {name}".rstrip() + f"\n\n```text\n{run_program([*name.split(), '--help'])[0]}\n```\n"
        for name in names
    )


def exit_codes() -> str:
    """Returns the table of exit codes; the numbers come from `vcorr.contract.errors`."""
    from vcorr.contract import errors

    rows = [
        (errors.EXIT_OK, "done"),
        (errors.EXIT_SOME_FAILED, "finished, but some clips failed, or all; each failure is a row"),
        (errors.EXIT_USAGE, "the command, its options or files cannot be used as they are"),
        (
            errors.EXIT_PLUGIN,
            "a plugin breaks its contract, or attention could not be captured, or `vcorr doctor` found a problem",
        ),
        (errors.EXIT_MISSING, "weights, data or a package are not in reach"),
        (errors.EXIT_INTERRUPTED, "interrupted with Ctrl-C, SIGTERM or SIGHUP; the same command continues"),
    ]
    return _table(("code", "meaning"), [(f"`{code}`", text) for code, text in rows])


def strata() -> str:
    """Returns the columns of the metric `strata` in its default configuration."""
    from vcorr.metrics.strata import METRIC, Strata

    rows = []
    for dimension in Strata().dimensions:
        columns = ", ".join(f"`{METRIC}@{dimension.name}:{label}`" for label in dimension.labels)
        rows.append((f"`{dimension.name}`", dimension.meaning, columns))
    return _table(("dimension", "what decides the stratum of a pair", "columns"), rows)


def track_strata() -> str:
    """Returns the columns per stratum of the metric `track-detail` in its default configuration."""
    from vcorr.contract.metric_columns import STRATUM_MARK
    from vcorr.metrics.calibration import BINS
    from vcorr.metrics.tapvid_metric import PRIMARY
    from vcorr.metrics.track_detail import CURVE, TrackDetail

    rows = []
    for dimension in TrackDetail().dimensions:
        columns = ", ".join(f"`{PRIMARY}@{dimension.name}:{label}`" for label in dimension.labels)
        rows.append((f"`{dimension.name}`", dimension.meaning, columns))
    curve = (f"`{name}`" for name in CURVE if STRATUM_MARK in name)
    rows.append((f"`{BINS.name}`", "the confidence of the prediction, visible or not", ", ".join(curve)))
    return _table(("dimension", "what decides the stratum of a pair", "columns"), rows)


def config_keys() -> str:
    """Returns the keys of a config file."""
    from vcorr.runner.spec import RunSpec

    known = [f for f in dataclasses.fields(RunSpec) if f.name != "options"]
    return _table(("key", "default"), [(f"`{f.name}`", f"`{f.default!r}`") for f in known])


def switches() -> str:
    """Returns the switches between the variants, from the dataclass and its docstring."""
    from vcorr.contract.variants import VARIANTS, Switches, switch_values

    said = _arguments(Switches)
    rows = []
    for name, values in switch_values().items():
        flipped = "yes" if getattr(VARIANTS["difftrack"], name) == values[1] else "no"
        first, second = (f"`{str(value).lower()}`" for value in values)
        text = re.sub(r'"(\w+)"', r"`\1`", said[name]).replace("`corrected`", "corrected")
        rows.append((f"`{name}`", first, second, flipped, text, SWITCH_SOURCES[name]))
    head = ("switch", "corrected", "flipped", "in `difftrack`", "what they mean", "in the public code")
    return _table(head, rows)


def options_of(kind: str, head: str = "", among: Collection[str] = OWN) -> Callable[[], str]:
    """Returns a part: the components of one kind, with their options.

    head: title of the first column; the kind if empty. among: the distributions that bring them.
    """

    def part() -> str:
        rows = []
        for entry in own_entries(kind, among):
            options = _options(kind, entry.name)
            listed = f"`vcorr show {kind} {entry.name}`" if len(options) > MANY else _list_defaults(options)
            rows.append((f"`{entry.name}`", entry.summary, listed))
        return _table((head or kind, "what it is", "options and defaults"), rows)

    return part


def probes() -> str:
    """Returns the probes of the repository, each with the options that it takes."""
    rows = [
        (f"`{entry.name}`", entry.summary, _list_defaults(_options("probe", entry.name)))
        for entry in own_entries("probe")
    ]
    return _table(("probe", "what it is", "options and defaults"), rows)


def probe_options() -> str:
    """Returns the options of the probes of the repository, each with the probes that take it."""
    entries, options = own_entries("probe"), {}
    for entry in entries:
        options |= _options("probe", entry.name)
    rows = []
    for name, option in options.items():
        takers = ", ".join(f"`{entry.name}`" for entry in entries if name in _options("probe", entry.name))
        rows.append((f"`{name}`", f"`{_short(option['default'])}`", option["explanation"], takers))
    return _table(("key", "default", "meaning", "probes that take it"), rows)


def metrics() -> str:
    """Returns the metrics of the repository with their columns, the primary one in bold, and their options."""
    from vcorr.contract.metric_columns import STRATUM_MARK
    from vcorr.contract.tasks import TRACKING

    rows = []
    for entry in own_entries("metric"):
        metric = entry.create()
        divided = [name for name in metric.columns if STRATUM_MARK in name]
        whole = [name for name in metric.columns if name not in divided]
        columns = [f"**`{name}`**" if name == metric.primary else f"`{name}`" for name in whole]
        place = "#metrics-of-tracks" if entry.task == TRACKING else "#strata"
        listed = ", ".join([*columns, *([f"[strata]({place})"] if divided else [])])
        rows.append((f"`{entry.name}`", entry.summary, listed, _list_defaults(_options("metric", entry.name))))
    return _table(("metric", "what it is", "columns, the primary one in bold", "options and defaults"), rows)


def own_entries(kind: str, among: Collection[str] = OWN) -> list[Any]:
    """Returns the entries of one kind that some distributions of this repository bring, by name."""
    from vcorr.plugins.registry import installed

    return [found.entry for found in installed().catalogue(kind).all() if found.source.distribution in among]


def _options(kind: str, name: str) -> dict[str, Any]:
    """Returns the options of an entry by name, as `vcorr show` describes them."""
    from vcorr.cli.commands.list_command import describe

    options: dict[str, Any] = describe(kind, name).get("options", {})
    return options


def _list_defaults(options: dict[str, Any]) -> str:
    return ", ".join(f"`{key}={_short(value['default'])}`" for key, value in options.items()) or "none"


def columns_of(table: Any) -> Callable[[], str]:
    """Returns a part: the columns of one table."""

    def part() -> str:
        from vcorr.store.columns import describe_columns
        from vcorr.store.schema import ROWS

        rows = [(f"`{c.name}`", f"{c.type}", c.unit, c.meaning) for c in describe_columns(ROWS[table])]
        return _table(("column", "type", "unit", "meaning"), rows)

    return part


def dataset_columns() -> str:
    """Returns the columns of the table of a dataset folder."""
    from vcorr.data import clip_table as table

    rows = [(f"`{f.name}`", f"{f.type}", table.MEANINGS[f.name]) for f in table.COLUMNS]
    return _table(("column", "type", "meaning"), rows)


def schema_metadata() -> str:
    """Returns the metadata of every shard."""
    from vcorr.store import schema, shards

    rows = [
        (schema.VERSION_KEY, f"Version of the layout of the table, now {schema.SCHEMA_VERSION}."),
        (schema.TABLE_KEY, "`predictions`, `tracks` or `scores`."),
        (schema.UNITS_KEY, "Units of the columns, in words."),
        (schema.FINGERPRINT_KEY, "Fingerprint of the stage that wrote the shard."),
        (schema.CLIP_KEY, "Id of the clip. A shard with the name of another clip is refused."),
        (
            schema.FACTS_KEY,
            "JSON: what run.json says about the stage that wrote the shard. A lost run.json is made of it.",
        ),
        (
            schema.CHECKSUM_KEY,
            f"SHA-256 of the file, computed with the text `{shards.NO_CHECKSUM}` in its place.",
        ),
    ]
    return _table(("key", "value"), [(f"`{key.decode()}`", text) for key, text in rows])


def hooks() -> str:
    """Returns every hook with the example of its docstring."""
    from vcorr.contract import hookspecs
    from vcorr.plugins.registry import HOOKS

    parts = []
    for name, entry in HOOKS.items():
        intro, code, returns = _split_example(inspect.getdoc(getattr(hookspecs, name)) or "")
        parts.append(
            f"### {name}()\n\n{intro}\n\n```python\n{code}\n```\n\n{_describe_result(entry.__name__, returns)}\n"
        )
    return "\n".join(parts)


def entries() -> str:
    """Returns the fields of the entries."""
    from vcorr.contract.entries import Entry
    from vcorr.plugins.registry import HOOKS

    common = [f.name for f in dataclasses.fields(Entry)]
    rows = [(f"`{f.name}`", "every entry", _default(f), ENTRY_FIELDS[f.name]) for f in dataclasses.fields(Entry)]
    for kind in HOOKS.values():
        own = [f for f in dataclasses.fields(kind) if f.name not in common]
        rows += [(f"`{f.name}`", f"`{kind.__name__}`", _default(f), ENTRY_FIELDS[f.name]) for f in own]
    return _table(("field", "of", "default", "meaning"), rows)


def protocols() -> str:
    """Returns the protocols of the objects behind the entries."""
    from vcorr.contract import protocols as module

    parts = []
    for name in (
        "VideoModel",
        "Probe",
        "VariantProbe",
        "Metric",
        "TrackMetric",
        "MaskMetric",
        "VideoMetric",
        "Dataset",
        "Tracker",
        "Guidance",
        "Page",
    ):
        protocol = getattr(module, name)
        members = [f"{key}: {text}" for key, text in inspect.get_annotations(protocol).items()]
        methods = [m for m in vars(protocol).values() if inspect.isfunction(m) and not m.__name__.startswith("_")]
        lines = [*(f"    {member}" for member in members), *(_signature(method) for method in methods)]
        said = [f"- `{method.__name__}`: {_paragraphs(method)[0]}" for method in methods]
        text = "\n\n".join(_paragraphs(protocol))
        listing = "\n".join(lines)
        parts.append(f"### {name}\n\n{text}\n\n```text\nclass {name}:\n{listing}\n```\n\n" + "\n".join(said) + "\n")
    return re.sub(r"(?<!`)``(?!`)", "`", "\n".join(parts))


def bases() -> str:
    """Returns the optional members, from the base classes."""
    from vcorr.contract import bases as module

    parts = []
    for name in ("VideoModel", "Probe", "VariantProbe", "Metric", "Dataset", "Tracker", "Guidance"):
        base = getattr(module, f"{name}Base")
        said = class_reference.attribute_words(base)
        rows = [(f"`{key}: {kind}`", f"`{getattr(base, key)!r}`", said[key]) for key, kind in _list_annotations(base)]
        methods = [member for member in vars(base).values() if inspect.isfunction(member)]
        rows += [(f"`{_call(method)}`", "", " ".join(_paragraphs(method)[0].split())) for method in methods]
        text = " ".join(_paragraphs(base)[0].split())
        parts.append(f"### {name}Base\n\n{text}\n\n{_table(('member', 'default', 'meaning'), rows)}")
    return re.sub(r"(?<!`)``(?!`)", "`", "\n".join(parts))


def suites() -> str:
    """Runs the checks of `vcorr.testing` on small examples and returns their names."""
    import vcorr.testing as suites_module

    reports = _suite_reports()
    parts = []
    for name in sorted(n for n in suites_module.__all__ if n.startswith("check_")):
        function = getattr(suites_module, name)
        checks = "\n".join(f"- {check.name}" for check in reports[name])
        parts.append(f"### {name}\n\n`{name}{_parameters(function)}`\n\n{_paragraphs(function)[0]}\n\n{checks}\n")
    return "\n".join(parts)


def card_fields() -> str:
    """Returns the fields of a model card that vcorr itself reads."""
    from vcorr.contract.cards import card_schema
    from vcorr.contract.records import ModelCard

    names = [field.name for field in dataclasses.fields(ModelCard) if field.name != "extra"]
    required = card_schema()["required"]
    rows = [
        (f"`{name}`", _card_form(name), "required" if name in required else "optional", CARD_FIELDS[name])
        for name in names
    ]
    return _table(("field", "form", "", "meaning"), rows)


def card_extras() -> str:
    """Returns the other fields that the cards in the repository use."""
    used = {name for card in list_cards() for name in card.extra}
    rows = [(f"`{name}`", _card_form(name), CARD_EXTRAS[name]) for name in CARD_EXTRAS if name in used]
    return _table(("field", "form", "meaning"), rows)


def _card_form(name: str) -> str:
    from vcorr.contract.cards import card_schema, form_in_words

    return form_in_words(card_schema()["properties"].get(name, {}))


def list_cards() -> list[Any]:
    """Returns the cards in model_cards/."""
    return list(model_pages.read_cards().values())


def attention_kinds() -> str:
    """Returns the values of `attention`."""
    from typing import get_args

    from vcorr.contract.records import Attention

    return ", ".join(f"`{kind}`" for kind in get_args(Attention)) + "\n"


def sweep_example() -> str:
    """Returns the file of the example of a sweep."""
    text = (Path(__file__).parent / "sweep.yaml").read_text(encoding="utf-8")
    return f"```yaml\n{text}```\n"


def ltx_adapter() -> str:
    """Returns the source of the adapter of LTX-Video."""
    source = ROOT / "plugins" / "vcorr-diffusers" / "vcorr_diffusers" / "ltx.py"
    return f"```python\n{source.read_text(encoding='utf-8')}```\n"


def _command_names(group: Any, prefix: str = "") -> list[str]:
    names = []
    for name, command in group.commands.items():
        names.append(f"{prefix}{name}")
        if hasattr(command, "commands"):
            names += _command_names(command, f"{prefix}{name} ")
    return names


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines).replace("|  |", "| |") + "\n"


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return f"`{field.default_factory()!r}`"
    return "required" if field.default is dataclasses.MISSING else f"`{field.default!r}`"


def _short(value: Any) -> str:
    return (
        "[" + ",".join(v if isinstance(v, str) else f"{v:g}" for v in value) + "]"
        if isinstance(value, list)
        else str(value)
    )


def _split_example(text: str) -> tuple[str, str, str]:
    before, after = text.split("::\n", 1)
    code, returns = after.split("\nReturns:\n")
    lines = [line[4:] for line in code.strip("\n").splitlines()]
    # two empty lines before classes and decorators, as in a file
    lines = [f"\n{line}" if re.match("class |@", line) else line for line in lines]
    sentence = " ".join(returns.split()).removeprefix("Entries").strip(" .")
    intro = before.strip()
    return (intro + ":" if not intro.endswith(".") and intro else intro), "\n".join(lines).strip(), sentence


def _describe_result(entry: str, rest: str) -> str:
    return f"Returns `{entry}` records {rest}.".replace(" .", ".")


def _paragraphs(thing: Any) -> list[str]:
    text = (inspect.getdoc(thing) or "").split("\nArgs:")[0].split("\nReturns:")[0].split("\nRaises:")[0]
    return text.strip().split("\n\n")


def _arguments(thing: Any) -> dict[str, str]:
    """Returns the text of each argument in the section Args of a docstring, on one line."""
    section = (inspect.getdoc(thing) or "").split("\nArgs:\n")[1].split("\nRaises:")[0]
    parts = re.split(r"^    (\w+): ", section, flags=re.MULTILINE)[1:]
    return {name: " ".join(text.split()) for name, text in zip(parts[::2], parts[1::2], strict=True)}


def _signature(method: Any) -> str:
    return f"    def {method.__name__}{inspect.signature(method)}".replace("'", "")


def _call(method: Any) -> str:
    signature = inspect.signature(method)
    names = ", ".join(list(signature.parameters)[1:])
    return f"{method.__name__}({names}) -> {signature.return_annotation}"


def _list_annotations(thing: Any) -> list[tuple[str, str]]:
    return [(key, str(kind)) for key, kind in inspect.get_annotations(thing).items()]


def _parameters(function: Any) -> str:
    shown = [
        f"{p.name}={p.default!r}" if p.default is not p.empty else p.name
        for p in inspect.signature(function).parameters.values()
    ]
    return "(" + ", ".join(shown) + ")"


def _suite_reports() -> dict[str, Any]:
    import types

    import vcorr
    from vcorr import testing
    from vcorr.contract import hookspecs
    from vcorr.metrics import MatchingAccuracy
    from vcorr.probes.matching_probes import QueryKey

    def example(hook: str, attribute: str) -> Any:
        module = types.ModuleType(f"docs_{hook}")
        exec(_split_example(inspect.getdoc(getattr(hookspecs, hook)) or "")[1], module.__dict__)
        return getattr(module, attribute)()

    return {
        "check_model": testing.check_model(example("vcorr_models", "Still"), testing.random_clip(3, 16, 16)),
        "check_reading": testing.check_reading(type(example("vcorr_models", "Still")), testing.random_clip(3, 16, 16)),
        "check_passes": testing.check_passes(type(example("vcorr_models", "Still")), testing.random_clip(3, 16, 16)),
        "check_entry": testing.check_entry(
            vcorr.ModelEntry(
                name="tiny", summary="A model.", factory="vcorr_tiny.model:Tiny", card="vcorr_tiny:cards/tiny.yaml"
            ),
            plugin="vcorr_tiny.plugin",
        ),
        "check_probe": testing.check_probe(QueryKey()),
        "check_metric": testing.check_metric(MatchingAccuracy()),
        "check_dataset": testing.check_dataset(example("vcorr_datasets", "Sliding")),
        "check_tracker": testing.check_tracker(example("vcorr_trackers", "Frozen")),
        "check_guidance": testing.check_guidance(example("vcorr_guidances", "AwayFromValues")),
    }


PARTS: dict[str, Callable[[], str]] = {
    "cli": cli,
    "exit codes": exit_codes,
    "config keys": config_keys,
    "switches": switches,
    "probes": probes,
    "probe options": probe_options,
    "metrics": metrics,
    "strata": strata,
    "track strata": track_strata,
    "baselines": options_of("model", "baseline", among={"vcorr"}),
    "datasets": options_of("dataset"),
    "scores columns": columns_of("scores"),
    "predictions columns": columns_of("predictions"),
    "tracks columns": columns_of("tracks"),
    "dataset columns": dataset_columns,
    "schema metadata": schema_metadata,
    "hooks": hooks,
    "entries": entries,
    "protocols": protocols,
    "bases": bases,
    "suites": suites,
    "card fields": card_fields,
    "card extras": card_extras,
    "attention kinds": attention_kinds,
    "sweep example": sweep_example,
    "ltx adapter": ltx_adapter,
    "diffusers model": class_reference.part,
    "video options": class_reference.options_part,
    "model list": model_pages.models_table,
    "reported numbers": reported_page.part,
    "reported masks": reported_page.mask_part,
}
