"""Finds how a pipeline takes an embedded prompt: its arguments, their widths, and the mask."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from vcorr.authoring.scaffold.pipelines.facts import Argument, Guess, Prompt
from vcorr.authoring.scaffold.pipelines.find import GUIDE
from vcorr.authoring.scaffold.pipelines.measure import Stage
from vcorr.contract.errors import UsageError

USUAL_TOKENS = 226
"""Number of text tokens when neither the call nor a configuration gives it."""
WIDTH_WORDS = {"embedding": ("caption", "text", "cross"), "pooled": ("pool", "text"), "mask": ()}
"""Words in the configuration keys of widths, by the kind of argument."""


def describe_prompt(stage: Stage, guesses: list[Guess]) -> Prompt:
    """Returns how the pipeline takes an embedded prompt.

    Raises:
        UsageError: it takes no embedded prompt and so cannot run without a text encoder.
    """
    kinds = list(stage.arguments.values())
    if "embedding" not in kinds:
        raise UsageError(
            f"The call of {stage.found.kind.__name__} takes no embedded prompt (prompt_embeds), so it cannot run with "
            "random weights.",
            hint=GUIDE,
        )
    tokens = stage.found.default("max_sequence_length")
    mask = find_mask_place(stage.found.kind) if "mask" in kinds else None
    if "mask" in kinds and mask is None:
        guesses.append(Guess("encoding", "the source does not show where encode_prompt returns the mask"))
    return Prompt(
        tokens=_from_config(stage, stage.tokens, ("length",)) or str(tokens or USUAL_TOKENS),
        arguments=[Argument(name, kind, _width(stage, name)) for name, kind in stage.arguments.items()],
        mask=(mask or 1) if "mask" in kinds else None,
        simple=set(stage.arguments) <= {"prompt_embeds", "prompt_attention_mask"},
        options={"max_sequence_length": tokens} if tokens else {},
    )


def _width(stage: Stage, name: str) -> str:
    """Returns Python for the width of an embedding; "" for a mask."""
    width = stage.widths.get(name)
    return "" if width is None else _from_config(stage, width, WIDTH_WORDS[stage.arguments[name]]) or str(width)


def _from_config(stage: Stage, number: int, words: Sequence[str]) -> str:
    """Returns Python for a number in terms of configurations: one value, or a product of two; "" when none fits.

    The key of a value must contain one of the words.
    """
    for name, part in stage.pipe.components.items():
        config = dict(getattr(part, "config", None) or {})
        usable = {
            key: value
            for key, value in config.items()
            if type(value) is int and value > 1 and any(word in key for word in words)
        }
        read = "self.network" if name == "transformer" else f"self.config_of('{name}')"
        for key, value in usable.items():
            if value == number:
                return f"{read}['{key}']"
        for one, other in pairwise(sorted(usable)):
            if usable[one] * usable[other] == number:
                return f"{read}['{one}'] * {read}['{other}']"
    return ""


def find_mask_place(kind: Any) -> int | None:
    """Returns the index of the mask in the tuple that `encode_prompt` returns, from its source; None if not found."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind.encode_prompt)))
    except (AttributeError, OSError, TypeError, SyntaxError):
        return None
    returns = [
        node.value for node in ast.walk(tree) if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple)
    ]
    for value in returns:
        names = [ast.unparse(each) for each in value.elts]
        for index, each in enumerate(names):
            if "mask" in each and "negative" not in each:
                return index
    return None
