"""Writes the generated blocks of docs/tiny.md and docs/trackers.md: ``python -m vcorr_tiny.model_page --docs docs``.

Sizes come from the packaged weights, results of training from the records that lie next to the weights of each seed.
With ``--trackers``, the trackers are measured at each place of the findings, which takes minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from vcorr.bench.tracker_errors import TrackerReport, evaluate
from vcorr.bench.trackers import open_dataset, open_tracker
from vcorr_tiny.command_runs import end
from vcorr_tiny.finding_tables import table
from vcorr_tiny.network_folder import SEEDS, find_networks
from vcorr_tiny.pieces import PLACES, Place
from vcorr_tiny.statements import write_blocks
from vcorr_tiny.training.choice import find_best_layer

RECORDS = Path(__file__).parent.parent / "training"
"""Folder with the records of the shipped seed, `evaluation.json` and `curves.jsonl`; other seeds have their own."""
TRACKERS = ("dis", "lk")
WITHIN_8 = 3
"""Index of 8 pixels among the thresholds of a tracker's errors; 4 pixels come before it."""
WORDS = {
    "transformer": "`CogVideoXTransformer3DModel`: {num_layers} layers, {num_attention_heads} heads of "
    "{attention_head_dim}, patch {patch_size}, rotary; {max_text_seq_length} text + {frames} x {side} x {side} video "
    "tokens",
    "vae": "`AutoencoderKLCogVideoX`: {space} x {space} in space, {temporal_compression_ratio} in time, causal, "
    "{latent_channels} channels",
    "text_encoder": "`T5EncoderModel`: {num_layers} layers of width {d_model} over a closed vocabulary",
}
NAMES = {"transformer": "transformer", "vae": "autoencoder", "text_encoder": "text encoder"}


# --------------------------------------------------------------------------------------------------------------- sizes


def part_table(pipeline: Path) -> str:
    """Returns the parts of a pipeline folder with their parameters and the size of their weights."""
    lines = []
    for part, name in NAMES.items():
        files = sorted((pipeline / part).glob("*.safetensors"))
        count, size = sum(map(count_parameters, files)), sum(path.stat().st_size for path in files)
        lines.append([name, _describe(pipeline, part), _millions(count), f"{size / 1e6:.2f} MB"])
    scheduler = "`CogVideoXDDIMScheduler`: v-prediction, zero terminal signal-to-noise ratio, trailing"
    whole = sum(path.stat().st_size for path in pipeline.rglob("*") if path.is_file())
    lines += [["scheduler", scheduler, "", ""], ["all files", "", "", f"{whole / 1e6:.1f} MB"]]
    return table(["part", "what", "parameters", "file"], lines, 2)


