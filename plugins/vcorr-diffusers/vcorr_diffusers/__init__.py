"""Brings video diffusion transformers of diffusers to vcorr, one module per model."""
