"""Holds the list of photographs that textures are cut from, and reads them from scikit-image."""
