"""Checks sites and options on the first clip, so that a wrong option is one error and not one failure per clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from vcorr.capture.needs import check_sites, latents_error, probe_needs, reads_latents
from vcorr.contract.bases import ProbeBase, with_defaults
from vcorr.contract.errors import PluginError, UsageError, VcorrError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.modes import RunMode
from vcorr.contract.part_calls import PartFailureError, PartName, show_value
from vcorr.contract.protocols import Probe, VariantProbe
from vcorr.contract.records import Clip, Readout, Site
from vcorr.contract.variants import PredictionKind
from vcorr.data.fitting_notes import fit_notes
from vcorr.runner.called_model import CalledModel
from vcorr.runner.clip_fit import check_queries_kept


def preflight(
    adapter: CalledModel,
    probes: Mapping[str, Probe],
    sites: Sequence[Site],
    mode: RunMode,
    first: Clip | None,
    *,
    names: Mapping[str, PartName],
    alone: bool,
) -> str:
    """Checks that the probes can read the sites, and that the model takes the first clip.

    If the cause is the video of the first clip, this is no error here: that clip fails later, and others may not.

    Args:
        adapter: the model, without loaded weights.
        probes: by name.
        sites: the sites that are read.
        mode: what the model does with the clip.
        first: the first clip; None if it could not be loaded.
        names: what messages call the probes, by name.
        alone: whether the run has no other clip; then its video is an error too.

    Returns:
        How the clip is brought to the model's size, in words for the user; "" if it has that size.

    Raises:
        UsageError, PluginError: no clip could be run with these options.
    """
    needs = {}
    for name, probe in probes.items():
        with names[name].calling("needs"):
            needs[name] = _check_members(name, probe)
    check_sites(needs, sites, str(adapter.name))
    of_latents = [name for name, own in needs.items() if reads_latents(own)]
    if of_latents and not adapter.has_latents:
        raise latents_error(of_latents[0], str(adapter.name))
    for name, probe in probes.items():
        with names[name].calling("check_sites()"):
            with_defaults(probe, ProbeBase).check_sites(sites)
    clip = None if first is None else mode.size_source(first)
    if clip is None:
        return ""
    fitted = _try_clip(adapter, sites, clip, alone=alone)
    if mode.makes_video:
        adapter.check_makes(_common_grid(adapter, sites, clip))
    return fitted


def _check_members(name: str, probe: Probe) -> frozenset[str]:
    """Returns what a probe needs, after checking the members that are words of a list.

    Raises:
        PluginError: a member is not in its list.
    """
    readout = with_defaults(probe, ProbeBase).readout
    if readout not in get_args(Readout):
        raise PluginError(f"Probe {name!r}: readout must be 'token' or 'free', got {show_value(readout)}.")
    if isinstance(probe, VariantProbe) and probe.answers not in get_args(PredictionKind):
        raise PluginError(f"Probe {name!r}: answers must be 'positions' or 'rows', got {show_value(probe.answers)}.")
    return probe_needs(name, probe)


def _try_clip(adapter: CalledModel, sites: Sequence[Site], clip: Clip, *, alone: bool) -> str:
    try:
        return _fit_of(clip, _common_grid(adapter, sites, clip), usual_frames(adapter, sites, clip))
    except UsageError:
        if alone or not _takes_without_video(adapter, sites, clip):
            raise
        return ""


def _fit_of(clip: Clip, grid: TokenGrid, usual: int) -> str:
    """Returns how the clip is brought to the grid's size, in words; "" if it has that size.

    Raises:
        UsageError: a query is in a frame that would be cut off.
    """
    if clip.video is not None:
        check_queries_kept(clip, grid.video_frames)
    return " ".join(fit_notes(clip, grid, usual))


def usual_frames(adapter: CalledModel, sites: Sequence[Site], clip: Clip) -> int:
    """Returns how many frames the model reads of a clip that is long enough; 0 if it has no number of its own."""
    try:
        return adapter.grid(clip.with_video(None), sites[0] if sites else None).video_frames
    except VcorrError:  # a plugin's adapter may rely on the video; the note about its frames is then left out
        return 0


def _takes_without_video(adapter: CalledModel, sites: Sequence[Site], clip: Clip) -> bool:
    """Returns whether the model takes the clip without its video. Then the video was the cause, and not an option."""
    if clip.video is None:
        return False
    try:
        _common_grid(adapter, sites, clip.with_video(None))
    except (UsageError, PartFailureError):
        return False
    return True


def _common_grid(adapter: CalledModel, sites: Sequence[Site], clip: Clip) -> TokenGrid:
    """Returns the grid of the first site, after checking that all sites cover the same pixels and frames."""
    first, *others = [adapter.grid(clip, site) for site in sites] or [adapter.grid(clip, None)]
    for site, grid in zip(sites[1:], others, strict=True):
        if (grid.height, grid.width, grid.video_frames) != (first.height, first.width, first.video_frames):
            raise PluginError(
                f"{adapter.name}: the grid of {site.name} covers {grid.video_frames} frames of "
                f"{grid.height:g}x{grid.width:g} pixels, the grid of {sites[0].name} covers "
                f"{first.video_frames} frames of {first.height:g}x{first.width:g}.",
                hint="Grids may differ in tokens and stride; a clip has one size.",
            )
    return first
