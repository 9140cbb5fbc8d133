"""Measures what carries masks offline, for docs/tracking.md: ``python -m vcorr_tiny.propagated --docs docs``.

The mask of frame 0 goes through clips of `sprites`, easy and hard. The site of the embedded model is the one that
matches best on clips of another split.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from vcorr import StoreError
from vcorr.store.rundir import RunDirectory, find_runs
from vcorr_tiny.command_runs import Command, Work, end, make_parser, read_work
from vcorr_tiny.statements import write_blocks
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


def measure(work: Work, place: Place) -> None:
    """Carries the masks of one place with everything, or goes on with its runs."""
    choose_site(work)
    work.run_commands([_command(work, place, entrant) for entrant in ENTRANTS])


def choose_site(work: Work) -> None:
    """Matches with every layer of the embedded model at the last step, on a few clips of another split."""
    words = ("run", *EMBEDDED.words, "--steps", "last", *CHOSEN_AT.words, "--set", "data.split=validation")
    out = ("--limit", str(CHOOSING), "--out", str(work.out / CHOICE))
    work.run_commands([Command((*words, *out), on_device=True)])


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
    return out / REPORTED / place.name / "-".join(word.strip("-") for word in entrant.words)


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = make_parser("vcorr_tiny.propagated", __doc__ or "", "runs/propagation", CLIPS, "entrants")
    options = parser.parse_args(arguments)
    work = read_work(options)
    if not work.tables_only:
        for place in PLACES:
            measure(work, place)
    blocks = dict(page_blocks(work.out, work.limit))
    if options.docs:
        write_blocks(options.docs / "tracking.md", blocks)
    sys.stdout.write("\n\n".join(blocks.values()) + "\n")
    return 0


if __name__ == "__main__":
    end(main)
