"""Holds the optimisers: Muon for weight matrices and AdamW for all other parameters, with one common state."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_UPDATE_RMS = 0.2
"""Root mean square of a Muon update divided by its learning rate: about as in AdamW, so that both share one rate."""


@torch.no_grad()
def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Approximates the nearest semi-orthogonal matrices of a stack (k, rows, columns) by Newton-Schulz steps.

    On a GPU it computes in bfloat16.
    """
    a, b, c = _NEWTON_SCHULZ
    flipped = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if flipped else matrices
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    x = x.bfloat16() if x.is_cuda else x
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.mT if flipped else x
    return result.float()


class Muon:
    """Momentum whose matrix is orthogonalised before each step; tensors of one shape are updated as one stack.

    Convolution kernels count as matrices of (outputs, inputs · kernel).
    """

    def __init__(self, named: Mapping[str, nn.Parameter], momentum: float = 0.95, weight_decay: float = 0.01) -> None:
        self.named = dict(named)
        self.beta, self.decay = momentum, weight_decay
        self.momenta = {name: torch.zeros_like(p) for name, p in self.named.items()}
        self._stacks: dict[tuple[int, ...], list[str]] = {}
        for name, parameter in self.named.items():
            self._stacks.setdefault(tuple(parameter.shape), []).append(name)

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Makes one step with learning rate ``rate`` along the parameters' gradients."""
        for shape, names in self._stacks.items():
            parameters: list[Tensor] = [self.named[name] for name in names]
            gradients = gradients_of(parameters)
            momenta = [self.momenta[name] for name in names]
            torch._foreach_lerp_(momenta, gradients, 1 - self.beta)
            ahead = torch._foreach_lerp(gradients, momenta, self.beta)
            updates = orthogonalise(torch.stack(ahead).flatten(2))
            rows, columns = updates.shape[1:]
            size = _UPDATE_RMS * max(rows, columns) ** 0.5 * rate
            torch._foreach_mul_(parameters, 1 - rate * self.decay)
            torch._foreach_add_(parameters, [u.view(shape) for u in updates.unbind(0)], alpha=-size)


class Optimiser:
    """Muon on the parameters named in ``matrices``, AdamW on the others, with gradient clipping at norm 1."""

    def __init__(self, named: Mapping[str, nn.Parameter], matrices: Iterable[str], betas: tuple[float, float]) -> None:
        chosen = set(matrices)
        self.named = dict(named)
        self.muon = Muon({name: p for name, p in self.named.items() if name in chosen})
        self.others = {name: p for name, p in self.named.items() if name not in chosen}
        fused = next(iter(self.named.values())).is_cuda
        self.adamw = torch.optim.AdamW(self.others.values(), lr=1.0, betas=betas, weight_decay=0.01, fused=fused)

    def step(self, muon_rate: float, adamw_rate: float) -> Tensor:
        """Makes one step along the gradients, clears them, and returns their norm before clipping."""
        norm = nn.utils.clip_grad_norm_(list(self.named.values()), 1.0)
        self.muon.step(muon_rate)
        for group in self.adamw.param_groups:
            group["lr"] = adamw_rate
        self.adamw.step()
        for parameter in self.named.values():
            parameter.grad = None
        return norm

    def state(self) -> dict[str, Tensor]:
        """Returns momenta and moments by name, for a checkpoint."""
        tensors = {f"momentum/{name}": value for name, value in self.muon.momenta.items()}
        for name, parameter in self.others.items():
            for key, value in self.adamw.state.get(parameter, {}).items():
                tensors[f"adamw/{key}/{name}"] = value
        return tensors

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores the tensors that ``state`` returned; missing ones keep their initial values."""
        for name, value in self.muon.momenta.items():
            if (saved := tensors.get(f"momentum/{name}")) is not None:
                value.copy_(saved)
        for name, parameter in self.others.items():
            for key in ("step", "exp_avg", "exp_avg_sq"):
                if (saved := tensors.get(f"adamw/{key}/{name}")) is not None:
                    # A fused AdamW keeps its step count on the parameter's device, a plain one on the CPU.
                    place = parameter.device if key != "step" or parameter.is_cuda else torch.device("cpu")
                    self.adamw.state[parameter][key] = saved.to(place, torch.float32).clone()


def gradients_of(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Returns the gradients; a parameter without one gets zeros first, so that all ranks hold the same list."""
    gradients = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    return gradients
