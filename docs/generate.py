"""Writes the generated parts of these pages anew.

    python docs/generate.py           write what follows from the code
    python docs/generate.py --run     also run the slow commands whose output a page shows (minutes)

Between `<!-- generated: NAME -->` and `<!-- end -->` stands what `PARTS[NAME]()` returns. Between
`<!-- output: COMMAND -->` and `<!-- end -->` stands what the command prints: with `checked output` it is cheap and
is run every time, with plain `output` only by --run. tests/docs fails when one of the former two is stale. Of several
commands, joined by ` && `, the last one's output is shown.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))  # also when it is loaded from elsewhere, as the tests do

import model_pages  # noqa: E402

OWN = {"vcorr", *(project.parent.name for project in FOLDER.parent.glob("plugins/*/pyproject.toml"))}
"""The distributions of this repository."""
BLOCK = re.compile(r"(<!-- (generated|checked output|output): (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
WIDTH = 100
MANY = 5
"""More options than this are left to `vcorr show`."""

COLUMNS = {
    "run": "Id of the run, the name of its directory.",
    "model": "Name of the model, as typed after `--model`.",
    "attention": "What a token can see: `full3d`, `factorised`, `linear` or `none`. Empty in the row of a failed clip.",
    "weights": "What identifies the weights: `embedded:HASH`, `hub:ID@REVISION`, `path:HASH`, `random:SEED` or `none`.",
    "probe": "Name of the probe; `direct` for models that answer without attention.",
    "dataset": "Name of the dataset.",
    "split": "Split of the dataset.",
    "mode": "`renoise`: noise is added to the clip; `generate`: the video is sampled from the prompt.",
    "tracker": "Who made the reference tracks; `exact` where they are known by construction.",
    "clip": "Id of the clip.",
    "layer": "Attention layer, from 0 in the order of execution; -1 without a site.",
    "layer_name": "Path of the attention module inside the denoiser.",
    "step": "Index into the scheduler's timesteps, 0 the noisiest; -1 without a site or without noise.",
    "noise": "sigma / (alpha + sigma) of the step; NaN without noise.",
    "head": "Attention head, from 0; -1 for the answer of several heads together.",
    "metric": "Name of the score, a column of a metric, `NAME@DIMENSION:STRATUM` for one stratum of pairs; empty in "
    "the one row of a clip that failed or has no tracks.",
    "variant": "`corrected` or `difftrack`: under which it was scored; in `predictions`, under which it was read.",
    "switches": "Switches flipped off the variant, as in `time_map=stretched+scale=heads`; empty for none.",
    "value": "The score; NaN means not scored.",
    "floor": "What standing still scores on the same pairs.",
    "ceiling": "What the best answer the read-out can give scores on the same pairs.",
    "n": "(point, frame) pairs the value is a share of.",
    "seed": "Seed of the noise.",
    "status": "`ok` or `failed`; in `scores` also `not_scored`, for a value that is NaN.",
    "error": "Kind and first line of the error of a failed clip; else empty.",
    "readout": "`token`: only motions by whole tokens can be answered. `free`: any position can.",
    "grid": "The token grid as JSON: `TokenGrid.from_dict(json.loads(grid))`.",
    "points": "N, the number of query points.",
    "latents": "F, the number of latent frames.",
    "kind": "`positions`: where the points went, in `xy`. `rows`: where attention rows put their weight, in `rows`.",
    "rows": "Attention rows, N x (F - 1 + 5): peaks over later latents, peak_self, peak_text, sum_cross, _self, _text.",
    "video": "Hash of the generated video that the tracks belong to; empty for the data's own videos.",
    "prompt": "Text of the clip.",
    "tracker_version": "Version of the tracker.",
    "licence": "Licence of the tracker, which its tracks and whatever is computed from them come under; empty for "
    "tracks of a dataset that does not say.",
    "height": "H, of the video as the model read it.",
    "width": "W, of the video as the model read it.",
    "frames": "T, video frames as the model read them.",
    "queries": "Query points in frame 0: N x (x, y), row-major.",
    "visible": "N x T, row-major; true where the point can be seen.",
    "boundary": "N: distance in frame 0 from the point to the nearest boundary between layers (object, background); "
    "infinite where there is none, empty where it is not known.",
}
"""What a column means. `xy` differs between the tables, see `_meaning`."""

UNITS = {
    **dict.fromkeys(("value", "floor", "ceiling", "noise"), "in [0, 1]"),
    **dict.fromkeys(("xy", "queries", "boundary", "height", "width"), "pixels"),
    "n": "count",
}

SWITCH_SOURCES = {
    "readout": "`AP` 3242-3249, `evaluate_tapvid.py` 331-351; the margin also in `utils/matching.py` 56",
    "time_map": "`utils/track_vis.py` 18; always to 49 frames, `AP` 3256 and 3290",
    "lookup": "`AP` 3308-3316; HunyuanVideo: `transformer_hunyuan_video.py` 238-246",
    "pooling": "`utils/evaluation.py` 196-205, `utils/confidence_attention_score.py` 110-131, `utils/harmonic_mean.py`",
    "second_softmax": "`AP` 3230-3238 and 3274, `evaluate_tapvid.py` 310-317 and 346, `utils/matching.py` 183-184",
    "scale": "`evaluate_tapvid.py` 305-309, which takes the heads for the width",
    "guidance_mask": "`AP` 1841-1845",
}
"""Where in the published code a switch comes from."""

CARD_FIELDS = {
    "name": "The name typed after `--model`.",
    "title": "The name people know.",
    "summary": "One sentence.",
    "attention": "What a video token can attend to; one of the values below the table.",
    "licence": "Of the weights, as an SPDX identifier where there is one.",
    "hub_id": "Repository on the Hugging Face hub. Without it, `--weights hub` needs an adapter that knows better.",
    "revision": "Commit of that repository, 40 hexadecimal digits. Branches and tags move; a commit does not.",
    "download_gb": "Size of the download in gigabytes (10^9 bytes), for the message about missing weights.",
    "parameters": "Of the denoiser alone. `--dry-run` estimates time and memory from it.",
    "resolution": "[height, width] in pixels the model was released for.",
    "frames": "Video frames the model was released for.",
}

CARD_EXTRAS = {
    "hub_aliases": "Other ids under which the same revision may lie in the local cache.",
    "fps": "Frames a second of the released model.",
    "layers": "Attention layers.",
    "heads": "Heads of each.",
    "head_dim": "Width of a head; `--dry-run` uses it (64 when absent).",
    "text_tokens": "Text tokens in the attention sequence.",
    "text_encoder": "Which one, and whether it is part of the download.",
    "vae": "Compression of the autoencoder in time and space, its channels, whether it is causal.",
    "patch": "Latents a token covers in time and space.",
    "position": "How tokens know where they are.",
    "scheduler": "Class, prediction type and default number of steps.",
    "guidance": "How the pipeline batches its guidance branches.",
    "released_dtype": "Of the released weights.",
    "training_data": "What is known about it; a benchmark's clips among it must be said here.",
    "matching_layers": "Layers others found to match, each list with its source.",
    "reported": "Published numbers with their source. Never mixed with measured rows.",
    "random_weights": "What is different under `--weights random`.",
    "weights": "Where the weights are when they are not on a hub.",
    "limits": "What its numbers do not say.",
    "homepage": "Where to read more.",
    "image": "How an image-to-video model is given its first frame.",
    "licence_link": "The licence's text.",
    "notes": "What else one should know.",
    "time_map": "Which frames a latent covers, where that is unusual.",
    "token_sizes": "Pixels a token covers, of each resolution of a UNet.",
    "motion_adapter": "Repository and revision of the motion modules, where they are not part of the model's own.",
    "citation": "How to cite it.",
    "kind": "`baseline` for models without a network.",
    "method": "What a baseline does, exactly.",
}

ENTRY_FIELDS = {
    "name": "Lowercase letters, digits, `-`, `_` and `.`; unique among its kind. What users type.",
    "summary": "One line for lists.",
    "factory": '`"package.module:Attr"`. Called with the options, or with nothing when `config` is None. '
    "Resolving it is the first thing that may import torch.",
    "version": "A whole number from 1, part of every fingerprint. Raise it whenever this part's numbers may move.",
    "config": "Dataclass of the options, or its import string, or None for no options.",
    "api_version": "Version of the hooks the entry was written for. Leave it alone.",
    "check": "Options under which `vcorr plugin check` runs the contract: a size that a CPU runs in seconds.",
    "card": '`"package:path/in/package.yaml"` of the model card.',
    "data": "Dataset used when `--data` is not given; of `difftrack:`, as soon as it is imported, prompts until then.",
    "default": "Whether every run computes the metric unless `--set metrics=...` chooses others.",
    "licence": "Shown in lists and kept with the tracks.",
    "notice": "Said once in every run that uses it.",
}


def cli() -> str:
    """Every command's --help."""
    from vcorr.cli.main import cli as root

    names = ["", *_command_names(root)]
    return "\n".join(
        f"## vcorr {name}".rstrip() + f"\n\n```text\n{_printed([*name.split(), '--help'])[0]}\n```\n" for name in names
    )


