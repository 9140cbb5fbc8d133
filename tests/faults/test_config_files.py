"""Drawn and damaged config files, through `vcorr run --config FILE --dry-run`: one message, never a traceback."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.scale import draw_cases, scale_count

from vcorr.cli import main as program
from vcorr.contract.errors import UsageError
from vcorr.runner.spec import RunSpec, build_spec
from vcorr.store.fingerprint import plain

GOOD = """\
# a run of the model of the tests
model: sliding-model
probe: [qk, feature-fair]
data: token-slide
layers: 0-1
steps: "0,2"
limit: 1
seed: 7
variant: corrected
metrics: matching_accuracy,pck
cfg: 1.5
dtype: float32
set:
  probe.heads: [0]
  metric.thresholds: [1.0, 2.0]
  probe: {radius: 1}
"""
MORE_KEYS = ("set", "modle", "guidance", "save-videos", "", "1", "null", "<<", "probe.heads")
KEYS = [*RunSpec.__dataclass_fields__, *MORE_KEYS]
OPTIONS = (
    "probe.heads",
    "probe.radius",
    "metric.thresholds",
    "model.x",
    "data.path",
    "tracker.max_side",
    "x",
    "probe.",
)
# fmt: off
SCALARS = (
    "yes", "no", "null", "~", "''", "'???'", "${HOME}", "${oc.env:HOME}", "1.10", "010", "1:30", "1_0", "1e400", "nan",
    "2024-01-01", "=", "<<", "!!python/object:os.system {}", "*x", "&x y", "@x", "%x", '"\\ud800"', '"\\0"', "[", "{",
    "😀", "a: b", "take #3", "-1", "-0", "0", "3", "5-2", "last", "0-spread", "9" * 25, ".inf", "true", "[1, [2]]", "|",
    "sliding-model", "zero-motion", "qk", "all", "renoise", "cpu", "cuda:9", "float32", "random", "pck", "both", "ä",
    "/dev/zero", "{a: {b: c}}", "generate", "corrected,scale", "-", "[]", "{}",
)
SIGNS = (b"\t", b"\r", b"\xef\xbb\xbf", b"[", b"{", b": ", b"#", b"- ", b'"', b"&a ", b"*a")
# fmt: on


@pytest.fixture
def dry_run(plugins, monkeypatch, tmp_path, capsys) -> Callable[[bytes], tuple[int, str, str]]:
    """Returns a function that dry-runs a config file; it returns the exit code, and what was printed."""
    plugins()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vcorr.analysis.estimate.flops_per_second", lambda hardware: 1e12)  # the real one takes long
    file = tmp_path / "drawn.yaml"

    def run(content: bytes) -> tuple[int, str, str]:
        file.write_bytes(content)
        with pytest.raises(SystemExit) as ended:
            program.main(["run", "--config", str(file), "--dry-run", "--json"])
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


def check(ended: tuple[int, str, str], content: bytes) -> int:
    """Checks that a command ended with a plan, or with one message that names the file; returns its exit code."""
    code, out, err = ended
    assert code in (0, 2, 4), (content, err)
    if code == 0:
        assert json.loads(out)["model"] in ("sliding-model", "zero-motion"), content
        return code
    assert err.startswith("Error: "), (content, err)
    assert "drawn.yaml" in err, (content, err)
    assert len(err.splitlines()) <= 5, (content, err)
    for foreign in ("Traceback", "omegaconf", "OmegaConf", "NoneType", "while scanning", "Optional", "object has no"):
        assert foreign not in err, (content, err)
    return code


def draw_structure(random: random.Random) -> bytes:
    """Returns a config file of drawn keys and values, about half of them from a good file."""
    lines = [line for line in GOOD.splitlines() if not line.startswith((" ", "set")) and random.random() < 0.7]
    lines += [f"{random.choice(KEYS)}: {random.choice(SCALARS)}" for _ in range(random.randrange(3))]
    if random.random() < 0.5:
        lines.append("set:")
        lines += [f"  {random.choice(OPTIONS)}: {random.choice(SCALARS)}" for _ in range(random.randrange(1, 4))]
    random.shuffle(lines) if random.random() < 0.2 else None
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def damage(random: random.Random) -> bytes:
    """Returns a good file after one to four drawn changes of its bytes."""
    data = bytearray(GOOD.encode())
    for _ in range(random.randrange(1, 5)):
        at = random.randrange(len(data) or 1)
        kind = random.randrange(5)
        if kind == 0:
            del data[at : at + random.randrange(1, 20)]
        elif kind == 1:
            data[at:at] = bytes(random.randrange(256) for _ in range(random.randrange(1, 4)))
        elif kind == 2:
            data[at:at] = random.choice(SCALARS).encode("utf-8", "surrogatepass")
        elif kind == 3:
            data[at:at] = random.choice(SIGNS)
        else:
            data = data[:at]
    return bytes(data)


@pytest.mark.parametrize("draw", [draw_structure, damage])
def test_a_drawn_file_gives_a_plan_or_one_message(draw, dry_run) -> None:
    source, codes = random.Random(12), []
    for _ in range(scale_count(120)):
        content = draw(source)
        codes.append(check(dry_run(content), content))
    assert {0, 2} <= set(codes), "no drawn file is good, or none is bad"


def test_the_good_file_is_good(dry_run) -> None:
    code, out, _ = dry_run(GOOD.encode())
    found = json.loads(out)
    assert (code, found["layers"], found["steps"], len(found["clips"])) == (0, [0, 1], [0, 2], 1)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)
AWKWARD = st.text(alphabet="\\$?{}a: #'\"[]!&*|>%@`~=<,\t\n0.-_", min_size=1, max_size=12) | st.sampled_from(
    ["???", "null", "~", "no", "on", "1.10", "010", "1:30", "1_0", "${HOME}", "${oc.env:HOME}", "<<", "=", "a\u2028b"]
)


@given((TEXT | AWKWARD).filter(str.strip))
@draw_cases(30)
def test_a_prompt_is_the_same_text_wherever_it_is_written(tmp_path_factory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "prompt.yaml"
    file.write_text(yaml.safe_dump({"prompt": text, "set": {"data.text": text}}), encoding="utf-8")
    from_file = build_spec({}, config_file=file)
    file.write_text(json.dumps({"set": {"prompt": text, "data": {"text": text}}}).replace("\x7f", "\\x7f"))
    specs = [
        from_file,
        build_spec({}, config_file=file),
        build_spec({"prompt": text}, assignments=[f"data.text={text}"]),
        build_spec({}, assignments=[f"prompt={text}", f"data.text={text}"]),
    ]
    for spec in specs:
        record = json.loads(json.dumps(plain(spec)))
        assert record["prompt"] == record["options"]["data"]["text"] == text
        assert (type(spec.prompt), spec.prompt) == (str, text)


@given(st.sampled_from(["seed", "limit", "cfg", "offload"]), AWKWARD | st.integers().map(str) | st.floats().map(repr))
@draw_cases(50)
def test_a_typed_field_is_right_or_its_error_names_it(field: str, text: str) -> None:
    try:
        found = getattr(build_spec({}, assignments=[f"{field}={text}"]), field)
    except UsageError as error:
        message = error.message
    else:
        message = ""
    if message:
        assert field in message
    elif field == "offload":
        assert found is (text.strip().lower() in ("1", "true", "yes", "on"))
    else:
        assert found == (None if text.strip() in ("null", "~") else _number(text))


def _number(text: str) -> int | float:
    """Returns the number of a text; whole numbers exactly, also those that float cannot hold."""
    try:
        return int(text)
    except ValueError:
        return float(text)
