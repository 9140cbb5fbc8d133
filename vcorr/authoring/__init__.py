"""Helps plugin authors: writes new plugins and checks existing ones."""
