"""Holds published settings of tracking by correspondence, each with its source (docs/tracking.md). No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vcorr.contract.errors import UsageError, unknown_name


@dataclass(frozen=True)
class PublishedSite:
    """What a source says of one model. Options are values that hold for this model in place of the preset's.

    layer: number of the layer. head: number of the head; None if all are averaged.
    """

    layer: int
    head: int | None = None
    probe_options: Mapping[str, Any] = field(default_factory=dict)
    track_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Preset:
    """One published setting.

    Args:
        probe: name of the probe.
        track_options: values of the options of tracking (`track.KEY`).
        source: where the setting was published, and what is not known of it.
        probe_options: values of the options of the probe (`probe.KEY`).
        variant: as text (docs/switches.md).
        steps: the noise level, as `--steps` reads it.
        sites: what the source says of single models, by the model's name.
        one_head: whether it reads one head, which has to be chosen where none is published.
        of_layers: further options of tracking where several layers are read.
    """

    probe: str
    track_options: Mapping[str, Any]
    source: str
    probe_options: Mapping[str, Any] = field(default_factory=dict)
    variant: str = "corrected"
    steps: str = "last"
    sites: Mapping[str, PublishedSite] = field(default_factory=dict)
    one_head: bool = False
    of_layers: Mapping[str, Any] = field(default_factory=dict)

    def layer_of(self, model: str) -> int | None:
        """Returns the published layer of a model; None if none is published."""
        return self.sites[model].layer if model in self.sites else None

    def options_of_tracking(self, model: str, given: Mapping[str, Any], layers: int = 1) -> dict[str, Any]:
        """Returns the options of tracking for a model; `given` ones, from the user, come first.

        layers: number of layers that are read.
        """
        own = self.sites[model].track_options if model in self.sites else {}
        return {**self.track_options, **(self.of_layers if layers > 1 else {}), **own, **given}

    def options_of_probe(self, model: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the options of the probe for a model; `given` ones, from the user, come first.

        Raises:
            UsageError: the preset reads one head, and neither its source nor the user names it for this model.
        """
        site = self.sites.get(model)
        own = {**self.probe_options, **({} if site is None else site.probe_options)}
        if site is not None and site.head is not None:
            own["heads"] = str(site.head)
        found = {**own, **given}
        if self.one_head and "heads" not in found:
            known = ", ".join(f"head {site.head} of {name}" for name, site in self.sites.items())
            raise UsageError(
                f"This preset reads one head, and none of {model} is published (known: {known}).",
                hint="Choose a head on held-out clips, and name it: --set probe.heads=3",
            )
        return found


_STILLS = {"latents": "stills", "prompt": ""}
"""All published settings encode each frame by itself and give an empty prompt."""

PRESETS: Mapping[str, Preset] = {
    "difftrack": Preset(
        probe="qk",
        track_options={**_STILLS, "order": "interval", "add_noise": False, "visibility": "always"},
        variant="difftrack+scale=heads",
        of_layers={"combine": "logits"},
        sites={
            "cogvideox": PublishedSite(17, track_options={"chunk": 13}),
            "cogvideox-5b": PublishedSite(17, track_options={"chunk": 13}),
            "hunyuanvideo": PublishedSite(16, track_options={"chunk": 13}),
        },
        source="DiffTrack, arXiv 2506.17220, and its public code: chunks of 13 frames, the queries of frame 0 alone.",
    ),
    "ditracker": Preset(
        probe="qk",
        probe_options={"symmetric": False},
        track_options={**_STILLS, "order": "consecutive", "add_noise": False, "visibility": "always"},
        sites={"cogvideox": PublishedSite(17, head=2, track_options={"chunk": 14})},
        one_head=True,
        source="DiTracker, arXiv 2512.20606, and its public code: one head, one softmax, chunks of 13 frames behind the"
        " first frame of the video. The layer and head of Wan2.1, and the read-out of the zero-shot numbers, are not"
        " known here.",
    ),
    "heft": Preset(
        probe="kk",
        probe_options={"radius": 1, "slow_bands": 0.5},
        track_options={**_STILLS, "order": "consecutive", "visibility": "cycle"},
        sites={
            "cogvideox": PublishedSite(
                15, head=19, probe_options={"slow_bands": 1.0}, track_options={"threshold": round(1 / (1 + 27 / 16), 3)}
            )
        },
        one_head=True,
        source="HeFT, arXiv 2512.04619, and its public code: keys of one head, the faster rotary bands dropped, a"
        " soft-argmax, visibility by the way back (27 pixels for CogVideoX-2B). Layer 18 of Cosmos-Predict2-2B at"
        " 704x1280 is published; its head and its share of bands are not known here. The code compares keys by cosine,"
        " tracks from frame to frame and updates its query; none of this is done here.",
    ),
}
"""Published settings by name."""


def find_preset(name: str) -> Preset:
    """Returns the preset of this name.

    Raises:
        UsageError: there is no such preset.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]
