"""Scores the videos of a run with VBench, a harness of its own: `python -m vcorr.bench.vbench_bridge RUN`.

VBench (arXiv 2311.17982) is no dependency: it lives in an environment of its own, and its command is called. The bridge
writes the folder of videos and the file of prompts that its mode `custom_input` reads. It turns the result file into
rows of scores. Each row names the harness and its version in its metric: `vbench_motion_smoothness@vbench:0.1.5`.
"""

from __future__ import annotations

import argparse
import json
import math
import numbers
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcorr.contract.errors import MissingError, PluginError, UsageError, VcorrError, first_line
from vcorr.contract.tasks import GENERATION
from vcorr.data.dataset_options import RunVideosConfig
from vcorr.data.video.browser_videos import pad_to_even, write_mp4
from vcorr.runner.generated_videos import RunVideos
from vcorr.store.arrow_files import write_table
from vcorr.store.atomic_files import make_folder
from vcorr.store.columns import to_table
from vcorr.store.run_search import open_run
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import ScoreRow, schema

HARNESS = "vbench"
NEED_STANDARD_PROMPTS = (
    *("object_class", "multiple_objects", "scene", "appearance_style", "color", "spatial_relationship"),
)
"""Dimensions that only VBench's own prompts have."""
DEFAULT = ("subject_consistency", "background_consistency", "motion_smoothness", "dynamic_degree")
VIDEOS, PROMPTS, RESULTS = "videos", "prompts.json", "results"
RESULT_FILES = "*_eval_results.json"


@dataclass(frozen=True)
class HarnessInput:
    """What the harness reads: the folder of videos, the file of prompts, and which file is which clip."""

    folder: Path
    clips: Mapping[str, str]

    @property
    def videos(self) -> Path:
        """The folder of videos."""
        return self.folder / VIDEOS

    @property
    def prompts(self) -> Path:
        """The JSON file with the prompt of each file."""
        return self.folder / PROMPTS


@dataclass(frozen=True)
class HarnessScore:
    """What the harness says of one clip in one dimension."""

    clip: str
    dimension: str
    value: float


# ---------------------------------------------------------------------------------------------------------------- input


def write_input(videos: RunVideos, folder: Path) -> HarnessInput:
    """Writes the videos of a run as numbered mp4 files, and the prompt of each file as JSON.

    The names hold no spaces, because VBench passes them through a shell. H.264 loses a little of each video.
    """
    target = folder / VIDEOS
    target.mkdir(parents=True)
    clips, prompts = {}, {}
    for number, clip_id in enumerate(videos.ids()):
        clip, name = videos.clip(clip_id), f"{number:05d}.mp4"
        if clip.video is None:
            continue
        write_mp4(target / name, map(pad_to_even, clip.video), clip.playback_fps)
        clips[name], prompts[name] = clip_id, clip.prompt
    (folder / PROMPTS).write_text(json.dumps(prompts, ensure_ascii=False, indent=1), encoding="utf-8")
    return HarnessInput(folder, clips)


# ----------------------------------------------------------------------------------------------------------------- call


def call_harness(program: str, given: HarnessInput, dimension: str) -> list[HarnessScore]:
    """Calls the harness for one dimension and returns its scores per clip.

    Raises:
        MissingError: the program is not found.
        PluginError: it fails, or writes no result that can be read.
    """
    results = given.folder / RESULTS / dimension
    results.mkdir(parents=True)
    words = command_of(program, given, dimension, results)
    if shutil.which(program) is None:
        raise MissingError(
            f"The program {program!r} is not found.",
            hint="VBench needs an environment of its own: --program ENVIRONMENT/bin/vbench",
        )
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=given.folder)
    found = sorted(results.glob(RESULT_FILES))
    if done.returncode or not found:
        said = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "it said nothing")
        raise PluginError(f"{HARNESS} gave no result for {dimension} (exit code {done.returncode}): {said}.")
    return list(read_results(found[-1], dimension, given.clips))


def command_of(program: str, given: HarnessInput, dimension: str, results: Path) -> list[str]:
    """Returns the words of the command; one dimension per call, because versions differ in how they take several."""
    return [
        *(program, "evaluate", "--mode", "custom_input", "--dimension", dimension),
        *("--videos_path", str(given.videos), "--prompt_file", str(given.prompts), "--output_path", str(results)),
    ]


