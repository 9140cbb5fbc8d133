"""Computes the perturbed prediction of a step: one more forward pass of the conditional branch alone.

The pass that the pipeline makes stays as it is, so probes and watches see nothing of the further one. Where blocks form
lists, the further pass begins at the first perturbed block. It gets there what the block before put out for the
conditional branch, and the blocks before are not computed again. It equals the third row of a batch (uncond, cond,
perturbed) bit for bit on the CPU.

Shape legend: B batch rows, R rows of one branch, H heads, N tokens, D head width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from vcorr.capture.modules import find, run_eagerly
from vcorr.capture.passes import Pass
from vcorr.capture.tap import Place, Tap, aside
from vcorr.contract.errors import UsageError
from vcorr.contract.guidance_protocols import COND, Perturbation
from vcorr.interventions.attention_editor import AttentionEditor
from vcorr.interventions.block_lists import (
    Block,
    copy_rows,
    find_blocks,
    pass_through,
    replace_forward,
    take_rows,
    to_form,
)
from vcorr.interventions.guided_model import GuidedModel


class PerturbedPass:
    """Computes the perturbed prediction after a pass that holds the conditional branch.

    Args:
        model: the model.
        perturbation: what changes in it.
        wanted: says of the running pass whether its outputs are to be kept for `compute`; None outside such a pass.
    """

    def __init__(self, model: GuidedModel, perturbation: Perturbation, wanted: Callable[[], Pass | None]) -> None:
        self._model, self._perturbation, self._wanted = model, perturbation, wanted
        self._sites = {site.name: site for site in model.sites if site.layer in perturbation.layers}
        self._check_layers()
        self._kept: dict[str, Any] = {}
        self._forms: dict[str, Any] = {}
        self._editor = AttentionEditor(perturbation, self._sites, model.layout, model.grid)

    @contextmanager
    def attach(self) -> Iterator[None]:
        """Keeps what is needed of the pipeline's own passes while the block runs."""
        place = Place.here()

        def keep(path: str, module: nn.Module, args: Any, output: Any) -> None:
            now = self._wanted() if place.is_here() else None
            if now is None:
                return
            rows = take_rows(output, now.branches.index(COND), len(now.branches))
            if path in self._skipped_blocks:
                self._forms[path] = to_form(rows)
            if path in self._boundaries:
                self._kept[path] = copy_rows(rows)

        with ExitStack() as stack:
            stack.callback(self._kept.clear)
            for denoiser in self._model.denoisers:
                for path in {*self._boundaries, *self._skipped_blocks}:
                    stack.callback(_module(denoiser, path).register_forward_hook(partial(keep, path)).remove)
            yield

    def compute(self, now: Pass) -> Any:
        """Computes the perturbed prediction right after the pass `now` has ended.

        Returns:
            What the denoiser puts out for the conditional branch alone.

        Raises:
            CaptureError: a perturbed module made no attention call that can be edited.
        """
        denoiser = self._model.denoisers[now.denoiser]
        inputs = self._model.take_branch(now)
        with aside(), ExitStack() as stack:
            stack.enter_context(run_eagerly(compiled=find(denoiser, "")[1]))
            for path, output in self._substitutes():
                stack.enter_context(replace_forward(_module(denoiser, path), partial(_return, output)))
            for path in self._skipped_blocks:
                like = self._forms.pop(path)
                stack.enter_context(replace_forward(_module(denoiser, path), partial(_skip, like)))
            if self._perturbation.edit is not None:
                stack.enter_context(Tap(denoiser, list(self._sites), self._editor))
            if len(now.branches) > 1:
                stack.enter_context(_rows_in_pairs(denoiser))
            output = denoiser(**inputs)
        self._kept.clear()
        return output

    # --------------------------------------------------------------------------------------------------------- blocks

    @cached_property
    def _blocks(self) -> tuple[Block, ...]:
        return find_blocks(_plain(self._model.denoisers[0]), self._model.sites)

    @cached_property
    def _skipped_blocks(self) -> tuple[str, ...]:
        """The blocks that the perturbation leaves out."""
        if self._perturbation.kind != "block":
            return ()
        without = next((site for site in self._sites.values() if not site.block), None)
        if without is not None:
            raise UsageError(
                f"Layer {without.layer} ({without.name}) names no block that could be skipped.",
                hint="A guidance that perturbs attention works here: --guidance cag",
            )
        return tuple(dict.fromkeys(site.block for site in self._sites.values()))

    @cached_property
    def _shared(self) -> tuple[Block, ...]:
        """The blocks before the first perturbed one, if they are not computed again."""
        if not self._model.joins_rows or any(_is_group_offloaded(each) for each in self._model.denoisers):
            return ()
        first = self._perturbation.layers[0]
        index = next(i for i, block in enumerate(self._blocks) if first in block.layers)
        return self._blocks[:index]

    @cached_property
    def _boundaries(self) -> tuple[str, ...]:
        """The last shared block of each list, whose output all shared blocks of the list put out."""
        return tuple({block.list_path: block.path for block in self._shared}.values())

    def _substitutes(self) -> Iterator[tuple[str, Any]]:
        last = {block.list_path: block.path for block in self._shared}
        for block in self._shared:
            yield block.path, self._kept[last[block.list_path]]

    def _check_layers(self) -> None:
        known = {site.layer for site in self._model.sites}
        unknown = sorted(set(self._perturbation.layers) - known)
        if unknown:
            raise UsageError(
                f"{self._model.name} has no layer {unknown[0]} to perturb.",
                hint=f"It has the layers {min(known)} to {max(known)}." if known else "It has no layers.",
            )


def _return(output: Any, *args: Any, **kwargs: Any) -> Any:
    return output


def _skip(like: Any, *args: Any, **kwargs: Any) -> Any:
    return pass_through(like, args, kwargs)


def _is_group_offloaded(denoiser: nn.Module) -> bool:
    """Returns whether diffusers loads groups of layers one after the other, for which all of them have to run."""
    registries = (getattr(module, "_diffusers_hook", None) for module in denoiser.modules())
    return any("group_offloading" in name for each in registries for name in getattr(each, "hooks", {}))


def _plain(denoiser: nn.Module) -> nn.Module:
    found = find(denoiser, "")[0]
    assert found is not None  # the empty name is the module itself
    return found


def _module(denoiser: nn.Module, path: str) -> nn.Module:
    found = find(denoiser, path)[0]
    assert found is not None  # the paths come from the module itself
    return found


@contextmanager
def _rows_in_pairs(denoiser: nn.Module) -> Iterator[None]:
    """Makes linear layers compute a single row twice, and drop one, while the block runs.

    Matrix-vector products round in another order than matrix products. In the pipeline's own batch these layers have
    several rows, so this makes the further pass equal to one more row of that batch.
    """
    doubled: set[nn.Module] = set()

    def double(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not args or not _is_single(args[0]):
            return None
        doubled.add(module)
        return (torch.cat([args[0], args[0]]), *args[1:])

    def halve(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if module not in doubled:
            return None
        doubled.remove(module)
        return output[:1]

    with ExitStack() as stack:
        for module in denoiser.modules():
            if isinstance(module, nn.Linear):
                stack.callback(module.register_forward_pre_hook(double).remove)
                stack.callback(module.register_forward_hook(halve).remove)
        yield


def _is_single(x: Any) -> bool:
    return isinstance(x, Tensor) and x.ndim > 1 and len(x) == 1 and x.shape[:-1].numel() == 1
