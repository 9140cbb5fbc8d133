"""Prose keeps to the rules for plain English (CONTRIBUTING.md), in code, on pages, in cards and in templates."""

import subprocess
import sys
from pathlib import Path

import pytest
from support import prose

ROOT = Path(__file__).parents[2]
PLACES = (
    "vcorr",
    "plugins",
    "docs",
    "leaderboards",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    ".github",
)


def write(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_make_check_reads_the_prose_of_the_whole_project():
    (command,) = [line for line in (ROOT / "Makefile").read_text().splitlines() if "tests/support/prose.py" in line]
    assert set(PLACES) <= set(command.split())
    assert all((ROOT / place).exists() for place in PLACES)


def test_the_words_of_the_tests_are_plain_as_well():
    """Sentences there may be long, and test functions need no docstring; the words that are avoided stay away."""
    found = [
        f"{passage.path}:{passage.line}: {sentence}"
        for path in prose.files([ROOT / "tests"])
        if path.name != Path(__file__).name
        for passage in prose.passages(path)
        if passage.kind != "message"
        for sentence in prose.sentences(passage.text)
        if prose.avoided(sentence)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("sentence", "advice"),
    [
        ("The stride is that of the first site.", "name the thing again"),
        ("A card lies beside the weights.", "next to"),
        ("The user is told at once.", "reported"),
        ("The clips were made otherwise.", "with other options"),
        ("It counts otherwise than before.", "differently"),
        ("The model makes one pass a step.", "per clip"),
        ("The answers are kept.", "prediction"),
    ],
)
def test_words_that_are_avoided(tmp_path, sentence, advice):
    for name, text in (("page.md", sentence), ("module.py", f'"""{sentence}"""\n'), ("other.py", f"# {sentence}\n")):
        (fault,) = prose.faults(write(tmp_path, name, text))
        assert advice in fault
        assert fault.startswith(f"{tmp_path / name}:1: ")


@pytest.mark.parametrize(
    "sentence",
    [
        "Otherwise the run stops.",
        "The model loads; otherwise the run stops.",
        "Each clip has one row per step.",
        "`that of the` first",
        "vcorr answers in half a second.",
    ],
)
def test_words_that_are_fine(tmp_path, sentence):
    assert list(prose.faults(write(tmp_path, "page.md", sentence + "\n"))) == []


def test_long_sentences(tmp_path):
    words = " ".join(["word"] * 26)
    assert "26 words; at most 25" in next(prose.faults(write(tmp_path, "page.md", f"{words}.\n")))
    fine = " ".join(["word"] * 20)
    assert (
        list(prose.faults(write(tmp_path, "page.md", f"{fine}: {fine}; {fine}. {fine}.\n\n- {fine}\n- {fine}\n"))) == []
    )
    assert list(prose.faults(write(tmp_path, "page.md", f"```\n{words} that of\n```\n"))) == []


def test_a_function_says_what_it_does(tmp_path):
    code = '''
def count_words():
    """The number of words."""

def made():
    """Returns a thing."""

class Thing:
    @property
    def size(self):
        """Size in pixels."""

def check():
    """Checks the thing."""

def freed():
    """Releases the thing."""
'''
    noun, participle = prose.faults(write(tmp_path, "module.py", code))
    assert "docstring of count_words: a verb begins it" in noun
    assert "made: a function's name begins with a verb" in participle


def test_code_in_docstrings_is_not_prose(tmp_path):
    block = "    that of the\n    beside told\n"
    assert list(prose.faults(write(tmp_path, "module.py", f'"""Shows an example::\n\n{block}\nIt ends.\n"""\n'))) == []


def test_messages_are_read_and_templates_are_not(tmp_path):
    message = 'raise ValueError(f"{name} lies beside the file.")\n'
    assert len(list(prose.faults(write(tmp_path, "module.py", message)))) == 1
    source = 'SOURCE = """\nimport os\nx = beside\ndef told(): pass\n"""\n'
    assert list(prose.faults(write(tmp_path, "module.py", source))) == []


def test_the_command_lists_faults_and_fails(tmp_path):
    page = write(tmp_path, "page.md", "The card lies beside it.\n")
    done = subprocess.run(
        [sys.executable, str(Path(prose.__file__)), str(page)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert str(page) in done.stdout
