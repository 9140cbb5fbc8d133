"""Brings Open-Sora to vcorr."""
