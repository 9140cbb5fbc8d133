"""Run directories of made-up numbers. Nothing here was measured; every model's name begins with `made-up`."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from vcorr.board.site.site_build import build_site
from vcorr.plugins.registry import Registry
from vcorr.runner.identity import SCORING_VERSION
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import ScoreRow
from vcorr.store.shards import write_shard

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
METRICS = ("matching_accuracy", "matching_accuracy_moving", "pck_8", "pck_8_moving", "pck_4")
FLOOR, CEILING = 0.2, 0.9


def _score_row(run, model, clip, **values):
    row = {
        "run": run,
        "model": model,
        "attention": "full3d",
        "weights": "hub:made-up/model@0123456789abcdef0123",
        "probe": "qk",
        "dataset": "sprites",
        "split": "test",
        "mode": "renoise",
        "tracker": "exact",
        "clip": clip,
        "layer": 0,
        "layer_name": "blocks.0.attn",
        "step": 0,
        "noise": 1.0,
        "head": -1,
        "metric": METRICS[0],
        "variant": "corrected",
        "value": 0.5,
        "floor": FLOOR,
        "ceiling": CEILING,
        "n": 100,
        "seed": 42,
        "status": "ok",
        "error": "",
        "frames": 17,
        "height": 128,
        "width": 128,
        "token_height": 8.0,
        "token_width": 8.0,
        "ceiling_kind": "token_oracle",
    }
    return ScoreRow(**(row | values))


def _record_of(model, clips, *, of=None, **values):
    """Returns a run.json. of: columns of the rows that it repeats."""
    of = of or {}
    context = {name: of.get(name, usual) for name, usual in (("dataset", "sprites"), ("split", "test"), ("seed", 42))}
    mode = of.get("mode", "renoise")
    record = {
        "command": ["vcorr", "run", "--model", model, "--probe", "qk,feature"],
        "started": "2026-01-02T03:04:05+00:00",
        "card": {
            "name": model,
            "title": model.title(),
            "summary": "Made-up numbers for tests.",
            "attention": "full3d",
            "licence": "Apache-2.0",
            "parameters": 10_001_600,
            "extra": {"homepage": "https://example.org/made-up", "vae": {"temporal": 4, "height": 8}},
        },
        "fingerprints": {"predict": "ab" * 32, "track": "cd" * 32, "score": "ef" * 32},
        "versions": {"vcorr": "0.1.0", "torch": "2.9.0"},
        "device": {"name": "cpu", "dtype": "float32", "machine": "x86_64", "os": "linux"},
        "plugins": {"model 'made-up'": "made-up-plugin 1.0"},
        "spec": {"limit": clips},
        "resolved": {
            "model": {"name": model, "version": 1, "config": {}},
            "probes": [{"name": name, "version": 1, "config": {}} for name in ("qk", "feature")],
            "data": {"name": context["dataset"], "version": 1, "split": context["split"], "config": {"size": 128}},
            "settings": {"seed": context["seed"]},
        },
        "metrics": [{"name": name, "version": 2, "config": None} for name in ("matching_accuracy", "pck")],
        "scoring": SCORING_VERSION,
        "tracker": None,
        "row_context": {
            "model": model,
            "weights": "none",
            "mode": mode if mode in ("generate", "invert") else "renoise",
            **context,
        },
        "clips": {"total": clips, "done": clips, "failed": 0, "reused": 0},
        "git": None,
    }
    return record | values


def _skill_at(layer, step, layers, steps, best):
    """A hill over the layers that grows from the noisiest step to the cleanest."""
    height = math.exp(-(((layer - layers * 0.6) / (layers * 0.25)) ** 2))
    return best * height * (0.4 + 0.6 * (step + 1) / steps)


def _make_run(
    results: Path,
    name: str,
    model: str,
    *,
    best: float = 0.6,
    probes: tuple[str, ...] = ("qk", "feature"),
    layers: int = 10,
    steps: int = 8,
    clips: int = 8,
    heads: int = 0,
    metrics: tuple[str, ...] = METRICS,
    status: str = "complete",
    failed: int = 0,
    record: dict | None = None,
    **columns,
) -> RunDirectory:
    run = RunDirectory.create(results, name)
    generator = np.random.default_rng(sum(map(ord, name + model)))
    for c in range(clips):
        clip = f"clip-{c:03d}"
        rows = []
        for p, probe in enumerate(probes):
            for metric in metrics:
                for layer in range(layers):
                    for step in range(steps):
                        for head in range(-1, heads):
                            skill = _skill_at(layer, step, layers, steps, best) * (1 - 0.25 * p) - 0.03 * (head + 1)
                            value = FLOOR + (CEILING - FLOOR) * skill + generator.normal(0, 0.02)
                            site = {
                                "layer": layer,
                                "layer_name": f"blocks.{layer}.attn",
                                "step": step,
                                "head": head,
                                "noise": 1 - (step + 1) / (steps + 1),
                            }
                            cell = site | {"probe": probe, "metric": metric, "value": float(value)}
                            rows.append(_score_row(run.run_id, model, clip, **cell | columns))
        write_shard(run.shard("scores", clip), "scores", rows, "ef" * 32)
    for c in range(failed):
        clip = f"failed-{c:03d}"
        empty = {"metric": "", "probe": "", "attention": "", "tracker": "", "layer": -1, "step": -1, "layer_name": ""}
        nan = dict.fromkeys(("value", "floor", "ceiling", "noise"), math.nan)
        row = _score_row(run.run_id, model, clip, **columns | empty | nan | {"status": "failed", "error": "made up"})
        write_shard(run.shard("scores", clip), "scores", [row], "ef" * 32)
    run.write_record(_record_of(model, clips, of=columns) if record is None else record, status)
    # the time of writing is the one thing a test could not repeat
    text = (run.path / "run.json").read_text(encoding="utf-8")
    stamp = text.rindex('"updated": "') + len('"updated": "')
    (run.path / "run.json").write_text(
        text[:stamp] + "2026-01-02T03:14:05+00:00" + text[text.index('"', stamp) :], encoding="utf-8"
    )
    return run


def _make_baseline(results: Path, name: str, model: str, *, best: float = 0.5, clips: int = 8, **columns):
    site = {"layer": -1, "layer_name": "", "step": -1, "noise": math.nan, "attention": "none", "weights": "none"}
    run = RunDirectory.create(results, name)
    for c in range(clips):
        clip = f"clip-{c:03d}"
        value = FLOOR + (CEILING - FLOOR) * (best + 0.02 * math.sin(c))
        rows = [
            _score_row(run.run_id, model, clip, **{**site, "probe": "direct", "metric": m, "value": value, **columns})
            for m in METRICS
        ]
        write_shard(run.shard("scores", clip), "scores", rows, "ef" * 32)
    run.write_record(_record_of(model, clips, of=columns), "complete")
    return run


@pytest.fixture(scope="session")
def make_run():
    return _make_run


@pytest.fixture(scope="session")
def make_baseline():
    return _make_baseline


@pytest.fixture(scope="session")
def record_of():
    return _record_of


@pytest.fixture(scope="session")
def score_row():
    return _score_row


@pytest.fixture
def no_plugins():
    return Registry([])


@pytest.fixture(scope="session")
def pristine_results(tmp_path_factory):
    """Three models, one of them with random weights, and a baseline."""
    folder = tmp_path_factory.mktemp("board") / "runs"
    _make_run(folder, "aaaaaaaaaaaa", "made-up-good", best=0.7, clips=16, layers=5, steps=4, heads=2)
    _make_run(folder, "bbbbbbbbbbbb", "made-up-poor", best=0.3, clips=16, layers=5, steps=4)
    _make_run(folder, "cccccccccccc", "made-up-random", best=0.9, clips=16, layers=5, steps=4, weights="random:0")
    _make_baseline(folder, "dddddddddddd", "made-up-baseline", best=0.5, clips=16)
    return folder


@pytest.fixture
def results(pristine_results, tmp_path):
    """A copy to change at will."""
    return Path(shutil.copytree(pristine_results, tmp_path / "runs"))


@pytest.fixture(scope="session")
def site(pristine_results):
    """The board of those runs; to be looked at only."""
    return build_site(pristine_results, pristine_results.parent / "site", registry=Registry([])).parent


@pytest.fixture(scope="module")
def browser():
    found = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"
    if not Path(found).exists():
        if os.environ.get("CI"):
            pytest.fail("CI must test the board in a browser: install chromium.")
        pytest.skip("no chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Opens a page and, at the end of the test, checks that it complained about nothing and asked only the disk.

    complaining: whether the page may complain, as one that is kept from running a script does.
    """
    complaints, requests, contexts = [], [], []

    def open_page(path, complaining=False, **options):
        context = browser.new_context(**{"viewport": {"width": 1360, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        kept = [] if complaining else complaints
        page.on("console", lambda message: kept.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: kept.append(str(error)))
        page.on("requestfailed", lambda request: kept.append(f"failed: {request.url}"))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert requests
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
