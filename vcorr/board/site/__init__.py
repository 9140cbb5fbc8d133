"""Writes the pages of a board."""
