"""Finds prose in source files, documentation and model cards, and checks it against the rules for plain English.

`python tests/support/prose.py PATH...` prints what breaks a rule, one line per fault. The rules themselves are in
CONTRIBUTING.md.
"""

import argparse
import ast
import inspect
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

LONGEST = 25
"""Words in a sentence."""

UNITS = r"(?:clip|step|site|layer|head|frame|point|latent|run|pass|call|query|token|pair|block|branch|model|video|row)"
COUNTED = (
    r"(?:one|once|twice|two|three|few|many|\d+|rows?|shards?|files?|pass(?:es)?|seconds?|ms|MiB|GB|numbers?|lines?|errors?|"
    r"failures?|times?|entries|columns?)"
)

BANNED = {
    r"\b(?:that|those) of\b": "name the thing again",
    r"\bbeside\b": "'next to', 'in addition to' or 'with'",
    r"\btold\b": "'reported', 'given' or 'said'",
    r"\bheld against\b": "'compared with'",
    r"\bmade otherwise\b": "'built with other options'",
    r"\bof another kind\b": "say which kind",
    r"(?<=[\w`)] )(?<!\bmade )otherwise\b": "'differently'; 'otherwise' only begins a clause",
    rf"\b{COUNTED} an? {UNITS}\b": "'per clip', not 'a clip', for a rate",
    r"\b(?:an|the|its|their|no|every|each|stored|one|of|all|probe's|probes') answers?\b": "'prediction', not 'answer'",
}
"""Patterns that plain English avoids, and what to write in their place."""
_ANY_BANNED = re.compile("|".join(f"(?:{pattern})" for pattern in BANNED), re.IGNORECASE)

PARTICIPLES = re.compile(
    r"(?:bound|built|chosen|cut|drawn|found|given|held|kept|known|left|made|put|seen|sent|shown|taken|told|written"
    r"|(?!embed)\w+[^e]ed)"
)
"""First words of a function's name that say what was done instead of what the function does."""

NOT_VERBS = re.compile(
    r"(?:Always|As|Axes|Bytes|Classes|Clips|Columns|Does|Files|Frames|Has|Heads|Indices|Is|Its|Keys|Keywords|Layers|Less"
    r"|Lines|Means|Names|Numbers|Options|Ours|Pairs|Perhaps|Pixels|Plus|Points|Positions|Predictions|Queries|Rows|Sites"
    r"|Steps|Sums|Tables|Theirs|These|This|Those|Times|Tokens|Tracks|Values|Videos|Was|Weights|Whereas|Words|Yes)"
)
"""Words that end like a verb and are none here."""


PUBLIC_NAMES = frozenset({"installed", "packaged_configs", "packaged_model"})
"""Names that plugin authors and notebooks import, and that stay although they begin with a participle."""


@dataclass(frozen=True)
class Passage:
    """A piece of prose: the file and line where it begins, what it is, and its text without code."""

    path: Path
    line: int
    kind: str
    text: str


def passages(path: Path) -> Iterator[Passage]:
    """Yields the prose of a file: docstrings, comments and messages of Python, paragraphs of Markdown, cards."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from _python(path, text)
    elif path.suffix == ".md":
        yield from _markdown(path, text)
    elif path.suffix in {".yaml", ".yml"}:
        yield from _yaml(path, text)


def faults(path: Path) -> Iterator[str]:
    """Yields one line per fault of a file: place, what to write in its place, and the sentence."""
    for passage in passages(path):
        for sentence in sentences(passage.text):
            for advice in avoided(sentence):
                yield _line(passage, advice, sentence)
            if len(sentence.split()) > LONGEST and passage.kind != "message":
                yield _line(passage, f"{len(sentence.split())} words; at most {LONGEST}", sentence)
    if path.suffix == ".py":
        yield from _function_faults(path)


def avoided(sentence: str) -> list[str]:
    """Returns what to write in place of the words of a sentence that plain English avoids."""
    if not _ANY_BANNED.search(sentence):
        return []
    return [advice for pattern, advice in BANNED.items() if re.search(pattern, sentence, re.IGNORECASE)]


def sentences(text: str) -> list[str]:
    """Splits prose into sentences; a colon, a semicolon and the start of a list item end one as well."""
    parts = re.split(r"(?<=[.:;!?])[\"')\]]*\s+|\n\s*\n|\n\s*(?=[-*] |\d+\. )", text)
    return [" ".join(part.split()) for part in parts if part.strip()]


def _line(passage: Passage, advice: str, sentence: str) -> str:
    return f"{passage.path}:{passage.line}: {passage.kind}: {advice}: {sentence}"


def _plain(text: str) -> str:
    """Replaces code, links and addresses by one word each."""
    text = re.sub(r"``.+?``|`[^`]+`", "CODE", text, flags=re.DOTALL)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"https?://\S+", "LINK", text)


@lru_cache(maxsize=1)
def _nodes(text: str) -> list[ast.AST]:
    """Returns the nodes of Python code, which several rules read one after the other."""
    return list(ast.walk(ast.parse(text)))


def _python(path: Path, text: str) -> Iterator[Passage]:
    nodes = _nodes(text)
    documentation = set()
    for node in nodes:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            documentation.add(node.value)
            for line, paragraph in _paragraphs(inspect.cleandoc(node.value.value)):
                yield Passage(path, node.lineno + line, "docstring", _plain(paragraph))
    yield from _messages(path, nodes, documentation)
    yield from _comments(path, text)


def _paragraphs(docstring: str) -> Iterator[tuple[int, str]]:
    """Yields the paragraphs of a docstring with their lines; an argument's description is a paragraph of its own."""
    kept: list[str] = []
    begin = 0
    code = False
    for number, line in enumerate([*docstring.splitlines(), ""]):
        item = re.match(r"\s*(?:[\w*, ]{1,40}|\w+Error): ", line)
        literal = code and re.match(r"\s{4,}\S", line) is not None
        if not line.strip() or item or literal:
            if kept:
                yield begin, "\n".join(kept)
            kept, begin = [], number
            if not line.strip() or literal:
                continue
        kept.append(line[item.end() :] if item else line)
        code = line.rstrip().endswith("::")