def exit_codes() -> str:
    """The table of exit codes; the numbers come from `vcorr.errors`."""
    from vcorr import errors

    rows = [
        (errors.EXIT_OK, "done"),
        (errors.EXIT_SOME_FAILED, "finished, but some clips failed (all of them, perhaps); each failure is a row"),
        (errors.EXIT_USAGE, "the command, its options or files cannot be used as they are"),
        (
            errors.EXIT_PLUGIN,
            "a plugin breaks its contract, or attention could not be captured; a finding of `vcorr doctor`",
        ),
        (errors.EXIT_MISSING, "weights, data or a package are not in reach"),
        (errors.EXIT_INTERRUPTED, "interrupted with Ctrl-C; the same command goes on"),
    ]
    return _table(("code", "meaning"), [(f"`{code}`", text) for code, text in rows])


def strata() -> str:
    """The columns of the metric `strata`, as it is configured unless told otherwise."""
    from vcorr.metrics.strata import METRIC, Strata

    rows = []
    for dimension in Strata().dimensions:
        columns = ", ".join(f"`{METRIC}@{dimension.name}:{label}`" for label in dimension.labels)
        rows.append((f"`{dimension.name}`", dimension.meaning, columns))
    return _table(("dimension", "a pair is in a stratum by", "columns"), rows)


