"""The board in a real browser, opened from disk as its readers do."""

from __future__ import annotations

import shutil
import sys
import types
from pathlib import Path

import pytest

import vcorr
from vcorr.board.site.site_build import build_site
from vcorr.plugins.registry import PluginSource, Registry


def ranks(page):
    """Returns the ranks of the first table, without the notes below them."""
    cells = page.locator("section.ranking").first.locator("tbody tr:visible td.rank").all_inner_texts()
    return [cell.split()[0] for cell in cells]


def test_ranking_sorts_and_filters(site, open_page):
    page = open_page(site / "index.html")
    assert ranks(page) == ["1", "2", "3", "4", "5"]
    skill = page.get_by_role("columnheader", name="Gain, moving points within 8 px").first
    skill.get_by_role("button").click()
    assert skill.get_attribute("aria-sort") == "descending"
    assert ranks(page) == ["1", "2", "3", "4", "5"]
    skill.get_by_role("button").click()
    assert skill.get_attribute("aria-sort") == "ascending"
    assert ranks(page) == ["5", "4", "3", "2", "1"]
    page.get_by_role("columnheader", name="Model").first.get_by_role("button").click()
    assert skill.get_attribute("aria-sort") is None
    assert ranks(page)[0] == "3"  # "Made-Up-Baseline" begins the alphabet
    page.get_by_role("checkbox", name="baselines").uncheck()
    assert "3" not in ranks(page)
    page.get_by_role("searchbox").fill("good feature")
    assert ranks(page) == ["2"]
    assert page.locator(".count").inner_text() == "2 of 8 rows"  # with the table of single heads


def test_rows_without_a_value_stay_last(tmp_path, no_plugins, make_run, open_page):
    make_run(tmp_path / "runs", "aaaaaaaaaaaa", "made-up-one", layers=2, steps=2, clips=4, probes=("qk",))
    only = ("pck_8_moving", "matching_accuracy_moving")
    make_run(tmp_path / "runs", "bbbbbbbbbbbb", "made-up-two", layers=2, steps=2, clips=4, probes=("qk",), metrics=only)
    page = open_page(build_site(tmp_path / "runs", tmp_path / "site", registry=no_plugins))
    header = page.get_by_role("columnheader", name="All points within 8 px")
    for _ in range(2):
        header.get_by_role("button").click()
        assert page.locator("tbody tr th a").all_inner_texts()[:2] == ["Made-Up-One", "Made-Up-Two"]


def test_model_page_draws_its_charts(site, open_page):
    page = open_page(site / "index.html")
    page.get_by_role("link", name="Made-Up-Good").first.click()
    page.wait_for_selector(".panel:not([hidden]) .chart svg.marks")
    page.wait_for_function("[...document.querySelectorAll('.chart')].filter(c => c.dataset.drawn).length === 5")
    assert page.locator(".panel:visible .chart").first.locator('[stroke="#d1242f"]').count() >= 1
    assert page.locator("h1").inner_text() == "Made-Up-Good"
    assert page.locator(".panel:visible .chart svg.marks").count() == 5
    first = page.locator(".panel:visible .chart").first
    assert first.locator(".mark-text.role-mark text").count() == 20  # 5 layers x 4 steps carry their numbers
    assert first.get_by_label("Skill of qk by layer and denoising step").count() == 1
    page.get_by_text("All points within 8 px").and_(page.locator("label span")).click()
    page.wait_for_function("[...document.querySelectorAll('.chart')].filter(c => c.dataset.drawn).length === 10")
    assert page.locator(".panel:visible .chart svg.marks").count() == 5


def test_each_rank_of_a_model_has_a_line_of_its_own(site, open_page):
    ranks = open_page(site / "models" / "made-up-good.html").locator(".standings li")
    places = [rank.bounding_box() for rank in ranks.all()]
    assert len(places) > 1
    assert len({place["x"] for place in places}) == 1
    assert len({place["y"] for place in places}) == len(places)


def test_a_cell_tells_its_numbers(site, open_page):
    page = open_page(site / "models" / "made-up-good.html")
    page.wait_for_selector(".panel:not([hidden]) .chart svg.marks")
    page.locator(".panel:visible .chart").first.locator(".mark-text.role-mark text").first.hover()
    page.wait_for_selector("#vg-tooltip-element.visible")
    tip = page.locator("#vg-tooltip-element").inner_text()
    for word in ("blocks.0.attn", "layer", "step", "noise", "value", "floor", "ceiling", "skill", "clips"):
        assert word in tip


def test_sites_without_a_score_are_grey_with_a_dash(tmp_path, no_plugins, make_run, open_page):
    options = {"layers": 2, "steps": 2, "clips": 4, "probes": ("qk",), "floor": float("nan")}
    make_run(tmp_path / "runs", "aaaaaaaaaaaa", "made-up", **options)
    site = build_site(tmp_path / "runs", tmp_path / "site", registry=no_plugins).parent
    page = open_page(site / "models" / "made-up.html")
    page.wait_for_selector(".chart svg.marks")
    first = page.locator(".panel:visible .chart").first
    assert first.locator(".mark-text.role-mark text").all_text_contents() == ["–"] * 4
    assert first.locator('.mark-rect path[fill="#888"]').count() == 4


