"""Brings Wan to vcorr."""
