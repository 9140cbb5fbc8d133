"""Stands in for the package cotracker in tests; it has the interface of the package and none of its code."""

import torch

torch.manual_seed(0)  # the real package does the same when it is imported
