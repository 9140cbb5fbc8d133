"""What the user asked for: flags, config file and `--set` merged into one frozen `RunSpec`, every key checked."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vcorr.contract.errors import MissingError, UsageError, unknown_name
from vcorr.contract.index_text import split_names
from vcorr.contract.seeds import NoiseDraw
from vcorr.contract.text_files import read_text
from vcorr.contract.yaml_text import read_yaml
from vcorr.plugins.option_places import find_option_places, say_places
from vcorr.plugins.option_values import Written, options_from, show_value
from vcorr.store.fingerprint import flat, is_unicode

COMPONENTS = ("model", "data", "probe", "metric", "tracker", "track", "propagate", "guidance", "executor")
"""Parts whose own options `--set PART.KEY=VALUE` reaches.

`track` is how a tracking run follows points, `propagate` how a run of propagation carries masks, `executor` where the
clips are computed.
"""

NO_GUIDANCE = "none"
"""The value of `RunSpec.guidance` without a guidance."""

Task = Literal["correspondence", "tracking", "propagation", "generation"]
"""What a run measures; the column `task` of its rows."""

SEEDS = range(2**63)
"""The seeds that are allowed; torch takes larger ones, but the tables cannot store them."""


@dataclass(frozen=True)
class RunSpec:
    """A run as the user asked for it, before any name is looked up.

    Each field has the name of a long flag. Config files have the same keys, and `set` for the assignments of `--set`.
    `options` holds the options of the components, e.g. {"probe": {"heads": "each"}}.

    task: what is measured: correspondence at attention sites, tracks of all queries in all frames, masks that are
    carried from frame 0 on, or generated videos. In tracking and propagation, `tracker` is what follows the points, in
    the place of a model; `preset` and `from_run` say how, and at which site. guidance: what steers sampling in
    generation, in addition to classifier-free guidance, whose strength is `cfg`. `from_run` then names the run whose
    best layers the guidance takes.
    """

    model: str = ""
    probe: str = ""
    data: str | None = None
    prompt: str | None = None
    mode: str | None = None
    layers: str = "all"
    steps: str | None = None
    noise_batch: int = 1
    num_steps: int | None = None
    cfg: float | None = None
    limit: int | None = None
    seed: int = 42
    noise_draw: NoiseDraw | None = None
    device: str = "auto"
    dtype: str = "auto"
    weights: str = "hub"
    offload: bool = False
    vae_tiling: bool = False
    keep_latents: bool = False
    metrics: str = ""
    tracker: str | None = None
    save_videos: bool = False
    variant: str = "corrected"
    executor: str = "local"
    workers: int | None = None
    parallel: str | None = None
    task: Task = "correspondence"
    preset: str | None = None
    from_run: str | None = None
    guidance: str = NO_GUIDANCE
    options: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def probes(self) -> tuple[str, ...]:
        """Names of the probes, in the order given, each once."""
        return tuple(dict.fromkeys(split_names(self.probe)))

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics, in the order given, each once; empty for the default metrics."""
        return tuple(dict.fromkeys(split_names(self.metrics)))


FIELDS = {f.name for f in dataclasses.fields(RunSpec)} - {"options"}
"""Keys of a config file and of `--set`."""
_PATHS = ("data", "data.path")
"""What may hold bytes that are not UTF-8, as names of files may."""

LISTS = ("layers", "steps", "probe", "metrics", "variant")
"""Fields that hold several names or indices, separated by commas."""


def build_spec(
    flags: Mapping[str, Any], *, config_file: Path | None = None, assignments: Sequence[str] = ()
) -> RunSpec:
    """Returns the merged spec. Later sources win: defaults, config file, flags that are not None, `--set` assignments.

    Raises:
        UsageError: an unknown key (the message suggests the nearest one), a value of the wrong type, or an assignment
            that is not KEY=VALUE.
    """
    with naming_file(config_file, flags, assignments):
        in_file = read_settings(read_config(config_file), str(config_file)) if config_file else {}
        return make_spec({**in_file, **read_typed(flags, assignments)})


Settings = Mapping[str, Any]
"""What a run is asked for in one flat mapping: fields of the spec by name, options of components as PART.KEY."""


def make_spec(settings: Settings) -> RunSpec:
    """Returns the spec with these settings, and defaults for all others.

    Raises:
        UsageError: a value has the wrong type or is out of range.
    """
    values: dict[str, Any] = {}
    options: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        part, dot, key = name.partition(".")
        if dot:
            options.setdefault(part, {})[key] = value
        else:
            values[name] = value
    return _make_spec(values, options)


