from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlparse

import pyarrow as pa
import pytest

from vcorr.board.site import site_build
from vcorr.board.site.file_names import slug
from vcorr.board.site.site_build import MARKER, build_site
from vcorr.contract.errors import MissingError, StoreError, UsageError
from vcorr.plugins.registry import Registry, installed
from vcorr.stats.choice import choose_sites
from vcorr.stats.intervals import skill_interval
from vcorr.stats.series import series
from vcorr.store.rundir import RunDirectory, find_runs
from vcorr.store.schema import FINGERPRINT_KEY, SCHEMA_VERSION, VERSION_KEY

EVIL = "<script>alert(1)</script>"
EVIL_TEXT = "</script><img src=x onerror=alert(2)>\"'&<!--"


class Page(HTMLParser):
    """What a browser would make of a page: its elements, links and text outside of scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.fetched, self.text, self.json, self.inside = [], [], [], [], [], ""
        self.attributes = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attributes = dict(attrs)
        self.attributes += attributes
        if tag == "a":
            self.links.append(attributes["href"])
        elif "href" in attributes or "src" in attributes:
            self.fetched.append(attributes.get("href") or attributes.get("src"))
        self.inside = attributes.get("type", "script") if tag == "script" else ""

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "application/json":
            self.json.append(json.loads(data))
        elif not self.inside:
            self.text.append(data)


def pages(site):
    return {str(path.relative_to(site)): Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_says_where_the_first_page_is(results, tmp_path, no_plugins):
    out = tmp_path / "deep" / "er" / "site"
    assert build_site(results, out, registry=no_plugins) == out / "index.html"
    assert (out / "index.html").is_file()
    assert [path.name for path in out.parent.iterdir()] == ["site"]


def test_every_link_is_relative_and_leads_somewhere(site):
    for name, page in pages(site).items():
        for link in [*page.links, *page.fetched]:
            address = urlparse(link)
            if link in page.links and link == "https://example.org/made-up":
                continue  # the model's homepage, which is a link in text
            assert not address.scheme, (name, link)
            assert not address.netloc, (name, link)
            assert not link.startswith("/"), (name, link)
            if address.path:
                assert ((site / name).parent / unquote(address.path)).resolve().is_file(), (name, link)


def test_nothing_asks_the_network(site):
    for path in [*site.rglob("*.html"), site / "assets/board.js", site / "assets/charts.js", site / "assets/style.css"]:
        text = path.read_text("utf-8").replace("https://example.org/made-up", "")
        assert not re.search(r"https?:|//[a-z]+\.|\bfetch\(|XMLHttpRequest|@import|import\(|type=.module", text), path


def test_the_library_is_written_once_and_asks_for_nothing_by_itself(site):
    library = (site / "assets" / "vega.js").read_text("utf-8")
    assert "window.vegaEmbed" in library
    assert not re.search(r"\bimport\s*[({*\"']|\bexport\s*\{|jsdelivr|unpkg", library)
    assert len(library) < 1_500_000
    assert [path.name for path in site.rglob("*vega*")] == ["vega.js"]


def test_the_ranking_page(site):
    page = pages(site)["index.html"]
    text = " ".join(" ".join(page.text).split())
    assert text.index("Made-Up-Good") < text.index("Made-Up-Baseline") < text.index("Made-Up-Poor")
    assert text.index("Left out") < text.index("Made-Up-Random")
    assert "Floor: the score of predicting that nothing ever moves." in text
    assert "All rows are computed on the same 16 clips." in text
    assert "dataset sprites" in text
    assert "hub:made-up/model@01234567 " in text
    assert "no weights" in text
    assert re.search(r" 0\.\d{3} floor 0\.\d\d ceiling \d\.\d\d ", text)  # not "0.43 … 0.94", as intervals are written


def test_the_model_page(site):
    page = pages(site)["models/made-up-good.html"]
    text = " ".join(" ".join(page.text).split())
    for part in (
        "Apache-2.0",
        "10 001 600",
        "temporal 4, height 8",
        "qk, first 16 clips: rank 1 of 5",
        "ab" * 32,
        "torch",
        "x86_64",
    ):
        assert part.replace(" ", "\u202f") in text or part in text, part
    assert "vcorr run --model made-up-good --probe qk,feature" in text
    (specs,) = page.json
    # each metric: a map and a head map per probe, and one line chart
    assert len(specs) == 4 * (2 + 2 + 1)
    cells = [spec["datasets"]["cells"] for spec in specs.values()]
    assert sorted({len(c) for c in cells}) == [8, 10, 20]
    for spec in specs.values():
        assert "$schema" not in spec
    # one scale in every picture, so that pictures compare
    assert set(re.findall(r'"domain": (.*?])', json.dumps(specs))) == {"[0, 1]", "[0.0, 1.0]"}
    assert sum(cell["chosen"] for cell in cells[0]) == 1


def test_headings_of_a_model_page_name_the_options_in_which_its_runs_differ(make_run, record_of, no_plugins, tmp_path):
    for number, level in enumerate(("easy", "hard", None)):
        record = record_of("made-up", 6)
        record["resolved"]["data"]["config"] |= {} if level is None else {"level": level}
        make_run(
            tmp_path / "runs", f"{number}" * 12, "made-up", clips=6, layers=1, steps=1, record=record,
            data_hash=f"{level:0<16}" if level else "0" * 16,
        )  # fmt: skip
    build_site(tmp_path / "runs", tmp_path / "site", registry=no_plugins)
    page = (tmp_path / "site" / "models" / "made-up.html").read_text()
    found = [text for text in re.findall(r"<h2[^>]*>(.*?)</h2>", page, re.DOTALL) if "·" in text]
    assert sorted(text.split(" · ")[1] for text in found) == ["level easy", "level hard", "test"]


@pytest.mark.parametrize(
    ("clips", "sentence"),
    [
        (3, "qk : 1:0, of 2 sites. 3 clips with scores: too few to choose on one half and report on the other."),
        (8, "qk : Both halves chose 1:0 among 2 sites, each reported on the other half."),
    ],
)
def test_a_model_page_says_how_its_sites_were_chosen(make_run, no_plugins, tmp_path, clips, sentence):
    make_run(tmp_path / "runs", "aaaaaaaaaaaa", "made-up-good", layers=2, steps=1, clips=clips)
    site = build_site(tmp_path / "runs", tmp_path / "site", registry=no_plugins).parent
    text = " ".join(" ".join(pages(site)["models/made-up-good.html"].text).split())
    assert sentence in text
    assert "by moving points within half a token" in text
    assert ("No interval: 3 clips, and an interval needs 6." in text) is (clips == 3)


def test_a_baseline_has_no_charts(site):
    page = pages(site)["models/made-up-baseline.html"]
    assert page.json == []
    assert "../assets/vega.js" not in page.fetched


def test_a_row_says_that_its_card_was_written_without_the_weights(make_run, no_plugins, tmp_path):
    def build(name, seen):
        run = make_run(tmp_path / name, "aaaaaaaaaaaa", "made-up-good", layers=2, steps=1, clips=8)
        record = run.record()
        record["card"] = {"title": "Made up", "extra": {"weights_seen": seen}}
        run.write_record(record, "complete")
        return build_site(tmp_path / name, tmp_path / f"{name}-site", registry=no_plugins).read_text()

    assert "card without weights" in build("unseen", False)
    assert "card without weights" not in build("seen", True)


def test_random_weights_have_a_page_that_says_so(site):
    text = " ".join(pages(site)["models/made-up-random.html"].text)
    assert "Random weights: these numbers say nothing about the released model" in text


def test_downloads_hold_all_the_rows(site, pristine_results):
    for run in ("aaaaaaaaaaaa", "dddddddddddd"):
        with pa.ipc.open_file(str(site / "data" / f"{run}.arrow")) as reader:
            table = reader.read_all()
        whole = RunDirectory(pristine_results / run).read("scores")
        assert table.num_rows == whole.num_rows > 0
        assert repr(table.to_pylist()) == repr(whole.to_pylist())  # as text, NaN equals NaN
        assert table.schema.metadata[VERSION_KEY] == str(SCHEMA_VERSION).encode()
        assert table.schema.metadata[FINGERPRINT_KEY] == b"ef" * 32


def test_the_table_of_best_sites(site, pristine_results):
    with (site / "data" / "best_sites.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    # four metrics: two probes with means over heads and single heads, four without single heads, one baseline
    assert len(rows) == 4 * (4 + 4 + 1)
    scores = RunDirectory(pristine_results / "aaaaaaaaaaaa").read("scores")
    by_metric = {s.key["metric"]: s.by_heads()["mean"] for s in series(scores) if s.key["probe"] == "qk"}
    fit = choose_sites(by_metric["matching_accuracy_moving"])
    found = fit.report(by_metric["pck_8"])
    wanted = ("aaaaaaaaaaaa", "qk", "pck_8", "mean")
    (row,) = [r for r in rows if (r["run"], r["probe"], r["metric"], r["heads"]) == wanted]
    assert float(row["skill"]) == skill_interval(*found).estimate
    assert int(row["layer_first"]) in {fit.sites[i].layer for i in fit.chosen}
    baseline = [r for r in rows if r["model"] == "made-up-baseline"]
    assert {r["noise_first"] for r in baseline} == {""}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n=1"])
def test_no_cell_of_the_csv_is_a_formula(text, tmp_path, no_plugins, make_run):
    make_run(tmp_path / "runs", "aaaaaaaaaaaa", text + "m", layers=1, steps=1, clips=4, probes=(text,), floor=0.8)
    site = build_site(tmp_path / "runs", tmp_path / "site", registry=no_plugins).parent
    with (site / "data" / "best_sites.csv").open(encoding="utf-8", newline="") as file:
        (row, *_) = csv.DictReader(file)
    assert row["probe"].startswith("'")
    assert row["model"].startswith("'")
    assert float(row["skill"]) < 0  # a number stays a number


def test_the_same_runs_give_the_same_bytes(results, tmp_path, no_plugins):
    one = build_site(results, tmp_path / "one", registry=no_plugins).parent
    two = build_site(results, tmp_path / "two", registry=no_plugins).parent
    assert digests(one) == digests(two)
    build_site(results, tmp_path / "one", registry=no_plugins)
    assert digests(one) == digests(two)


def test_a_run_that_is_being_written_is_read_like_any_other(results, tmp_path, no_plugins):
    before, during = tmp_path / "before", tmp_path / "during"
    build_site(results, before, registry=no_plugins)
    with contextlib.ExitStack() as held:
        for run in find_runs(results):
            held.enter_context(run.write_lock())
        build_site(results, during, registry=no_plugins)
    assert digests(during) == digests(before)


def test_everything_from_plugins_and_tables_is_escaped(tmp_path, no_plugins, make_run, record_of):
    record = record_of(EVIL, 4)
    record["card"] = {
        "title": EVIL,
        "summary": EVIL_TEXT,
        "homepage": "javascript:alert(3)",
        "extra": {EVIL: EVIL_TEXT, "list": [EVIL]},
    }
    record["command"] = ["vcorr", EVIL, EVIL_TEXT]
    record["versions"] = {EVIL: EVIL_TEXT}
    record["device"] = {"name": EVIL_TEXT}
    columns = dict.fromkeys(("weights", "dataset", "split", "mode", "tracker", "variant", "attention"), EVIL_TEXT)
    make_run(
        tmp_path / "runs",
        "aaaaaaaaaaaa",
        EVIL,
        probes=(EVIL, EVIL_TEXT),
        layers=2,
        steps=2,
        clips=4,
        heads=2,
        record=record,
        **columns,
    )
    make_run(tmp_path / "runs", "bbbbbbbbbbbb", EVIL_TEXT, layers=1, steps=1, clips=1, weights="random" + EVIL)
    site = build_site(tmp_path / "runs", tmp_path / "site", registry=no_plugins).parent
    for name, page in pages(site).items():
        scripts = page.tags.count("script")
        expected = 1 + (3 if page.json else 0)
        assert scripts == expected, name
        assert "img" not in page.tags, name
        assert "onerror" not in page.attributes, name
        assert not any(link.startswith("javascript") for link in page.links), name
    page = pages(site)[f"models/{slug(EVIL)}.html"]
    assert EVIL in "".join(page.text)
    assert any(EVIL in spec["description"] for spec in page.json[0].values())
    raw = (site / "models" / f"{slug(EVIL)}.html").read_text("utf-8")
    inside = raw[raw.index('id="charts">') + len('id="charts">') :]
    assert "<" not in inside[: inside.index("</script>")]


def test_names_that_no_file_may_have():
    assert slug("tiny-2.5_b") == "tiny-2.5_b"
    names = ["../../etc/passwd", "..", "", "A", "a", "ä", "a/b", "a\\b", "con:x", "a b", "x" * 300, "<script>"]
    slugs = [slug(name) for name in names]
    assert len(set(slugs)) == len(names)
    for found in slugs:
        assert re.fullmatch(r"[a-z0-9_][a-z0-9._-]{0,99}", found), found


def test_a_table_of_one_clip_says_so(tmp_path, no_plugins, make_run):
    make_run(tmp_path / "runs", "aaaaaaaaaaaa", "made-up", layers=1, steps=1, clips=1, probes=("qk",))
    site = build_site(tmp_path / "runs", tmp_path / "site", registry=no_plugins).parent
    assert "on the same 1 clip." in " ".join(" ".join(pages(site)["index.html"].text).split())


def test_numbers_that_are_not_there(tmp_path, no_plugins, make_run):
    make_run(tmp_path / "runs", "aaaaaaaaaaaa", "made-up-nan", layers=2, steps=2, clips=4, floor=float("nan"))
    site = build_site(tmp_path / "runs", tmp_path / "site", registry=no_plugins).parent
    page = pages(site)["models/made-up-nan.html"]
    cells = next(iter(page.json[0].values()))["datasets"]["cells"]
    assert {cell["skill"] for cell in cells} == {None}
    assert {cell["label"] for cell in cells} == {"–"}
    assert "nan" not in " ".join(page.text).replace("made-up-nan", "").replace("Made-Up-Nan", "").lower().split()


def test_a_record_that_says_little(tmp_path, no_plugins, make_run):
    record = {"card": None, "fingerprints": {}, "clips": {}, "versions": {}, "command": []}
    make_run(tmp_path / "runs", "aaaaaaaaaaaa", "made-up", layers=2, steps=2, clips=4, record=record)
    site = build_site(tmp_path / "runs", tmp_path / "site", registry=no_plugins).parent
    assert "made-up" in "".join(pages(site)["models/made-up.html"].text)


def test_failed_and_partial_are_said(tmp_path, no_plugins, make_run):
    make_run(tmp_path / "runs", "aaaaaaaaaaaa", "made-up", layers=2, steps=2, clips=33, failed=2, status="partial")
    site = build_site(tmp_path / "runs", tmp_path / "site", registry=no_plugins).parent
    text = " ".join(" ".join(pages(site)["index.html"].text).split())
    assert "partial" in " ".join(pages(site)["models/made-up.html"].text)
    assert "incomplete: 33 of its 35 clips have scores (2 failed), and a row needs 95% of its clips" in text


# ------------------------------------------------------------------------------------------------------ where it writes


def test_leaves_other_folders_alone(results, tmp_path, no_plugins):
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter.tex").write_text("years of work", encoding="utf-8")
    for marker in (None, "{}", "not json"):
        if marker is not None:
            (out / MARKER).write_text(marker, encoding="utf-8")
        with pytest.raises(UsageError, match=r"is not a board .* so it is not replaced"):
            build_site(results, out, registry=no_plugins)
    assert (out / "chapter.tex").read_text(encoding="utf-8") == "years of work"
    file = tmp_path / "file"
    file.write_text("x", encoding="utf-8")
    with pytest.raises(UsageError, match="is not a board"):
        build_site(results, file, registry=no_plugins)


def test_never_replaces_the_results(results, no_plugins):
    before = digests(results)
    for out in (results, results.parent, results / "aaaaaaaaaaaa"):
        with pytest.raises(UsageError):
            build_site(results, out, registry=no_plugins)
    assert digests(results) == before


def test_an_empty_folder_and_an_earlier_board_are_taken(results, tmp_path, no_plugins, make_run):
    out = tmp_path / "site"
    out.mkdir()
    build_site(results, out, registry=no_plugins)
    make_run(results, "eeeeeeeeeeee", "made-up-new", layers=2, steps=2, clips=2)
    build_site(results, out, registry=no_plugins)
    assert (out / "models" / "made-up-new.html").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "site"]


def test_a_build_that_fails_leaves_the_board_as_it_was(results, tmp_path, no_plugins, monkeypatch):
    out = build_site(results, tmp_path / "site", registry=no_plugins).parent
    before = digests(out)

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(site_build, "chart_library", fail)
    with pytest.raises(StoreError, match="The disk is full"):
        build_site(results, out, registry=no_plugins)
    assert digests(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "site"]


def test_a_copy_that_cannot_be_written_ends_the_build_and_no_run_is_to_blame(
    results, tmp_path, no_plugins, monkeypatch
):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(StoreError, match="The disk is full"):
        build_site(results, tmp_path / "site", registry=no_plugins)
    assert not (tmp_path / "site").exists()


DAMAGES = {
    "shard": (
        lambda run: (run / "scores" / "clip-003.arrow").write_bytes(b"ARROW1"),
        "bbbbbbbbbbbb/scores/clip-003.arrow is damaged",
    ),
    "record": (lambda run: (run / "run.json").write_text("{"), "bbbbbbbbbbbb/run.json is damaged and cannot be read"),
    "foreign record": (lambda run: (run / "run.json").write_text("[1]"), "is not the record of a run"),
    "value of a key": (
        lambda run: (run / "run.json").write_text('{"clips": null}'),
        "run.json: clips must be a mapping, but is None",
    ),
    "link to itself": (
        lambda run: ((run / "run.json").unlink(), (run / "run.json").symlink_to("run.json")),
        "bbbbbbbbbbbb/run.json is damaged and cannot be read",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_that_cannot_be_read_is_listed_and_the_others_are_shown(results, tmp_path, no_plugins, damage):
    break_run, reason = DAMAGES[damage]
    break_run(results / "bbbbbbbbbbbb")
    told = []
    site = build_site(results, tmp_path / "site", registry=no_plugins, tell=told.append).parent
    ((run_id, said),) = [(run.run_id, run.reason) for run in told]
    assert run_id == "bbbbbbbbbbbb"
    assert reason in said
    assert str(tmp_path) not in said
    text = " ".join(" ".join(pages(site)["index.html"].text).split())
    assert "Cannot be read" in text
    assert " ".join(said.split()) in text
    models = {path.stem for path in (site / "models").iterdir()}
    assert {"made-up-good", "made-up-baseline"} <= models
    assert "made-up-poor" not in models
    assert [path.name for path in (site / "data").glob("bbbb*")] == []


def test_a_board_whose_every_run_is_damaged_lists_them(results, tmp_path, no_plugins):
    for run in results.iterdir():
        (run / "run.json").write_text("{")
    told = []
    site = build_site(results, tmp_path / "site", registry=no_plugins, tell=told.append).parent
    assert len(told) == 4
    text = " ".join(" ".join(pages(site)["index.html"].text).split())
    assert "There is nothing to rank yet: every run is left out" in text
    assert all(run.run_id in text for run in told)


def test_a_folder_that_cannot_be_written(results, tmp_path, no_plugins):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(StoreError, match="cannot be written"):
        build_site(results, tmp_path / "file" / "site", registry=no_plugins)


@pytest.mark.parametrize("plugins_of", [lambda: Registry([]), installed], ids=["none", "installed"])
def test_a_board_with_a_metric_that_nobody_knows_is_refused(results, tmp_path, plugins_of):
    board = tmp_path / "mine.yaml"
    text = (
        "{title: Mine, datasets: [davis], primary: pck_4, metrics: [{name: pck_4, title: P}, {name: NAME, title: Q}]}"
    )
    board.write_text(text.replace("NAME", "pkc_8"), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        build_site(results, tmp_path / "site", boards=[board], registry=plugins_of())
    assert f"Unknown metric in Board {board}: metrics[1].name: 'pkc_8'. Did you mean 'pck_" in caught.value.message
    assert not (tmp_path / "site").exists()


def test_a_board_may_show_an_installed_metric_that_no_run_has(results, tmp_path):
    board = tmp_path / "mine.yaml"
    board.write_text(
        "{title: Mine, datasets: any, primary: pck_8, metrics: [{name: pck_8, title: P}]}", encoding="utf-8"
    )
    assert build_site(results, tmp_path / "site", boards=[board], registry=installed()).exists()


def test_no_results(tmp_path, no_plugins, results):
    (tmp_path / "empty").mkdir()
    for folder, message in (
        ("nowhere", "does not exist"),
        ("empty", "contains no runs"),
        (".", "contains no runs, but"),
    ):
        with pytest.raises(MissingError, match=message) as caught:
            build_site(tmp_path / folder, tmp_path / "site", registry=no_plugins)
        assert "vcorr " in caught.value.hint
        assert caught.value.exit_code == 4
    assert str(results) in str(caught.value)


def test_runs_of_several_folders_stand_on_one_board(tmp_path, no_plugins, make_run):
    for name, run_id in (("a", "aaaaaaaaaaaa"), ("b", "bbbbbbbbbbbb"), ("c", "aaaaaaaaaaaa")):
        make_run(tmp_path / name, run_id, f"model-{name}", layers=1, steps=1, clips=4)
    folders = [tmp_path / name for name in "ab"]
    site = build_site(folders, tmp_path / "site", registry=no_plugins).parent
    assert {"aaaaaaaaaaaa", "bbbbbbbbbbbb"} <= {path.stem for path in (site / "data").glob("*.arrow")}
    with pytest.raises(UsageError, match=r"a/aaaaaaaaaaaa and .*c/aaaaaaaaaaaa are runs of one id"):
        build_site([*folders, tmp_path / "c"], tmp_path / "site", registry=no_plugins)


def test_boards_of_ones_own(results, tmp_path, no_plugins):
    board = tmp_path / "mine.yaml"
    board.write_text(
        "{title: Mine, datasets: [davis], primary: pck_4, metrics: [{name: pck_4, title: P}]}", encoding="utf-8"
    )
    site = build_site(results, tmp_path / "site", boards=[board], registry=no_plugins).parent
    text = " ".join(" ".join(pages(site)["index.html"].text).split())
    assert "There is nothing to rank yet: every run is left out" in text
    assert "no board ranks the dataset sprites" in text