def _messages(path: Path, nodes: list[ast.AST], documentation: set[ast.AST]) -> Iterator[Passage]:
    inside = {part for node in nodes if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            text = "".join(part.value if isinstance(part, ast.Constant) else "CODE" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documentation | inside:
            text = node.value
        else:
            continue
        if len(text.split()) >= 3 and not re.search(r"\n.*(?:import |def |= )|</|\bimport \w", text):
            yield Passage(path, node.lineno, "message", _plain(text))


def _comments(path: Path, text: str) -> Iterator[Passage]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield Passage(path, token.start[0], "comment", _plain(token.string.lstrip("# ")))


def _markdown(path: Path, text: str) -> Iterator[Passage]:
    code = False
    kept: list[str] = []
    begin = 1
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        fence = line.lstrip().startswith("```")
        code = code != fence
        apart = not line.strip() or line.startswith(("#", "|", "<", "    "))
        if (fence or code or apart) and kept:
            yield Passage(path, begin, "text", _plain("\n".join(kept)))
            kept = []
        if line.startswith("|"):
            for cell in line.strip("|").split("|"):
                yield Passage(path, number, "table", _plain(cell))
        elif not (fence or code or apart):
            begin = begin if kept else number
            kept.append(line)


def _yaml(path: Path, text: str) -> Iterator[Passage]:
    nodes = [yaml.compose(text)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, yaml.ScalarNode) and len(node.value.split()) >= 3:
            yield Passage(path, node.start_mark.line + 1, "card", _plain(node.value))
        elif isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            # a setting's value is quoted from the model's authors
            nodes += [value for key, value in node.value if key.value != "value"]


def _function_faults(path: Path) -> Iterator[str]:
    for node in _nodes(path.read_text(encoding="utf-8")):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_property(node):
            continue
        first = (ast.get_docstring(node) or "Returns").split()[0]
        instructs = first == "See" or _is_command(node)
        if not instructs and (not re.fullmatch(r"[A-Z][a-z-]*s", first) or NOT_VERBS.fullmatch(first)):
            yield f"{path}:{node.lineno}: docstring of {node.name}: a verb begins it ('Returns'), not {first!r}"
        word = node.name.strip("_").split("_")[0]
        if PARTICIPLES.fullmatch(word) and node.name not in PUBLIC_NAMES:
            yield f"{path}:{node.lineno}: {node.name}: a function's name begins with a verb, not a participle"


def _is_command(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Returns whether a docstring is the help of a command, which is an instruction: "Measure what probing costs."."""
    return any(re.search(r"\.(command|group)\(", ast.unparse(decorator)) for decorator in node.decorator_list)


def _is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(
        "property" in ast.unparse(decorator) or "setter" in ast.unparse(decorator) for decorator in node.decorator_list
    )


def files(paths: list[Path]) -> list[Path]:
    """Returns the files with prose at and below the paths."""
    found = [f for p in paths for f in ([p] if p.is_file() else sorted(p.rglob("*")))]
    return [f for f in found if f.suffix in {".py", ".md", ".yaml", ".yml"} and not f.is_symlink()]


def main() -> int:
    """Prints the faults of the named files and folders; returns 1 when there are any."""
    parser = argparse.ArgumentParser(description="Checks prose against the rules for plain English.")
    parser.add_argument("paths", nargs="+", type=Path)
    found = [fault for path in files(parser.parse_args().paths) for fault in faults(path)]
    sys.stdout.write("".join(f"{fault}\n" for fault in found))
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
