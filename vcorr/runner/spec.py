"""What the user asked for: flags, config file and `--set` merged into one frozen `RunSpec`, every key checked.

OmegaConf does the merging and the types; nothing of it leaves this module.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vcorr.contract.errors import UsageError, unknown_name

COMPONENTS = ("model", "data", "probe", "metric", "tracker")
"""Parts whose own options `--set PART.KEY=VALUE` reaches."""

_DEFAULT_COUNT = 8
DEFAULT_STEPS = f"{_DEFAULT_COUNT}-spread"
"""What is read without `--steps`, where there are as many; `chosen_steps` says what where there are fewer."""

SEEDS = range(2**63)
"""What a seed may be: torch takes more, the tables do not."""


@dataclass(frozen=True)
class RunSpec:
    """A run as given, before anything is looked up.

    Field names are those of the long flags; keys of a config file are the same, plus `set` for what `--set` takes.
    `options` holds the options of the components, e.g. {"probe": {"heads": "each"}}.
    """

    model: str = ""
    probe: str = ""
    data: str | None = None
    prompt: str | None = None
    mode: str | None = None
    layers: str = "all"
    steps: str | None = None
    num_steps: int | None = None
    cfg: float | None = None
    limit: int | None = None
    seed: int = 42
    device: str = "auto"
    dtype: str = "auto"
    weights: str = "hub"
    offload: bool = False
    vae_tiling: bool = False
    metrics: str = ""
    tracker: str | None = None
    save_videos: bool = False
    variant: str = "corrected"
    executor: str = "local"
    options: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def probes(self) -> tuple[str, ...]:
        """The probe names, in the order given, once each."""
        return tuple(dict.fromkeys(split_names(self.probe)))

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The metric names; empty means the default ones."""
        return tuple(dict.fromkeys(split_names(self.metrics)))


_DEFAULTS = {f.name: f.default for f in dataclasses.fields(RunSpec) if f.name != "options"}
_FIELDS = set(_DEFAULTS)


def build_spec(
    flags: Mapping[str, Any], *, config_file: Path | None = None, assignments: Sequence[str] = ()
) -> RunSpec:
    """Merges, the later over the earlier: defaults, config file, flags that were given, `--set` assignments.

    Raises:
        UsageError: an unknown key (the nearest is suggested), a value of the wrong type, or a malformed assignment.
    """
    from_file = _upgraded(read_config(config_file)) if config_file else {}
    file_assignments = _file_assignments(from_file.pop("set", {}), config_file)
    values: dict[str, Any] = {**from_file, **{k: v for k, v in flags.items() if v is not None}}
    for name in values:
        if name not in _FIELDS:
            raise unknown_name("key", name, _FIELDS, hint=f"In {config_file}. Keys: {', '.join(sorted(_FIELDS))}, set.")
    options: dict[str, dict[str, Any]] = {}
    for text in [*file_assignments, *assignments]:
        part, key, value = _assignment(text)
        if part:
            options.setdefault(part, {})[key] = value
        else:
            values[key] = value
    return _typed(values, options)


def make_config(config_type: type | None, options: Mapping[str, Any], part: str) -> Any:
    """An instance of a component's config dataclass with `options` set; None for components without options.

    Raises:
        UsageError: an option the component does not have, or a value of the wrong type.
    """
    if config_type is None:
        if options:
            raise UsageError(f"{part} has no options, but {', '.join(f'{part}.{k}' for k in options)} was set.")
        return None
    known = [f.name for f in dataclasses.fields(config_type)]
    for key in options:
        if key.split(".")[0] not in known:
            hint = f"Options of this {part}: {', '.join(known) or 'none'}."
            raise unknown_name("option", f"{part}.{key}", [f"{part}.{name}" for name in known], hint=hint)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(config_type), OmegaConf.create(_nested(options)))
        return OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise UsageError(f"{part}.{error.full_key}: {_first_line(error)}.") from error