def config_keys() -> str:
    """The keys of a config file."""
    from vcorr.spec import RunSpec

    known = [f for f in dataclasses.fields(RunSpec) if f.name != "options"]
    return _table(("key", "default"), [(f"`{f.name}`", f"`{f.default!r}`") for f in known])


def switches() -> str:
    """The switches between the variants, from the dataclass and its docstring."""
    from vcorr.variants import VARIANTS, Switches, switch_values

    said = _arguments(Switches)
    rows = []
    for name, values in switch_values().items():
        flipped = "yes" if getattr(VARIANTS["difftrack"], name) == values[1] else "no"
        first, second = (f"`{str(value).lower()}`" for value in values)
        text = re.sub(r'"(\w+)"', r"`\1`", said[name]).replace("`corrected`", "corrected")
        rows.append((f"`{name}`", first, second, flipped, text, SWITCH_SOURCES[name]))
    head = ("switch", "corrected", "flipped", "in `difftrack`", "what they mean", "in the public code")
    return _table(head, rows)


def options_of(kind: str) -> Callable[[], str]:
    """A part: the options of the components of one kind that come with the repository."""

    def part() -> str:
        from vcorr.cli.listing import describe
        from vcorr.registry import installed

        rows = []
        for registered in installed().catalogue(kind).all():
            if registered.source.distribution not in OWN:
                continue
            options = describe(kind, registered.entry.name).get("options", {})
            listed = ", ".join(f"`{key}={_short(value)}`" for key, value in options.items()) or "none"
            if len(options) > MANY:
                listed = f"`vcorr show {kind} {registered.entry.name}`"
            rows.append((f"`{registered.entry.name}`", registered.entry.summary, listed))
        return _table((kind, "what it is", "options and defaults"), rows)

    return part


