"""Builds what the commands print."""
