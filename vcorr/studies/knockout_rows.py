"""The table of a knock-out study: one Arrow file per clip and edit, written whole, so that a study can go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vcorr.store.arrow_rows import rows_of
from vcorr.store.atomic_files import make_folder
from vcorr.store.columns import NAN, Float, Int32, Int64, Text, column
from vcorr.store.schema import NONE
from vcorr.store.shards import SUFFIX, shard_name
from vcorr.studies.study_tables import DamagedTableError, StudyTable, read_fingerprint

LOSS = "denoising_loss"
"""The metric of a row that holds the denoising loss."""
NORM = "change_norm"
"""The metric of a row that holds what a whole cut changes in one head, in the pass without a cut."""
PLAIN, CUT, CONTROL = "plain", "cut", "control"
_SHARE = "fractions in [0, 1]"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnockoutRow:
    """One number of one pass: of the model as it is, with a cut, or with a control."""

    study: Text = column("", "Id of the study, the name of its folder.")
    model: Text = column("", "Name of the model.")
    weights: Text = column("", "What identifies the weights.")
    dataset: Text = column("", "Name of the dataset.")
    split: Text = column("", "Split of the dataset.")
    clip: Text = column("", "Id of the clip.")
    role: Text = column("", "`plain`: nothing is cut. `cut`: the sites of the study. `control`: random heads.")
    control: Int32 = column(NONE, "Number of the control set, from 0; -1 for other roles.")
    cut_kind: Text = column("", "What is cut: `cross-frame`, `self-frame`, `text`, `head` or `head-mean`.")
    cut_sites: Text = column("", "The sites that are cut in this pass, as `LAYER:STEP:HEAD`, joined by +.")
    cut_dose: Float = column(NAN, "The dose that was asked for.", _SHARE)
    matched: Text = column(
        "", "`whole`: the cut at its dose. `common`, `own`: scaled to the norm that cut and controls have in common."
    )
    dose: Float = column(NAN, "The dose that was applied, after scaling; a control may need more than 1.")
    norm: Float = column(NAN, "Norm of the change of the attention output that the pass should have.")
    norm_made: Float = column(NAN, "Norm of the change of the attention output that the pass had.")
    metric: Text = column("", "The column of the metric, `denoising_loss`, or `change_norm`.")
    layer: Int32 = column(NONE, "The layer that was read; -1 for the loss.")
    head: Int32 = column(NONE, "The head, in rows of `change_norm`; else -1.")
    step: Int32 = column(NONE, "Index into the scheduler's timesteps.")
    noise: Float = column(NAN, "Noise level of the step.", _SHARE)
    value: Float = column(NAN, "The number; NaN means not scored.")
    floor: Float = column(NAN, "Score of standing still; NaN without one.", _SHARE)
    ceiling: Float = column(NAN, "Largest score that the read-out allows; NaN without one.", _SHARE)
    n: Int32 = column(0, "Number of (point, frame) pairs behind the value.", "count")
    seed: Int64 = column(0, "Seed of the noise.")


TABLE = StudyTable(KnockoutRow, "knockout", 1)


def file_name(text: str) -> str:
    """Returns a file name, without an ending, for the id of a clip or the name of an edit."""
    return shard_name(text).removesuffix(SUFFIX)


@dataclass(frozen=True)
class CellFolder:
    """The files of a study. path: their folder. fingerprint: of the study; files of another one do not count."""

    path: Path
    fingerprint: str

    def file(self, clip: str, edit: str) -> Path:
        """Returns the file of one edit on one clip."""
        return self.path / file_name(clip) / shard_name(edit)

    def read(self, clip: str, edit: str) -> list[dict[str, object]] | None:
        """Returns the rows of one edit on one clip; None if they have to be computed.

        Raises:
            StoreError: a newer version wrote them.
        """
        try:
            table = TABLE.read(self.file(clip, edit))
        except DamagedTableError:
            return None
        return rows_of(table) if read_fingerprint(table) == self.fingerprint else None

    def write(self, clip: str, edit: str, rows: Sequence[KnockoutRow]) -> None:
        """Writes the rows of one edit on one clip, whole or not at all; raises StoreError if that fails."""
        path = self.file(clip, edit)
        make_folder(path.parent)
        TABLE.write(path, rows, fingerprint=self.fingerprint)
