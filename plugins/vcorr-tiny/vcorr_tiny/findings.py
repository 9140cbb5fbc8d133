"""Measures the findings about the embedded model: ``python -m vcorr_tiny.findings --docs docs``.

Runs the network of each training seed, its untrained twin and the baselines through the command line, in independent
pieces. Then says which statements hold in each seed, and writes tables and pictures into docs/findings.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from vcorr_tiny import generated
from vcorr_tiny.command_runs import Work, end
from vcorr_tiny.finding_charts import draw_all
from vcorr_tiny.finding_tables import (
    Places,
    gain_table,
    ground_table,
    say_clips,
    site_table,
    step_table,
    stratum_gains,
    stratum_table,
    survival_table,
)
from vcorr_tiny.measurements import Kept, Measurement
from vcorr_tiny.network_folder import SEEDS
from vcorr_tiny.pieces import CLIPS, PLACES, StoredRuns, all_pieces, task_of
from vcorr_tiny.place_results import BEATS, read_places
from vcorr_tiny.seed_statements import SeedStatement, join_seeds, say_failing, seed_table
from vcorr_tiny.sprites.level_names import HARD
from vcorr_tiny.statements import say_too_few, write_blocks
from vcorr_tiny.task_pool import Task

PICTURES: Mapping[str, tuple[str, str]] = {
    "purpose": (
        "findings-baselines",
        "Gain on moving points of the network with each seed, of its input and of baselines, on easy, hard and photos",
    ),
    "layers": (
        "findings-heatmap",
        "Skill per layer and step on hard with each seed, for queries and keys and for feature-cos",
    ),
    "steps": ("findings-steps", "Skill of the best layer by noise level with each seed, on easy, hard and photos"),
    "heads": (
        "findings-heads",
        "Skill of each head and of the mean over heads at the cleanest step, on hard with each seed",
    ),
    "strata": (
        "findings-strata",
        "Gain by level with one fault, of the network with each seed, of its input and of baselines",
    ),
}
"""The picture below each of these blocks: its file and what it shows."""


def say_purpose(places: Places, found: Mapping[str, Sequence[SeedStatement]]) -> str:
    """Returns whether the best site beats every pixel and latent baseline, at each place, in sentences."""
    said = []
    for name in sorted(places, key=lambda name: name != HARD):
        (statement,) = (s for s in found[name] if s.text == BEATS)
        rivals = ", ".join(f"`{rival}`" for rival in dict.fromkeys(m.find_rival() for m in places[name]))
        verb = "beats" if statement.holds else "does not beat"
        claim = f"On `{name}`, the best site {verb} every pixel and latent baseline in each of {len(SEEDS)} seeds."
        said.append(f"**{claim}** The strongest one is {rivals}.")
    return " ".join(said)


def page_blocks(places: Places, stored: StoredRuns, strata: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """Returns the generated blocks of docs/findings.md by name."""
    found = {name: join_seeds([m.statements() for m in seeds]) for name, seeds in places.items()}
    few = say_too_few([s.by_seed[0] for s in found[HARD][1:]])
    failing = [say_failing(statements, name) for name, statements in found.items()]
    videos = generated.read_all(stored)
    generation = generated.join_statements(videos)
    blocks = {
        "purpose": say_purpose(places, found),
        "statements": "\n\n".join(filter(None, [seed_table(found), " ".join([say_clips(places), *failing]), few])),
        "gains": gain_table(places),
        "sites": site_table(places),
        "steps": step_table(places),
        "strata": stratum_table(stored, strata),
        "ground": ground_table(places),
        "generated": f"{seed_table({'captions of easy': generation})}\n\n{generated.say_rankings(videos)}",
        "survived": survival_table(found, generation),
    }
    pictures = {name: f"![{shown}](images/{file}.png)" for name, (file, shown) in PICTURES.items()}
    names = [*blocks, *(name for name in pictures if name not in blocks)]
    return {name: "\n\n".join(filter(None, [blocks.get(name), pictures.get(name)])) for name in names}


def list_tasks(work: Work) -> list[Task]:
    """Returns a task per piece, and those on the videos that some of them generate."""
    return [*(task_of(work, piece) for piece in all_pieces()), *generated.list_tasks(work)]


def write_tables(work: Work, docs: Path | None) -> dict[str, str]:
    """Makes the blocks of docs/findings.md, and writes them and their pictures."""
    stored = StoredRuns.read(work.out, work.limit)
    places, strata = read_places(stored, PLACES, SEEDS), stratum_gains(stored)
    blocks = page_blocks(places, stored, strata)
    if docs:
        write_blocks(docs / "findings.md", blocks)
        draw_all(places, strata, docs / "images")
    return blocks


COLUMNS = (
    *(f"matching_accuracy@layer:{place}" for place in ("foreground", "background")),
    *("confidence_cross", "attention_cross", "attention_text"),
)
"""Columns of scores that the page reads and no board shows."""
KEPT = Kept(COLUMNS, for_boards=True, one_folder=True)
MEASUREMENT = Measurement("findings", CLIPS, list_tasks, write_tables, KEPT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return MEASUREMENT.run(MEASUREMENT.make_parser("findings", __doc__ or "").parse_args(arguments))


if __name__ == "__main__":
    end(main)
