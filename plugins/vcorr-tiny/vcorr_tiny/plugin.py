"""Lists the models, datasets and the metric of the embedded model. Imports neither torch nor diffusers."""

from __future__ import annotations

from collections.abc import Iterable

from vcorr import DatasetEntry, MetricEntry, ModelEntry, hookimpl
from vcorr_tiny.network_folder import card_reference, find_networks

SMALL = {"height": 64, "width": 64, "frames": 9}
"""Video size for `vcorr plugin check`; the network keeps its size."""


@hookimpl
def vcorr_models() -> Iterable[ModelEntry]:
    """Returns the entries of the embedded model and of its untrained twin.

    Raises:
        MissingError, UsageError: VCORR_TINY_NETWORKS names a folder without networks.
    """
    find_networks()
    return [
        ModelEntry(
            name="tiny",
            summary="Embedded CogVideoX of 10 layers, trained on sprites; runs on a CPU, no download.",
            factory="vcorr_tiny.model:Tiny",
            config="vcorr.diffusion:VideoConfig",
            card=card_reference(),
            data="sprites",
            check=SMALL,
        ),
        ModelEntry(
            name="tiny-untrained",
            summary="tiny with random weights, except for its autoencoder; shows what the architecture does untrained.",
            factory="vcorr_tiny.model:TinyUntrained",
            config="vcorr.diffusion:VideoConfig",
            card="vcorr_tiny:cards/tiny-untrained.yaml",
            data="sprites",
            check=SMALL,
        ),
    ]


@hookimpl
def vcorr_metrics() -> Iterable[MetricEntry]:
    """Returns the metric of generated videos that only suits data of rigid layers, as the embedded model makes them."""
    return [
        MetricEntry(
            name="rigid-layers",
            summary="How far the layers of a generated video depart from rigid motion; for videos like sprites.",
            factory="vcorr_tiny.rigid_layers:RigidLayers",
            task="generation",
        )
    ]


@hookimpl
def vcorr_datasets() -> Iterable[DatasetEntry]:
    """Returns the entries of the rendered videos and of the stereo pair."""
    return [
        DatasetEntry(
            name="sprites",
            summary="Procedural videos of moving layers with exact tracks; 64 held-out clips of 17 frames, 128x128.",
            factory="vcorr_tiny.dataset:Sprites",
            config="vcorr_tiny.dataset:SpritesConfig",
        ),
        DatasetEntry(
            name="photos",
            summary="The scenes of sprites, hard by default, with photographs as textures (needs scikit-image).",
            factory="vcorr_tiny.photo_scenes:Photos",
            config="vcorr_tiny.photo_scenes:PhotosConfig",
        ),
        DatasetEntry(
            name="sprites-tap",
            summary="Longer clips of sprites in the form of TAP-Vid: points are hidden and return; exact tracks.",
            factory="vcorr_tiny.tap_scenes:SpritesTap",
            config="vcorr_tiny.tap_scenes:SpritesTapConfig",
        ),
        DatasetEntry(
            name="photos-tap",
            summary="The scenes of sprites-tap, hard by default, with photographs as textures (needs scikit-image).",
            factory="vcorr_tiny.tap_scenes:PhotosTap",
            config="vcorr_tiny.tap_scenes:PhotosTapConfig",
        ),
        DatasetEntry(
            name="stereo",
            summary="A real stereo pair with measured disparity as a clip of two frames (needs scikit-image).",
            factory="vcorr_tiny.stereo:Stereo",
            config="vcorr_tiny.stereo:StereoConfig",
        ),
    ]
