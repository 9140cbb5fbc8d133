"""What the user asked for: flags, config file and `--set` merged into one frozen `RunSpec`, every key checked."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vcorr.contract.errors import UsageError, unknown_name
from vcorr.plugins.option_values import Written, options_from
from vcorr.plugins.yaml_text import read_yaml, reason
from vcorr.runner.index_lists import split_names

COMPONENTS = ("model", "data", "probe", "metric", "tracker")
"""Parts whose own options `--set PART.KEY=VALUE` reaches."""

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


_FIELDS = {f.name for f in dataclasses.fields(RunSpec)} - {"options"}
_LISTS = ("layers", "steps", "probe", "metrics", "variant")
"""Fields that hold several names or indices, with commas between them."""


def build_spec(
    flags: Mapping[str, Any], *, config_file: Path | None = None, assignments: Sequence[str] = ()
) -> RunSpec:
    """Merges, the later over the earlier: defaults, config file, flags that were given, `--set` assignments.

    Raises:
        UsageError: an unknown key (the nearest is suggested), a value of the wrong type, or a malformed assignment.
    """
    from_file = read_config(config_file) if config_file else {}
    in_file = _in_file(from_file.pop("set", {}), config_file)
    from_file = _upgraded(from_file)
    values: dict[str, Any] = {**from_file, **{k: v for k, v in flags.items() if v is not None}}
    for name in values:
        if name not in _FIELDS:
            raise unknown_name("key", name, _FIELDS, hint=f"In {config_file}. Keys: {', '.join(sorted(_FIELDS))}, set.")
    options: dict[str, dict[str, Any]] = {}
    for each in [*in_file, *map(_assignment, assignments)]:
        if each.part:
            options.setdefault(each.part, {})[each.key] = each.value
        else:
            values[each.key] = each.value
    return _typed(values, options)


def check_seed(seed: int, flag: str) -> None:
    """Raises UsageError unless a seed can be used and kept."""
    if seed not in SEEDS:
        raise UsageError(f"{flag} {seed} is out of range.", hint=f"Seeds are whole numbers from 0 to {SEEDS[-1]}.")


def read_config(path: Path) -> dict[str, Any]:
    """The keys and values of a config file, "-" in keys written as "_".

    Raises:
        UsageError: it cannot be read, or is not a mapping in YAML.
    """
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config {path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--config {path} is not UTF-8 text.", hint="Save it as UTF-8.") from error
    except ValueError as error:
        raise UsageError(f"--config {path} is not valid YAML: {reason(error)}.") from error
    if not isinstance(values, dict):
        raise UsageError(f"--config {path} must hold keys and values, such as 'model: tiny'.")
    return {str(k).replace("-", "_"): v for k, v in values.items()}


@dataclass(frozen=True)
class _Assignment:
    """A value for an option of a component (`part`), or for a field of the spec (part "")."""

    part: str
    key: str
    value: Any


def _in_file(values: Any, path: Path | None) -> list[_Assignment]:
    """What `set` in a config file assigns: dotted keys, or the keys of a component below its name."""
    if not isinstance(values, dict):
        raise UsageError(f"--config {path}: 'set' must hold keys and values, such as 'probe.heads: each'.")
    found = []
    for key, value in values.items():
        nested = key in COMPONENTS and isinstance(value, dict)
        found += [_assigned(f"{key}.{k}", v) for k, v in value.items()] if nested else [_assigned(str(key), value)]
    return found


def _assignment(text: str) -> _Assignment:
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][\w.-]*", key.strip()):
        raise UsageError(f"--set {text!r} is not KEY=VALUE.", hint="For example: --set probe.heads=each")
    return _assigned(key.strip(), Written(value))


def _assigned(key: str, value: Any) -> _Assignment:
    ((key, value),) = _upgraded({key: value}).items()
    part, dot, rest = key.partition(".")
    if dot:
        if part not in COMPONENTS:
            names = [f"{c}.KEY" for c in COMPONENTS]
            raise unknown_name("--set key", key, names, hint=f"Keys begin with {', '.join(names)}, or name a flag.")
        return _Assignment(part, rest, value)
    if key not in _FIELDS:
        raise unknown_name("--set key", key, _FIELDS, hint=f"Keys: {', '.join(sorted(_FIELDS))}.")
    return _Assignment("", key, value)


def _upgraded(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with the strength of classifier-free guidance under its name of now.

    Raises:
        UsageError: guidance is given as a method, which no command of this version applies.
    """
    if "guidance" not in values:
        return dict(values)
    strength = values["guidance"]
    if strength is not None and not _is_number(strength):
        raise UsageError(
            f"guidance names a method, {str(strength)!r}, and this version applies none.",
            hint="The strength of classifier-free guidance is cfg, as in --cfg 6.",
        )
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


def _typed(values: dict[str, Any], options: dict[str, dict[str, Any]]) -> RunSpec:
    spec = options_from(RunSpec, {name: _given(name, value) for name, value in values.items()})
    check_seed(spec.seed, "--seed")
    if spec.cfg is not None and not (math.isfinite(spec.cfg) and spec.cfg >= 0):
        raise UsageError(f"--cfg {spec.cfg:g} is no strength of guidance.", hint="A number of at least 0; 1 for none.")
    return dataclasses.replace(spec, options=options)


def _given(name: str, value: Any) -> Any:
    """A value of `--set` that is blank as none; a list as the text that stands for it in a flag: `layers: [1, 4]` in a
    file is `--layers 1,4`.
    """
    if isinstance(value, Written) and not value.strip():
        return None
    if name not in _LISTS:
        return value
    if isinstance(value, (list, tuple)):
        return ",".join(str(each) for each in value)
    if isinstance(value, Written):
        return value.strip().removeprefix("[").removesuffix("]")
    return value
