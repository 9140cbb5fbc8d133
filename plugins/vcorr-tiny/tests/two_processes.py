"""Trains as one of the processes that torchrun starts, and saves what its optimisers saw at every step."""

import os
import sys

from safetensors.torch import save_file
from vcorr_tiny.train import main
from vcorr_tiny.training.optim import Optimiser

folder, *arguments = sys.argv[1:]
original, seen, steps = Optimiser.step, {}, []


def step(self, *rates):
    number = len(steps)
    steps.append(rates)
    for name, parameter in self.named.items():
        seen[f"{number}/gradient/{name}"] = parameter.grad.clone()
    norm = original(self, *rates)
    for name, parameter in self.named.items():
        seen[f"{number}/weight/{name}"] = parameter.detach().clone()
    return norm


Optimiser.step = step
main(arguments)
save_file(seen, f"{folder}/rank-{os.environ['RANK']}.safetensors")
