"""Renders procedural videos of textured moving layers, with exact tracks and visibility for any point."""