def read_settings(values: Mapping[str, Any], where: str, *, dotted: bool = False) -> dict[str, Any]:
    """Returns the settings that a mapping of a YAML file gives, with those under its key `set`, which win.

    Args:
        values: keys and values, as of `read_config`.
        where: the file, and the place in it, for messages.
        dotted: whether an option may also be written as PART.KEY outside of `set`.

    Raises:
        UsageError: an unknown key (the message suggests the nearest one), or `set` holds no keys and values.
    """
    found: dict[str, Any] = {}
    for name, value in _upgrade({name: value for name, value in values.items() if name != "set"}).items():
        if dotted and "." in name:
            found |= _assign(name, value)
        elif name in FIELDS:
            found[name] = value
        else:
            raise unknown_name("key", name, FIELDS, hint=f"In {where}. Keys: {', '.join(sorted(FIELDS))}, set.")
    return found | _read_set(values.get("set", {}), where)


def read_typed(flags: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Returns the settings that a command line gives: flags that are not None, and `--set` assignments, which win.

    Raises:
        UsageError: an unknown key, or an assignment that is not KEY=VALUE.
    """
    found = {name: value for name, value in flags.items() if value is not None}
    for name in found:
        if name not in FIELDS:
            raise unknown_name("key", name, FIELDS)
    for text in assignments:
        found |= _parse_assignment(text)
    return found


@contextmanager
def naming_file(config_file: Path | None, flags: Mapping[str, Any], assignments: Sequence[str]) -> Iterator[None]:
    """Adds the config file to an error, and says whether the key that is wrong is set in it or elsewhere."""
    try:
        yield
    except (UsageError, MissingError) as error:
        if config_file is None or str(config_file) in str(error):
            raise
        typed = {name for name, value in flags.items() if value is not None}
        typed |= {text.partition("=")[0].strip() for text in assignments}
        named = any(_names(error.message, key) for key in _keys(config_file) - typed)
        where = f"It is set in {config_file}." if named else f"The config file is {config_file}."
        raise type(error)(error.message, hint=f"{error.hint}\n{where}".strip()) from error


def _names(message: str, key: str) -> bool:
    """Returns whether a message is about a key of a config file."""
    name = re.escape(key).replace("_", "[_-]")
    return re.search(rf"(^|--|'|Unknown |The ){name}\b", message) is not None


def _keys(config_file: Path) -> set[str]:
    """Returns the keys of a config file, and the names of the options under `set`."""
    values = read_config(config_file)
    assigned = values.pop("set", {})
    found = set(values)
    for key, value in assigned.items() if isinstance(assigned, dict) else ():
        name = _key_text(key)
        found |= {f"{name}.{_key_text(inner)}" for inner in value} if isinstance(value, dict) else set()
        found.add(name)
    return found


def check_seed(seed: int, flag: str) -> None:
    """Raises UsageError if a seed is not in `SEEDS`. flag: the flag that gave it, for the message."""
    if seed not in SEEDS:
        raise UsageError(f"{flag} {seed} is out of range.", hint=f"Seeds are whole numbers from 0 to {SEEDS[-1]}.")


def read_config(path: Path) -> dict[str, Any]:
    """Returns the keys and values of a config file, with "_" for "-" in keys.

    Raises:
        UsageError: the file cannot be read, or is not a mapping in YAML.
    """
    return read_mapping(path, f"--config {path}")


def read_mapping(path: Path, label: str) -> dict[str, Any]:
    """Returns the keys and values of a YAML file, with "_" for "-" in keys. label: the file, for messages.

    Raises:
        UsageError: the file cannot be read, or is not a mapping in YAML.
    """
    try:
        values = read_yaml(read_text(path, label))
    except ValueError as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{label} is not valid YAML: {error}.") from error
    return name_keys(values, label)


def name_keys(values: Any, label: str) -> dict[str, Any]:
    """Returns a mapping of a YAML file with its keys as text, and "_" for "-" in them.

    Raises:
        UsageError: it is no mapping, or two keys differ only in "-" and "_".
    """
    if not isinstance(values, dict):
        raise UsageError(f"{label} must hold keys and values, such as 'model: tiny'.")
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = _key_text(key).replace("-", "_")
        if name in found:
            raise UsageError(f"{label}: the key {name!r} is there twice, with '-' and with '_'.")
        found[name] = value
    return found


def _key_text(key: Any) -> str:
    """Returns a key as text: YAML reads some, such as true or 3, as other values."""
    return key if isinstance(key, str) else show_value(key)


def _read_set(values: Any, where: str) -> dict[str, Any]:
    """Returns the settings under `set` in a file: dotted keys, or a mapping below the name of a component."""
    if not isinstance(values, dict):
        raise UsageError(f"{where}: 'set' must hold keys and values, such as 'probe.heads: each'.")
    found: dict[str, Any] = {}
    for name, value in name_options(values):
        found |= _assign(name, value)
    return found


def name_options(values: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Yields names and values under `set`: a mapping below the name of a component holds its options."""
    for key, value in values.items():
        if key in COMPONENTS and isinstance(value, dict):
            yield from ((f"{key}.{_key_text(inner)}", each) for inner, each in value.items())
        else:
            yield _key_text(key), value


def _parse_assignment(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][\w.-]*", key.strip()):
        raise UsageError(f"--set {text!r} is not KEY=VALUE.", hint="For example: --set probe.heads=each")
    return _assign(key.strip(), Written(value))


def _assign(key: str, value: Any) -> dict[str, Any]:
    """Returns the one setting that an assignment gives: an option of a component, or a field of the spec."""
    ((key, value),) = _upgrade({key: value}).items()
    part, dot, _ = key.partition(".")
    if dot:
        if part not in COMPONENTS:
            names = [f"{c}.KEY" for c in COMPONENTS]
            raise unknown_name("--set key", key, names, hint=f"Keys begin with {', '.join(names)}, or name a flag.")
    elif key not in FIELDS:
        raise _unknown_key(key)
    return {key: value}


def _unknown_key(key: str) -> UsageError:
    """Returns the error for a key of `--set` that is no field; it names the options of parts that have this name."""
    from vcorr.runner.executors.table import EXECUTORS, PART, options_type
    from vcorr.tracking.propagation_options import PropagationOptions
    from vcorr.tracking.track_options import TrackOptions

    places = find_option_places(key, {"track": TrackOptions, "propagate": PropagationOptions})
    places += [f"{PART}.{key}" for name in EXECUTORS if key in _field_names(options_type(name))][:1]
    if places:
        return UsageError(f"Unknown --set key {key!r}.{say_places(places)}", hint=f"Write: --set {places[0]}=VALUE")
    written = f"Options of a part begin with its kind, such as probe.{key}=… or data.{key}=…"
    return unknown_name("--set key", key, FIELDS, hint=f"{written} Keys: {', '.join(sorted(FIELDS))}.")


def _field_names(config: type | None) -> set[str]:
    return {each.name for each in dataclasses.fields(config)} if config is not None else set()


def _upgrade(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values with `cfg` for the old key `guidance`, the strength of classifier-free guidance.

    A `guidance` that is no number names a method, and stays.

    Raises:
        UsageError: `guidance` is a strength, and `cfg` is given too.
    """
    if "guidance" not in values:
        return dict(values)
    strength = values["guidance"]
    if strength is not None and not _is_number(strength):
        return dict(values)
    if strength is not None and values.get("cfg") is not None:
        raise UsageError(
            f"The strength of guidance is given twice, as cfg ({values['cfg']}) and as guidance ({strength}).",
            hint="Leave guidance out.",
        )
    return {("cfg" if name == "guidance" else name): value for name, value in values.items()}


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, bool)


def _make_spec(values: dict[str, Any], options: dict[str, dict[str, Any]]) -> RunSpec:
    for name, value in flat({**values, **options}):
        if name not in _PATHS and not is_unicode(str(value)):
            raise UsageError(f"{name} is not UTF-8 text: {value!a}.", hint="Write it in UTF-8.")
        if "\0" in str(value):
            raise UsageError(f"{name} holds a zero byte, and text has none.", hint="Leave it out.")
    for name, value in values.items():
        if value == [] or (isinstance(value, str) and not value.strip()):
            raise UsageError(f"{_say_field(name)} is empty.", hint="Give it a value, or leave it out for the default.")
    if "prompt" in values and values["prompt"] is None:
        raise UsageError("prompt has no value.", hint='Write the prompt in quotes, prompt: "...", or leave it out.')
    spec = options_from(RunSpec, {name: _normalise(name, value) for name, value in values.items()})
    check_seed(spec.seed, "--seed")
    if spec.cfg is not None and not (math.isfinite(spec.cfg) and spec.cfg >= 0):
        raise UsageError(
            f"--cfg {spec.cfg:g} is no strength of guidance.", hint="Give a number of at least 0; 1 for no guidance."
        )
    return dataclasses.replace(spec, options=options)


_WITHOUT_FLAG = ("keep_latents", "metrics", "noise_batch", "noise_draw", "task", "variant")
"""Fields that no command has a flag for."""


def _say_field(name: str) -> str:
    """Returns what messages call a field: its flag, or its name where there is no flag."""
    if name in _WITHOUT_FLAG:
        return name
    return "--from" if name == "from_run" else f"--{name.replace('_', '-')}"


def _normalise(name: str, value: Any) -> Any:
    """Returns a number or a list as the text of a flag, so that `layers: [1, 4]` in a config file means `--layers 1,4`.

    Raises:
        UsageError: an item of a list is neither text nor a whole number.
    """
    if name == "prompt":
        return str(value) if isinstance(value, Written) else value  # the word null is a prompt like any other
    if name not in LISTS:
        return value
    if isinstance(value, (list, tuple)):
        return ",".join(_item(name, each) for each in value)
    if type(value) is int:
        return str(value)
    if isinstance(value, Written) and value.strip().startswith("[") and value.strip().endswith("]"):
        return value.strip()[1:-1]
    return value


def _item(name: str, value: Any) -> str:
    if isinstance(value, str) or type(value) is int:
        return str(value)
    raise UsageError(f"{name}: a list of text or whole numbers is needed, and {show_value(value)} is in it.")
