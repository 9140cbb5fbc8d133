"""Base classes for the objects of plugins: the optional members, with defaults that do nothing.

Inheriting is optional. An object that only meets its protocol gets the defaults where it is used:
``with_defaults(adapter, VideoModelBase).steps`` is the adapter's own number, or the default of the base class.
Importing this module imports neither torch nor any model.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MethodType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.guidance_protocols import GuidedSite, GuidedStep, Perturbation
from vcorr.contract.hit_rules import HitRule
from vcorr.contract.origins import VideoOrigin
from vcorr.contract.records import AppliedSettings, Mode, ModelCard, Queries, Readout, RunSettings, Site, Tracks
from vcorr.contract.seeds import NoiseDraw
from vcorr.contract.variants import CORRECTED, PredictionKind, Switches

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from vcorr.capture.captures import Capture
    from vcorr.contract.probe_protocols import Positions, Rows, TokenCosts
    from vcorr.functional.query_points import QueryPoints

B = TypeVar("B")


class VideoModelBase:
    """Optional members of a `vcorr.VideoModel`."""

    steps: int = 1
    """Number of scheduler steps to sample with by default. 0 for a model without noise: it has no steps, and its one
    pass per clip runs inside ``recorder.step(-1)``."""
    needs_image: bool = False
    """Whether sampling starts from an image, which is frame 0 of the clip's video."""
    reads_prompt: bool = True
    """Whether the prompt changes what is read. A model without noise reads no prompt, whatever is set here."""

    has_latents: bool = False
    """Whether `run` gives ``recorder.attach`` the latents of its denoiser, ``latents=...``, so that probes can read
    them."""

    batches_levels: bool = False
    """Whether `run` puts up to ``settings.noise_batch`` noise levels into one pass in mode renoise. If not, a run with
    more than one is refused."""

    takes_guidance: bool = False
    """Whether `run` applies the guidance of its settings in mode generate. If not, a run with a guidance is refused."""

    modes: tuple[Mode, ...] = ("renoise", "generate")
    """The modes that `run` knows. A run in another mode is refused before loading."""

    def weights_id(self, weights: str) -> str:
        """Returns what identifies the weights behind `--weights`, without loading them; by default the value itself.

        An adapter that overrides this returns a hub revision, a content hash or "random:SEED".

        Raises:
            MissingError: the weights are not in reach.
        """
        return weights

    def check_makes(self, grid: TokenGrid) -> None:
        """Checks that the model can generate a video of this size; by default any size passes.

        Called before anything is loaded.

        Raises:
            UsageError: the model cannot generate such a video.
        """

    def check_settings(self, settings: RunSettings) -> None:
        """Checks that the model can run with these settings, as far as is known yet; by default all settings pass.

        Called before anything is loaded, and again after `load`. A setting that fits no clip is then one error, not
        one failure per clip.

        Raises:
            UsageError: the model cannot run with them.
        """

    def check_loading(self, device: str, dtype: str) -> None:
        """Checks what `load` needs besides the weights, such as a package; by default nothing is missing.

        Called before anything is loaded. device, dtype: as for `load`.

        Raises:
            MissingError: a package is not installed.
            UsageError: an option does not work on this device or in this dtype.
        """

    def check_sharing(self) -> None:
        """Checks that several processes can share each pass, in `share_passes`; by default they cannot.

        Called before anything is loaded.

        Raises:
            UsageError: they cannot.
        """
        raise UsageError(f"Several processes cannot share a pass of {type(self).__name__}.")

    def share_passes(self, processes: int) -> None:
        """Lets several processes share each pass from now on, each of them with some of the tokens.

        Called after `load`, in each of them. They are the default group of torch.distributed, in the order of their
        tokens. `run` then computes the same in all of them.
        """

    def guidance_branches(self, settings: RunSettings) -> int:
        """Returns how many guidance branches the denoiser computes in each step of mode generate; by default 1.

        The estimate of time needs it.
        """
        return 1

    def own_settings(self, settings: RunSettings) -> AppliedSettings:
        """Returns settings that the model applies by itself, such as its authors' noise schedule; by default none.

        Called after `weights_id`, before anything is loaded. The values are part of the fingerprint of predictions.
        """
        return AppliedSettings()

    def model_card(self) -> ModelCard | None:
        """Returns the model's card, which the checks compare with the sites; by default None."""
        return None


