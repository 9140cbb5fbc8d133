"""Optional members: objects inherit them or define them, and members of the wrong form are reported."""

from __future__ import annotations

import numpy as np
import pytest

import vcorr
from vcorr.contract import bases
from vcorr.contract.bases import with_defaults
from vcorr.contract.variants import CORRECTED, DIFFTRACK
from vcorr.testing import check_entry
from vcorr.testing.entry_checks import MADE
from vcorr.testing.members import BASES, wrong_members

# --------------------------------------------------------------------------------------------------- members by hand


class Plain:
    """Has none of the optional members."""


class ByHand:
    """Has some, and inherits from nothing."""

    steps = 7

    def weights_id(self, weights):
        return f"{weights}!"


@pytest.mark.parametrize(
    ("part", "steps", "identity"), [(Plain(), 1, "hub"), (ByHand(), 7, "hub!"), (vcorr.VideoModelBase(), 1, "hub")]
)
def test_own_members_come_before_the_defaults(part, steps, identity) -> None:
    model = with_defaults(part, vcorr.VideoModelBase)
    assert (model.steps, model.needs_image, model.weights_id("hub")) == (steps, False, identity)
    assert model.model_card() is None


def test_a_metric_without_other_variants_stays_itself() -> None:
    metric = Plain()
    assert with_defaults(metric, vcorr.MetricBase).under(DIFFTRACK) is metric


def test_an_object_that_inherits_is_not_wrapped() -> None:
    part = vcorr.DatasetBase()
    assert with_defaults(part, vcorr.DatasetBase) is part
    assert (part.identity(), part.notes("clip")) == (None, ())


def test_a_name_the_base_does_not_have_is_an_error() -> None:
    with pytest.raises(AttributeError, match="step"):
        with_defaults(Plain(), vcorr.VideoModelBase).step  # type: ignore[attr-defined]  # noqa: B018


def test_read_follows_from_read_each() -> None:
    class Probe(vcorr.VariantProbeBase):
        needs = frozenset({"q"})

        def read_each(self, capture, queries, variants):
            return [{-1: (capture, queries, variant)} for variant in variants]

    assert Probe().read("capture", "queries") == {-1: ("capture", "queries", CORRECTED)}
    with pytest.raises(TypeError, match="read_each"):
        vcorr.VariantProbeBase()


# ----------------------------------------------------------------------------------------------------- what is checked


class Misspelt(vcorr.VideoModelBase):
    need_image = True

    def weight_id(self, weights):
        return weights


class WrongArguments(vcorr.DatasetBase):
    def notes(self):
        return ()


class WrongValues:
    steps = "many"
    needs_image = 1
    check_makes = True


def test_misspelt_members_are_named_with_the_right_one() -> None:
    assert wrong_members(Misspelt(), "model") == [
        "need_image is not a member of the base class; did you mean needs_image?",
        "weight_id is not a member of the base class; did you mean weights_id?",
    ]


def test_a_class_that_inherits_nothing_may_use_any_other_name() -> None:
    class Free:
        need_image = True

    assert wrong_members(Free(), "model") == []


def test_members_of_the_wrong_form_are_named_whether_they_are_inherited_or_not() -> None:
    assert wrong_members(WrongArguments(), "dataset") == ["notes must be a method that takes (clip_id)."]
    assert wrong_members(WrongValues(), "model") == [
        "steps must be int, got 'many'.",
        "needs_image must be bool, got 1.",
        "check_makes must be a method that takes (grid).",
    ]


def test_the_check_of_an_entry_reports_them() -> None:
    entry = vcorr.TrackerEntry(name="mine", summary="A tracker.", factory=f"{__name__}:Follower")
    failed = [check for check in check_entry(entry).failures if check.name == MADE]
    assert [check.reason for check in failed] == [
        "Follower: identiy is not a member of the base class; did you mean identity?"
    ]


class Follower(vcorr.TrackerBase):
    def track(self, video, queries):
        xy = np.repeat(queries[:, None], len(video), axis=1)
        return vcorr.Tracks(xy, np.ones(xy.shape[:2], dtype=bool), tracker="mine")

    def identiy(self):
        return {}


def test_every_base_class_is_public_and_every_member_is_documented() -> None:
    for base in BASES.values():
        assert getattr(vcorr, base.__name__) is base
        members = [member for name, member in vars(base).items() if not name.startswith("_") and callable(member)]
        assert all(member.__doc__ for member in members)
    assert vcorr.VariantProbeBase is bases.VariantProbeBase
