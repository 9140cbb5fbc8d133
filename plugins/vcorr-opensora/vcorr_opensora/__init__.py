"""Open-Sora for vcorr."""