def columns_of(table: Any) -> Callable[[], str]:
    """A part: the columns of one table."""

    def part() -> str:
        from vcorr.store.schema import schema

        rows = [(f"`{f.name}`", f"{f.type}", UNITS.get(f.name, ""), _meaning(table, f.name)) for f in schema(table)]
        return _table(("column", "type", "unit", "meaning"), rows)

    return part


def dataset_columns() -> str:
    """The columns of a dataset folder's table."""
    from vcorr.datasets import table

    rows = [(f"`{f.name}`", f"{f.type}", table.MEANINGS[f.name]) for f in table.COLUMNS]
    return _table(("column", "type", "meaning"), rows)


def schema_metadata() -> str:
    """The metadata every shard carries."""
    from vcorr.store import schema

    rows = [
        (schema.VERSION_KEY, f"Version of the table's layout, now {schema.SCHEMA_VERSION}."),
        (schema.TABLE_KEY, "`predictions`, `tracks` or `scores`."),
        (schema.UNITS_KEY, "Units of the columns, in words."),
        (schema.FINGERPRINT_KEY, "Fingerprint of the stage that wrote the shard."),
    ]
    return _table(("key", "value"), [(f"`{key.decode()}`", text) for key, text in rows])


def hooks() -> str:
    """Every hook with the example of its docstring."""
    from vcorr import hookspecs
    from vcorr.registry import HOOKS

    parts = []
    for name, entry in HOOKS.items():
        intro, code, returns = _split_example(inspect.getdoc(getattr(hookspecs, name)) or "")
        parts.append(f"### {name}()\n\n{intro}\n\n```python\n{code}\n```\n\n{_returned(entry.__name__, returns)}\n")
    return "\n".join(parts)


def entries() -> str:
    """The fields of the entries."""
    from vcorr.entries import Entry
    from vcorr.registry import HOOKS

    common = [f.name for f in dataclasses.fields(Entry)]
    rows = [(f"`{f.name}`", "every entry", _default(f), ENTRY_FIELDS[f.name]) for f in dataclasses.fields(Entry)]
    for kind in HOOKS.values():
        own = [f for f in dataclasses.fields(kind) if f.name not in common]
        rows += [(f"`{f.name}`", f"`{kind.__name__}`", _default(f), ENTRY_FIELDS[f.name]) for f in own]
    return _table(("field", "of", "default", "meaning"), rows)


def protocols() -> str:
    """What the objects behind the entries can do."""
    from vcorr import protocols as module

    parts = []
    for name in ("VideoModel", "Probe", "VariantProbe", "Metric", "Dataset", "Tracker", "Page"):
        protocol = getattr(module, name)
        members = [f"{key}: {text}" for key, text in inspect.get_annotations(protocol).items()]
        methods = [m for m in vars(protocol).values() if inspect.isfunction(m) and not m.__name__.startswith("_")]
        lines = [*(f"    {member}" for member in members), *(_signature(method) for method in methods)]
        said = [f"- `{method.__name__}`: {_paragraphs(method)[0]}" for method in methods]
        text = "\n\n".join(_paragraphs(protocol))
        listing = "\n".join(lines)
        parts.append(f"### {name}\n\n{text}\n\n```text\nclass {name}:\n{listing}\n```\n\n" + "\n".join(said) + "\n")
    return re.sub(r"(?<!`)``(?!`)", "`", "\n".join(parts))


def suites() -> str:
    """The checks of `vcorr.testing`, by running them on small things."""
    import vcorr.testing as suites_module

    reports = _suite_reports()
    parts = []
    for name in sorted(n for n in suites_module.__all__ if n.startswith("check_")):
        function = getattr(suites_module, name)
        checks = "\n".join(f"- {check.name}" for check in reports[name])
        parts.append(f"### {name}\n\n`{name}{_parameters(function)}`\n\n{_paragraphs(function)[0]}\n\n{checks}\n")
    return "\n".join(parts)


