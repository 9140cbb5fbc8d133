"""A small, really trained video diffusion transformer for vcorr, and the procedural videos it learnt from."""
