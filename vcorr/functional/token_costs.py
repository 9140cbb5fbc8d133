"""Keeps what a probe matches at one site, and computes the correlation of any of its tokens afterwards.

Trackers need it: the same tensors are read for the query points, and for the way back from their matches. The
arithmetic is the one of `vcorr.functional.matching` and `vcorr.functional.nearest_tokens`.

Shapes: A heads that take part, F latent frames, h x w tokens of a frame, d width of a head, U tokens, P = h*w.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vcorr.contract.errors import UsageError
from vcorr.contract.probe_protocols import TokenCosts
from vcorr.contract.records import HEAD_MEAN
from vcorr.contract.variants import CORRECTED, Switches
from vcorr.functional.blocks import plain_precision
from vcorr.functional.correlation import Costs
from vcorr.functional.frame_pairs import FramePairs, MatchedPairs
from vcorr.functional.matching import Heads, choose_heads, pick_heads, resolve_scale
from vcorr.functional.nearest_tokens import measure_distances
from vcorr.functional.paired_tokens import PairedTokens
from vcorr.functional.published_code import RoundedCosts
from vcorr.functional.query_points import QueryTokens


@dataclass(frozen=True)
class MatchedTokens:
    """What a probe matches at one site, kept so that any of its tokens can be matched later; see `TokenCosts`.

    left, right: (A, F, h, w, d), the heads that take part; the same tensor twice if tokens match themselves.
    symmetric: whether C has a reverse softmax. scale: of the dot products. variant: "second_softmax" decides whether
    half precision is kept. radius: of the read-out, in tokens. head: the value of the column `head`. sites: number of
    sites whose channels stand side by side (`join_costs`).
    """

    left: Tensor
    right: Tensor
    scale: float
    symmetric: bool = True
    variant: Switches = CORRECTED
    radius: int = 0
    head: int = HEAD_MEAN
    sites: int = 1

    @classmethod
    def of(
        cls,
        left: Tensor,
        right: Tensor,
        *,
        heads: Heads = "mean",
        scale: float | None = None,
        symmetric: bool = True,
        variant: Switches = CORRECTED,
        radius: int = 0,
    ) -> MatchedTokens:
        """Returns the chosen heads of two tensors (H, F, h, w, d); arguments as in `vcorr.functional.match`.

        Raises:
            UsageError: a head does not exist, or each head would be read by itself.
        """
        if heads == "each":
            raise UsageError(
                "heads='each' makes one prediction per head; a tracker needs one.", hint="Choose heads, or the mean."
            )
        chosen = choose_heads(heads, len(left))
        own = pick_heads(left, chosen)
        other = own if right is left else pick_heads(right, chosen)
        column = chosen[0] if len(chosen) == 1 and heads != "mean" else HEAD_MEAN
        return cls(own, other, resolve_scale(scale, left, variant), symmetric, variant, radius, column)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.left.device

    def keep(self) -> MatchedTokens:
        """Returns a copy that shares no memory with the model."""
        left = self.left.detach().clone()
        return replace(self, left=left, right=left if self.right is self.left else self.right.detach().clone())

    def rows(self, tokens: Tensor, *, source: int, target: int) -> Tensor:
        """Returns C of the tokens (U,) of latent frame `source` with all tokens of latent frame `target`, (U, P).

        It is float32; only with a second softmax in half precision does it have the dtype of the tensors. C of several
        sites is divided by their number before a second softmax, as in the published code.
        """
        if not self.variant.second_softmax:
            return MatchedPairs([self.pair(source, [target])], both=False).rows(tokens)[0]
        found = self._correlate(tokens, source, target)
        return found / self.sites if self.sites > 1 else found

    def pair(self, source: int, targets: Sequence[int]) -> PairedTokens:
        """Returns the tokens of latent frame `source` and of several other frames."""
        return PairedTokens.of(self.left, self.right, source, targets, scale=self.scale, symmetric=self.symmetric)

    def _correlate(self, tokens: Tensor, source: int, target: int) -> Tensor:
        """Returns C as it goes into a second softmax, whose ties only rounding decides: the order of sums is fixed."""
        points = QueryTokens(tokens.new_empty(0, 2), tokens, tokens, latent=source)
        with plain_precision(self.device), torch.no_grad():
            if self.left.dtype != torch.float32:
                costs = RoundedCosts(self.left, self.right.to(self.left.dtype), points, self.symmetric, self.scale)
                return costs.correlation(target, slice(None))
            plain = Costs(self.left, self.right, points, self.symmetric, self.scale)
            pieces = [rows for _, _, rows in plain.pieces(target, each=False, with_mean=True)]
            return torch.cat(pieces) / (len(self.left) * (2 if self.symmetric else 1))


@dataclass(frozen=True)
class PairsOneByOne:
    """Frames that are compared one after the other, by what `TokenCosts.rows` says. C is averaged over `costs`."""

    costs: Sequence[TokenCosts]
    source: int
    targets: Sequence[int]

    def rows(self, tokens: Tensor) -> Tensor:
        """Returns C of tokens (U,) of the source with all tokens of every target, (J, U, P)."""
        return self._stack([(tokens, self.source, target) for target in self.targets])

    def back_rows(self, tokens: Tensor) -> Tensor:
        """Returns C of tokens (J, U) of every target with all tokens of the source, (J, U, P)."""
        return self._stack(
            [(own, target, self.source) for own, target in zip(tokens.unbind(), self.targets, strict=True)]
        )

    def _stack(self, asked: Sequence[tuple[Tensor, int, int]]) -> Tensor:
        """Returns the rows of tokens (U,) of one frame with another one, for each (tokens, source, target)."""
        return torch.stack(
            [
                mean([costs.rows(tokens, source=source, target=target) for costs in self.costs])
                for tokens, source, target in asked
            ]
        )


def pair_frames(costs: Sequence[TokenCosts], source: int, targets: Sequence[int], *, both: bool) -> FramePairs:
    """Returns what compares the tokens of one latent frame with several others, by the mean of C over sites.

    both: whether the way back is asked for after the rows.
    """
    matched = [each for each in costs if isinstance(each, MatchedTokens) and not each.variant.second_softmax]
    if len(matched) < len(costs):
        return PairsOneByOne(costs, source, targets)
    return MatchedPairs([each.pair(source, targets) for each in matched], both=both)


def mean(values: Sequence[Tensor]) -> Tensor:
    """Returns the mean of tensors of one shape; a single one as it is."""
    return values[0] if len(values) == 1 else torch.stack(list(values)).mean(dim=0)


def join_costs(costs: Sequence[TokenCosts]) -> MatchedTokens:
    """Returns what several sites match as one site with their channels side by side, so that their logits add up.

    The published code of DiffTrack joins layers so when it tracks (arXiv 2506.17220). Its softmax is over the sum of
    the logits of all layers, and not a mean over layers.

    Raises:
        UsageError: the sites do not match by dot products, or differ in heads or scale.
    """
    matched = [each for each in costs if isinstance(each, MatchedTokens)]
    first = matched[0] if matched else None
    if first is None or len(matched) < len(costs):
        raise UsageError("Logits add up where tokens match by dot products, and this probe compares distances.")
    if any((len(each.left), each.scale) != (len(first.left), first.scale) for each in matched):
        raise UsageError("Logits add up over layers with the same number of heads and the same scale; these differ.")
    left = torch.cat([each.left for each in matched], dim=-1)
    same = all(each.right is each.left for each in matched)
    right = left if same else torch.cat([each.right for each in matched], dim=-1)
    return replace(first, left=left, right=right, sites=len(matched))


@dataclass(frozen=True)
class NearestTokens:
    """Tokens that match by L2 distance, as in the probe `latent`; see `TokenCosts`.

    The correlation is 1 / (1 + distance), so it lies in (0, 1] and is largest for the nearest token.

    values: (F, h, w, c). radius, head: as in `MatchedTokens`.
    """

    values: Tensor
    radius: int = 0
    head: int = HEAD_MEAN

    @property
    def device(self) -> torch.device:
        """Where the tensor is."""
        return self.values.device

    def keep(self) -> NearestTokens:
        """Returns a copy that shares no memory with the model."""
        return replace(self, values=self.values.detach().clone())

    def rows(self, tokens: Tensor, *, source: int, target: int) -> Tensor:
        """Returns the correlation of the tokens (U,) of frame `source` with all tokens of frame `target`, (U, P)."""
        values = self.values.flatten(1, 2)
        distance = measure_distances(values[source].index_select(0, tokens), values[target])
        return 1 / (1 + distance)
