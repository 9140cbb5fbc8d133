"""`vcorr bench clips`: whole clips of mode renoise in several ways, in turns."""

from __future__ import annotations

import json

import pytest

from vcorr.bench.clip_speed import KEPT, LOOP, ONCE, ClipBench
from vcorr.bench.overhead import BenchOptions, make_bench
from vcorr.bench.timing import Timed, Turns
from vcorr.cli.main import main
from vcorr.diffusion.kept_inputs import KeptInputs
from vcorr.plugins.registry import installed
from vcorr.runner.spec import build_spec

pytestmark = pytest.mark.filterwarnings("ignore")  # libraries on their own versions

SMALL = ["model.size=small", "model.frames=13", "model.height=32", "model.width=32"]
WAYS = [LOOP, ONCE, "2 in a pass", KEPT]


def bench(model="cogvideox", batches=(2,), weights="random"):
    spec = build_spec({"model": model, "probe": "qk", "device": "cpu"}, assignments=SMALL)
    return ClipBench(make_bench(spec, installed(), BenchOptions(points=4, pairs=1)), 2, batches, weights)


def test_each_way_encodes_as_often_as_it_says(monkeypatch):
    encoded = []
    own = KeptInputs._encode
    monkeypatch.setattr(KeptInputs, "_encode", lambda *args: encoded.append(1) or own(*args))
    found = bench().run()
    assert [one.way for one in found] == WAYS
    assert len(encoded) == 2 * (2 + 1 + 1 + 0)  # a round to warm up, and one that counts
    assert all(one.levels == 2 and not one.error and one.size for one in found)
    assert all(min(one.seconds, one.cpu_seconds, one.ratio, one.cpu_ratio, one.clips_per_hour) > 0 for one in found)
    assert (found[0].ratio, found[0].cpu_ratio) == (1, 1)


def test_a_failure_is_a_row_with_its_reason():
    (row,) = bench("mochi").run()
    assert "one noise level in a pass" in row.error
    assert bench("mochi", batches=()).run()[0].error == ""


def test_cpu_times_have_ratios_of_their_own_rounds():
    turns = Turns([{"a": Timed(1, 0, cpu), "b": Timed(1, 0, 4)} for cpu in (1, 2, 8)])
    assert (turns.cpu_ms("a"), turns.cpu_ratio("a", "b")) == (2, 0.5)


def test_the_command_prints_a_table_and_json(capsys):
    words = ["bench", "clips", "--model", "cogvideox", "--device", "cpu", "--points", "4"]
    words += [word for setting in SMALL for word in ("--set", setting.removeprefix("model."))]
    for more in ([], ["--json"]):
        with pytest.raises(SystemExit) as ended:
            main([*words, "--levels", "2", "--noise-batch", "2", "--pairs", "1", *more])
        assert not ended.value.code
        out = capsys.readouterr().out
    assert [row["way"] for row in json.loads(out)] == WAYS


def test_words_for_numbers_are_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["bench", "clips", "--model", "cogvideox", "--noise-batch", "two"])
    assert ended.value.code == 2
    assert "--noise-batch takes numbers of noise levels." in capsys.readouterr().err
