"""The small table of causal agreement: how well observations of sites foresee the effects of cutting them, per model.

A study writes it into its folder. A board reads it from a folder of runs, and shows one number per model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcorr.contract.errors import StoreError
from vcorr.contract.run_records import is_random
from vcorr.store.arrow_rows import rows_of
from vcorr.store.columns import NAN, Float, Int32, Text, column
from vcorr.studies.study_tables import DamagedTableError, StudyTable

SKILL = "skill"
"""The observation that is no column of a metric: the skill of a site in the run that observed it."""
FILE = "knockout-agreement.arrow"
"""The name of the table, in the folder of a study and in a folder of runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementRow:
    """How well one observation foresees the effects of cuts on one outcome, in one study."""

    study: Text = column("", "Id of the study.")
    model: Text = column("", "Name of the model.")
    weights: Text = column("", "What identifies the weights.")
    dataset: Text = column("", "Name of the dataset.")
    kind: Text = column("", "What was cut, such as `cross-frame`.")
    heads: Text = column("", "`layers`: whole layers were cut. `heads`: single heads. `mixed`: both.")
    steps: Text = column("", "Steps that were measured or cut, with commas.")
    observation: Text = column("", "`skill`, of the site in the run that observed it, or the column of a trait.")
    outcome: Text = column("", "`loss`, `matching`, or a score of generated videos.")
    value: Float = column(NAN, "Mean over clips of Spearman's correlation over sites, in [-1, 1].")
    low: Float = column(NAN, "Lower end of its 95 % interval over clips; NaN where there is none.")
    high: Float = column(NAN, "Upper end.")
    p: Float = column(NAN, "p of the sign-flip test, corrected for all observations of the outcome.")
    sites: Int32 = column(0, "Number of cut sites.", "count")
    clips: Int32 = column(0, "Number of clips.", "count")
    mode: Text = column("renoise", "`renoise`, or `generate` where attention was cut while videos were sampled.")
    dose: Float = column(NAN, "Dose of the cuts, the largest of the study; NaN in tables of the first layout.")
    norm: Text = column("", "`common` or `own`: what cuts and controls are scaled to; empty in the first layout.")

    @property
    def is_main(self) -> bool:
        """Whether the row is the one number of a model: see `find_main`."""
        kept = (self.observation, self.outcome, self.kind, self.heads, self.mode)
        whole = self.norm != "own" and (self.dose == 1 or math.isnan(self.dose))
        known = all(map(math.isfinite, (self.value, self.low, self.high)))
        return kept == (SKILL, "loss", "cross-frame", "layers", "renoise") and whole and known


TABLE = StudyTable(AgreementRow, "knockout agreement", 2, added=("mode", "dose", "norm"))


def write_agreements(path: Path, rows: Sequence[AgreementRow]) -> None:
    """Writes the table, whole or not at all; raises StoreError if it cannot be written."""
    TABLE.write(path, rows)


def read_agreements(path: Path) -> list[AgreementRow]:
    """Returns the rows of a table; none if there is no file.

    Raises:
        StoreError: the file is damaged, or a newer version wrote it.
    """
    if not path.exists():
        return []
    try:
        table = TABLE.read(path)
    except DamagedTableError as error:
        raise StoreError(error.message, hint="vcorr study knockout writes it again; or remove it.") from error
    return [AgreementRow(**row) for row in rows_of(table)]


def find_main(rows: Iterable[AgreementRow]) -> dict[tuple[str, str], AgreementRow]:
    """Returns the one number of each model and weights: of whole layers, of skill with the loss, between frames.

    The dose is 1, and cuts and controls have their common norm. Without an interval there is no number, as in a study
    of one clip. Of several studies the last one counts. Random weights have no number: they never reach a board.
    """
    return {(row.model, row.weights): row for row in rows if row.is_main and not is_random(row.weights)}


def replace_model(path: Path, rows: Sequence[AgreementRow]) -> None:
    """Puts rows into a table, in place of earlier rows of the same models and weights."""
    new: set[Any] = {(row.model, row.weights) for row in rows}
    kept = [row for row in read_agreements(path) if (row.model, row.weights) not in new]
    write_agreements(path, [*kept, *rows])
