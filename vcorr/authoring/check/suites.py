"""Runs the suites: one report per plugin and per entry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vcorr.authoring.check.targets import Target
from vcorr.contract.entries import Entry
from vcorr.contract.errors import EXIT_MISSING, EXIT_OK, EXIT_PLUGIN, MissingError, UsageError, VcorrError
from vcorr.contract.part_calls import describe
from vcorr.contract.records import Clip, RunSettings
from vcorr.diffusion import DiffusersVideoModel
from vcorr.plugins.part_options import make_config
from vcorr.plugins.registry import PluginReport, Registry
from vcorr.testing.dataset_checks import check_dataset, check_tracker, random_clip
from vcorr.testing.entry_checks import MADE, check_entry, light
from vcorr.testing.guidance_checks import check_guidance
from vcorr.testing.metric_checks import check_metric
from vcorr.testing.model_checks import check_model
from vcorr.testing.pass_checks import check_passes
from vcorr.testing.probe_checks import check_probe
from vcorr.testing.reading_checks import check_reading
from vcorr.testing.report import Check, Report, expect, run_checks

PARTS = {"dataset": "data"}
"""Name of a kind in `--set PART.KEY=VALUE`, if it is not the kind's own name."""
CLIP = (25, 64, 96)
"""Frames, height and width of a first clip; a model's grid for it gives the size of the clip to check with."""
NUM_STEPS = 4

Options = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Found:
    """Result of checking a plugin. missing: reason why an entry could not be checked, by the entry's label."""

    name: str
    reports: Sequence[Report]
    missing: Mapping[str, str]

    @property
    def exit_code(self) -> int:
        """Exit code: 3 when a contract is broken, else 4 when something could not be checked, else 0."""
        if not all(report.passed for report in self.reports):
            return EXIT_PLUGIN
        return EXIT_MISSING if self.missing else EXIT_OK


def check_plugin(target: Target, registry: Registry, options: Options) -> Found:
    """Runs the suites that fit on everything in the target.

    Args:
        target: what to check.
        registry: the registry that holds the target.
        options: options by part ("model", "data", ...); they replace options that the entries give in `check`.
    """
    reports = [_plugin_report(report, registry) for report in target.plugins]
    missing: dict[str, str] = {}
    seen: dict[str, str] = {}
    for registered in target.entries:
        entry = registered.entry
        lacks = _what_it_lacks(entry, options)
        reports.append(check_entry(entry, skip=[MADE] if _needs_users_files(entry) else []))
        if lacks:
            missing[entry.label] = lacks
            continue
        same = seen.setdefault(_identity(entry), entry.label)
        if same != entry.label or not reports[-1].passed:
            continue  # another name of a part that is checked already, or an entry that is wrong itself
        try:
            reports += _suites(entry, options)
        except MissingError as error:
            missing[entry.label] = " ".join([error.message, error.hint]).strip()
    return Found(target.name, [report for report in reports if report.checks], missing)


def _plugin_report(report: PluginReport, registry: Registry) -> Report:
    def loads() -> str:
        expect(report.state != "blocked", "; ".join(report.reasons))
        expect(report.state != "broken", "; ".join(report.reasons))
        return f"entries: {len(report.provides)}"

    def well() -> None:
        expect(not report.reasons, "; ".join(report.reasons))

    def unique() -> None:
        taken = [
            f"{claim.entry.label} is also claimed by {claim.source.label}"
            for provided in report.provides
            for claim in registry.catalogue(provided.partition(":")[0]).claims(provided.partition(":")[2])
            if claim.source != report.source
        ]
        expect(not taken, "; ".join(taken))

    def stays_light() -> None:
        light(report.source.module)

    checks = [("it loads, and its hooks return entries", loads), ("all its hooks exist", well)]
    checks += [("no other plugin claims its names", unique), ("importing it loads nothing heavy", stays_light)]
    return run_checks(f"plugin {report.source.name!r} of {report.source.label}", checks, ())


