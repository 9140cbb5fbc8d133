"""Decides which runs a board ranks, in which table, and in which order."""
