"""What depends on the task of a run while it is planned: the class that every task extends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.protocols import Probe
from vcorr.contract.records import Clip, ModelCard
from vcorr.contract.tasks import AT_ONE_SITE, MAKING_VIDEOS
from vcorr.plugins.registry import Registry
from vcorr.runner.called_model import CalledModel
from vcorr.runner.followed import SiteChoice
from vcorr.runner.parts import Part, model_part
from vcorr.runner.run_data import ClipReader
from vcorr.runner.spec import RunSpec
from vcorr.runner.tracking import Propagation, Tracking
from vcorr.runner.tracking_site import SitedSpec


class RunTask(ABC):
    """What a run measures: the words it takes, and what it reads. `stages` says what is done with a clip.

    It has no state. Its methods are called in the order in which they are written here.
    """

    name: ClassVar[str]
    command: ClassVar[str] = "run"
    """The command of vcorr that makes such a run."""
    own_flags: ClassVar[tuple[str, ...]] = ()
    """Fields of the spec that `vcorr run` takes by `--set`, and that this command has a flag for, or is itself."""
    stages: ClassVar[str] = f"{__package__}.clip_stages:ClipStages"
    """Import string of the class that works off its clips; see `ClipStages`."""
    asks_probes: ClassVar[bool] = False
    """Whether the probes of the run are asked at every site and step. If False, the model asks them, or nothing does.
    """
    needs_tracks: ClassVar[bool] = False
    """Whether the data must bring tracks, against which points are measured."""
    scores_objects: ClassVar[bool] = False
    """Whether clips have objects with scores of their own."""

    @property
    def at_one_site(self) -> bool:
        """Whether a tracker, or a model at one site that was chosen before, is measured, in place of all sites."""
        return self.name in AT_ONE_SITE

    @property
    def makes_videos(self) -> bool:
        """Whether videos are made and scored, and no attention is read."""
        return self.name in MAKING_VIDEOS

    @abstractmethod
    def check_words(self, spec: RunSpec) -> None:
        """Checks that a spec sets nothing that another task has alone, before a name is looked up.

        Raises:
            UsageError: it does.
        """

    def find_measured(self, spec: RunSpec, registry: Registry) -> Part:
        """Returns the model that a run measures, or what takes its place.

        Raises:
            UsageError: an unknown name or option, or nothing is named.
        """
        return model_part(spec, registry)

    def fill_site(self, spec: RunSpec, model: CalledModel, card: ModelCard | None, weights: str) -> SitedSpec:
        """Returns the spec with the site or the layers that it leaves open; raises UsageError if nothing names them."""
        return SitedSpec(spec)

    def choose_mode_word(self, spec: RunSpec) -> str | None:
        """Returns the mode of the run; None if the data decide."""
        return spec.mode

    def choose_acting(
        self, spec: RunSpec, model: Part, probes: Mapping[str, Probe], parts: Sequence[Part], asked: SiteChoice
    ) -> tuple[Part, Tracking | Propagation | None]:
        """Returns the part that runs, and how it follows points or carries masks; arguments as of `followed.follow`.

        Raises:
            UsageError: options that nothing takes, or a probe, layers or steps that the task cannot use.
        """
        return model, None

    def read_masks(self, dataset: ClipReader, clip: Clip) -> NDArray[np.uint8] | None:
        """Returns the reference masks of a clip, (T, H, W) labels; None for a task that reads none."""
        return None
