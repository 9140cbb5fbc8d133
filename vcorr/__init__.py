"""vcorr measures where, when and how well video diffusion models know which point is which across frames.

Importing this package is cheap: every name below is imported on first use. No name imports torch unless it computes
with tensors.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vcorr import capture as capture
    from vcorr import diffusion as diffusion
    from vcorr import functional as functional
    from vcorr import guidance as guidance
    from vcorr import testing as testing
    from vcorr.analysis.loaded_run import load as load
    from vcorr.analysis.loaded_run import runs as runs
    from vcorr.contract.bases import DatasetBase as DatasetBase
    from vcorr.contract.bases import GuidanceBase as GuidanceBase
    from vcorr.contract.bases import MetricBase as MetricBase
    from vcorr.contract.bases import ProbeBase as ProbeBase
    from vcorr.contract.bases import TrackerBase as TrackerBase
    from vcorr.contract.bases import VariantProbeBase as VariantProbeBase
    from vcorr.contract.bases import VideoModelBase as VideoModelBase
    from vcorr.contract.cards import load_card as load_card
    from vcorr.contract.cards import parse_card as parse_card
    from vcorr.contract.entries import DatasetEntry as DatasetEntry
    from vcorr.contract.entries import GuidanceEntry as GuidanceEntry
    from vcorr.contract.entries import MetricEntry as MetricEntry
    from vcorr.contract.entries import ModelEntry as ModelEntry
    from vcorr.contract.entries import PageEntry as PageEntry
    from vcorr.contract.entries import ProbeEntry as ProbeEntry
    from vcorr.contract.entries import TrackerEntry as TrackerEntry
    from vcorr.contract.errors import CaptureError as CaptureError
    from vcorr.contract.errors import MissingError as MissingError
    from vcorr.contract.errors import NumericalError as NumericalError
    from vcorr.contract.errors import PluginError as PluginError
    from vcorr.contract.errors import StoreError as StoreError
    from vcorr.contract.errors import UsageError as UsageError
    from vcorr.contract.errors import VcorrError as VcorrError
    from vcorr.contract.errors import not_loaded as not_loaded
    from vcorr.contract.errors import unknown_name as unknown_name
    from vcorr.contract.geometry import Span as Span
    from vcorr.contract.geometry import TokenGrid as TokenGrid
    from vcorr.contract.geometry import latent_frames as latent_frames
    from vcorr.contract.guidance_protocols import GuidedCall as GuidedCall
    from vcorr.contract.guidance_protocols import GuidedSite as GuidedSite
    from vcorr.contract.guidance_protocols import GuidedStep as GuidedStep
    from vcorr.contract.guidance_protocols import Perturbation as Perturbation
    from vcorr.contract.hit_rules import HitRule as HitRule
    from vcorr.contract.hookspecs import hookimpl as hookimpl
    from vcorr.contract.option_notes import option as option
    from vcorr.contract.protocols import Dataset as Dataset
    from vcorr.contract.protocols import Guidance as Guidance
    from vcorr.contract.protocols import MaskMetric as MaskMetric
    from vcorr.contract.protocols import Metric as Metric
    from vcorr.contract.protocols import Page as Page
    from vcorr.contract.protocols import Positions as Positions
    from vcorr.contract.protocols import Probe as Probe
    from vcorr.contract.protocols import RowMetric as RowMetric
    from vcorr.contract.protocols import Rows as Rows
    from vcorr.contract.protocols import Tracker as Tracker
    from vcorr.contract.protocols import TrackMetric as TrackMetric
    from vcorr.contract.protocols import VariantProbe as VariantProbe
    from vcorr.contract.protocols import VideoMetric as VideoMetric
    from vcorr.contract.protocols import VideoModel as VideoModel
    from vcorr.contract.records import AppliedSettings as AppliedSettings
    from vcorr.contract.records import BlockAxes as BlockAxes
    from vcorr.contract.records import Clip as Clip
    from vcorr.contract.records import Factorised as Factorised
    from vcorr.contract.records import ModelCard as ModelCard
    from vcorr.contract.records import Prediction as Prediction
    from vcorr.contract.records import Queries as Queries
    from vcorr.contract.records import RowsPrediction as RowsPrediction
    from vcorr.contract.records import RunSettings as RunSettings
    from vcorr.contract.records import Score as Score
    from vcorr.contract.records import Site as Site
    from vcorr.contract.records import Tracks as Tracks
    from vcorr.contract.records import Unrotated as Unrotated
    from vcorr.contract.records import is_random as is_random
    from vcorr.contract.rotary import Rotary as Rotary
    from vcorr.contract.video_tracks import VideoTracks as VideoTracks
    from vcorr.data.query_grids import query_grid as query_grid
    from vcorr.data.tap_queries import choose_tap_queries as choose_tap_queries
    from vcorr.data.video.lossless import read_lossless as read_lossless
    from vcorr.data.video.video_reader import read_video as read_video
    from vcorr.interventions.knockout_edits import Knockout as Knockout
    from vcorr.notebook.knocking_out import knock_out as knock_out
    from vcorr.notebook.layouts import Layout as Layout
    from vcorr.notebook.named_run import run as run
    from vcorr.notebook.recording import record as record
    from vcorr.plugins.registry import installed as installed
    from vcorr.runner.clip_fit import fit_clip as fit_clip
    from vcorr.runner.point_tracking import track as track
    from vcorr.store.atomic_files import atomic_file as atomic_file
    from vcorr.store.fingerprint import hash_file as hash_file
    from vcorr.store.home import home_folder as home_folder
    from vcorr.trackers.both_ways import track_both_ways as track_both_ways
    from vcorr.trackers.chain import check_tracking_input as check_tracking_input
    from vcorr.trackers.network_files import check_finite as check_finite
    from vcorr.trackers.network_files import choose_tracker_device as choose_tracker_device
    from vcorr.trackers.network_files import find_checkpoint as find_checkpoint
    from vcorr.trackers.network_files import identify_network as identify_network
    from vcorr.trackers.network_files import read_checkpoint as read_checkpoint
    from vcorr.trackers.network_files import repeat_exactly as repeat_exactly
    from vcorr.tracking.correspondence import CorrespondenceTracker as CorrespondenceTracker
    from vcorr.tracking.track_options import TrackOptions as TrackOptions

    __version__: str
else:
    from vcorr.contract.lazy_names import lazy_names

    _get, __dir__, __all__ = lazy_names(
        __name__,
        {
            "": "capture diffusion functional guidance testing",
            "vcorr.analysis.loaded_run": "load runs",
            "vcorr.contract.bases": (
                "DatasetBase GuidanceBase MetricBase ProbeBase TrackerBase VariantProbeBase VideoModelBase"
            ),
            "vcorr.contract.cards": "load_card parse_card",
            "vcorr.contract.entries": (
                "DatasetEntry GuidanceEntry MetricEntry ModelEntry PageEntry ProbeEntry TrackerEntry"
            ),
            "vcorr.contract.errors": (
                "CaptureError MissingError NumericalError PluginError StoreError UsageError VcorrError not_loaded "
                "unknown_name"
            ),
            "vcorr.contract.geometry": "Span TokenGrid latent_frames",
            "vcorr.contract.guidance_protocols": "GuidedCall GuidedSite GuidedStep Perturbation",
            "vcorr.contract.hit_rules": "HitRule",
            "vcorr.contract.hookspecs": "hookimpl",
            "vcorr.contract.option_notes": "option",
            "vcorr.contract.protocols": (
                "MaskMetric "
                "Dataset Guidance Metric Page Positions Probe RowMetric Rows Tracker TrackMetric VariantProbe "
                "VideoMetric VideoModel"
            ),
            "vcorr.contract.records": (
                "AppliedSettings BlockAxes Clip Factorised ModelCard Prediction Queries RowsPrediction "
                "RunSettings Score Site Tracks Unrotated is_random"
            ),
            "vcorr.contract.rotary": "Rotary",
            "vcorr.contract.video_tracks": "VideoTracks",
            "vcorr.data.query_grids": "query_grid",
            "vcorr.data.tap_queries": "choose_tap_queries",
            "vcorr.interventions.knockout_edits": "Knockout",
            "vcorr.notebook.knocking_out": "knock_out",
            "vcorr.notebook.layouts": "Layout",
            "vcorr.notebook.recording": "record",
            "vcorr.notebook.named_run": "run",
            "vcorr.data.video.lossless": "read_lossless",
            "vcorr.data.video.video_reader": "read_video",
            "vcorr.plugins.registry": "installed",
            "vcorr.runner.clip_fit": "fit_clip",
            "vcorr.runner.point_tracking": "track",
            "vcorr.store.atomic_files": "atomic_file",
            "vcorr.store.fingerprint": "hash_file",
            "vcorr.store.home": "home_folder",
            "vcorr.trackers.both_ways": "track_both_ways",
            "vcorr.trackers.chain": "check_tracking_input",
            "vcorr.trackers.network_files": "check_finite choose_tracker_device find_checkpoint identify_network "
            "read_checkpoint repeat_exactly",
            "vcorr.tracking.correspondence": "CorrespondenceTracker",
            "vcorr.tracking.track_options": "TrackOptions",
        },
    )

    def __getattr__(name):
        if name == "__version__":
            return importlib.import_module("importlib.metadata").version("vcorr")
        return _get(name)