class ProbeBase:
    """Optional members of a `vcorr.Probe`."""

    readout: Readout = "token"
    """Which positions the probe can predict: "token", the query moved by whole tokens, or "free", any position."""

    def check_sites(self, sites: Sequence[Site]) -> None:
        """Checks the options against the chosen sites before anything runs; by default they pass.

        Raises:
            UsageError: an option cannot be used at a site, such as a head that the site does not have.
        """

    def check_variants(self, variants: Sequence[Switches]) -> None:
        """Checks the options of a `VariantProbe` against the variants of the run; by default they pass.

        Called before anything is loaded.

        Raises:
            UsageError: an option makes no sense under one of the variants.
        """

    def answers_per_site(self, heads: int) -> int:
        """Returns how many predictions `read` makes at a site with `heads` heads; by default 1.

        A probe of the latents returns 0: it reads no site, and makes one prediction per step.

        The estimate of disk space needs it.
        """
        return 1

    def take_costs(self, capture: Capture, variant: Switches) -> TokenCosts | None:
        """Returns what the probe matches, from which a tracker reads positions; by default None: it cannot track.

        Args:
            capture: as for `read`.
            variant: decides the scale and the rounding of the correlation.

        Raises:
            UsageError: the options ask for more than one prediction, or for a head that does not exist.
        """
        return None


class VariantProbeBase(ProbeBase, ABC):
    """Base class of a `vcorr.VariantProbe`: a subclass writes `read_each`, which `read` calls."""

    answers: PredictionKind = "positions"
    """What the probe predicts: "positions", or "rows" for an attention summary."""

    def read(self, capture: Capture, queries: QueryPoints) -> Mapping[int, Tensor | Positions | Rows]:
        """Predicts under `corrected`; see `vcorr.Probe`. Raises what `read_each` raises."""
        return self.read_each(capture, queries, [CORRECTED])[0]

    @abstractmethod
    def read_each(
        self, capture: Capture, queries: QueryPoints, variants: Sequence[Switches]
    ) -> Sequence[Mapping[int, Tensor | Positions | Rows]]:
        """Predicts under each variant, in the given order; see `vcorr.VariantProbe`."""


class MetricBase:
    """Optional members of a metric: `vcorr.Metric`, `RowMetric`, `TrackMetric`, `MaskMetric` or `VideoMetric`."""

    columns: tuple[str, ...] = ()
    """Names of all columns that the metric gives, in order. Without them, vcorr learns the names by a trial on a few
    invented points."""
    primary: str = ""
    """The column that chooses and ranks sites. It must be named if the metric gives several columns."""
    lower: float = -math.inf
    """Least value of the metric's columns. A value outside `lower` to `upper` is an error of the metric's plugin."""
    upper: float = math.inf
    """Largest value of the metric's columns."""
    accuracies: tuple[str, ...] = ()
    """Columns of a `vcorr.TrackMetric` in which the reference itself scores 1, the best value. Their ceiling is 1.
    Their floor is the score of tracks that stay at their queries and are visible in every frame."""

    def under(self, variant: Switches) -> Self:
        """Returns the metric for another variant (docs/switches.md); by default itself, for every variant."""
        return self

    def hit_rules(self, reference: Tracks, grid: TokenGrid) -> Mapping[str, HitRule]:
        """Returns the rules of columns whose value is a share of hits; by default none.

        From a rule vcorr computes the column's ceiling, the largest share that a read-out can reach (docs/protocol.md).
        A column without a rule has neither floor nor ceiling, and so no skill. The share of hits by the rule must be
        the value that `score` gives.

        Args:
            reference: as in `score`.
            grid: as in `score`.
        """
        return {}


