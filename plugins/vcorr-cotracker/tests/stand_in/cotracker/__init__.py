"""Stands in for the package cotracker in tests: its interface, and none of its code."""

import torch

torch.manual_seed(0)  # as the real one does when it is imported
