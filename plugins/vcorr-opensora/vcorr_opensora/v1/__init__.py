"""Open-Sora 1.2: space and time apart. See `vcorr_opensora.v1.model`."""
