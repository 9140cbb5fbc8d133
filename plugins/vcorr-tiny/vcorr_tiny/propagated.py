"""Measures what carries masks offline, for docs/tracking.md: ``python -m vcorr_tiny.propagated --docs docs``.

The mask of frame 0 goes through clips of `sprites`, easy and hard. The site of the embedded model is the one that
matches best on clips of another split.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from vcorr import StoreError
from vcorr.store.rundir import RunDirectory, find_runs
from vcorr_tiny.command_runs import Command, Work, end
from vcorr_tiny.measurements import Kept, Measurement, write_to
from vcorr_tiny.task_pool import Task
from vcorr_tiny.tracked import Entrant, Place, make_comparison, make_table, read_runs

CLIPS, CHOOSING = 16, 8
"""Clips that are reported, and clips of another split that choose the site of the embedded model."""
COLUMNS = {"J&F": "region_and_contour", "J": "region_similarity", "F": "contour_accuracy"}
"""Columns of the table: titles, and the columns of scores."""
PLACES = tuple(Place(level, ("--data", "sprites", "--set", f"data.level={level}")) for level in ("easy", "hard"))
CHOSEN_AT = PLACES[1]
REPORTED, CHOICE = "reported", "choice"

EMBEDDED = Entrant("tiny `qk`", ("--model", "tiny", "--probe", "qk"), is_network=True)
ENTRANTS = (
    Entrant("dis", ("--tracker", "dis")),
    *(Entrant(name, ("--model", name)) for name in ("token-patches", "zero-motion")),
    EMBEDDED,
)


def list_tasks(work: Work) -> list[Task]:
    """Returns the tasks: the choice of the site, and one per place and entrant."""
    entrants = [
        Task(
            f"{place.name}-{entrant.folder}",
            partial(_command, work, place, entrant),
            (CHOICE,) if entrant is EMBEDDED else (),
            8 + (15.0 if entrant.is_network else 4.0) * work.limit,
        )
        for place in PLACES
        for entrant in ENTRANTS
    ]
    return [Task(CHOICE, partial(choose_site, work), seconds=20.0), *entrants]


def choose_site(work: Work) -> Command:
    """Returns the command that matches with every layer of the embedded model, on a few clips of another split."""
    words = ("run", *EMBEDDED.words, "--steps", "last", *CHOSEN_AT.words, "--set", "data.split=validation")
    out = ("--limit", str(min(work.limit, CHOOSING)), "--out", str(work.out / CHOICE))
    return Command((*words, *out), on_device=True)


def find_choice(out: Path) -> RunDirectory:
    """Returns the run that chose the site of the embedded model; raises StoreError if there is none."""
    found = [run for run in find_runs(out / CHOICE) if run.record()["status"] == "complete"]
    if not found:
        raise StoreError(f"No site was chosen in {out / CHOICE}.", hint="Leave --tables-only out to run it.")
    return max(found, key=lambda run: run.record()["updated"])


def _command(work: Work, place: Place, entrant: Entrant) -> Command:
    site = ("--from", str(find_choice(work.out).path)) if entrant is EMBEDDED else ()
    where = ("--limit", str(work.limit), "--out", str(_folder(work.out, place, entrant)))
    return Command(("propagate", *entrant.words, *site, *place.words, *where), on_device=entrant.is_network)


def _folder(out: Path, place: Place, entrant: Entrant) -> Path:
    return out / REPORTED / place.name / entrant.folder


def page_blocks(out: Path, limit: int) -> Iterator[tuple[str, str]]:
    """Yields the generated blocks of docs/tracking.md by name, one per place."""
    for place in PLACES:
        found = read_runs({entrant: _folder(out, place, entrant) for entrant in ENTRANTS}, limit, COLUMNS)
        if not found:
            raise StoreError(f"No run over {limit} clips is in {out / REPORTED / place.name}.")
        table = make_table(found, COLUMNS, "what carries the mask", "the mask stays where it is")
        differences = make_comparison(found, EMBEDDED, COLUMNS)
        own = next((one.run for one in found if one.entrant is EMBEDDED), None)
        layer = "" if own is None else own.record()["resolved"]["sites"][0][0]
        site = (
            f" `tiny` is read at layer {layer}, chosen on {CHOOSING} clips of the validation split of {CHOSEN_AT.name}."
        )
        tables = "\n\n".join(part for part in (table, differences) if part)
        yield f"propagated-{place.name}", f"{tables}\n\n{limit} clips of `sprites`, `{place.name}`, in percent.{site}"


KEPT = Kept(tuple(COLUMNS.values()), for_boards=True)
MEASUREMENT = Measurement("propagation", CLIPS, list_tasks, write_to("tracking.md", page_blocks), KEPT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return MEASUREMENT.run(MEASUREMENT.make_parser("propagated", __doc__ or "").parse_args(arguments))


if __name__ == "__main__":
    end(main)