class DatasetBase:
    """Optional members of a `vcorr.Dataset`."""

    noise_draw: NoiseDraw = "clip"
    """How a model draws the noise in mode generate, unless the user chooses. "clip": for every clip by itself.
    "shared": one draw for all clips, for data that belong to videos which were generated so."""

    def identity(self) -> Mapping[str, Any] | None:
        """Returns plain values that identify the dataset's files in the fingerprint, such as hashes; by default None.

        None means that the options identify the dataset. If there are values, the fingerprint leaves out the option
        `path`.
        """
        return None

    def origin(self) -> VideoOrigin | None:
        """Returns the run of vcorr that generated the videos; by default None.

        Rows of models without noise then name the data, mode and tracker of that run, so that both compare.
        """
        return None

    def check_files(self, clip_ids: Sequence[str]) -> None:
        """Checks the files behind these clips; by default they pass.

        Called before anything is loaded, with the clips that the run will read. A bad file is then one error at the
        start.

        Raises:
            MissingError: a file is missing.
            UsageError, StoreError: a file cannot be read, or holds something else than it should.
        """

    def notes(self, clip_id: str) -> Sequence[str]:
        """Returns sentences that the user should read about a clip, such as that it was cut; by default none."""
        return ()

    def track(self, clip_id: str, queries: Queries) -> Tracks:
        """Returns exact tracks and visibility of any queries (t, x, y) in a clip's video; by default not supported.

        For datasets that know their scenes. The track of query n passes through the query. A query on a track of the
        clip gets that track, with the same layer where layers are known.

        Raises:
            UsageError: the dataset cannot answer other queries than its own, or there is no such clip.
        """
        raise UsageError(
            f"{type(self).__name__} cannot track other queries in clip {clip_id!r}: it only knows tracks of its own.",
            hint="A tracker follows any queries: vcorr list trackers",
        )

    def masks(self, clip_id: str) -> NDArray[np.uint8]:
        """Returns the exact label of every pixel of a clip's video, (T, H, W); by default the clip's layer map.

        0 is the background, 255 a pixel that does not count, any other number an object, the same in every frame.

        Raises:
            UsageError: the dataset knows no masks, or there is no such clip.
        """
        layers: NDArray[np.uint8] | None = cast("Any", self).clip(clip_id).layers  # a method of every dataset
        if layers is None:
            raise UsageError(
                f"{type(self).__name__} has no masks for clip {clip_id!r}.",
                hint="Masks of objects are known, for example, in --data davis17:PATH",
            )
        return layers


class TrackerBase:
    """Optional member of a `vcorr.Tracker`."""

    def identity(self) -> Mapping[str, Any]:
        """Returns plain values that identify the tracker's files in the fingerprint, such as hashes; by default none.

        A value with the name of an option replaces that option in the fingerprint. Called before anything runs.

        Raises:
            MissingError: weights or a package are not in reach.
        """
        return {}


class GuidanceBase:
    """Members of a `vcorr.Guidance`; with these defaults it changes nothing."""

    def perturb(self, sites: Sequence[GuidedSite]) -> Perturbation | None:
        """Chooses what a further prediction changes; by default there is none. See `vcorr.Guidance`."""
        return None

    def combine(self, predictions: Mapping[str, Tensor], step: GuidedStep) -> Mapping[str, Tensor]:
        """Changes the predictions of a step; by default they stay as they are. See `vcorr.Guidance`."""
        return predictions

    def guides(self, step: GuidedStep) -> bool:
        """Returns whether the guidance does anything in a step; by default always.

        A step without it costs nothing more: there is no further prediction, and `combine` is not called.
        """
        return True

    def num_steps(self, asked: int) -> int:
        """Returns how many steps to sample with, where the user asked for `asked`; by default as many.

        A guidance may spend on steps what others spend on a further prediction. A run asks it, before anything is
        loaded. On a pipeline of your own, the number of steps in its call counts.
        """
        return asked

    def with_seed(self, seed: int) -> Self:
        """Returns the guidance with everything that it draws by chance drawn from `seed`; by default itself.

        A run calls it with its own seed, before `perturb`.
        """
        return self


def with_defaults(part: object, base: type[B]) -> B:
    """Returns `part` with every member of `base`: its own member where it has one, else the default of `base`.

    An object that inherits from `base` is returned as it is.
    """
    return part if isinstance(part, base) else cast("B", _WithDefaults(part, base))


class _WithDefaults:
    """Stands for an instance of a base class; an object that does not inherit from the class provides the members."""

    def __init__(self, part: object, base: type) -> None:
        self._part = part
        self._base = base

    def __getattr__(self, name: str) -> Any:
        if hasattr(self._part, name):
            return getattr(self._part, name)
        default = getattr(self._base, name)
        return MethodType(default, self._part) if inspect.isfunction(default) else default