def count_parameters(path: Path) -> int:
    """Returns the number of values in a safetensors file, from its header alone."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e6:.2f} M"


def _describe(pipeline: Path, part: str) -> str:
    config = json.loads((pipeline / part / "config.json").read_text(encoding="utf-8"))
    if part == "transformer":
        config["frames"] = (config["sample_frames"] - 1) // config["temporal_compression_ratio"] + 1
        config["side"] = config["sample_height"] // config["patch_size"]
    if part == "vae":
        config["space"] = 2 ** (len(config["block_out_channels"]) - 1)
    return WORDS[part].format_map(config)


# ------------------------------------------------------------------------------------------------------------ training


@dataclass(frozen=True)
class Record:
    """What the training of a seed left: its evaluation, and the last record of each kind in its log."""

    seed: int
    evaluation: Mapping[str, Any]
    last: Mapping[str, Mapping[str, Any]]


def read_records() -> Iterator[Record]:
    """Yields the records of all seeds that have an evaluation per kind of clips."""
    networks = find_networks()
    for seed in SEEDS:
        folder = RECORDS if seed == networks.facts.shipped else networks.seeds / str(seed)
        path = folder / "evaluation.json"
        evaluation = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if "loss" in evaluation.get("matching", {}).get("easy", {}):
            yield Record(seed, evaluation, _read_last(folder / "curves.jsonl"))


def _read_last(path: Path) -> dict[str, Any]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    records = map(json.loads, lines)
    return {record["kind"]: record for record in records}


def seed_table(records: Sequence[Record]) -> str:
    """Returns loss and skill of each seed per kind of validation clips, and how long its transformer was trained."""
    if not records:
        return "No seed has an evaluation per kind of clips."
    kinds = list(records[0].evaluation["matching"])
    lines = []
    for record in records:
        found = [record.evaluation["matching"][kind] for kind in kinds]
        trained = record.last.get("dit", {})
        time = [str(trained.get("step", "–")), f"{trained['seconds']:.0f}" if "seconds" in trained else "–"]
        losses = [f"{fmean(each['loss'].values()):.4f}" for each in found]
        name = f"{record.seed} (in the package)" if record.seed == find_networks().facts.shipped else str(record.seed)
        lines.append([name, *time, *losses, *(_best_layer(each["query_key"]) for each in found)])
    columns = [f"{what}, {kind}" for what in ("loss", "best layer") for kind in kinds]
    return table(["seed", "steps", "seconds", *columns], lines)


def _best_layer(by_timestep: Mapping[str, Sequence[float]]) -> str:
    """Returns the layer with the highest skill, mean over timesteps, and this skill."""
    best = find_best_layer(by_timestep)
    return f"{best.layer}: {best.skill:.3f}"


def reconstruction_table(records: Sequence[Record]) -> str:
    """Returns the PSNR of the shared autoencoder per kind of validation clips."""
    seed = find_networks().facts.shipped
    shipped = next((record.evaluation for record in records if record.seed == seed), {})
    kinds = shipped.get("reconstruction", {}).get("kinds", {})
    lines = [[kind, f"{each['psnr']:.1f} dB", f"{each['psnr_first']:.1f} dB"] for kind, each in kinds.items()]
    return table(["validation clips", "all frames", "first frames"], lines) if lines else "Not measured."


# ------------------------------------------------------------------------------------------------------------ trackers


def tracker_table(limit: int | None) -> str:
    """Measures the trackers at each place of the findings, and returns their errors where they call a point visible."""
    lines = []
    for place in PLACES:
        for name in TRACKERS:
            report = measure_tracker(place, name, limit)
            four, eight = (report.kept.within[i] for i in (WITHIN_8 - 1, WITHIN_8))
            shares = [f"{share:.3f}" for share in (four, eight, report.precision, report.recall)]
            median = f"{report.kept.median:.2f}"
            lines.append([f"`{place.name}`", f"`{name}`", str(report.clips), median, *shares])
    head = ["data", "tracker", "clips", "median px", "< 4 px of 256", "< 8 px of 256", "precision", "recall"]
    return table(head, lines, 2)


def measure_tracker(place: Place, name: str, limit: int | None) -> TrackerReport:
    """Returns the errors of a tracker on the clips of a place."""
    dataset = open_dataset(place.data, dict(option.removeprefix("data.").split("=") for option in place.options))
    return evaluate(open_tracker(name), (dataset.clip(i) for i in list(dataset.ids())[:limit]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m vcorr_tiny.model_page", description="Write sizes and records.")
    parser.add_argument("--docs", type=Path, help="docs folder whose pages are updated")
    parser.add_argument("--trackers", action="store_true", help="measure the trackers, for docs/trackers.md")
    parser.add_argument("--limit", type=int, help="clips of the trackers (default: all)")
    options = parser.parse_args(arguments)
    records = list(read_records())
    blocks = {"parts": part_table(find_networks().pipeline)}
    if records:
        blocks |= {"seeds": seed_table(records), "reconstruction": reconstruction_table(records)}
    trackers = {"tracker-levels": tracker_table(options.limit)} if options.trackers else {}
    if options.docs:
        write_blocks(options.docs / "tiny.md", blocks)
        write_blocks(options.docs / "trackers.md", trackers)
    sys.stdout.write("\n\n".join({**blocks, **trackers}.values()) + "\n")
    return 0


if __name__ == "__main__":
    end(main)
