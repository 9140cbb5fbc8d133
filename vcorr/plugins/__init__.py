"""Finds plugins and registers their entries; holds the built-in plugin and finds recipes."""