def _nested(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with "a.b": value as {"a": {"b": value}}."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        *outer, last = key.split(".")
        inner = found
        for name in outer:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise UsageError(f"{key} was set, and {name} as a whole as well.", hint="Leave out one of them.")
        before, new = inner.get(last), dict(value) if isinstance(value, Mapping) else value
        inner[last] = {**before, **new} if isinstance(before, dict) and isinstance(new, dict) else new
    return found


def check_seed(seed: int, flag: str) -> None:
    """Raises UsageError unless a seed can be used and kept."""
    if seed not in SEEDS:
        raise UsageError(f"{flag} {seed} is out of range.", hint=f"Seeds are whole numbers from 0 to {SEEDS[-1]}.")


def split_names(text: str) -> list[str]:
    """Comma-separated names."""
    return [name.strip() for name in text.split(",") if name.strip()]


def chosen_steps(text: str | None, total: int) -> tuple[int, ...]:
    """Returns the steps that `--steps` names, of `total`: ascending, and each once.

    Args:
        text: indices and ranges such as "0,10-20", "all", "last" or "N-spread". None for the default: `DEFAULT_STEPS`,
            or all steps where there are fewer than it takes. Only the default adapts; what was typed does not.
        total: the number of steps.

    Raises:
        UsageError: the text has another form, or names a step that is not there.
    """
    if text is None:
        return tuple(range(total)) if total < _DEFAULT_COUNT else _spread(_DEFAULT_COUNT, total)
    text = text.strip()
    if text == "last":
        return (total - 1,)
    if spread := re.fullmatch(r"(\d+)-spread", text):
        return _spread(int(spread[1]), total)
    return _indices(text, total, "steps", f"'0,10-20', or 'all', 'last', '{DEFAULT_STEPS}'")


def chosen_layers(text: str, total: int) -> tuple[int, ...]:
    """Returns the layers that `--layers` names, of `total`: ascending, and each once.

    Args:
        text: "all", or indices and ranges such as "1,5-9".
        total: the number of layers.

    Raises:
        UsageError: the text has another form, or names a layer that is not there.
    """
    return _indices(text.strip(), total, "layers", "'1,5-9', or 'all'")


def _indices(text: str, total: int, what: str, forms: str) -> tuple[int, ...]:
    if text == "all":
        return tuple(range(total))
    chosen: set[int] = set()
    for part in split_names(text):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if not match:
            raise UsageError(
                f"--{what} {text!r} cannot be read at {part!r}.", hint=f"Write indices and ranges such as {forms}."
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last or last >= total:
            raise UsageError(f"--{what} {part} is out of range.", hint=_what_there_is(total, what))
        chosen.update(range(first, last + 1))
    if not chosen:
        raise UsageError(f"--{what} is empty.", hint="Leave it out for the default, or write 'all'.")
    return tuple(sorted(chosen))


def _what_there_is(total: int, what: str) -> str:
    return f"There are {what} 0-{total - 1}." if total else f"There are no {what}."


def _spread(count: int, total: int) -> tuple[int, ...]:
    """Returns `count` steps from the first to the last of `total`; the last one where one is asked for."""
    if not 1 <= count <= total:
        raise UsageError(
            f"--steps {count}-spread is out of range.",
            hint=f"There are {total} steps: write 'all', or N up to {total}.",
        )
    if count == 1:
        return (total - 1,)
    return tuple(round(i * (total - 1) / (count - 1)) for i in range(count))


def read_config(path: Path) -> dict[str, Any]:
    """The keys and values of a config file, "-" in keys written as "_".

    Raises:
        UsageError: it cannot be read, or is not a mapping in YAML.
    """
    try:
        values = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except OSError as error:
        raise UsageError(f"--config {path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # PyYAML's and OmegaConf's own errors share no base
        raise UsageError(f"--config {path} is not valid YAML: {_first_line(error)}.") from error
    if not isinstance(values, dict):
        raise UsageError(f"--config {path} must hold keys and values, such as 'model: tiny'.")
    return {str(k).replace("-", "_"): v for k, v in values.items()}


def _file_assignments(values: Any, path: Path | None) -> list[str]:
    if not isinstance(values, dict):
        raise UsageError(f"--config {path}: 'set' must hold keys and values, such as 'probe.heads: each'.")
    flat: list[str] = []
    for key, value in values.items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        flat += [f"{key}.{k}={v}" if k else f"{key}={v}" for k, v in inner]
    return flat


def _assignment(text: str) -> tuple[str, str, Any]:
    key, equals, _ = text.partition("=")
    key = key.strip()
    if not equals or not re.fullmatch(r"[A-Za-z_][\w.-]*", key):
        raise UsageError(f"--set {text!r} is not KEY=VALUE.", hint="For example: --set probe.heads=each")
    try:
        value = OmegaConf.select(OmegaConf.from_dotlist([text]), key)
    except Exception as error:  # grammar errors of OmegaConf and YAML share no base
        raise UsageError(f"--set {text!r} cannot be read: {_first_line(error)}.") from error
    ((key, value),) = _upgraded({key: value}).items()
    part, dot, rest = key.partition(".")
    if dot:
        if part not in COMPONENTS:
            names = [f"{c}.KEY" for c in COMPONENTS]
            raise unknown_name("--set key", key, names, hint=f"Keys begin with {', '.join(names)}, or name a flag.")
        return part, rest, OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    if key not in _FIELDS:
        raise unknown_name("--set key", key, _FIELDS, hint=f"Keys: {', '.join(sorted(_FIELDS))}.")
    if OmegaConf.is_list(value):
        value = ",".join(str(v) for v in value)
    return "", key, value


def _upgraded(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with the strength of classifier-free guidance under its name of now.

    Raises:
        UsageError: guidance is given as a method, which no command of this version applies.
    """
    if "guidance" not in values:
        return dict(values)
    strength = values["guidance"]
    if strength is not None and (isinstance(strength, bool) or not isinstance(strength, (int, float))):
        raise UsageError(
            f"guidance names a method, {strength!r}, and this version applies none.",
            hint="The strength of classifier-free guidance is cfg, as in --cfg 6 (vcorr list guidances).",
        )
    if strength is not None and values.get("cfg") is not None:
        raise UsageError(
            f"The strength of guidance is given twice, as cfg ({values['cfg']}) and as guidance ({strength}).",
            hint="Leave guidance out.",
        )
    return {("cfg" if name == "guidance" else name): value for name, value in values.items()}


def _typed(values: dict[str, Any], options: dict[str, dict[str, Any]]) -> RunSpec:
    # layers: 3 and steps: 10 are numbers to YAML but lists of one index to us
    for key in ("layers", "steps", "probe", "metrics", "variant"):
        if isinstance(values.get(key), (int, list, tuple)) and not isinstance(values[key], bool):
            given = values[key]
            values[key] = ",".join(str(v) for v in given) if isinstance(given, (list, tuple)) else str(given)
    for name, default in _DEFAULTS.items():
        if name in values and values[name] is None and default is not None:
            given = f"{default!r} is the default" if default != "" else "leave it out for the default"
            raise UsageError(f"{name} was given no value.", hint=f"Write {name}=VALUE; {given}.")
        if isinstance(values.get(name), Mapping):
            raise UsageError(f"{name} is one value, and not keys and values as in {values[name]!r}.")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(RunSpec), OmegaConf.create(values))
        spec = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise UsageError(f"{error.full_key}: {_first_line(error)}.") from error
    assert isinstance(spec, RunSpec)
    check_seed(spec.seed, "--seed")
    if spec.cfg is not None and not (math.isfinite(spec.cfg) and spec.cfg >= 0):
        raise UsageError(f"--cfg {spec.cfg:g} is no strength of guidance.", hint="A number of at least 0; 1 for none.")
    return dataclasses.replace(spec, options=options)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
