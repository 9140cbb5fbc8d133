"""Holds the probes that match tokens: `qk`, `qk-position`, `kk`, `qq`, `vv`, `feature`, `hidden` (docs/protocol.md).

`feature-fair` and `hidden-fair` match the same tensors as `feature` and `hidden`, in the way of `qk`.

Axes: H heads, F x h x w video tokens, d head width, c width of the hidden state, N query points. Predictions are
{head: (N, F, 2) pixels}, with head -1 for several heads together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from vcorr.contract.errors import UsageError
from vcorr.contract.probe_protocols import TokenCosts
from vcorr.contract.records import HEAD_MEAN, Site
from vcorr.contract.rotary import Rotary
from vcorr.contract.variants import Switches
from vcorr.probes import tensor_functions as on_tensors
from vcorr.probes.heads import Heads
from vcorr.probes.probe_base import BuiltinProbe
from vcorr.probes.probe_options import ProbeConfig, RotaryConfig, refuse

if TYPE_CHECKING:
    from torch import Tensor

    from vcorr.capture.captures import Capture
    from vcorr.functional.query_points import QueryPoints

    ByHead = dict[int, Tensor]


class SoftmaxMatch(BuiltinProbe):
    """Matches two tensors of an attention call as DiffTrack matches queries and keys.

    The correlation is a softmax per head and frame, in both directions, and its mean over heads. Subclasses set `name`
    and the names of the two tensors, `left` and `right`. `scaled` says whether they take the scale of the model's
    attention, as queries and keys do; if not, the scale is 1/sqrt(d). Only `q` and `k` can be read without the rotary
    embedding.

    Raises:
        UsageError: an option has a value that this probe does not take.
    """

    name: ClassVar[str]
    left: ClassVar[str]
    right: ClassVar[str]
    scaled: ClassVar[bool] = False
    needs: frozenset[str]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.needs = frozenset({cls.left, cls.right})

    def __init__(self, config: ProbeConfig | None = None) -> None:
        super().__init__(config)
        parts = (self.left, self.right)
        if not self._config.rotary:
            turned = {"q", "k"}.issuperset(parts)
            refuse(not turned, self.name, "rotary", "'qk', 'kk' and 'qq' have it: only q and k are rotated.")
            parts = (f"{self.left}_unrotated", f"{self.right}_unrotated")
        self._share = self._config.slow_bands if isinstance(self._config, RotaryConfig) else 1.0
        self._parts = parts
        self.needs = frozenset(parts)
        self.readout = "free" if self._config.radius else "token"  # a radius refines whole tokens

    def check_sites(self, sites: Sequence[Site]) -> None:
        """Checks chosen heads and rotary bands against the sites; see `vcorr.ProbeBase`.

        Raises:
            UsageError: a site has fewer heads, or does not say how its rotary embedding turns the tokens.
        """
        super().check_sites(sites)
        if self._share < 1:
            for site in sites:
                _rotary_of(site).slow_channels(self._share)

    def check_variants(self, variants: Sequence[Switches]) -> None:
        """Checks the options against variants; see `vcorr.VariantProbe`.

        Raises:
            UsageError: a radius is given, and a variant samples positions from a field.
        """
        clash = bool(self._config.radius) and any(variant.readout == "field" for variant in variants)
        hint = "It refines whole tokens; the read-out of difftrack samples a field. Leave the radius out, or say "
        refuse(clash, self.name, "radius", f"{hint}--set variant=corrected.")

    def read_each(self, capture: Capture, queries: Tensor | QueryPoints, variants: Sequence[Switches]) -> list[ByHead]:
        """Predicts positions per head under each variant; see `vcorr.VariantProbe`.

        Raises:
            UsageError: a chosen head does not exist.
        """
        first, second = self._parts
        capture = self._divide_heads(capture, variants)
        left = self._tensor(capture, first)
        right = left if first == second else self._tensor(capture, second)
        found = self._match(left, right, capture, on_tensors.query_points(queries), variants, self._heads)
        return [_by_head(positions, self._heads) for positions in found]

    def take_costs(self, capture: Capture, variant: Switches) -> TokenCosts:
        """Returns the two tensors and how they match; see `vcorr.ProbeBase`.

        Raises:
            UsageError: a chosen head does not exist, or heads are "each".
        """
        first, second = self._parts
        left = self._tensor(capture, first)
        right = left if first == second else self._tensor(capture, second)
        return self._costs(left, right, capture, variant, self._heads)

    def _costs(self, left: Tensor, right: Tensor, capture: Capture, variant: Switches, heads: Heads) -> TokenCosts:
        return on_tensors.MatchedTokens.of(
            left,
            right,
            heads=heads.choice,
            scale=self._scale(capture, variant),
            symmetric=self._config.symmetric,
            variant=variant,
            radius=self._config.radius,
        )

    def _match(
        self,
        left: Tensor,
        right: Tensor,
        capture: Capture,
        points: QueryPoints,
        variants: Sequence[Switches],
        heads: Heads,
    ) -> list[Tensor]:
        """Matches two tensors (H, F, h, w, d), and returns positions as `_by_head` takes them, once per variant."""
        readings = [
            on_tensors.Reading(
                points.locate(capture.grid, left.device, variant), variant, self._scale(capture, variant)
            )
            for variant in variants
        ]
        return on_tensors.match_readings(
            left,
            right,
            capture.grid,
            readings,
            heads=heads.choice,
            radius=self._config.radius,
            symmetric=self._config.symmetric,
            with_mean=heads.each,
            sums=capture.sums_of(left, right),
            share=capture.share,
        )

    def _scale(self, capture: Capture, variant: Switches) -> float | None:
        """Returns the scale of the dot products; None for the scale that the variant takes by itself."""
        return capture.scale if self.scaled and variant.scale == "width" else None

    def _tensor(self, capture: Capture, part: str) -> Tensor:
        tensor: Tensor = getattr(capture, part)
        if self._share == 1:
            return tensor
        channels = _rotary_of(capture.site).slow_channels(self._share)
        return tensor.index_select(-1, on_tensors.upload(channels, tensor.device))


class QueryKey(SoftmaxMatch):
    """`qk`: queries in the query points' frame match keys of the other frames, in both directions."""

    name, left, right, scaled = "qk", "q", "k", True


