"""Finds plugins and makes their parts: registry, the built-in plugin, recipes."""
