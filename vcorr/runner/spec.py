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

from vcorr.contract.errors import UsageError, first_line, unknown_name
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
        values = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except OSError as error:
        raise UsageError(f"--config {path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # PyYAML's and OmegaConf's own errors share no base
        raise UsageError(f"--config {path} is not valid YAML: {first_line(error)}.") from error
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
        raise UsageError(f"--set {text!r} cannot be read: {first_line(error)}.") from error
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
        raise UsageError(f"{error.full_key}: {first_line(error)}.") from error
    assert isinstance(spec, RunSpec)
    check_seed(spec.seed, "--seed")
    if spec.cfg is not None and not (math.isfinite(spec.cfg) and spec.cfg >= 0):
        raise UsageError(f"--cfg {spec.cfg:g} is no strength of guidance.", hint="A number of at least 0; 1 for none.")
    return dataclasses.replace(spec, options=options)
