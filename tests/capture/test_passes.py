"""One watch over passes: step, guidance branch and denoiser, whatever way the pipeline runs its branches."""

import contextlib
import functools
import threading

import pytest
import torch
from torch import nn

from vcorr.capture import TokenLayout
from vcorr.capture.passes import PassListener, PassWatch, describe_passes
from vcorr.contract.errors import UsageError

X = torch.ones(1, 2)


class Denoiser(nn.Module):
    """Scales; labels its passes, as diffusers' models do, when a pipeline asks for that."""

    def __init__(self):
        super().__init__()
        self.labels = []
        self.weight = nn.Parameter(torch.ones(2))

    @contextlib.contextmanager
    def cache_context(self, name, **fields):
        self.labels.append(name)
        yield

    def forward(self, x, fail=False):
        if fail:
            raise ZeroDivisionError
        return x * self.weight


class Log(PassListener):
    """What the watch says, in words."""

    def __init__(self):
        self.events = []

    def pass_begins(self, now):
        self.events.append((now.step, now.number, "+".join(now.branches), now.denoiser))

    def pass_ends(self, now, *, failed):
        if failed:
            self.events.append("failed")

    def step_ends(self, step):
        self.events.append(f"end {step}")


@contextlib.contextmanager
def watching(*denoisers, counted=False, started=True, **layout):
    log, watch = Log(), PassWatch(denoisers, TokenLayout(**layout))
    with watch, watch.listen(log):
        if started:
            watch.start(counted=counted)
        yield watch, log.events
    for denoiser in denoisers:
        assert not denoiser._forward_hooks
        assert not denoiser._forward_pre_hooks
        assert "cache_context" not in vars(denoiser)


def test_a_batch_of_branches_is_one_pass_and_a_batch_of_one_is_conditional():
    denoiser = Denoiser()
    with watching(denoiser, branches=("uncond", "cond")) as (watch, events):
        denoiser(X.expand(2, 2))
        watch.next_step()
        denoiser(X)
        assert watch.seen == {"uncond": 1, "cond": 2}
    assert events == [(0, 0, "uncond+cond", 0), "end 0", (1, 0, "cond", 0)]


def test_labels_tell_branches_those_of_guiders_and_new_ones_too():
    denoiser = Denoiser()
    with watching(denoiser, branches=("uncond", "cond")) as (watch, events):
        for label, batch in (("cond_uncond", 2), ("pred_cond", 1), ("uncond_stg", 1), ("uncond_modality", 1)):
            with denoiser.cache_context(label):
                denoiser(X.expand(batch, 2))
        assert describe_passes(watch).startswith("the passes that came were 2 of 'cond', 1 of 'uncond'")
    assert [event[2] for event in events] == ["uncond+cond", "cond", "uncond_stg", "uncond_modality"]
    assert denoiser.labels == ["cond_uncond", "pred_cond", "uncond_stg", "uncond_modality"]


def test_a_label_inside_a_label_counts_and_the_outer_one_goes_on():
    denoiser = Denoiser()
    with watching(denoiser) as (_, events):
        with denoiser.cache_context("cond"):
            with denoiser.cache_context("uncond"):
                denoiser(X)
            denoiser(X)
        denoiser(X)
    assert [event[2] for event in events] == ["uncond", "cond", "cond"]


def test_passes_without_labels_are_known_by_their_order_in_the_step():
    denoiser = Denoiser()
    with watching(denoiser, passes=("uncond", "cond")) as (watch, events):
        for _ in range(2):
            denoiser(X)
            denoiser(X)
            watch.next_step()
    assert [event for event in events if isinstance(event, tuple)] == [
        (step, number, branch, 0) for step in (0, 1) for number, branch in enumerate(("uncond", "cond"))
    ]


@pytest.mark.parametrize("order", [("cond", "uncond"), ("uncond", "cond"), ("cond",), ("cond", "uncond", "stg")])
def test_counted_steps_begin_when_a_branch_comes_again(order):
    denoiser = Denoiser()
    with watching(denoiser, counted=True) as (_, events):
        for _ in range(3):
            for label in order:
                with denoiser.cache_context(label):
                    denoiser(X)
    passes = [event for event in events if isinstance(event, tuple)]
    assert [(step, branch) for step, _, branch, _ in passes] == [
        (step, branch) for step in range(3) for branch in order
    ]


def test_counted_steps_without_labels_go_by_the_declared_order():
    denoiser = Denoiser()
    with watching(denoiser, counted=True, passes=("uncond", "cond")) as (_, events):
        for _ in range(6):
            denoiser(X)
    passes = [event for event in events if isinstance(event, tuple)]
    assert [(step, branch) for step, _, branch, _ in passes] == [(s, b) for s in range(3) for b in ("uncond", "cond")]


