"""Reads YAML without its surprises: `yes` and `2024-01-01` are text, 1e-3 is a number, a key twice is an error.

Everything that people write in YAML is read here: config files, boards, model cards and options on the command line.
Errors are in words of our own, with the line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from typing import Any, ClassVar, Never

import yaml

MOST_LEVELS, MOST_VALUES, MOST_DIGITS = 100, 100_000, 300
"""Limits of a document: brackets inside brackets, values with every alias written out, digits of a whole number."""

_TAG = "tag:yaml.org,2002:"
_FLOAT = r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
_FORMS = {
    "null": (r"~|null|Null|NULL|", [*"~nN", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    "int": (r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+", [*"-+0123456789"]),
    "float": (_FLOAT, [*"-+0123456789."]),
    "merge": (r"<<", ["<"]),
}
_NAMES = {"null": "null", "bool": "true or false", "int": "a whole number", "float": "a number"}
_UNREADABLE = re.compile("[^\t\n\r -~\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u2028\u2029]")
"""Control characters, and line separators that YAML would turn into spaces without a word."""


def read_yaml(text: str) -> Any:
    """Returns the plain values of a YAML document; None for an empty one.

    Raises:
        ValueError: the text is not valid YAML, or is larger than the limits; the message says why, and in which line.
    """
    if found := _UNREADABLE.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise ValueError(f"it holds the character U+{ord(found[0]):04X}; write it as an escape in quotes (line {line})")
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(_in_our_words(error)) from error
    except (ValueError, OverflowError) as error:  # of chr(), where PyYAML reads an escape such as "\UFFFFFFFF"
        raise ValueError("an escape in double quotes is no character") from error


_QUOTE = "has to be quoted"


class _Loader(yaml.SafeLoader):
    """Reads no dates, no sexagesimal numbers, no tags, and only true and false as booleans."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's own name; filled below
    yaml_constructors: ClassVar[dict[Any, Any]] = {}  # as above

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._level = 0
        self._count = 0
        self._counts: dict[yaml.Node, int] = {}  # of finished nodes, with every alias written out

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Reads the next node. Checks the limits before anything is made of it: short text can mean huge values."""
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        before = self._count
        self._level += 1
        if self._level > MOST_LEVELS:
            _refuse(event, f"it has more than {MOST_LEVELS} levels of values inside values")
        node = super().compose_node(parent, index)
        assert node is not None
        self._level -= 1
        if isinstance(event, yaml.AliasEvent) and node not in self._counts:
            _refuse(event, "a value holds itself")
        self._count += self._counts[node] if isinstance(event, yaml.AliasEvent) else 1
        if self._count > MOST_VALUES:
            _refuse(event, f"it has more than {MOST_VALUES} values, with every alias written out")
        self._counts.setdefault(node, self._count - before)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        if not isinstance(node, yaml.MappingNode):
            _refuse(node, f"text that begins with '!' {_QUOTE}")
        seen: set[Any] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != f"{_TAG}merge":
                if key.value in seen:
                    _refuse(key, f"the key {key.value!r} is there twice")
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_text(self, node: yaml.ScalarNode) -> str:
        """Returns the text of a scalar; two escapes for the halves of a character, as JSON has them, are that one."""
        text = str(self.construct_scalar(node))
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            _refuse(node, "an escape is half a character")

    def construct_plain(self, node: yaml.ScalarNode) -> Any:
        """Returns the value of a scalar, after checking that it has the form of its tag."""
        name = node.tag.removeprefix(_TAG)
        text = str(self.construct_scalar(node))
        if not re.fullmatch(_FORMS[name][0], text):
            _refuse(node, f"{text!r} is not {_NAMES[name]}")
        if name == "int":
            return self.construct_whole_number(node, text)
        if name == "float":
            return self.construct_number(node, text)
        return {"null": None, "bool": text.lower() == "true"}[name]

    @staticmethod
    def construct_whole_number(node: yaml.Node, text: str) -> int:
        """Returns the number. Python reads at most 4300 digits, and nothing here counts that far."""
        if len(text) > MOST_DIGITS:
            _refuse(node, f"a number has {len(text)} digits")
        return int(text, 16 if text.startswith("0x") else 10)

    @staticmethod
    def construct_number(node: yaml.Node, text: str) -> float:
        """Returns the number; one beyond the range of floats is refused, not read as infinity."""
        number = float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
        if math.isinf(number) and "inf" not in text.lower():
            _refuse(node, f"the number {text} is too large")
        return number

    def refuse_tag(self, node: yaml.Node) -> Never:
        """Raises the error for a tag such as !!binary or !name."""
        tag = node.tag.replace(_TAG, "!!")
        _refuse(node, f"the tag {tag} is not read; text that begins with '!' {_QUOTE}")


for _name, (_form, _first) in _FORMS.items():
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"^(?:{_form})$"), _first)
for _name in _NAMES:
    _Loader.add_constructor(f"{_TAG}{_name}", _Loader.construct_plain)
for _name in ("str", "merge"):  # "<<" is a word like any other where it is not a key
    _Loader.add_constructor(f"{_TAG}{_name}", _Loader.construct_text)
_Loader.yaml_constructors[f"{_TAG}seq"] = yaml.SafeLoader.construct_yaml_seq
_Loader.yaml_constructors[f"{_TAG}map"] = yaml.SafeLoader.construct_yaml_map
_Loader.add_constructor(None, _Loader.refuse_tag)


class _Refusal(yaml.MarkedYAMLError):
    """A refusal of our own, whose words stay as they are."""


def _refuse(at: yaml.Node | yaml.Event, why: str) -> Never:
    raise _Refusal(problem=why, problem_mark=at.start_mark)  # type: ignore[arg-type]  # or the one of libyaml


_WORDS = (
    ("mapping values are not allowed", f"text with ': ' in it {_QUOTE}"),
    ("could not find expected ':'", "a line has no ':' between key and value"),
    (r"found character '\\t'", "lines are indented with spaces, not with tabs"),
    ("found character ('.+'|\".+\") that cannot start", f"text that begins with {{0}} {_QUOTE}"),
    ("found undefined alias (.+)", f"no anchor is called {{0}}; text that begins with '*' {_QUOTE}"),
    ("found duplicate anchor '(.+)'", "the anchor &{0} is there twice"),
    ("found unexpected (end of stream|document separator)", "a quotation mark is not closed"),
    (r"expected ',' or '(.)'", "a bracket is not closed: ',' or '{0}' is missing"),
    ("expected the node content", "a value is missing"),
    ("expected <block end>", "a line is not indented like the lines above it, or text after a quotation mark is left"),
    ("expected a single document", "it has more than one document ('---')"),
    ("expected '<document start>'", "text follows the end of the document"),
    (r"found unknown escape character '(.+)'", "\\{0} is no escape in double quotes; single quotes have none"),
    ("expected escape sequence of (.+) hexadecimal", "an escape in double quotes needs {0} hexadecimal digits"),
    ("found unhashable key", "a key is a list or a mapping, not text"),
    ("for merging", "'<<' takes a mapping"),
    ("(sequence entries|mapping keys) are not allowed", f"text that begins with '- ' or '? ' {_QUOTE}"),
    ("scanning an alias", f"text that begins with '*' {_QUOTE}"),
    ("scanning an anchor", f"text that begins with '&' {_QUOTE}"),
    (
        "(scanning|parsing) a tag|undefined tag|expected a (scalar|sequence|mapping)",
        f"text that begins with '!' {_QUOTE}",
    ),
    ("directive|incompatible YAML", f"text that begins with '%' {_QUOTE}"),
    ("scanning a block scalar", f"text that begins with '|' or '>' {_QUOTE}"),
)
"""What PyYAML says, as a pattern, and what we say."""


def _in_our_words(error: yaml.YAMLError) -> str:
    """Returns why PyYAML or `_refuse` refused a text, in one line."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return "it cannot be read"
    mark = error.problem_mark or error.context_mark
    where = f" (line {mark.line + 1})" if mark else ""
    if isinstance(error, _Refusal):
        return f"{error.problem}{where}"
    theirs = f"{error.problem or ''}\n{error.context or ''}\n{error.note or ''}"
    for pattern, ours in _WORDS:
        if found := re.search(pattern, theirs):
            return f"{ours.format(*found.groups())}{where}"
    return f"it cannot be read{where}"
