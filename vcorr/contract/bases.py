"""Base classes of what plugins make: the optional members, with defaults that do nothing.

Inheriting is optional. An object that only meets its protocol (`vcorr.contract.protocols`) is completed where used:
``with_defaults(adapter, VideoModelBase).steps`` is the adapter's own number or the default of the base class.
Importing this module imports neither torch nor any model.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MethodType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Mode, ModelCard, Readout, RunSettings, Site
from vcorr.contract.variants import CORRECTED, PredictionKind, Switches

if TYPE_CHECKING:
    from torch import Tensor

    from vcorr.capture.captures import Capture
    from vcorr.contract.probe_protocols import Positions, Rows
    from vcorr.functional.query_points import QueryPoints

B = TypeVar("B")


class VideoModelBase:
    """What a `vcorr.contract.protocols.VideoModel` may have besides its methods."""

    steps: int = 1
    """Scheduler steps it samples with by default. 0 for a model without noise: it has no steps, and its one pass per
    clip runs inside ``recorder.step(-1)``."""
    needs_image: bool = False
    """Whether sampling starts from an image, frame 0 of the clip's video."""
    reads_prompt: bool = True
    """Whether the prompt changes anything that is read; a model without noise reads none."""

    modes: tuple[Mode, ...] = ("renoise", "generate")
    """The modes that `run` knows (`vcorr.contract.modes`); a run in another one is refused before loading."""

    def weights_id(self, weights: str) -> str:
        """What identifies the weights behind `--weights`, without loading them; the value itself by default.

        Others return a hub revision, a content hash or "random:SEED".

        Raises:
            MissingError: the weights are not in reach.
        """
        return weights

    def check_makes(self, grid: TokenGrid) -> None:
        """Checks that the model can generate a video of that size; any size passes by default.

        Called before anything is loaded.

        Raises:
            UsageError: the model cannot generate such a video.
        """

    def check_settings(self, settings: RunSettings) -> None:
        """Checks that the model can run with these settings, as far as it is known yet; passes by default.

        Called before anything is loaded, and once more after `load`. What no clip can be run with is then one error
        and not a failure per clip.

        Raises:
            UsageError: it cannot.
        """

    def model_card(self) -> ModelCard | None:
        """The model's card, which the checks compare with the sites; None by default."""
        return None


class ProbeBase:
    """What a `vcorr.contract.protocols.Probe` may have besides its members."""

    readout: Readout = "token"
    """Which positions it can answer: "token", centres of whole tokens, or "free", any position."""

    def check_sites(self, sites: Sequence[Site]) -> None:
        """Checks the options against the chosen sites before anything runs; passes by default.

        Raises:
            UsageError: an option cannot be used at a site, such as a head that it does not have.
        """

    def check_variants(self, variants: Sequence[Switches]) -> None:
        """Checks the options against the variants a `VariantProbe` is asked under, before anything is
        loaded; passes by default.

        Raises:
            UsageError: an option makes no sense under one of them.
        """

    def answers_per_site(self, heads: int) -> int:
        """How many answers `read` gives at a site with `heads` heads, for the estimate of disk space; 1 by default."""
        return 1


class VariantProbeBase(ProbeBase, ABC):
    """A `vcorr.contract.protocols.VariantProbe`: a subclass writes `read_each`, and `read` follows from it."""

    answers: PredictionKind = "positions"
    """What it answers: "positions" or "rows"."""

    def read(self, capture: Capture, queries: QueryPoints) -> Mapping[int, Tensor | Positions | Rows]:
        """Answers under `corrected`; see `vcorr.contract.protocols.Probe`. Raises as `read_each`."""
        return self.read_each(capture, queries, [CORRECTED])[0]

    @abstractmethod
    def read_each(
        self, capture: Capture, queries: QueryPoints, variants: Sequence[Switches]
    ) -> Sequence[Mapping[int, Tensor | Positions | Rows]]:
        """Answers under each variant, in their order; see `vcorr.contract.protocols.VariantProbe`."""


class MetricBase:
    """What a `vcorr.contract.protocols.Metric` or `vcorr.contract.protocols.RowMetric` may have besides its members."""

    def under(self, variant: Switches) -> Self:
        """The same metric under another variant (docs/switches.md); by default itself, whatever the variant."""
        return self


class DatasetBase:
    """What a `vcorr.contract.protocols.Dataset` may have besides its methods."""

    def identity(self) -> Mapping[str, Any] | None:
        """Plain values that identify the files behind it, such as content hashes, for the fingerprint;
        None by default, when its options identify it.

        With values, the option `path` is left out of the fingerprint.
        """
        return None

    def check_files(self, clip_ids: Sequence[str]) -> None:
        """Checks the files behind these clips; passes by default.

        Called before anything is loaded, with the clips that the run will read: what is wrong with a file is then one
        error at once.

        Raises:
            MissingError: a file is not there.
            UsageError, StoreError: a file cannot be read, or holds something else than it should.
        """

    def notes(self, clip_id: str) -> Sequence[str]:
        """Sentences the user should read about a clip, for instance that it was cut; none by default."""
        return ()


class TrackerBase:
    """What a `vcorr.contract.protocols.Tracker` may have besides its method."""

    def identity(self) -> Mapping[str, Any]:
        """Plain values that identify the files behind it, such as content hashes, for the fingerprint;
        an empty mapping by default.

        Values named like an option take the option's place. Called before anything runs.

        Raises:
            MissingError: weights or a package are not in reach.
        """
        return {}


def with_defaults(part: object, base: type[B]) -> B:
    """`part` with every member of `base`: its own where it has one, else the default of `base`.

    An object that inherits from `base` is returned as it is.
    """
    return part if isinstance(part, base) else cast("B", _WithDefaults(part, base))


class _WithDefaults:
    """Looks like an instance of a base class; the members come from an object that does not inherit from it."""

    def __init__(self, part: object, base: type) -> None:
        self._part = part
        self._base = base

    def __getattr__(self, name: str) -> Any:
        if hasattr(self._part, name):
            return getattr(self._part, name)
        default = getattr(self._base, name)
        return MethodType(default, self._part) if inspect.isfunction(default) else default
