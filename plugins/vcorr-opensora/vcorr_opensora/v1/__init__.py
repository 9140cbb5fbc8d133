"""Holds Open-Sora 1.2, whose attention is factorised over space and time. See `vcorr_opensora.v1.model`."""
