"""Brings HunyuanVideo to vcorr."""
