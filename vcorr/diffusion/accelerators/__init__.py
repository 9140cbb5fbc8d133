"""Accelerators: what makes a diffusers model faster or smaller, as an option of the model (docs/accelerators.md)."""
