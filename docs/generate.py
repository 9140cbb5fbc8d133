"""Writes the generated parts of these pages.

    python docs/generate.py           write what follows from the code
    python docs/generate.py --run     also run the slow commands whose output a page shows (minutes)

Between `<!-- generated: NAME -->` and `<!-- end -->` stands what `PARTS[NAME]()` returns. Between
`<!-- output: COMMAND -->` and `<!-- end -->` stands what the command prints. A `checked output` is cheap and is made
every time; a plain `output` is made only by --run. tests/docs fails when a generated part or a checked output is stale.
Of several commands, joined by ` && `, the page shows the output of the last one.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))  # also when it is loaded from elsewhere, as the tests do

import command_output  # noqa: E402
import model_pages  # noqa: E402
import page_parts  # noqa: E402

BLOCK = re.compile(r"(<!-- (generated|checked output|output): (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def pages() -> list[Path]:
    """Returns the pages that may hold generated parts."""
    return [FOLDER.parent / "README.md", *sorted(FOLDER.glob("*.md"))]


def render(page: Path, *, run: bool = False) -> str:
    """Returns the page as it should be. With `run`, slow outputs are made as well."""

    def fill(match: re.Match[str]) -> str:
        head, kind, name, end = match.groups()
        if kind == "generated":
            return f"{head}{page_parts.PARTS[name]()}{end}"
        if kind == "output" and not run:
            return match.group()
        text, code = [command_output.output_of(command) for command in name.split(" && ")][-1]
        ending = f"\n[exit code {code}]" if code else ""
        return f"{head}```text\n{text}{ending}\n```\n{end}"

    return BLOCK.sub(fill, page.read_text(encoding="utf-8"))


def main(arguments: list[str]) -> None:
    """Writes all pages."""
    run = "--run" in arguments
    with _workplace():
        for page in pages():
            text = render(page, run=run)
            if text != page.read_text(encoding="utf-8"):
                page.write_text(text, encoding="utf-8")
                sys.stdout.write(f"{page.name}\n")
        _write_model_pages(FOLDER / model_pages.FOLDER)


def _write_model_pages(folder: Path) -> None:
    """Writes the page of every card into the folder, and removes other pages."""
    wanted = model_pages.model_pages()
    folder.mkdir(exist_ok=True)
    for page in folder.glob("*.md"):
        if page.name not in wanted:
            page.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _workplace() -> Iterator[None]:
    """Runs the block in a folder with the sweeps of the pages alone, so that commands find and leave nothing else."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        for example in FOLDER.glob("*.yaml"):
            shutil.copy(example, folder)
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


if __name__ == "__main__":
    main(sys.argv[1:])