class QueryKeyPosition(SoftmaxMatch):
    """`qk-position`: as `qk`, but with the content of all tokens replaced by its mean.

    Only positions then match: it shows what the rotary embedding alone predicts, without any picture.
    """

    name, left, right, scaled = "qk-position", "q_position", "k_position", True


class KeyKey(SoftmaxMatch):
    """`kk`: keys match keys."""

    name, left, right, scaled = "kk", "k", "k", True


class QueryQuery(SoftmaxMatch):
    """`qq`: queries match queries."""

    name, left, right, scaled = "qq", "q", "q", True


class ValueValue(SoftmaxMatch):
    """`vv`: values match values."""

    name, left, right = "vv", "v", "v"


class FeatureFair(SoftmaxMatch):
    """`feature-fair`: the attention output matches itself per head and in both directions, comparable with `qk`."""

    name, left, right = "feature-fair", "out", "out"


class HiddenFair(SoftmaxMatch):
    """`hidden-fair`: the block's output, cut into one slice per head, matches itself as in `feature-fair`."""

    name, left, right = "hidden-fair", "hidden", "hidden"

    def _tensor(self, capture: Capture, part: str) -> Tensor:
        hidden, heads = capture.hidden, capture.site.heads
        if heads < 1 or hidden.shape[-1] % heads:
            raise UsageError(
                f"Probe 'hidden-fair' cuts the {hidden.shape[-1]} channels of {capture.site.block} into one slice per "
                f"head; its site declares {heads} heads.",
                hint="The model's adapter declares them in Site(..., heads=...).",
            )
        return capture.share.take(hidden.view(*hidden.shape[:3], heads, -1).permute(3, 0, 1, 2, 4))


