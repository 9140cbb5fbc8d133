"""Holds a small trained video diffusion transformer for vcorr, and the procedural videos that it was trained on."""
