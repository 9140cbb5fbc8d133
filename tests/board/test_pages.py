from __future__ import annotations

import html
import types

import pytest

import vcorr
from vcorr import hookimpl
from vcorr.board.site.site_build import build_site
from vcorr.contract.entries import PageEntry
from vcorr.plugins.registry import Registry, module_source


class Count:
    def render(self, board):
        assert [row.rank for row in board.rankings[0].rows] == [1, 2, 3, 4, 5]
        assert [left.run.model for left in board.left_out] == ["made-up-random"]
        run = board.runs[0]
        assert run.series[0].score.shape[0] == run.clips == 16
        return f"<p class='mine'>{len(board.runs)} runs, first {run.run_id}</p>"


class Raises:
    def render(self, board):
        raise RuntimeError("<b>no luck</b>")


class Leaves:
    def render(self, board):
        raise SystemExit("bye")


class Wrong:
    def render(self, board):
        return 3


@pytest.fixture
def registry():
    module = types.ModuleType("made_up_pages")
    names = {"count": Count, "raises": Raises, "leaves": Leaves, "wrong": Wrong}

    @hookimpl
    def vcorr_pages():
        entries = [
            PageEntry(name=n, summary="A <i>page</i>.", factory=f"{__name__}:{c.__name__}") for n, c in names.items()
        ]
        return [*entries, PageEntry(name="gone", summary="s", factory="made_up_nowhere:Page")]

    module.vcorr_pages = vcorr_pages
    return Registry([module_source(module, distribution="made-up-dist", version="1.2")])


def test_pages_of_plugins_and_their_errors(results, tmp_path, registry, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, __name__, types.SimpleNamespace(**globals()))
    site = build_site(results, tmp_path / "site", registry=registry).parent
    index = (site / "index.html").read_text("utf-8")
    found = {}
    for name in ("count", "raises", "leaves", "wrong", "gone"):
        assert f'href="pages/{name}.html">{name}</a>' in index
        found[name] = (site / "pages" / f"{name}.html").read_text("utf-8")
    # the page of a plugin is a document of its own, in a frame that runs no scripts
    assert "<p class='mine'>" not in found["count"]
    assert 'sandbox="allow-same-origin allow-popups"' in found["count"]
    found["count"] = html.unescape(found["count"])
    assert "<p class='mine'>4 runs, first aaaaaaaaaaaa</p>" in found["count"]
    assert "A <i>page</i>." in found["count"]
    assert "made-up-dist 1.2" in found["count"]
    assert "RuntimeError: &lt;b&gt;no luck&lt;/b&gt;" in found["raises"]
    assert "SystemExit: bye" in found["leaves"]
    assert "render() returned int, not text" in found["wrong"]
    assert "made_up_nowhere" in found["gone"]


def test_the_example_of_the_hook_counts_runs(results, tmp_path):
    class CountRuns:
        def render(self, board):
            return f"<p>{len(board.runs)} runs.</p>"

    module = types.ModuleType("made_up_count")
    module.Count = CountRuns
    module.vcorr_pages = vcorr.hookimpl(
        lambda: [vcorr.PageEntry(name="count", summary="How many runs.", factory="made_up_count:Count")]
    )
    import sys

    sys.modules["made_up_count"] = module
    try:
        site = build_site(results, tmp_path / "site", registry=Registry([module_source(module)])).parent
    finally:
        del sys.modules["made_up_count"]
    assert "<p>4 runs.</p>" in html.unescape((site / "pages" / "count.html").read_text("utf-8"))
