"""Wan for vcorr."""