class Feature(BuiltinProbe):
    """`feature`: the attention output before its projection, heads side by side, matches itself by raw dot product.

    Raises:
        UsageError: an option has a value that this probe does not take.
    """

    needs = frozenset({"out"})

    def __init__(self, config: ProbeConfig | None = None) -> None:
        super().__init__(config)
        _refuse_softmax_options("feature", self._config)

    def read_each(self, capture: Capture, queries: Tensor | QueryPoints, variants: Sequence[Switches]) -> list[ByHead]:
        """Predicts positions per head under each variant; see `vcorr.VariantProbe`.

        Raises:
            UsageError: a chosen head does not exist.
        """
        capture = self._divide_heads(capture, variants)
        out, points = self._take_chosen(capture.out), on_tensors.query_points(queries)
        return [self._read(out, capture, points, variant) for variant in variants]

    def _read(self, out: Tensor, capture: Capture, points: QueryPoints, variant: Switches) -> ByHead:
        grid, sums, share = capture.grid, capture.sums_of(out, out), capture.share
        located = points.locate(grid, out.device, variant)
        joined = on_tensors.match_joined_heads(out, grid, located, variant=variant, sums=sums, share=share)
        found = {self._heads.column: joined}
        for head, f in enumerate(out if self._heads.each else ()):
            found[head] = on_tensors.match_features(f, grid, points, variant=variant)
        return found

    def take_costs(self, capture: Capture, variant: Switches) -> TokenCosts:
        """Returns the features and how they match; see `vcorr.ProbeBase`.

        Raises:
            UsageError: a chosen head does not exist.
        """
        features = on_tensors.join_heads(self._take_chosen(capture.out))[None]
        return on_tensors.MatchedTokens(
            features, features, 1.0, symmetric=False, variant=variant, head=self._heads.column
        )

    def _take_chosen(self, out: Tensor) -> Tensor:
        return take_heads(out, self._heads.chosen) if self._heads.chosen else out


class Hidden(BuiltinProbe):
    """`hidden`: the output of the block, all its channels, matches itself by raw dot product. It has no heads.

    Raises:
        UsageError: an option has a value that this probe does not take.
    """

    needs = frozenset({"hidden"})

    def __init__(self, config: ProbeConfig | None = None) -> None:
        super().__init__(config)
        _refuse_softmax_options("hidden", self._config)
        refuse(
            bool(self._heads.chosen),
            "hidden",
            "heads",
            "'hidden-fair' has it: it cuts the channels into one slice per head.",
        )

    def answers_per_site(self, heads: int) -> int:
        """Returns 1, because the hidden state has no heads."""
        return 1

    def read_each(self, capture: Capture, queries: Tensor | QueryPoints, variants: Sequence[Switches]) -> list[ByHead]:
        """Predicts positions under each variant; see `vcorr.VariantProbe`."""
        points = on_tensors.query_points(queries)
        return [
            {HEAD_MEAN: on_tensors.match_features(capture.hidden, capture.grid, points, variant=variant)}
            for variant in variants
        ]

    def take_costs(self, capture: Capture, variant: Switches) -> TokenCosts:
        """Returns the hidden state and how it matches; see `vcorr.ProbeBase`."""
        hidden = capture.hidden[None]
        return on_tensors.MatchedTokens(hidden, hidden, 1.0, symmetric=False, variant=variant)


def _rotary_of(site: Site) -> Rotary:
    if site.rotary is None:
        raise UsageError(
            f"probe.slow_bands: layer {site.layer} has no rotary embedding, or its adapter does not declare it.",
            hint="Leave the option out: --set probe.slow_bands=1",
        )
    return site.rotary


def take_heads(tensor: Tensor, chosen: tuple[int, ...]) -> Tensor:
    """Returns the chosen heads of a tensor (H, ...).

    Raises:
        UsageError: a head does not exist.
    """
    if max(chosen) >= len(tensor):
        raise UsageError(
            f"heads: {max(chosen)} is out of range: there are {len(tensor)} heads, 0 to {len(tensor) - 1}."
        )
    import torch

    return torch.stack([tensor[head] for head in chosen])  # an index list would synchronise with the device


def _refuse_softmax_options(name: str, config: ProbeConfig) -> None:
    refuse(bool(config.radius), name, "radius", f"'{name}-fair' and 'qk' have it: their correlation is a softmax.")
    refuse(not config.rotary, name, "rotary", "'qk', 'kk' and 'qq' have it: only q and k are rotated.")


def _by_head(positions: Tensor, heads: Heads) -> ByHead:
    """Splits positions by head: (H + 1, N, F, 2), each head and then their mean, for "each"; else (N, F, 2)."""
    if heads.each:
        return {HEAD_MEAN: positions[-1], **dict(enumerate(positions[:-1]))}
    return {heads.column: positions}