def _identity(entry: Entry) -> str:
    """Returns text that is equal for two names of the same part."""
    return repr((entry.kind, entry.factory, entry.config, dict(entry.check), getattr(entry, "configs", None)))


def _needs_users_files(entry: Entry) -> bool:
    """Returns whether the entry is a dataset that needs the user's own files, and so cannot be made without options."""
    return entry.kind == "dataset" and not entry.check and bool(_refusal(entry, {}))


def _what_it_lacks(entry: Entry, options: Options) -> str:
    """Returns what must be set before such a dataset can be checked; "" if nothing, and for all other entries."""
    return _refusal(entry, options.get("data", {})) if _needs_users_files(entry) else ""


def _refusal(entry: Entry, options: Mapping[str, Any]) -> str:
    try:
        entry.create(make_config(entry.config_type(), dict(options), "data"))
    except UsageError as error:
        return f"{error.message} Set it with --set data.KEY=VALUE (options: vcorr show dataset {entry.name})"
    except (Exception, SystemExit):
        return ""  # the suites report what is wrong
    return ""


_MADE = "can be made with its options"


def _suites(entry: Entry, options: Options) -> Iterator[Report]:
    suite = SUITES.get(entry.kind)
    if suite is None:
        return
    part = PARTS.get(entry.kind, entry.kind)
    config = make_config(entry.config_type(), {**entry.check, **options.get(part, {})}, part)
    try:
        yield from suite(entry, config)
    except MissingError:
        raise
    except UsageError as error:
        yield Report(entry.label, (Check(_MADE, False, error.message),))
    except VcorrError:
        raise
    except (Exception, SystemExit) as error:  # of the plugin's own code outside a check, for instance in sites()
        yield Report(entry.label, (Check(_MADE, False, describe(error)),))


def _model(entry: Entry, config: Any) -> Iterator[Report]:
    clip = _clip_for(entry.create(config))
    yield _add_title(check_model(entry, clip, config=config), "renoise")
    model = entry.create(config)
    if not model.sites():
        return
    yield _add_title(check_reading(entry, clip, config=config), "reading")
    if _generates(entry, config, clip):
        if isinstance(model, DiffusersVideoModel):
            yield _add_title(check_passes(entry, clip, config=config), "passes")
        settings = RunSettings("generate", (0, 2), NUM_STEPS)
        yield _add_title(check_model(entry, clip, config=config, settings=settings), "generate")


def _clip_for(model: Any) -> Clip:
    """Makes a clip of noise in the size that the model takes."""
    offered = random_clip(*CLIP)
    sites = model.sites()
    grid = model.grid(offered, sites[0] if sites else None)
    return random_clip(grid.video_frames, round(grid.height), round(grid.width))


def _generates(entry: Entry, config: Any, clip: Clip) -> bool:
    """Returns whether a model has generate mode; a model without it raises a UsageError."""
    from vcorr.capture.recorder import Recorder

    model = entry.create(config)
    try:
        model.load("cpu", "float32", "random")
        model.run(clip, RunSettings("generate", (0,), 1), Recorder({}, clip.queries))
    except MissingError:
        raise
    except UsageError:
        return False
    except (Exception, SystemExit):
        return True  # the suite reports what is wrong
    return True


def _add_title(report: Report, title: str) -> Report:
    return Report(f"{report.subject}, {title}", report.checks)


def _simple(check: Callable[..., Report]) -> Callable[[Entry, Any], Iterator[Report]]:
    def suite(entry: Entry, config: Any) -> Iterator[Report]:
        yield check(entry, config=config)

    return suite


SUITES: Mapping[str, Callable[[Entry, Any], Iterator[Report]]] = {
    "model": _model,
    "probe": _simple(check_probe),
    "metric": _simple(check_metric),
    "dataset": _simple(check_dataset),
    "tracker": _simple(check_tracker),
    "guidance": _simple(check_guidance),
}
"""Suites by kind; for pages only the entry is checked."""