def card_fields() -> str:
    """The fields of a model card that have a place of their own."""
    from vcorr.cards import card_schema
    from vcorr.records import ModelCard

    rows = []
    for field in dataclasses.fields(ModelCard):
        if field.name != "extra":
            kind = str(field.type).replace(" | None", "").replace("Attention", "text").replace("str", "text")
            required = "required" if field.name in card_schema()["required"] else "optional"
            rows.append(
                (
                    f"`{field.name}`",
                    kind.replace("tuple[int, int]", "list of two int"),
                    required,
                    CARD_FIELDS[field.name],
                )
            )
    return _table(("field", "type", "", "meaning"), rows)


def card_extras() -> str:
    """The further fields that the shipped cards use."""
    used = {name for card in shipped_cards() for name in card.extra}
    return _table(("field", "meaning"), [(f"`{name}`", CARD_EXTRAS[name]) for name in CARD_EXTRAS if name in used])


def shipped_cards() -> list[Any]:
    """The cards in model_cards/."""
    return list(model_pages.shipped().values())


def attention_kinds() -> str:
    """The values of `attention`."""
    from typing import get_args

    from vcorr.records import Attention

    return ", ".join(f"`{kind}`" for kind in get_args(Attention)) + "\n"


def ltx_adapter() -> str:
    """The adapter of LTX-Video as it is."""
    source = FOLDER.parent / "plugins" / "vcorr-diffusers" / "vcorr_diffusers" / "ltx.py"
    return f"```python\n{source.read_text(encoding='utf-8')}```\n"


PARTS: dict[str, Callable[[], str]] = {
    "cli": cli,
    "exit codes": exit_codes,
    "config keys": config_keys,
    "switches": switches,
    "probes": options_of("probe"),
    "metrics": options_of("metric"),
    "strata": strata,
    "models": options_of("model"),
    "datasets": options_of("dataset"),
    "scores columns": columns_of("scores"),
    "predictions columns": columns_of("predictions"),
    "tracks columns": columns_of("tracks"),
    "dataset columns": dataset_columns,
    "schema metadata": schema_metadata,
    "hooks": hooks,
    "entries": entries,
    "protocols": protocols,
    "suites": suites,
    "card fields": card_fields,
    "card extras": card_extras,
    "attention kinds": attention_kinds,
    "ltx adapter": ltx_adapter,
    "model list": model_pages.models_table,
}


def pages() -> list[Path]:
    """The pages that may hold generated parts."""
    return [FOLDER.parent / "README.md", *sorted(FOLDER.glob("*.md"))]


def rendered(page: Path, *, run: bool = False) -> str:
    """The page as it should be. With `run`, slow outputs are made anew as well."""

    def fill(match: re.Match[str]) -> str:
        head, kind, name, end = match.groups()
        if kind == "generated":
            return f"{head}{PARTS[name]()}{end}"
        if kind == "output" and not run:
            return match.group()
        text, code = [_command_output(command) for command in name.split(" && ")][-1]
        ending = f"\n[exit code {code}]" if code else ""
        return f"{head}```text\n{text}{ending}\n```\n{end}"

    return BLOCK.sub(fill, page.read_text(encoding="utf-8"))


def main(arguments: list[str]) -> None:
    """Writes all pages."""
    run = "--run" in arguments
    with _workplace():
        for page in pages():
            text = rendered(page, run=run)
            if text != page.read_text(encoding="utf-8"):
                page.write_text(text, encoding="utf-8")
                sys.stdout.write(f"{page.name}\n")
        _write_model_pages(FOLDER / model_pages.FOLDER)


