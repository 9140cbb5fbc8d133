"""Resolves the words of a spec to what a run reads: clips, sites, steps and mode."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from vcorr.contract.errors import UsageError
from vcorr.contract.modes import Renoise, RunMode, mode_of
from vcorr.contract.records import NO_SITE, AppliedSettings, RunSettings, Site
from vcorr.contract.seeds import NoiseDraw, stable_seed
from vcorr.contract.variants import NamedVariant
from vcorr.runner.called_model import CalledModel
from vcorr.runner.guided import Guided
from vcorr.runner.index_lists import resolve_layers, resolve_steps
from vcorr.runner.scored_variants import Readings
from vcorr.runner.spec import RunSpec
from vcorr.runner.tracking import Propagation, Tracking

_OTHER_DATA = "The data holds prompts or images only: name data with videos, --data NAME (vcorr list datasets)."


@dataclass(frozen=True)
class Selection:
    """What a run reads, and how.

    Args:
        clips: ids of the clips, in order.
        split: the split of the dataset.
        fitted: how clips are brought to the model's size, in words; "" if they have that size.
        sites: the chosen sites, by ascending layer.
        settings: mode, steps, seed and strength of guidance.
        variants: the variants that are scored.
        readings: the variants that each probe is asked under, by the name of the probe.
        applied: settings that the model applies by itself.
        noise_draw: how the noise of generated videos is drawn; None in modes that read the videos of the data.
        tracking: how points are followed or masks carried, where one site is read; None in a run of another task.
        guided: how videos are guided; None for no guidance.
    """

    clips: tuple[str, ...]
    split: str
    fitted: str
    sites: tuple[Site, ...]
    settings: RunSettings
    variants: tuple[NamedVariant, ...]
    readings: Readings
    applied: AppliedSettings = field(default_factory=AppliedSettings)
    noise_draw: NoiseDraw | None = None
    tracking: Tracking | Propagation | None = None
    guided: Guided | None = None

    @property
    def mode(self) -> RunMode:
        """What the model does with a clip."""
        return mode_of(self.settings.mode)

    def settings_for(self, clip_id: str) -> RunSettings:
        """Returns the settings with which the model runs on a clip.

        Where every clip draws its noise by itself, its seed is made of the seed of the run and the clip's id alone. So
        the noise does not depend on which other clips there are.
        """
        if self.noise_draw != "clip":
            return self.settings
        return replace(self.settings, seed=stable_seed(self.settings.seed, clip_id))

    @property
    def layers(self) -> frozenset[int]:
        """Layers of the chosen sites."""
        return frozenset(site.layer for site in self.sites)


def choose_sites(adapter: CalledModel, layers: str) -> tuple[Site, ...]:
    """Returns the sites that `--layers` names; none for a model that predicts without attention.

    Raises:
        UsageError: a layer is out of range.
        PluginError: the model's sites break the contract; see `CalledModel.sites`.
    """
    sites = adapter.sites()
    if not sites:
        return ()
    return tuple(sites[i] for i in resolve_layers(layers, len(sites)))


def choose_settings(spec: RunSpec, adapter: CalledModel, mode: RunMode, label: str) -> RunSettings:
    """Returns mode, steps, seed and guidance for the model.

    A model that adds no noise gets the one step `NO_SITE`, of 0 steps in total.

    Raises:
        UsageError: the model cannot run in the mode, or a step is out of range.
    """
    usual = adapter.steps
    steps, total = _steps(spec, usual, label) if usual else _no_steps(spec, mode, label)
    _check_mode(spec, adapter, mode, label)
    _check_noise_batch(spec, mode)
    if spec.keep_latents and mode.makes_video:
        raise UsageError(f"keep_latents: mode {mode.name} encodes no video of a clip.", hint="Leave it out.")
    together = min(spec.noise_batch, len(steps))
    return RunSettings(mode.name, steps, total, spec.seed, spec.cfg, noise_batch=together)


def choose_noise_draw(spec: RunSpec, mode: RunMode, usual: NoiseDraw) -> NoiseDraw | None:
    """Returns how the noise of generated videos is drawn; None if the mode generates none. usual: the dataset's way."""
    return (spec.noise_draw or usual) if mode.makes_video else None


def _steps(spec: RunSpec, usual: int, label: str) -> tuple[tuple[int, ...], int]:
    total = usual if spec.num_steps is None else spec.num_steps
    if total < 1:
        raise UsageError(f"num_steps must be at least 1, got {total}.", hint=f"{label} takes {usual} by default.")
    return resolve_steps(spec.steps, total), total


def _check_noise_batch(spec: RunSpec, mode: RunMode) -> None:
    if spec.noise_batch < 1:
        raise UsageError(
            f"noise_batch={spec.noise_batch}: a pass has at least one noise level.",
            hint="For example: --set noise_batch=2",
        )
    if spec.noise_batch > 1 and not isinstance(mode, Renoise):
        raise UsageError(
            f"noise_batch={spec.noise_batch}: in mode {mode.name}, each noise level follows from the one before.",
            hint="Leave it out. Only --mode renoise takes several in a pass.",
        )


def _no_steps(spec: RunSpec, mode: RunMode, label: str) -> tuple[tuple[int, ...], int]:
    asked = {
        "--steps": spec.steps is not None,
        "--set num_steps": spec.num_steps is not None,
        f"--mode {mode.name}": not isinstance(mode, Renoise),
    }
    for flag, given in asked.items():
        if given:
            raise UsageError(
                f"{label} adds no noise to a video and removes none: it has no steps and generates nothing.",
                hint=_way_out(flag, spec),
            )
    return (NO_SITE,), 0


def _way_out_of_mode(spec: RunSpec, mode: RunMode, others: str) -> str:
    if not spec.mode:
        return _OTHER_DATA
    of_run = " To read the videos that a run generated: --data run:RUN" if mode.makes_video else ""
    return f"It runs with {others}.{of_run}"


def _way_out(flag: str, spec: RunSpec) -> str:
    """Returns what to change so that a model without noise runs.

    Data without videos selects mode `generate` even if the user typed no `--mode`; then the hint is about the data.
    """
    if flag.startswith("--mode") and spec.mode is None:
        return _OTHER_DATA
    return f"Leave out {flag}."


def _check_mode(spec: RunSpec, adapter: CalledModel, mode: RunMode, label: str) -> None:
    known = adapter.modes
    if mode.name in known:
        return
    others = " or ".join(f"--mode {name}" for name in known)
    raise UsageError(
        f"{label} cannot run in {mode.name} mode.",
        hint=_way_out_of_mode(spec, mode, others),
    )
