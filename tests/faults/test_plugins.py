"""Plugins that misbehave: every part, every call into it, every way to go wrong, through the command line.

The contract (docs/plugins.md): what a part raises inside a clip is one failed row, and the run goes on (exit code 1). A
part that raises outside a clip, or breaks its contract, ends the run with exit code 3 and is named with its plugin.
Nothing prints a traceback, and standard output under --json holds JSON alone. The other clips have the scores that they
have without the fault. The same command with a mended plugin completes the run.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from support import misbehaving
from support.distributions import install
from support.misbehaving import BAD, Fault, misbehave
from support.scale import scale_count

import vcorr
from vcorr.cli import main as program
from vcorr.store.run_search import open_run

FEW = 36
"""Number of faults that are drawn in every run of the tests; `make faults` tries all."""

COMMAND = (
    "run --model odd-model --probe odd-probe --data odd-data --layers 0 --steps 1,5 --json "
    f"--set data.clips={misbehaving.CLIPS} --set tracker=odd-tracker --set metrics=odd-metric,matching_accuracy "
    "--out runs"
).split()

PLAN_CALLS = {
    "model": ["factory", "steps", "needs_image", "modes", "sites", "grid", "weights_id", "check_settings", "load"],
    "data": ["split", "ids", "identity", "check_files"],
    "probe": ["needs", "readout", "check_sites"],
    "tracker": ["identity"],
    "metric": ["higher_is_better", "under"],
}
CLIP_CALLS = {
    "model": ["run"],
    "data": ["clip", "notes"],
    "probe": ["read"],
    "tracker": ["track"],
    "metric": ["score"],
}


class MutedError(Exception):
    """An exception whose message cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Unprintable:
    """An object that has no text."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


def raising(error: BaseException | type[BaseException]) -> Callable[[Any], Any]:
    def behave(value: Any) -> Any:
        raise error

    return behave


def recurse(value: Any) -> Any:
    return recurse(value)


RAISES: dict[str, Callable[[Any], Any]] = {
    "ValueError": raising(ValueError("boom")),
    "no message": raising(ValueError()),
    "huge message": raising(ValueError("x" * 5_000_000)),
    "terminal escapes": raising(ValueError("\x1b]0;title\x07\x1b[31mred\nline two")),
    "half a character": raising(ValueError("\ud800")),
    "muted": raising(MutedError()),
    "sys.exit(0)": raising(SystemExit(0)),
    "sys.exit(None)": raising(SystemExit()),
    "sys.exit(text)": raising(SystemExit("bye")),
    "RecursionError": recurse,
    "MemoryError": raising(MemoryError()),
    "StopIteration": raising(StopIteration()),
    "GeneratorExit": raising(GeneratorExit()),
    "AssertionError": raising(AssertionError()),
    "CancelledError": raising(asyncio.CancelledError()),
    "click.Abort": raising(click.Abort()),
    "click.UsageError": raising(click.UsageError("odd")),
    "click Exit(0)": raising(click.exceptions.Exit(0)),
    "BrokenPipeError": raising(BrokenPipeError()),
    "KeyError": raising(KeyError("key")),
    "OSError": raising(OSError(28, "No space left on device")),
}

NONSENSE: dict[str, Any] = {
    "None": None,
    "text": "nonsense",
    "number": -3.5,
    "unprintable": Unprintable(),
    "list of None": [None],
    "mapping of None": {None: None},
    "array of NaN": np.full((3, 2), np.nan),
    "tensor with gradients": torch.ones(3, requires_grad=True),
    "type": int,
}

FINE: dict[tuple[str, str], set[str]] = {
    # what the contract allows, or the core does not read
    ("model", "factory"): set(NONSENSE),
    ("model", "needs_image"): {"None"},
    ("model", "check_settings"): set(NONSENSE),
    ("model", "load"): set(NONSENSE),
    ("model", "run"): set(NONSENSE),  # in mode renoise
    ("model", "weights_id"): {"text"},
    ("data", "split"): {"text"},
    ("data", "identity"): {"None", "mapping of None"},
    ("tracker", "identity"): {"mapping of None"},
    ("data", "check_files"): set(NONSENSE),
    ("probe", "check_sites"): set(NONSENSE),
}


def change_fields(**changes: Any) -> Callable[[Any], Any]:
    return lambda value: replace(value, **changes)


def change_tracks(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda tracks: replace(tracks, xy=change(tracks.xy.copy()))


def late(xy: Any, value: float) -> Any:
    xy[:, -1] = value
    return xy


def forge(record: Any, **fields: Any) -> Any:
    """Returns a copy of a record with fields that its constructor would refuse."""
    copy = replace(record)
    for name, value in fields.items():
        object.__setattr__(copy, name, value)
    return copy


def score(value: Any, n: Any = 4) -> Callable[[Any], Any]:
    return lambda _: {"near": vcorr.Score(value, n)}


WRONG: dict[tuple[str, str], dict[str, Callable[[Any], Any]]] = {
    ("model", "sites"): {
        "layers from 1": lambda sites: [replace(site, layer=site.layer + 1) for site in sites],
        "one name": lambda sites: [replace(site, name="see.attend") for site in sites],
        "a module that is not there": lambda sites: [replace(site, name=f"no.{site.name}") for site in sites],
        "raises half way": lambda sites: (1 / 0 if site.layer else site for site in sites),
    },
    ("model", "steps"): {"negative": lambda _: -1, "a share": lambda _: 1.5, "true": lambda _: True},
    ("model", "modes"): {"unknown": lambda _: ("dream",)},
    ("model", "run"): {},
    ("data", "ids"): {
        "twice": lambda ids: [*ids, ids[0]],
        "numbers": lambda ids: [0, 1, 2],
        "empty text": lambda ids: ["", *ids],
        "raises half way": lambda ids: (1 / 0 if clip_id == BAD else clip_id for clip_id in ids),
    },
    ("data", "clip"): {
        "another clip": change_fields(id="slide-0"),
        "no queries": lambda clip: clip.with_queries(np.zeros((0, 2), np.float32)),
        "queries outside": lambda clip: clip.with_queries(np.full((3, 2), 4000.0, np.float32)),
        "id of bytes": lambda clip: replace(clip, id=b"slide-1"),
        "float video": lambda clip: forge(clip, video=clip.video / 255),
        "late queries": lambda clip: forge(clip, queries=vcorr.Queries.at(clip.queries.xy, 99)),
        "negative rate": lambda clip: replace(clip, fps=-1.0),
        "rate of NaN": lambda clip: replace(clip, fps=math.nan),
        "prompt of numbers": lambda clip: replace(clip, prompt=5),
    },
    ("data", "identity"): {"an array": lambda _: {"hash": np.zeros(3)}},
    ("data", "notes"): {"a text": lambda _: "one sentence", "numbers": lambda _: [1]},
    ("probe", "needs"): {"nothing": lambda _: frozenset(), "unknown": lambda _: frozenset({"soul"})},
    ("probe", "readout"): {"unknown": lambda _: "guess"},
    ("probe", "read"): {
        "head that is not there": lambda found: {2: found[-1]},
        "head -2": lambda found: {-2: found[-1]},
        "no head": lambda _: {},
        "one point fewer": lambda found: {-1: found[-1][1:]},
        "one frame fewer": lambda found: {-1: found[-1][:, 1:]},
        "NaN": lambda found: {-1: found[-1] * float("nan")},
        "infinity": lambda found: {-1: found[-1] + float("inf")},
        "far outside": lambda found: {-1: found[-1] + 1e6},
        "numpy": lambda found: {-1: found[-1].numpy()},
        "bool": lambda found: {-1: found[-1] > 3},
        "visible as numbers": lambda found: {-1: vcorr.Positions(found[-1], visible=found[-1][..., 0])},
        "confidence of 2": lambda found: {-1: vcorr.Positions(found[-1], confidence=found[-1][..., 0] * 0 + 2)},
    },
    ("tracker", "track"): {
        "one point fewer": lambda tracks: replace(tracks, xy=tracks.xy[1:], visible=tracks.visible[1:]),
        "one frame fewer": lambda tracks: replace(tracks, xy=tracks.xy[:, 1:], visible=tracks.visible[:, 1:]),
        "all NaN": lambda tracks: replace(tracks, xy=tracks.xy * np.nan, visible=tracks.visible & False),
        "not through the query": change_tracks(lambda xy: xy + 1),
        "far outside": change_tracks(lambda xy: late(xy, 1e7)),
        "the name is a number": lambda tracks: forge(tracks, tracker=5),
        "visible as numbers": lambda tracks: forge(tracks, visible=tracks.visible.astype(np.float32)),
        "confidence of 2": lambda tracks: forge(tracks, confidence=tracks.visible + np.float32(1)),
        "a list": lambda tracks: forge(tracks, xy=tracks.xy.tolist()),
    },
    ("metric", "score"): {
        "above its range": score(1.5),
        "below its range": score(-0.5),
        "infinity": score(math.inf),
        "a text": score("0.5"),
        "a bool": score(True),
        "a tensor": score(torch.tensor(0.5)),
        "an array": score(np.zeros(3)),
        "negative count": score(0.5, -1),
        "share of a count": score(0.5, 1.5),
        "no score": lambda _: {"near": 0.5},
        "empty name": lambda found: {"": found["near"]},
    },
    ("metric", "higher_is_better"): {"one": lambda _: 1},
}


def write_into(value: Any) -> Any:
    """Writes into every array that a call gave to the part; the arguments are found in the frame of the caller."""
    arguments = sys._getframe(2).f_locals
    for name in ("video", "tracks"):
        if isinstance(arguments.get(name), np.ndarray):
            arguments[name][:] = 7
    for name in ("clip", "queries", "reference"):
        for array in vars(arguments.get(name, object)).values() if hasattr(arguments.get(name), "__dict__") else ():
            if isinstance(array, np.ndarray):
                array[:] = 1
    return value


def disturb(change: Callable[[], Any]) -> Callable[[Any], Any]:
    def behave(value: Any) -> Any:
        change()
        return value

    return behave


def seed_everything() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def patch_attention() -> None:
    torch.nn.functional.scaled_dot_product_attention = lambda q, k, v, **_: q * 0


DISTURBS: dict[str, tuple[Callable[[], Any], str]] = {
    "prints": (lambda: print("hello from a plugin"), ""),  # noqa: T201
    "writes to stdout": (lambda: sys.stdout.write("hello"), ""),
    "replaces stdout": (lambda: setattr(sys, "stdout", None), ""),
    "replaces stderr": (lambda: setattr(sys, "stderr", sys.__stderr__), "sys.stderr"),
    "seeds": (seed_everything, ""),
    "default dtype": (lambda: torch.set_default_dtype(torch.float64), "torch's default dtype"),
    "default device": (lambda: torch.set_default_device("meta"), "torch's default device"),
    "grad mode": (lambda: torch.set_grad_enabled(False), "torch's grad mode"),
    "threads": (lambda: torch.set_num_threads(torch.get_num_threads() + 1), "torch's number of threads"),
    "kernels": (lambda: torch.backends.cuda.enable_math_sdp(False), "torch's choice of attention kernels"),
    "attention": (patch_attention, "torch's attention function"),
    "folder": (lambda: os.chdir("/"), "the working folder"),
    "environment": (lambda: os.environ.update(ODD_VARIABLE="1"), "environment variables"),
    "warnings": (lambda: warnings.simplefilter("always"), "the filters of warnings"),
    "signals": (lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN), "handlers of signals"),
    "numpy": (lambda: np.seterr(all="raise"), "numpy's handling of errors"),
    "sys.path": (lambda: sys.path.insert(0, "/odd"), "sys.path"),
    "recursion": (lambda: sys.setrecursionlimit(sys.getrecursionlimit() + 7), "the recursion limit"),
}


@dataclass(frozen=True)
class Case:
    """A fault, and what has to come of it. codes: the exit codes that are right. note: part of a note, "" for none."""

    fault: Fault
    name: str
    codes: tuple[int, ...]
    note: str = ""

    def __str__(self) -> str:
        return f"{self.fault.part} {self.fault.call}: {self.name}"


SPECIAL: dict[str, Callable[[Case], Case]] = {
    # the core computes without gradients around every probe
    "probe read: grad mode": lambda case: replace(case, note=""),
    # the rest of the forward pass would compute something else
    "probe read: default dtype": lambda case: replace(case, codes=(3,), note=""),
    "probe read: attention": lambda case: replace(case, codes=(3,), note=""),
}


def list_raised() -> list[Case]:
    places = [(part, call, 3) for part, calls in PLAN_CALLS.items() for call in calls]
    places += [(part, call, 1) for part, calls in CLIP_CALLS.items() for call in calls]
    return [
        Case(Fault(part, call, behaviour), name, (code,))
        for part, call, code in places
        for name, behaviour in RAISES.items()
    ]


def list_nonsense() -> list[Case]:
    found = []
    for part, call in [(p, c) for calls in (PLAN_CALLS, CLIP_CALLS) for p, names in calls.items() for c in names]:
        for name, nonsense in NONSENSE.items():
            codes = (0,) if name in FINE.get((part, call), ()) else (1, 3) if call == "notes" else (3,)
            if (part, call) == ("model", "needs_image") and codes == (3,):
                continue  # any object is true or false
            found.append(Case(Fault(part, call, lambda _, given=nonsense: given), f"returns {name}", codes))
    return found


def list_wrong() -> list[Case]:
    return [
        Case(Fault(part, call, behaviour), name, (1, 3))
        for (part, call), behaviours in WRONG.items()
        for name, behaviour in behaviours.items()
    ]


def list_disturbing() -> list[Case]:
    places = [("model", "load"), *((part, call) for part, calls in CLIP_CALLS.items() for call in calls)]
    places.remove(("data", "notes"))
    found = [
        Case(Fault(part, call, disturb(change)), name, (0,), note)
        for part, call in places
        for name, (change, note) in DISTURBS.items()
    ]
    return [SPECIAL.get(str(case), lambda case: case)(case) for case in found]


def list_writing() -> list[Case]:
    return [
        Case(Fault("model", "run", write_into), "writes into its clip", (0,)),
        Case(Fault("tracker", "track", write_into), "writes into its video and queries", (0,)),
        Case(Fault("metric", "score", write_into), "writes into tracks", (1,)),
    ]


ALL = [*list_raised(), *list_nonsense(), *list_wrong(), *list_disturbing(), *list_writing()]
DRAWN = ALL if scale_count(1) > 1 else random.Random(12).sample(ALL, FEW)


@pytest.fixture
def run(plugins, capsys, monkeypatch, tmp_path):
    """Runs the command, with a fault or without; returns exit code, standard output and standard error."""
    plugins(misbehaving)
    monkeypatch.chdir(tmp_path)

    def call(fault: Fault | None = None, *more: str) -> tuple[int, str, str]:
        with misbehave(fault), pytest.raises(SystemExit) as ended:
            program.main([*COMMAND, *more])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


_known: dict[str, dict[Any, float]] = {}


def values_of(folder: Path) -> dict[Any, str]:
    """Returns the scores in the only run of a folder, by clip and site, as texts: then NaN equals NaN."""
    rows = open_run(folder).read("scores").to_pylist()
    keys, values = ("clip", "metric", "layer", "step"), ("value", "floor", "ceiling", "n")
    return {tuple(row[key] for key in keys): repr([row[name] for name in values]) for row in rows}


@pytest.fixture
def right_values(run, tmp_path) -> dict[Any, str]:
    """Returns the scores of a run without a fault."""
    if not _known:
        code, _, _ = run(None, "--out", "right")
        assert code == 0
        _known.update(values_of(tmp_path / "right"))
    return _known


@pytest.mark.parametrize("case", DRAWN, ids=str)
def test_a_part_that_misbehaves(case: Case, run, right_values, tmp_path) -> None:
    code, out, err = run(case.fault)
    err = " ".join(err.split())  # long lines are broken
    assert code in case.codes, err
    assert "Traceback" not in err
    assert "\x1b" not in err
    assert len(err) < 10_000
    assert code == 3 or json.loads(out), "standard output holds JSON and nothing else"
    assert code != 3 or not out
    assert code == 0 or "support.misbehaving 1" in err
    assert not case.note or f"changed {case.note} for the whole process" in err
    assert bool(case.note) == ("for the whole process" in err)
    good = {key: value for key, value in right_values.items() if code == 0 or key[0] != BAD}
    if code != 3:
        found = values_of(Path(json.loads(out)["path"]))
        assert {key: found[key] for key in good} == good
        failed = [key for key in found if key[1] == ""]
        assert failed == ([(BAD, "", -1, -1)] if code == 1 else [])
    code, out, err = run()
    assert code == 0, f"with the plugin mended: {err}"
    assert values_of(Path(json.loads(out)["path"])) == right_values


EARLY_CALLS = [
    ("model", "sites"),
    ("model", "grid"),
    ("data", "split"),
    ("probe", "check_sites"),
    ("metric", "under"),
    ("metric", "higher_is_better"),
]


@pytest.mark.parametrize(("part", "call"), EARLY_CALLS)
def test_calls_outside_of_clips_change_nothing(part: str, call: str, run) -> None:
    before = np.geterr()
    code, _, err = run(Fault(part, call, disturb(lambda: np.seterr(all="raise"))))
    err = " ".join(err.split())
    assert code == 0
    assert np.geterr() == before
    named = {"data": "dataset 'odd-data'"}.get(part, f"{part} 'odd-{part}'")
    assert f"{named} of support.misbehaving 1 changed numpy's handling of errors for the whole process" in err


def test_what_a_probe_changes_is_not_blamed_on_the_model_alone(run) -> None:
    _, _, err = run(Fault("probe", "read", disturb(lambda: np.seterr(all="raise"))))
    err = " ".join(err.split())
    assert "or probe 'odd-probe' of support.misbehaving 1 changed numpy's handling of errors" in err


def test_a_metric_that_fails_for_a_clip_of_an_earlier_command_is_reported(run) -> None:
    assert run()[0] == 0
    fault = Fault("metric", "score", raising(ValueError("boom")))
    _, _, err = run(fault, "--limit", "1", "--set", "metrics=odd-metric")
    assert "are failed now: ValueError: boom (metric 'odd-metric' of support.misbehaving 1" in " ".join(err.split())


@pytest.mark.parametrize(
    "nonsense",
    [None, "a video", torch.zeros(5, 64, 64, 3), np.zeros((5, 64, 64, 3)), np.zeros((4, 64, 64, 3), np.uint8)],
)
def test_a_model_that_generates_no_video(nonsense: Any, run) -> None:
    fault = Fault("model", "run", lambda _: nonsense)
    code, out, err = run(fault, "--mode", "generate")
    assert (code, out) == (3, "")
    assert "must return its video as uint8 (5, 64, 64, 3)" in err
    assert "It happened in model 'odd-model' of support.misbehaving 1." in err


EXITS = """
import os
from support import misbehaving
from support.misbehaving import *

if os.path.exists("exit-now"):
    misbehaving._fault.append(misbehaving.Fault("model", "run", lambda _: os._exit(0)))
"""


def test_a_part_that_ends_the_process_loses_its_clip_alone(vcorr_program, tmp_path) -> None:
    install(tmp_path, "vcorr-exits", EXITS)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    (tmp_path / "exit-now").touch()
    ended = vcorr_program(*COMMAND, path=path)
    assert (ended.returncode, ended.stdout) == (0, "")  # nothing can be done about os._exit
    (tmp_path / "exit-now").unlink()
    ended = vcorr_program(*COMMAND, path=path)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["reused"] == 1
