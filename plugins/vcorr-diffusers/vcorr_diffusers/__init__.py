"""Video diffusion transformers of diffusers for vcorr, one module a model."""