def read_results(path: Path, dimension: str, clips: Mapping[str, str]) -> Iterator[HarnessScore]:
    """Yields the scores of a result file: {dimension: [mean, [{"video_path": ..., "video_results": ...}, ...]]}.

    Raises:
        PluginError: it has another form, or lacks a clip.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))[dimension][1]
        values = {Path(entry["video_path"]).name: entry["video_results"] for entry in entries}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise PluginError(f"{path} is no result file of {HARNESS} for {dimension}: {first_line(error)}.") from error
    missing = sorted(set(clips) - set(values))
    if missing:
        raise PluginError(f"{path} lacks {len(missing)} of {len(clips)} videos, the first {missing[0]}.")
    for name, clip in clips.items():
        yield HarnessScore(clip, dimension, _number(values[name], path, name))


def _number(value: Any, path: Path, name: str) -> float:
    if not isinstance(value, numbers.Real):
        raise PluginError(f"{path}: the result of {name} must be a number, got {value!r}.")
    return float(value)


def find_version(program: str) -> str:
    """Returns the version of the harness, as the Python next to its program says.

    Raises:
        UsageError: it cannot say. The hint names the option that gives the version.
    """
    python = Path(shutil.which(program) or program).parent / "python"
    asked = f"import importlib.metadata as m; print(m.version({HARNESS!r}))"
    try:
        done = subprocess.run([str(python), "-c", asked], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UsageError(f"The version of {HARNESS} is not known.", hint="Say it: --harness-version VERSION") from error
    return done.stdout.strip()


# ----------------------------------------------------------------------------------------------------------------- rows


def to_row(score: HarnessScore, run: RunDirectory, version: str) -> ScoreRow:
    """Returns the row of a score, with what the run says about its videos."""
    context = run.record()["row_context"]
    known = {key: context[key] for key in ("model", "weights", "dataset", "split", "mode", "seed") if key in context}
    status = "not_scored" if math.isnan(score.value) else "ok"
    metric = f"{HARNESS}_{score.dimension}@{HARNESS}:{version}"
    more: dict[str, Any] = {
        "run": run.run_id,
        "clip": score.clip,
        "task": GENERATION,
        "metric": metric,
        "n": 1,
        "status": status,
    }
    return ScoreRow(**known, **more, value=score.value, ceiling_kind="none")


def score_run(run: RunDirectory, program: str, dimensions: Sequence[str], version: str) -> list[ScoreRow]:
    """Returns the rows of all videos of a run in all dimensions.

    Raises:
        UsageError: a dimension needs VBench's own prompts, or the run has no videos.
        MissingError, PluginError: as in `call_harness`.
    """
    refused = [name for name in dimensions if name in NEED_STANDARD_PROMPTS]
    if refused:
        raise UsageError(f"{', '.join(refused)}: {HARNESS} scores these on its own prompts alone.")
    with tempfile.TemporaryDirectory(prefix="vcorr-") as folder:
        given = write_input(RunVideos(RunVideosConfig(path=str(run.path))), Path(folder))
        if not given.clips:
            raise UsageError(f"{run.path} has no videos to score.")
        found = [score for name in dimensions for score in call_harness(program, given, name)]
    return [to_row(score, run, version) for score in found]


def write_rows(rows: Sequence[ScoreRow], path: Path, version: str) -> None:
    """Writes rows as an Arrow file with the columns of `scores`; its metadata name the harness and its version."""
    plain = schema("scores")
    marks = {"vcorr.harness": HARNESS, "vcorr.harness_version": version}
    table = to_table(rows, plain.with_metadata({**(plain.metadata or {}), **marks}))
    make_folder(path.parent)
    write_table(path, table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    description = (__doc__ or "").split(":")[0] + "."
    parser = argparse.ArgumentParser(prog="python -m vcorr.bench.vbench_bridge", description=description)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run that generated videos")
    parser.add_argument("--dimensions", default=",".join(DEFAULT), help="comma-separated (default: %(default)s)")
    parser.add_argument("--program", default="vbench", help="the command of VBench (default: %(default)s)")
    parser.add_argument("--harness-version", default="", help="version of VBench (default: its environment says it)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.arrow", help="table of scores to write")
    options = parser.parse_args(arguments)
    try:
        version = options.harness_version or find_version(options.program)
        rows = score_run(open_run(options.run), options.program, options.dimensions.split(","), version)
        write_rows(rows, options.out, version)
    except VcorrError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{len(rows)} scores of {HARNESS} {version}: {options.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
