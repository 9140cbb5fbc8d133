"""Shows control characters instead of sending them: ids, prompts, paths and errors may come from strangers.

A control character could recolour, hide, overwrite or reorder what a reader sees. It is shown in the form of a Python
escape, such as \\x1b.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

# C0 and C1 controls, marks and overrides of the writing direction, separators of lines, surrogates, tags
CONTROL = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
_SHORT = {"\t": "\\t", "\r": "\\r", "\n": "\\n"}


def escape(text: str) -> str:
    """Returns text with every control character but the newline as a visible escape."""
    return CONTROL.sub(lambda found: _visible(found.group()), text)


def escape_line(text: str) -> str:
    """Returns text on one line: as `escape`, with newlines escaped as well."""
    return escape(text).replace("\n", _SHORT["\n"])


def _visible(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is no text
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def join_words(words: Iterable[object]) -> str:
    """Joins the words of a command to one line that a shell takes back.

    A word with control characters is written as $'...', with escapes that bash, zsh and ksh read.
    """
    return " ".join(_quote(str(word)) for word in words)


def _quote(word: str) -> str:
    if escape_line(word) == word:
        return shlex.quote(word)
    text = word.replace("\\", "\\\\").replace("'", "\\'").replace("\n", _SHORT["\n"])
    return "$'" + CONTROL.sub(lambda found: _shell_escape(found.group()), text) + "'"


def _shell_escape(character: str) -> str:
    """Returns the escape of a shell; above 7 bits its \\x stands for a byte, and \\u for a character."""
    code = ord(character)
    if character in _SHORT or code < 0x80:
        return _visible(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