def test_denoisers_that_take_turns_are_one_sequence():
    first, second = Denoiser(), Denoiser()
    with watching(first, second, counted=True) as (_, events):
        for denoiser in (first, first, second):
            denoiser(X)
    assert [event for event in events if isinstance(event, tuple)] == [
        (0, 0, "cond", 0),
        (1, 0, "cond", 0),
        (2, 0, "cond", 1),
    ]


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_denoiser_that_is_given_twice_is_one(wrapped):
    denoiser, other = Denoiser(), Denoiser()
    again = torch.compile(denoiser, backend="eager") if wrapped else denoiser
    with watching(denoiser, other, again, counted=True) as (watch, events):
        denoiser(X)
        other(X)
        again(X)
        assert watch.seen == {"cond": 3}
    assert [event for event in events if isinstance(event, tuple)] == [
        (0, 0, "cond", 0),
        (1, 0, "cond", 1),
        (2, 0, "cond", 0),
    ]


def test_steps_that_a_loop_names():
    denoiser = Denoiser()
    with watching(denoiser, started=False) as (watch, events):
        denoiser(X)
        with watch.at(7):
            assert watch.current.step == 7  # a part of the denoiser may run by itself
            denoiser(X)
        assert watch.current is None
    assert events == [(None, 0, "cond", 0), (7, 0, "cond", 0)]


def test_a_pass_that_fails_is_reported_and_does_not_stay_current():
    denoiser = Denoiser()
    with watching(denoiser, started=False) as (watch, events):
        with pytest.raises(ZeroDivisionError):
            denoiser(X, fail=True)
        assert watch.current is None
    assert events == [(None, 0, "cond", 0), "failed"]


def test_a_pass_that_fails_does_not_count():
    denoiser = Denoiser()
    with watching(denoiser, counted=True, passes=("uncond", "cond")) as (watch, events):
        for fail in (False, True, False, True, False):
            with contextlib.suppress(ZeroDivisionError):
                denoiser(X, fail=fail)
        assert +watch.seen == {"uncond": 2, "cond": 1}
    told = [event for event in events if event not in ("failed", "end 0")]
    assert told == [(0, 0, "uncond", 0), (0, 1, "cond", 0), (0, 1, "cond", 0), (1, 0, "uncond", 0), (1, 0, "uncond", 0)]


def test_a_listener_that_comes_during_a_pass_hears_of_it():
    denoiser, late = Denoiser(), Log()

    class Opens(PassListener):
        def pass_begins(self, now):
            stack.enter_context(watch.listen(late))

    with contextlib.ExitStack() as stack, watching(denoiser) as (watch, _), watch.listen(Opens()):
        denoiser(X)
    assert late.events == [(0, 0, "cond", 0)]


def test_watches_are_closed_in_any_order():
    denoiser = Denoiser()
    first, second = PassWatch([denoiser], TokenLayout()), PassWatch([denoiser], TokenLayout())
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    with denoiser.cache_context("uncond"):
        denoiser(X)
    second.__exit__(None, None, None)
    assert (first.seen, second.seen) == ({}, {"uncond": 1})
    assert "cache_context" not in vars(denoiser)
    assert denoiser.labels == ["uncond"]


def test_a_patch_that_somebody_put_over_the_labels_stays():
    denoiser = Denoiser()
    with PassWatch([denoiser], TokenLayout()):
        patched = denoiser.cache_context = functools.partial(denoiser.cache_context)
    assert denoiser.cache_context is patched
    with denoiser.cache_context("cond"):
        denoiser(X)
    assert denoiser.labels == ["cond"]


def test_a_pass_that_was_interrupted_is_over_when_the_next_begins():
    denoiser = Denoiser()
    interrupt = denoiser.register_forward_hook(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt), prepend=True)
    with watching(denoiser, passes=("uncond", "cond")) as (watch, events):
        with pytest.raises(KeyboardInterrupt):
            denoiser(X)
        interrupt.remove()
        denoiser(X)
        assert watch.current.number == 0
        assert +watch.seen == {"uncond": 1}
    assert events == [(0, 0, "uncond", 0), "failed", (0, 0, "uncond", 0)]


def test_what_is_no_module_is_reported():
    for wrong in (None, "transformer", object()):
        with pytest.raises(UsageError, match="expected a torch module"):
            PassWatch([wrong], TokenLayout())


def test_other_threads_do_not_count():
    denoiser = Denoiser()
    with watching(denoiser) as (_, events):
        thread = threading.Thread(target=denoiser, args=(X,))
        thread.start()
        thread.join()
    assert events == []


@pytest.mark.parametrize("reentrant", [True, False])
def test_what_checkpointing_runs_again_is_no_further_pass(reentrant):
    denoiser = Denoiser()
    with watching(denoiser, counted=True) as (_, events):
        x = X.clone().requires_grad_()
        out = torch.utils.checkpoint.checkpoint(denoiser, x, use_reentrant=reentrant)
        out.sum().backward()
    assert events == [(0, 0, "cond", 0)]
    assert denoiser.weight.grad is not None


@pytest.mark.parametrize("whole", [True, False])
def test_compiled_denoisers_are_watched(whole):
    denoiser = Denoiser()
    compiled = torch.compile(denoiser, backend="eager") if whole else denoiser
    if not whole:
        denoiser.compile(backend="eager")
    log, watch = Log(), PassWatch([compiled], TokenLayout())
    with watch, watch.listen(log):
        compiled(X)
    assert log.events == [(None, 0, "cond", 0)]