def _write_model_pages(folder: Path) -> None:
    """The folder holds the page of every shipped card and nothing else."""
    wanted = model_pages.model_pages()
    folder.mkdir(exist_ok=True)
    for page in folder.glob("*.md"):
        if page.name not in wanted:
            page.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _workplace() -> Iterator[None]:
    """An empty folder to run commands in, so that they neither find nor leave anything."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def _command_output(line: str) -> tuple[str, int]:
    """What `[VARIABLE=VALUE ...] vcorr ARGUMENTS` prints, and its exit code."""
    from vcorr.registry import installed

    words = shlex.split(line)
    program = words.index("vcorr")
    before = dict(os.environ)
    os.environ.update(word.split("=", 1) for word in words[:program])
    os.environ["HF_HUB_CACHE"] = str(Path.cwd() / "no-cache")
    os.environ["VCORR_HOME"] = str(Path.cwd() / "no-home")
    installed.cache_clear()
    try:
        return _printed(words[program + 1 :])
    finally:
        os.environ.clear()
        os.environ.update(before)
        installed.cache_clear()


def _printed(arguments: list[str]) -> tuple[str, int]:
    """What a command prints when nobody watches, and its exit code."""
    from vcorr.cli.main import main as program

    out, code = io.StringIO(), 0
    before, line = os.environ.get("COLUMNS"), sys.argv
    os.environ["COLUMNS"] = str(WIDTH)
    sys.argv = ["vcorr", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                program(arguments)
            except SystemExit as end:
                code = int(end.code or 0)
    finally:
        sys.argv = line
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    return "\n".join(lines).strip("\n"), code


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


def _meaning(table: str, column: str) -> str:
    if column == "xy":
        size = {"predictions": "latent frame: N x F", "tracks": "frame: N x T"}[table]
        return f"Positions of the points in every {size} x (x, y), row-major."
    if column == "frames" or column in COLUMNS:
        return COLUMNS[column]
    raise KeyError(f"docs/generate.py does not say what the column {column!r} means")


def _default(field: dataclasses.Field[Any]) -> str:
    return "required" if field.default is dataclasses.MISSING else f"`{field.default!r}`"


def _short(value: Any) -> str:
    return "[" + ",".join(f"{v:g}" for v in value) + "]" if isinstance(value, list) else str(value)


def _split_example(text: str) -> tuple[str, str, str]:
    before, after = text.split("::\n", 1)
    code, returns = after.split("\nReturns:\n")
    lines = [line[4:] for line in code.strip("\n").splitlines()]
    # two empty lines before what stands at the margin, as in a file
    lines = [f"\n{line}" if re.match("class |@", line) else line for line in lines]
    sentence = " ".join(returns.split()).removeprefix("Entries").strip(" .")
    intro = before.strip()
    return (intro + ":" if not intro.endswith(".") and intro else intro), "\n".join(lines).strip(), sentence


def _returned(entry: str, rest: str) -> str:
    return f"Returns `{entry}` records {rest}.".replace(" .", ".")


def _paragraphs(thing: Any) -> list[str]:
    text = (inspect.getdoc(thing) or "").split("\nArgs:")[0].split("\nReturns:")[0].split("\nRaises:")[0]
    return text.strip().split("\n\n")


def _arguments(thing: Any) -> dict[str, str]:
    """What the section Args of a docstring says of each, on one line."""
    section = (inspect.getdoc(thing) or "").split("\nArgs:\n")[1].split("\nRaises:")[0]
    parts = re.split(r"^    (\w+): ", section, flags=re.MULTILINE)[1:]
    return {name: " ".join(text.split()) for name, text in zip(parts[::2], parts[1::2], strict=True)}


def _signature(method: Any) -> str:
    return f"    def {method.__name__}{inspect.signature(method)}".replace("'", "")


def _parameters(function: Any) -> str:
    shown = [
        f"{p.name}={p.default!r}" if p.default is not p.empty else p.name
        for p in inspect.signature(function).parameters.values()
    ]
    return "(" + ", ".join(shown) + ")"


def _suite_reports() -> dict[str, Any]:
    import types

    import vcorr
    from vcorr import hookspecs, testing
    from vcorr.metrics import MatchingAccuracy
    from vcorr.probes.builtin import QueryKey

    def example(hook: str, attribute: str) -> Any:
        module = types.ModuleType(f"docs_{hook}")
        exec(_split_example(inspect.getdoc(getattr(hookspecs, hook)) or "")[1], module.__dict__)
        return getattr(module, attribute)()

    return {
        "check_model": testing.check_model(example("vcorr_models", "Still"), testing.random_clip(3, 16, 16)),
        "check_reading": testing.check_reading(type(example("vcorr_models", "Still")), testing.random_clip(3, 16, 16)),
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
    }


if __name__ == "__main__":
    main(sys.argv[1:])