def test_evil_names_do_nothing(tmp_path, no_plugins, make_run, open_page):
    evil = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    options = {"layers": 2, "steps": 2, "clips": 4, "heads": 2, "probes": (evil,), "split": evil}
    make_run(tmp_path / "runs", "aaaaaaaaaaaa", evil, **options)
    site = build_site(tmp_path / "runs", tmp_path / "site", registry=no_plugins).parent
    page = open_page(site / "index.html")
    assert page.title() == "Ranking · vcorr"
    page.locator("tbody th a").first.click()
    page.wait_for_selector(".chart svg.marks")
    page.locator(".panel:visible .chart").first.locator(".mark-text.role-mark text").first.hover()
    page.wait_for_selector("#vg-tooltip-element.visible")
    assert page.title() != "taken"
    assert page.locator("img").count() == 0


class HostilePage:
    """A page that holds what a stranger put into a record, as it is."""

    def render(self, board):
        return (
            "<h2>Mine</h2><script>top.document.title='taken'</script><img src=x onerror=\"top.document.title='taken'\">"
            "<a id=a href=\"javascript:top.document.title='taken'\">link</a><meta http-equiv=refresh content='0;url=x'>"
            "<form action=x><button id=b>go</button></form><div style='height: 900px'></div>"
        )


def test_the_page_of_a_plugin_runs_no_scripts(results, tmp_path, open_page, monkeypatch):
    module = types.ModuleType("made_up_hostile")
    module.Page = HostilePage
    entry = vcorr.PageEntry(name="hostile", summary="s", factory="made_up_hostile:Page")
    module.vcorr_pages = vcorr.hookimpl(lambda: [entry])
    monkeypatch.setitem(sys.modules, "made_up_hostile", module)
    source = PluginSource("made-up", "made-up", "1", lambda: module)
    site = build_site(results, tmp_path / "site", registry=Registry([source])).parent
    page = open_page(site / "pages" / "hostile.html", complaining=True)
    inside = page.frame_locator("iframe.plugin")
    inside.get_by_role("heading", name="Mine").wait_for()
    for place in ("#a", "#b"):
        inside.locator(place).click()
    page.wait_for_function("document.querySelector('iframe.plugin').clientHeight >= 900")
    assert page.title() == "hostile · vcorr"
    # the style of the board holds in the frame as well
    fonts = [x.evaluate("e => getComputedStyle(e).fontFamily") for x in (page.locator("h1"), inside.locator("h2"))]
    assert fonts[0] == fonts[1]


def test_a_script_in_the_page_itself_is_not_run(site, tmp_path, open_page):
    """Checks the second defence: the page's policy stops a script that came past the escaping."""
    copy = Path(shutil.copytree(site, tmp_path / "copy"))
    index = copy / "index.html"
    evil = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\"></main>"
    index.write_text(index.read_text("utf-8").replace("</main>", evil), encoding="utf-8")
    page = open_page(index, complaining=True)
    page.wait_for_load_state()
    assert page.title() == "Ranking · vcorr"
    assert ranks(page) == ["1", "2", "3", "4", "5"]


def test_marks_that_reverse_text_are_shown(tmp_path, no_plugins, make_run, open_page):
    name = "model\u202egpj.exe\x1b[31m"
    make_run(tmp_path / "runs", "aaaaaaaaaaaa", name, layers=2, steps=2, clips=4, probes=("qk\u2066",))
    page = open_page(build_site(tmp_path / "runs", tmp_path / "site", registry=no_plugins))
    text = page.locator("body").inner_text()
    assert "\u202e" not in text
    assert "\\u202e" in text.lower()
    with (tmp_path / "site" / "data" / "best_sites.csv").open(encoding="utf-8") as file:
        assert "\u202e" not in file.read()


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("scheme", "width"),
    [("light", 390), ("dark", 1360), pytest.param("dark", 390, marks=SLOW), pytest.param("light", 1360, marks=SLOW)],
)
def test_fits_the_screen_and_follows_the_theme(site, open_page, scheme, width):
    options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    for path in (site / "index.html", site / "models" / "made-up-good.html", site / "downloads.html"):
        page = open_page(path, **options)
        if page.locator(".chart").count():
            page.wait_for_selector(".panel:not([hidden]) .chart svg.marks")
        room = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert room <= 0, path
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(20, 23, 26)") == (scheme == "dark")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Light" if scheme == "dark" else "Dark", exact=True).click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before


def test_readable_without_scripts(site, open_page):
    page = open_page(site / "index.html", java_script_enabled=False)
    assert ranks(page) == ["1", "2", "3", "4", "5"]
    assert page.locator(".controls").is_hidden()


def test_every_column_is_in_sight_at_1200_pixels(results, tmp_path, no_plugins, make_run, open_page):
    """Checks the widest rows: long names, two sites with heads, notes on options and on few clips."""
    make_run(results, "eeeeeeeeeeee", "made-up-few", clips=8, layers=5, steps=4, heads=2, probes=("feature-cos-token",))
    make_run(results, "ffffffffffff", "made-up-close", best=0.695, clips=16, layers=5, steps=4, probes=("qk",))
    page = open_page(
        build_site(results, tmp_path / "site", registry=no_plugins), viewport={"width": 1200, "height": 900}
    )
    tables = page.locator("section.ranking .scroll")
    assert tables.count() == 4
    for i in range(tables.count()):
        assert tables.nth(i).evaluate("box => box.scrollWidth - box.clientWidth") <= 0
    first = page.locator("section.ranking").first
    assert "tied" in first.locator("tbody tr").nth(1).locator("td.rank").inner_text()
    incomplete = first.locator("details.incomplete")
    incomplete.locator("summary").click()
    assert "Made-Up-Few, feature-cos-token: 8 of the 16 clips" in incomplete.inner_text()
