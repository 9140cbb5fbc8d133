"""Writes the folder of a new plugin from templates: all files or none."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath

from vcorr.authoring.scaffold.names import Names
from vcorr.authoring.scaffold.pipelines.adapter_source import pipeline_files
from vcorr.authoring.scaffold.pipelines.facts import PipelineFacts
from vcorr.contract.errors import UsageError
from vcorr.store.atomic_files import replace_folder

TEMPLATES = "templates"
COMMON = "common"
"""Folder of the templates for plugins of every kind; a file in the kind's own folder replaces the common one."""
PIPELINE = "pipeline"
"""Folder of the templates for models that have a pipeline in diffusers."""
SUFFIX = ".j2"


def write_plugin(names: Names, parent: Path, facts: PipelineFacts | None = None) -> Path:
    """Writes the distribution below `parent`; returns its folder.

    Args:
        names: names of the plugin.
        parent: folder to write it in.
        facts: facts of the diffusers pipeline, for a model that runs one.

    Raises:
        UsageError: the folder exists already.
        StoreError: it cannot be written.
    """
    target = parent / names.distribution
    if target.exists():
        raise UsageError(f"{target} exists already.", hint="Choose another name, or another folder: --out DIR")
    files = dict(render(names, facts))
    with replace_folder(target, existing=False) as draft:
        _write(files, draft)
    return target


def render(names: Names, facts: PipelineFacts | None = None) -> Iterator[tuple[PurePosixPath, str]]:
    """Yields the path and the text of every file of the distribution."""
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # the files are Python and TOML, not HTML; values come from `Names` and facts
    )
    for path, source in _sources(names.kind if facts is None else PIPELINE).items():
        yield _target_path(path, names), environment.from_string(source).render(names=names, facts=facts)
    if facts is not None:
        yield from pipeline_files(names, facts)


def _sources(kind: str) -> dict[PurePosixPath, str]:
    root = resources.files(__package__) / TEMPLATES
    return {path: text for folder in (COMMON, kind) for path, text in _walk(root / folder, PurePosixPath())}


def _walk(folder: Traversable, inside: PurePosixPath) -> Iterator[tuple[PurePosixPath, str]]:
    for item in sorted(folder.iterdir(), key=lambda each: each.name):
        if item.is_dir():
            yield from _walk(item, inside / item.name)
        elif item.name.endswith(SUFFIX):
            yield inside / item.name, item.read_text(encoding="utf-8")


def _target_path(template: PurePosixPath, names: Names) -> PurePosixPath:
    """Returns the path of the written file: the names replace PACKAGE, MODULE and ENTRY in the template's path."""
    text = str(template).removesuffix(SUFFIX)
    for word in ("package", "module", "entry"):
        text = text.replace(word.upper(), getattr(names, word))
    return PurePosixPath(text)


def _write(files: dict[PurePosixPath, str], folder: Path) -> None:
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
