"""Commands with odd words are shown so that a shell takes them back."""

from __future__ import annotations

import subprocess

from hypothesis import given
from hypothesis import strategies as st
from support.scale import draw_cases

from vcorr.contract.visible_text import escape_line, join_words

LETTERS = st.sampled_from("a '\"$`\\\\!\n\t\x1b\x7f\x80\u202eé日*~#;&|<>(){}[]") | st.characters(
    exclude_categories=["Cs"], exclude_characters="\0"
)


@draw_cases(30)
@given(st.lists(st.text(LETTERS, max_size=12), min_size=1, max_size=4))
def test_a_shell_takes_the_words_back(words: list[str]) -> None:
    line = join_words(words)
    assert escape_line(line) == line
    script = f"printf '%s\\\\0' {line}".replace("\\\\0", "\\0")
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"})
    assert done.stdout.decode().split("\0")[:-1] == words
