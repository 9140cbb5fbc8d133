"""The arms of a study of accelerators: what each one changes in the plain model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vcorr.contract.errors import UsageError, unknown_name
from vcorr.contract.tasks import MAKING_VIDEOS
from vcorr.diffusion.accelerators.accelerator_names import ACCELERATORS, NONE, Accelerators, read_accelerators
from vcorr.runner.spec import RunSpec

PLAIN = "plain"
"""The label of the arm that the others are compared with."""

USUAL = (
    "first-block-cache",
    "pyramid-attention-broadcast",
    "faster-cache",
    "mag-cache",
    "taylorseer",
    "fp8",
    "int8",
    "nf4",
    "windowed:frames=1",
    "windowed:frames=0",
    "windowed:frames=1,space=4",
)
"""The accelerators of a study that names none; half and a quarter of the steps come after them."""

_STEPS, _MODEL, _LORA = "steps=", "model=", "lora="

CACHED = "skips attention in some steps of sampling, where probes cannot read it; a pass by itself is the plain one"
SAME_NETWORK = "the network and its weights are the plain ones; the video alone changes"


@dataclass(frozen=True)
class AcceleratedArm:
    """One line of the table.

    label: as it was typed. accelerate: the option of the model. num_steps: steps of sampling; None for as many as the
    plain arm has. model: another model in the place of the plain one, such as a distilled one; "" for the same. lora:
    file of low-rank weights; "" for none. is_usual: whether the study chose it by itself.
    """

    label: str
    accelerate: str = NONE
    num_steps: int | None = None
    model: str = ""
    lora: str = ""
    is_usual: bool = False

    @property
    def accelerators(self) -> Accelerators:
        """What the option names."""
        return read_accelerators(self.accelerate)

    @property
    def title(self) -> str:
        """What it is, for tables."""
        titles = [one.title or type(one).__name__ for one in self.accelerators.each]
        steps = [] if self.num_steps is None else [f"{self.num_steps} steps"]
        return ", ".join([*titles, *([self.model] if self.model else []), *(["LoRA"] if self.lora else []), *steps])

    @property
    def note(self) -> str:
        """What a reader of its numbers must know; "" for nothing."""
        return "; ".join(one.note for one in self.accelerators.each if one.note)

    @property
    def unread(self) -> str:
        """Why its attention is not measured; "" if it is."""
        if self.accelerators.reuses_steps:
            return CACHED
        if self.model or self.lora or any(not one.keeps_network for one in self.accelerators.each):
            return ""
        return SAME_NETWORK

    def fill(self, spec: RunSpec) -> RunSpec:
        """Returns the spec of one of the arm's runs. spec: of the same run of the plain model."""
        changes: dict[str, Any] = {"accelerate": self.accelerate} if self.accelerate != NONE else {}
        changes |= {"lora": self.lora} if self.lora else {}
        own = {**spec.options.get("model", {}), **changes}
        options: Mapping[str, Any] = {**spec.options, **({"model": own} if own else {})}
        filled = replace(spec, options=dict(options), model=self.model or spec.model)
        if spec.task in MAKING_VIDEOS and self.num_steps is not None:
            filled = replace(filled, num_steps=self.num_steps)
        return filled


def parse_arms(texts: Sequence[str], num_steps: int) -> tuple[AcceleratedArm, ...]:
    """Returns the arms that `--accelerator` names, each once; the usual ones if it names none.

    A text is what `model.accelerate` takes; `steps=N`, `model=NAME` and `lora=FILE` may be parts of it.

    Args:
        texts: the values of the flag.
        num_steps: steps of sampling of the plain arm, for the usual arms with fewer.

    Raises:
        UsageError: a name or an option is unknown, or an arm is there twice or changes nothing.
        PluginError: an accelerator of a plugin cannot be imported.
    """
    arms = [_parse_arm(text) for text in texts] or _list_usual(num_steps)
    labels = [arm.label for arm in arms]
    repeated = next((label for label in labels if labels.count(label) > 1), None)
    if repeated is not None:
        raise UsageError(f"--accelerator {repeated} is there twice.", hint="Name each once.")
    for arm in arms:
        if not (arm.accelerators.each or arm.num_steps or arm.model or arm.lora):
            raise UsageError(f"--accelerator {arm.label} changes nothing.", hint=f"Known: {', '.join(ACCELERATORS)}")
    return tuple(arms)


def _list_usual(num_steps: int) -> list[AcceleratedArm]:
    fewer = dict.fromkeys(count for count in (num_steps // 2, num_steps // 4) if count)
    texts = [*USUAL, *(f"{_STEPS}{count}" for count in fewer)]
    return [replace(_parse_arm(text), is_usual=True) for text in texts]


def _parse_arm(text: str) -> AcceleratedArm:
    arm, names = AcceleratedArm(text), []
    for part in (one.strip() for one in text.split("+")):
        if part.startswith(_STEPS):
            arm = replace(arm, num_steps=_read_steps(part, text))
        elif part.startswith(_MODEL):
            arm = replace(arm, model=part.removeprefix(_MODEL))
        elif part.startswith(_LORA):
            arm = replace(arm, lora=part.removeprefix(_LORA))
        elif part == PLAIN:
            raise UsageError("The plain model is in every study.", hint="Leave --accelerator plain out.")
        else:
            names.append(part)
    if names == [""]:
        raise unknown_name("accelerator", text, ACCELERATORS, hint=f"Known: {', '.join(ACCELERATORS)}")
    arm = replace(arm, accelerate="+".join(names) or NONE)
    read_accelerators(arm.accelerate)
    return arm


def _read_steps(part: str, text: str) -> int:
    digits = part.removeprefix(_STEPS)
    if not (digits.isascii() and digits.isdigit() and 0 < int(digits) < 10**6):
        raise UsageError(f"--accelerator {text}: {digits!r} is no number of steps.", hint="For example: steps=25")
    return int(digits)
