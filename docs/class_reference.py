"""Makes the reference of a class from its source: attributes, then methods in groups, with whole docstrings."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from dataclasses import dataclass

from model_pages import options_table

GROUP = re.compile(r"^    # -{10,} (.+)$")
"""A comment line that begins a group of methods."""
SECTION = re.compile(r"^(Args|Returns|Raises):$", re.MULTILINE)


@dataclass(frozen=True)
class Member:
    """A method or property of a class: its name, its call, its docstring, and the group it stands in."""

    name: str
    call: str
    text: str
    group: str


def reference(thing: type) -> str:
    """Returns the reference of a class as Markdown: docstring, table of attributes, a section per group of methods."""
    trees = [_tree(each) for each in parts_of(thing)]
    parts = [_markdown(inspect.getdoc(thing) or ""), _attribute_table([tree for tree, _ in trees])]
    members = [member for tree, lines in trees for member in _members(tree, lines)]
    for group in dict.fromkeys(member.group for member in members):
        parts.append(f"### {group[:1].upper()}{group[1:]}")
        parts += [f"#### `{m.call}`\n\n{m.text}" for m in members if m.group == group]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def parts_of(thing: type) -> list[type]:
    """Returns the class and its bases of the same package, the most basic first."""
    package = thing.__module__.rpartition(".")[0]
    return [each for each in reversed(thing.__mro__) if each.__module__.rpartition(".")[0] == package]


def attribute_words(thing: type) -> dict[str, str]:
    """Returns the string under each attribute of a class, on one line, by the name of the attribute."""
    return {node.target.id: words for node, words in _attributes(_tree(thing)[0])}  # type: ignore[union-attr]


def _tree(thing: type) -> tuple[ast.ClassDef, list[str]]:
    source = textwrap.dedent(inspect.getsource(thing))
    (tree,) = ast.parse(source).body
    assert isinstance(tree, ast.ClassDef)
    return tree, source.splitlines()


def _attributes(tree: ast.ClassDef) -> list[tuple[ast.AnnAssign, str]]:
    found = []
    for one, other in zip(tree.body, tree.body[1:], strict=False):
        said = isinstance(other, ast.Expr) and isinstance(other.value, ast.Constant)
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and said:
            found.append((one, " ".join(str(other.value.value).split())))  # type: ignore[attr-defined]
    return found


def _attribute_table(trees: list[ast.ClassDef]) -> str:
    rows = ["| attribute | type | default | meaning |", "| --- | --- | --- | --- |"]
    for node, words in (pair for tree in trees for pair in _attributes(tree)):
        kind = re.sub(r"^ClassVar\[(.*)\]$", r"\1", ast.unparse(node.annotation))
        default = f"`{ast.unparse(node.value)}`" if node.value is not None else "required"
        cells = (f"`{ast.unparse(node.target)}`", f"`{kind}`", default, _inline(words))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _members(tree: ast.ClassDef, lines: list[str]) -> list[Member]:
    groups = [(number, match[1]) for number, line in enumerate(lines, 1) if (match := GROUP.match(line))]
    found = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            group = next((title for number, title in reversed(groups) if number < node.lineno), "methods")
            found.append(Member(node.name, _call(node), _markdown(ast.get_docstring(node) or ""), group))
    return found


def _call(node: ast.FunctionDef) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    if any(isinstance(each, ast.Name) and each.id == "property" for each in node.decorator_list):
        return f"{node.name}{returns}"
    arguments = ast.unparse(node.args).removeprefix("self").removeprefix(", ")
    return f"{node.name}({arguments}){returns}"


def _markdown(docstring: str) -> str:
    """Returns a docstring as Markdown, its sections as lists."""
    first, *rest = SECTION.split(_inline(docstring))
    parts = [first.strip()]
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        text = textwrap.dedent(body.strip("\n")).strip()
        items = [" ".join(item.split()) for item in re.split(r"\n(?=\S)", text)]
        listed = text if title == "Returns" else "\n".join(f"- {_term(item)}" for item in items)
        parts.append(f"{title}: {listed}" if title == "Returns" else f"{title}:\n\n{listed}")
    return "\n\n".join(parts)


def _term(item: str) -> str:
    """Returns `name: meaning` with the name as code."""
    return re.sub(r"^([\w, ]+?): ", lambda match: f"`{match[1]}`: ", item)


def _inline(text: str) -> str:
    return re.sub(r"(?<!`)``(?!`)", "`", text)


def part() -> str:
    """Returns the reference of `DiffusersVideoModel`."""
    from vcorr.diffusion import DiffusersVideoModel

    return reference(DiffusersVideoModel)


def options_part() -> str:
    """Returns the docstring of `VideoConfig`, and a table of its options."""
    from vcorr.diffusion import VideoConfig
    from vcorr.plugins.option_facts import describe_options

    return _markdown(inspect.getdoc(VideoConfig) or "") + "\n\n" + options_table(describe_options(VideoConfig))
