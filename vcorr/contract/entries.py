"""Entries: the records that plugins return from hooks. They are frozen plain values.

Nothing heavy is imported until the `factory` of an entry is resolved.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from vcorr.contract.errors import PluginError, missing_package
from vcorr.contract.tasks import CORRESPONDENCE, TASKS

HOOK_API_VERSION = 1
"""Version of the hooks, entries and protocols. Raised when a plugin for the previous version would stop working."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a plugin says about one part that it adds.

    Args:
        name: what users type; lowercase, unique among its kind.
        summary: one line for lists.
        factory: import string "package.module:Attr"; called with the config object, or with nothing when `config` is
            None.
        version: raised by hand whenever the numbers of this part may change; part of every fingerprint.
        config: dataclass of the options, or its import string; None for a part without options.
        api_version: version of the hooks that this entry was written for.
        check: options that `vcorr plugin check` uses; they select a size that a CPU runs in seconds.

    Raises:
        PluginError: a field has the wrong form.
    """

    kind: ClassVar[str] = "entry"

    name: str
    summary: str
    factory: str
    version: int = 1
    config: type | str | None = None
    api_version: int = HOOK_API_VERSION
    # left out of comparisons: two entries with other check options are the same part, and a mapping has no hash
    check: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self._plain_name):
            raise PluginError(
                f"The {self.kind} name {self.name!r} is not valid.",
                hint="Names are lowercase letters, digits, '-', '_' and '.', and begin and end with a letter or digit.",
            )
        if not isinstance(self.factory, str) or not _FACTORY.fullmatch(self.factory):
            raise PluginError(f"{self.label}: factory must be 'package.module:Attr', got {self.factory!r}.")
        if isinstance(self.version, bool) or not isinstance(self.version, int) or self.version < 1:
            raise PluginError(f"{self.label}: version must be a whole number of at least 1, got {self.version!r}.")
        self._check_api_version()

    @property
    def _plain_name(self) -> str:
        """The part of the name that must have the form of names."""
        return self.name

    def _check_api_version(self) -> None:
        asked = self.api_version
        if isinstance(asked, bool) or not isinstance(asked, int) or asked < 1:
            raise PluginError(f"{self.label}: api_version must be a whole number of at least 1, got {asked!r}.")
        if asked > HOOK_API_VERSION:
            raise PluginError(
                f"{self.label} was written for version {asked} of the hooks; the installed vcorr knows them up to "
                f"version {HOOK_API_VERSION}.",
                hint="Upgrade vcorr: pip install -U vcorr",
            )
        if asked < HOOK_API_VERSION:
            raise PluginError(
                f"{self.label} was written for version {asked} of the hooks; the installed vcorr has version "
                f"{HOOK_API_VERSION}.",
                hint="Upgrade the plugin; CHANGELOG.md of vcorr says what changed.",
            )

    @property
    def label(self) -> str:
        """The name of the entry in messages, such as "model 'tiny'"."""
        return f"{self.kind} {self.name!r}"

    def config_type(self) -> type | None:
        """Returns the dataclass of the options, or None; imports it if it was given as a string.

        Raises:
            PluginError: it cannot be imported, or is not a dataclass.
        """
        found = resolve(self.config, self.label) if isinstance(self.config, str) else self.config
        if found is not None and not (isinstance(found, type) and dataclasses.is_dataclass(found)):
            raise PluginError(f"{self.label}: config must be a dataclass, got {found!r}.")
        return found

    def create(self, config: Any = None) -> Any:
        """Calls the factory: `factory(config)`, or `factory()` for an entry without options.

        config: an instance of the options' dataclass; None for its defaults.

        Raises:
            PluginError: the factory or the options cannot be imported.
        """
        factory = resolve(self.factory, self.label)
        config_type = self.config_type()
        if config_type is None:
            return factory()
        return factory(config_type() if config is None else config)


@dataclass(frozen=True, kw_only=True)
class ModelEntry(Entry):
    """A model adapter: the factory makes a `vcorr.VideoModel`.

    card: "package:path/in/package.yaml" of its model card. data: the dataset that it is measured on by default.
    configs: "package:path/to/folder" of the configurations of its components, if one class serves several models. The
    factory is then called as `factory(config, card=..., configs=...)`.
    takes: for an entry that stands for many models, the option that the text after the name fills: with "id",
    `--model NAME:TEXT` is the model NAME:TEXT with the option id=TEXT.
    """

    kind: ClassVar[str] = "model"

    card: str | None = None
    data: str | None = None
    configs: str | None = None
    takes: str = ""

    def with_text(self, text: str) -> ModelEntry:
        """Returns the entry of the model NAME:TEXT, one of the models that this entry stands for."""
        return dataclasses.replace(self, name=f"{self._plain_name}:{text}")

    @property
    def options(self) -> Mapping[str, Any]:
        """The options that the name fills."""
        text = self.name.partition(":")[2]
        return {self.takes: text} if self.takes and text else {}

    @property
    def _plain_name(self) -> str:
        return self.name.partition(":")[0] if self.takes else self.name

    def create(self, config: Any = None) -> Any:
        """Calls the factory as `Entry.create` does; with `configs`, it also gets the card and the configurations."""
        if config is None and self.options:
            config_type = self.config_type()
            config = config_type(**self.options) if config_type is not None else None
        if self.configs is None:
            return super().create(config)
        factory, config_type = resolve(self.factory, self.label), self.config_type()
        if config is None and config_type is not None:
            config = config_type()
        return factory(config, card=self.card or "", configs=self.configs)


@dataclass(frozen=True, kw_only=True)
class ProbeEntry(Entry):
    """A descriptor that is read from attention: the factory makes a `vcorr.Probe`."""

    kind: ClassVar[str] = "probe"


@dataclass(frozen=True, kw_only=True)
class MetricEntry(Entry):
    """A score of predictions: the factory makes a metric, such as a `vcorr.Metric` or `TrackMetric`.

    default: whether every run of its task computes it, unless `--set metrics=...` chooses others. task: the task of the
    runs that can use it: "tracking" for a `TrackMetric`, "propagation" for a `MaskMetric`, "generation" for a
    `VideoMetric`.
    """

    kind: ClassVar[str] = "metric"

    default: bool = False
    task: str = CORRESPONDENCE

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task not in TASKS:
            raise PluginError(f"{self.label}: task must be one of {', '.join(TASKS)}, got {self.task!r}.")


@dataclass(frozen=True, kw_only=True)
class DatasetEntry(Entry):
    """A set of clips with queries: the factory makes a `vcorr.Dataset`."""

    kind: ClassVar[str] = "dataset"


@dataclass(frozen=True, kw_only=True)
class TrackerEntry(Entry):
    """A point tracker: the factory makes a `vcorr.Tracker`.

    licence: shown in lists and stored with the tracks. notice: shown once in every run that uses the tracker, such as
    the terms of use of its tracks.
    """

    kind: ClassVar[str] = "tracker"

    licence: str = ""
    notice: str = ""


@dataclass(frozen=True, kw_only=True)
class GuidanceEntry(Entry):
    """A way to steer sampling: the factory makes a `vcorr.Guidance`."""

    kind: ClassVar[str] = "guidance"


@dataclass(frozen=True, kw_only=True)
class PageEntry(Entry):
    """A page of the generated board: the factory makes a `vcorr.Page`."""

    kind: ClassVar[str] = "page"


def resolve(target: str, label: str) -> Any:
    """Imports "package.module:Attr" and returns it. `label` names the part in the error.

    Raises:
        PluginError: the module cannot be imported or has no such attribute.
        MissingError: it imports a package that is not installed.
    """
    module_name, _, attribute = target.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] != module_name.partition(".")[0]:
            raise missing_package(error, label) from error
        raise PluginError(f"{label}: {target!r} cannot be imported: {error}.") from error
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{label}: {target!r} cannot be imported: {error}.") from error
    return found
