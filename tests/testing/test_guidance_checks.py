"""The suite for guidances passes those that keep the contract, and finds each way to break it."""

from __future__ import annotations

import pytest
import torch

from vcorr import GuidanceBase, Perturbation, PluginError
from vcorr.testing import assert_passed, check_guidance


class AwayFromValues(GuidanceBase):
    """Keeps the contract."""

    layers: tuple[int, ...] = (3, 5)

    def perturb(self, sites):
        return Perturbation(layers=self.layers, edit=self.edit)

    def edit(self, call):
        return call.v

    def combine(self, predictions, step):
        change = predictions["cond"] - predictions["perturbed"]
        return {branch: each + change for branch, each in predictions.items()}


class BeyondTheLastLayer(AwayFromValues):
    layers = (29, 30)


class WithoutText(AwayFromValues):
    def edit(self, call):
        return call.v[:, :, call.n_text :]


class InFloat32(AwayFromValues):
    def edit(self, call):
        return call.v.float()


class WritesIntoV(AwayFromValues):
    def edit(self, call):
        return call.v.mul_(2)


class ReadsUncond(AwayFromValues):
    def combine(self, predictions, step):
        change = predictions["cond"] - predictions.get("uncond", 0)
        return {branch: each + change for branch, each in predictions.items()}


class WritesIntoCond(AwayFromValues):
    def combine(self, predictions, step):
        return {"cond": predictions["cond"].mul_(2)}


class InventsABranch(AwayFromValues):
    def combine(self, predictions, step):
        return {"guided": predictions["cond"]}


class DrawsByChance(AwayFromValues):
    def perturb(self, sites):
        return Perturbation(layers=(int(torch.randint(0, 10**6, ()) % 29),), edit=self.edit)


class NoiseInCombine(AwayFromValues):
    def combine(self, predictions, step):
        return {"cond": predictions["cond"] + torch.rand(())}


class HalfSteps(AwayFromValues):
    def num_steps(self, asked):
        return asked / 2

    def guides(self, step):
        return 1


def find_failures(made) -> set[str]:
    return {check.name for check in check_guidance(made).failures}


def test_guidances_that_keep_the_contract():
    assert_passed(check_guidance(AwayFromValues()))
    assert_passed(check_guidance(GuidanceBase))


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        (BeyondTheLastLayer, {"layers and heads are the model's own"}),
        (WithoutText, {f"perturbed attention has the right form in {name}" for name in ("float32", "bfloat16")}),
        (InFloat32, {"perturbed attention has the right form in bfloat16"}),
        (WritesIntoV, {"tensors and random state are not changed"}),
        (ReadsUncond, {"the conditional prediction does not depend on the unconditional one"}),
        (WritesIntoCond, {"tensors and random state are not changed"}),
        (InventsABranch, {f"combined predictions have the right form in {name}" for name in ("float32", "bfloat16")}),
        (DrawsByChance, {"same seed, same layers"}),
        (NoiseInCombine, {"same predictions, same result", "tensors and random state are not changed"}),
        (HalfSteps, {"steps have the right form"}),
    ],
)
def test_each_way_to_break_it_is_found(wrong, names):
    assert names <= find_failures(wrong())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"layers": ()}, "layers must be a tuple of ascending indices"),
        ({"layers": (3, 1)}, "layers must be"),
        ({"layers": (1,), "heads": (-1,)}, "heads must be"),
        ({"layers": (1,), "edit": None}, "needs an edit"),
        ({"layers": (1,), "kind": "block"}, "skips whole blocks"),
        ({"layers": (1,), "kind": "head"}, "kind must be"),
    ],
)
def test_a_perturbation_that_contradicts_itself_is_refused(values, said):
    with pytest.raises(PluginError, match=said):
        Perturbation(**{"edit": lambda call: call.v, **values})
